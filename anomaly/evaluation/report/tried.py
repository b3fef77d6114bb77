"""What was tried beside a plain fit (adaptation, a transfer, labelled faults, other lines as sources), in sentences, the verdict first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anomaly.evaluation.transfer import ALONE, LEAST_GAIN
from anomaly.names import one_line

INSEPARABLE = 1.995  # a proxy A-distance from which on a classifier tells two lines apart without error


def tried_words(extractor: Mapping[str, Any]) -> list[str]:
    """What was tried beside a plain fit, and what became of it, a sentence each."""
    said = []
    adaptation = extractor.get("adaptation", {})
    if adaptation.get("why", "not asked for") != "not asked for":
        said.append(f"Adaptation to the normals was {'kept' if adaptation['kept'] else 'tried and not kept'}: {adaptation['why']}.")
    transfer = extractor.get("transfer", {})
    return said + transfer_words(transfer) + few_label_words(transfer)


def transfer_words(found: Mapping[str, Any]) -> list[str]:
    """What a transfer from another line gives: the verdict, then a sentence a method; [] where none was tried.

    >>> way = {"auroc": 0.9, "gain": 0.16, "gain_ci95": [0.13, 0.19], "verdict": "no clear difference"}
    >>> found = {"method": "target only", "asked": "auto", "target_only_auroc": 0.74, "ways": {"coral": way}}
    >>> for text in transfer_words(found): print(text)
    The detector learns from this line alone: of the other line a gain was seen, and none that is evidence.
    This line alone tells made-up faults from normals with AUROC 0.740.
    coral: AUROC 0.900, better by 0.160 (95 % 0.130 to 0.190); not taken, since for this method a gain on made-up faults is no evidence.
    """
    if "method" not in found:
        return []
    taken, ways = found["method"], found.get("ways", {})
    seen = any(one["gain_ci95"][0] > 0 for one in ways.values())
    said = [_taken(taken, found.get("asked", "auto"), ways.get(taken, {}), seen)]
    if ways:
        said.append(f"This line alone tells made-up faults from normals with AUROC {found['target_only_auroc']:.3f}.")
    return said + [f"{way}: {_way_words(one, way == taken)}" for way, one in ways.items()]


def _taken(taken: str, asked: str, figures: Mapping[str, Any], seen: bool) -> str:
    if taken == ALONE and seen:
        return "The detector learns from this line alone: of the other line a gain was seen, and none that is evidence."
    if taken == ALONE:
        return "The other line does not clearly help: the detector learns from this line alone."
    verdict = figures.get("verdict")
    if asked == "auto":
        return f"The other line helps: {taken} is taken."
    told = {"helps": "and it helps", "negative transfer": "though it makes the detector worse (negative transfer)"}
    return f"{taken} is taken, as asked, {told.get(str(verdict), 'and whether it helps cannot be told')}."


def _way_words(one: Mapping[str, Any], taken: bool) -> str:
    low, high = one["gain_ci95"]
    gain = one["gain"]
    between = f"(95 % {low:+.3f} to {high:+.3f})"
    if one["verdict"] == "negative transfer":
        return f"AUROC {one['auroc']:.3f}, worse by {-gain:.3f} {between}: negative transfer."
    if one["verdict"] == "helps":
        return f"AUROC {one['auroc']:.3f}, clearly better by {gain:.3f} {between}."
    if low > 0:
        why = (
            "for this method a gain on made-up faults is no evidence"
            if low > LEAST_GAIN
            else f"a gain has to be more than {LEAST_GAIN:g} for certain"
        )
        between = f"(95 % {low:.3f} to {high:.3f})"
        return (
            f"AUROC {one['auroc']:.3f}, better by {gain:.3f} {between}; {'taken as asked, though' if taken else 'not taken, since'} {why}."
        )
    return f"AUROC {one['auroc']:.3f}, no difference that can be told: {gain:+.3f} {between}."


def few_label_words(found: Mapping[str, Any]) -> list[str]:
    """What a few labelled faults change, as sentences; [] where none were given."""
    if "few_labels" not in found:
        return []
    labels = found["few_labels"]
    one = labels["faults"] == 1
    told = labels.get("why")
    if told is None:
        over = labels["over_normal_only"]
        low, high = over["gain_ci95"]
        told = f"AUROC on labelled faults {over['gain']:+.3f} (95 % {low:+.3f} to {high:+.3f}) against learning from normals alone"
    faults = f"{labels['faults']} labelled fault{'' if one else 's'}"
    if labels["vote"] == "none":
        return [f"The {faults} change{'s' if one else ''} nothing in the score: {told}."]
    return [
        f"The {faults} {'is' if one else 'are'} used (by {labels['vote']}): what resembles {'it' if one else 'them'} scores higher; {told}."
    ]


def source_words(ranked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which line to start from, then a line each, from what `rank_sources` found, the best first.

    >>> for text in source_words([{"source": "a", "nearest_ratio": 1.25}, {"source": "b", "nearest_ratio": 3.0}]): print(text)
    Start from a: it comes first of 2. Whether it helps is found out by `anomaly transfer`.
    1. a: its pictures are 1.2 times as far from this line's as those are from each other (1: alike)
    2. b: its pictures are 3.0 times as far from this line's as those are from each other (1: alike)
    """
    names = [one_line(str(row["source"])) for row in ranked]
    first = f"Start from {names[0]}: it comes first of {len(names)}." if len(names) > 1 else f"{names[0]} is the only source."
    said = [f"{first} Whether it helps is found out by `anomaly transfer`."]
    if len({tuple(sorted(key for key in row if key != "source")) for row in ranked}) > 1:
        said.append("Detectors stand before data: their figures are of another sort and cannot be compared with those.")
    said += [f"{place}. {name}: {_source_row(row)}" for place, (name, row) in enumerate(zip(names, ranked, strict=True), 1)]
    distances = [row["proxy_a_distance"] for row in ranked if "proxy_a_distance" in row]
    if len(distances) > 1 and min(distances) >= INSEPARABLE:
        said.append("All of them can be told from this line without error, which says nothing on which is nearer.")
    return said


def _source_row(row: Mapping[str, Any]) -> str:
    """The figures of one source, in words."""
    said = []
    if "logme" in row:
        said.append(f"its network tells made-up faults from this line's normals with evidence {row['logme']:.3f} (higher is better)")
    if "lent_auroc" in row:
        said.append(f"with its rows lent, made-up faults are told from this line's normals with AUROC {row['lent_auroc']:.3f}")
    if "nearest_ratio" in row:
        said.append(f"its pictures are {row['nearest_ratio']:.1f} times as far from this line's as those are from each other (1: alike)")
    if "proxy_a_distance" in row:
        distance = row["proxy_a_distance"]
        can = "always" if distance >= INSEPARABLE else "never" if distance == 0 else "sometimes"
        said.append(f"how its sensors go together can {can} be told from here ({distance:.2f}; 0: alike, 2: always)")
    said += [f"{key.replace('_', ' ')} {value}" for key, value in row.items() if key not in _KNOWN]
    return "; ".join(said)


_KNOWN = ("source", "logme", "lent_auroc", "nearest_ratio", "proxy_a_distance")
