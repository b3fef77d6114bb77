"""What a bundle's manifest says of its detector, as blocks of a report: budget, suspects, made-up faults, what is looked at, its origin."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from anomaly.data.clock import rate_words
from anomaly.evaluation.marks_found import HALF
from anomaly.evaluation.metrics import exact_share
from anomaly.evaluation.report.page import Block, Cell, Listing, Section, Source, Table, Words, anchor_of, table_of
from anomaly.evaluation.report.tried import tried_words

HALFWAY = 0.5  # of the way from a usual normal score to the threshold, from which on a suspect is worth a look
_PACKAGES = ("anomaly-pipeline", "numpy", "onnxruntime-gpu", "onnxruntime", "torch")

HARDLY = 0.25  # share of made-up faults of a kind that are found, below which a report says what may help
HELP = (
    (
        ("spike", "step", "drift", "noise"),
        "the change is small beside the normals' own ups and downs. Learn from one way of running at a time (`[input] modes`), or accept a "
        "larger budget.",
    ),
    (
        ("stuck",),
        "a sensor that stands still for several times as long as it ever did in the normals raises an alarm of its own beside the line, "
        "whatever its score.",
    ),
    (
        ("decoupled", "mirrored", "shifted", "flattened", "wrong_moment"),
        "readings stay within their usual range, only their course changes. It shows where they repeat a shape, or where sensors go "
        "together: set `[input] window` to a whole cycle of the machine, and add sensors that move with these.",
    ),
)
LIE = {  # where made-up marks are drawn
    "part": "good parts, not on what they lie on.",
    "roi": "pictures of good parts, inside `roi`.",
    "anywhere": "pictures of good parts, anywhere in the picture. Where the part does not fill it, name its place: `roi` in the spec.",
}
EXAMPLES = "if such faults matter and you have some on record, give them: `anomaly fit --faults`."

Manifest = Mapping[str, Any]


def percent(share: float) -> str:
    """A share as a percentage, with a digit more near none and all.

    >>> percent(0.5), percent(0.004), percent(0.0), percent(0.997)
    ('50 %', '0.4 %', '0 %', '99.7 %')
    """
    value = 100 * share
    digits = 0 if value in (0, 100) or 2 <= value <= 98 else 1
    return f"{value:.{digits}f} %"


def hits_words(hits: int, of: int) -> str:
    """So many of so many, with the interval in which the true share lies.

    >>> hits_words(23, 30)
    '23 of 30 (77 %; 95 % interval 58 % to 90 %)'
    """
    low, high = exact_share(hits, of)
    share = f"{percent(hits / of)}; " if of else ""
    return f"{hits} of {of} ({share}95 % interval {percent(low)} to {percent(high)})"


def number(value: float) -> str:
    """A figure with as many digits as tell something.

    >>> number(0.97874), number(1234.5), number(0.0), number(2.155e-6)
    ('0.979', '1234', '0', '2.2e-06')
    """
    if 0 < abs(value) < 0.001:  # of a table in which nothing moves, say: 0.000 would tell nothing
        return f"{value:.2g}"
    return f"{value:.4g}" if abs(value) >= 10 or value == 0 else f"{value:.3f}"


def budget_words(manifest: Manifest) -> str:
    """What the budget asks for, as a sentence.

    >>> budget_words({"kind": "camera", "threshold": {"budget": {"false_alarm_rate": 0.01}, "p_value": 0.01}})
    'Expect 1 in 100 good parts flagged.'
    >>> budget_words({"kind": "sensor", "threshold": {"budget": {"false_alarms_per_day": 1 / 7}, "p_value": 1e-5}})
    'Expect 1 false alarm a week.'
    """
    budget = manifest["threshold"]["budget"]
    per_day = budget.get("false_alarms_per_day")
    if per_day is not None:
        return f"Expect {rate_words(per_day)}."
    rate = budget.get("false_alarm_rate") or manifest["threshold"]["p_value"]
    per = 100
    while rate * per < 0.999 and per < 1_000_000:
        per *= 10
    what = {"camera": "good parts", "sensor": "normal moments"}.get(manifest["kind"], "normal records")
    return f"Expect {rate * per:.2g} in {per} {what} flagged."


def threshold_words(manifest: Manifest) -> list[str]:
    """Where the threshold lies, how many normal records it comes from, and whether these are enough to say."""
    threshold, calibration = manifest["threshold"], manifest["calibration"]
    score = threshold.get("score")
    at = f" (score at or above {number(score)})" if score is not None else ""
    lines = [f"A record is flagged when its p-value is at or below {threshold['p_value']:.3g}{at}."]
    many, worth = calibration["scores"], calibration["independent_scores"]
    if worth < 0.9 * many:
        lines.append(
            f"The threshold comes from {many:,} held-out normal scores. They resemble their neighbours, so they count as "
            f"{worth:,.0f} independent ones."
        )
    else:
        lines.append(f"The threshold comes from {many:,} held-out normal scores.")
    if calibration.get("threshold_is_extrapolated"):
        surer = "" if calibration.get("too_short") else " More normal data, or a larger budget, makes it surer."  # it says how much more
        lines.append(f"It lies where few or no normal records were seen, so it is read off a curve fitted to the highest of them.{surer}")
    return lines


def suspects_of(manifest: Manifest, usual: float | None = None) -> dict[str, float]:
    """The suspects that are worth a look, the worst first: those at least half way from a `usual` normal score to the threshold."""
    found = manifest["provenance"]["fit"].get("suspects", {})
    return standing_out(found, manifest["threshold"].get("score"), usual)


def standing_out(suspects: Mapping[str, float], threshold: float | None, usual: float | None) -> dict[str, float]:
    """Those of the suspects (name -> score) that are worth a look, the worst first; all where no threshold is known.

    They come at least half way from a `usual` normal score to the threshold, or to the worst of them where that is below: faults among the
    normals raise the threshold.

    >>> standing_out({"a": 1.0, "b": 9.0, "c": 6.0}, 10.0, 0.0)
    {'b': 9.0, 'c': 6.0}
    """
    worst = dict(sorted(suspects.items(), key=lambda item: -item[1]))
    if threshold is None or usual is None or threshold <= usual or not worst:
        return worst
    far = min(threshold, max(worst.values()))
    return {name: score for name, score in worst.items() if score >= usual + HALFWAY * (far - usual)}


def suspect_blocks(manifest: Manifest, usual: float | None = None) -> tuple[Block, ...]:
    """The suspects among the normals, the worst first: those that are flagged, and those that only come nearest to that."""
    suspects = suspects_of(manifest, usual)
    if not suspects:
        return ()
    one, many, fault = {
        "camera": ("picture", "pictures", "defect"),
        "sensor": ("stretch of rows", "stretches of rows", "fault"),
    }.get(manifest["kind"], ("record", "records", "fault"))
    threshold = manifest["threshold"].get("score")
    flagged = sum(threshold is None or score >= threshold for score in suspects.values())
    calm = len(suspects) - flagged
    if flagged:
        words = f"{_are(flagged, one, many)} learnt from stand{'s' if flagged == 1 else ''} out from all others. Look at "
        words += f"{'it' if flagged == 1 else 'them'}: take what shows a {fault} out of the data and fit again."
        words += f" {calm} more lie{'s' if calm == 1 else ''} below the threshold, and may well be normal." if calm else ""
    else:
        words = f"None of the normals is flagged. The most unusual {_are(calm, one, many, '')} learnt from may well be normal: look once, "
        words += f"since a {fault} among the normals raises the threshold. If you see one, take it out of the data and fit again."
    if manifest["provenance"]["fit"].get("suspects_left_out"):
        words += " The detector has not learnt from them, but they still count as normal in the threshold."
    links = {name: (anchor_of(name), anchor_of(name.rpartition(", ")[0])) for name in suspects}  # its own picture or plot, or its table's
    states = {name: "flagged" if threshold is None or score >= threshold else "below the threshold" for name, score in suspects.items()}
    rows = tuple((Cell(name, links=links[name]), Cell(number(score), "n"), Cell(states[name])) for name, score in suspects.items())
    return Words((words,)), Table(rows, ("Suspect", "Score", ""))


def _are(count: int, one: str, many: str, single: str = "1 ") -> str:
    return f"{single}{one}" if count == 1 else f"{count} {many}"


def made_up_blocks(manifest: Manifest) -> tuple[Block, ...]:
    """Which made-up faults are found, by size or by kind."""
    fit = manifest["provenance"]["fit"]
    blocks: list[Block] = []
    marks = fit.get("marks")
    if marks and marks.get("found"):
        smallest = marks["smallest"]
        said = f"Half or more are found from {smallest:g} pixels of the camera's picture on." if smallest else "Of no size half are found."
        where = LIE.get(marks.get("lie", ""), LIE["anywhere"])
        counted = f"Found are those whose picture is flagged, at the threshold in use (1 good part in {1 / marks['rate']:,.0f} flagged)."
        blocks.append(Words((f"Single marks (spots, scratches, dents, misplaced pieces) drawn on {where} {counted} {said}",)))
        if marks.get("warning"):
            blocks.append(Words((f"Warning: {marks['warning']}.",), "bad"))
        of = marks.get("of", {})
        rows = tuple(
            (Cell(f"{size} px", "n"), *_share_cells(share), Cell(f"{of[size]}" if size in of else "", "n"))
            for size, share in marks["found"].items()
        )
        blocks.append(Table(rows, ("Size", "Found", "of so many"), first_is_number=True))
        blocks += [Listing(hints, "What helps to find smaller marks")] if (hints := mark_hints(manifest)) else []
    found = fit.get("injected_found")
    if found:
        text = (
            "Made-up faults put on held-out normal windows. Found: those whose score reaches the threshold."
            " The alarm rules come after that."
        )
        blocks.append(Words((text,)))
        rows = tuple(
            (Cell(kind.replace("_", " ")), *_share_cells(share)) for kind, share in sorted(found.items(), key=lambda item: -item[1])
        )
        blocks.append(Table(rows, ("Kind", "Found"), words_first=True))
        blocks += [Listing(hints, "What helps where hardly any is found")] if (hints := _hints(found)) else []
    return tuple(blocks)


def _hints(found: Mapping[str, float]) -> tuple[str, ...]:
    """What can be done about the kinds of made-up faults (kind -> share found) that are hardly found.

    >>> [hint.split(":")[0] for hint in _hints({"spike": 0.9, "stuck": 0.1, "mirrored": 0.0, "wrong_moment": 0.02})]
    ['stuck', 'mirrored, wrong moment', 'all of them']
    """
    rare = {kind for kind, share in found.items() if share < HARDLY}
    hints = [f"{', '.join(own).replace('_', ' ')}: {words}" for kinds, words in HELP if (own := [kind for kind in kinds if kind in rare])]
    return (*hints, f"all of them: {EXAMPLES}") if hints else ()


def mark_hints(manifest: Manifest) -> tuple[str, ...]:
    """What can be done where made-up marks of most sizes are missed more often than found.

    >>> marks = {"found": {"2": 0.0, "4": 0.1, "8": 0.9}, "lie": "part"}
    >>> manifest = {"calibration": {"too_short": "24 normals"}, "provenance": {"fit": {"marks": marks}}}
    >>> [hint.split(":")[0] for hint in mark_hints(manifest)]
    ['more pictures of good parts', 'a larger budget', 'a picture that the part fills']
    >>> marks["found"]["4"] = 0.6
    >>> mark_hints(manifest)
    ()
    """
    fit, calibration = manifest["provenance"]["fit"], manifest["calibration"]
    marks = fit["marks"]
    missed = sum(share < HALF for share in marks["found"].values())
    if 2 * missed < len(marks["found"]):
        return ()
    several = (fit.get("plan") or {}).get("sizes", 1)
    hints = {
        "more pictures of good parts: the threshold lies above all that were seen, and the fewer they are the higher it must be.": bool(
            calibration.get("too_short")
        ),
        "a larger budget: it lowers the threshold.": True,
        f"pictures taken the same way round: these come in {several} sizes.": several > 1,
        "a picture that the part fills: come nearer, or name the part's place (`roi` in the spec); what it lies on then varies "
        "less.": marks.get("lie") != "roi",
    }
    return tuple(hint for hint, fits in hints.items() if fits)


def _share_cells(share: float) -> tuple[Cell, ...]:
    missed = share == 0
    return (Cell("none" if missed else percent(share), "bad" if missed else "n", None if missed else share),)


def looked_at(manifest: Manifest) -> tuple[Block, ...]:
    """What is looked at in a record, and why."""
    why = manifest["provenance"]["fit"].get("views", {}).get("why", ())
    return (Listing(tuple(why)),) if why else ()


def origin_section(manifest: Manifest) -> Section:
    """Where the detector comes from: data, network, parity."""
    fit, pairs = manifest["provenance"]["fit"], []
    pairs += [("Normal records", f"{fit['normals']:,}"), ("Held out by", str(manifest["calibration"]["held_out_by"]))]
    pairs += [(f"Network, {key}", str(value)) for key, value in fit["extractor"].get("source", {}).items()]
    pairs += [("Made-up faults against held-out normals, AUROC", number(fit["injected_auroc"]))] if "injected_auroc" in fit else []
    for name, q in manifest["parity"].items():
        if "inputs" in q:
            text = f"{q['decisions_that_differ']} decisions differ; scores by at most {q['max_relative_score']:.1e} of their size"
            pairs.append((f"Parity: graph against PyTorch on {q['inputs']} {name} records", text))
        elif "pictures" in q:
            text = f"{'in the bundle' if q['accepted'] else 'not good enough, left out'}; {q['decisions_that_differ']} decisions differ"
            pairs.append((f"Variant {name.replace('_', ' ')} against float, {q['pictures']} pictures", text))
    return Section(
        "Where the detector comes from", (*([Words(tuple(said))] if (said := tried_words(fit["extractor"])) else []), table_of(pairs)), True
    )


def spec_section(manifest: Manifest) -> Section:
    """The spec, with all that it leaves to the defaults."""
    return Section("The spec", (Source(json.dumps(manifest["provenance"]["spec"], indent=1)),), folded=True)


def foot(manifest: Manifest, bundle_hash: str, extra: Sequence[tuple[str, str]] = ()) -> tuple[tuple[str, str], ...]:
    """Date, versions and hashes."""
    versions = [f"{name} {version}" for name in _PACKAGES if (version := _version(name))]
    return (
        ("Made", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("Bundle", bundle_hash),
        ("Training data, SHA-256", str(manifest["provenance"].get("data_sha256", ""))),
        ("Fitted by", f"{manifest['provenance'].get('code', '')}, torch {manifest['provenance'].get('torch', '')}"),
        ("This report by", f"{', '.join(versions)}, Python {platform.python_version()}"),
        *extra,
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
