"""The report that every fit leaves beside the bundle: what to expect of the detector, what it was learnt from, and what to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly.alarms.wording import rules_words
from anomaly.bundle.archive import Bundle
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.injected import hardly_any
from anomaly.evaluation.metrics import exact_share
from anomaly.evaluation.report.detector import (
    budget_words,
    foot,
    looked_at,
    made_up_blocks,
    mark_hints,
    origin_section,
    percent,
    spec_section,
    standing_out,
    suspect_blocks,
    threshold_words,
)
from anomaly.evaluation.report.drawing import as_plot, styled
from anomaly.evaluation.report.evaluated import figure_table, kind_blocks, verdict
from anomaly.evaluation.report.page import Block, Legend, Listing, Page, Section, Words
from anomaly.evaluation.report.scores import faulty_rows, scores_figure
from anomaly.evaluation.report.tried import tried_words

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class FitBlocks:
    """What a kind of input shows of a fit.

    read: what was read, a line each
    highest: the normals with the highest scores
    made_up: made-up faults found and missed
    plan: what was chosen, and why
    speaks: which views or sensors speak
    labelled: pictures or plots of labelled records
    cost: of a record, in a sentence
    held_out: what the alarm rules make of the held-out normals, in a sentence
    """

    read: tuple[str, ...] = ()
    highest: tuple[Block, ...] = ()
    made_up: tuple[Block, ...] = ()
    plan: tuple[Block, ...] = ()
    speaks: tuple[Block, ...] = ()
    labelled: tuple[Block, ...] = ()
    cost: str = ""
    held_out: str = ""


def held_out_words(manifest: Mapping[str, Any], scores: Scores, effective: float) -> tuple[str, str]:
    """(what to expect, what that was seen on): how many of the held-out normal scores (n,) are flagged, as sentences.

    The interval counts them as `effective` unrelated ones.

    >>> manifest = {"kind": "camera", "threshold": {"score": 99.0, "p_value": 0.01, "budget": {"false_alarm_rate": 0.01}}}
    >>> for text in held_out_words(manifest, np.arange(100.0), 100.0): print(text)
    Expect 1 in 100 good parts flagged; of the normals held out 1 in 100 are flagged, 95 % interval 0.025 to 5.4.
    Seen on the 100 normal pictures learnt from, each judged by a detector that had not seen it: 1 is flagged.
    """
    what = {"camera": "normal pictures", "sensor": "normal windows"}.get(manifest["kind"], "normal records")
    threshold, count = manifest["threshold"]["score"], len(scores)
    flagged = int((scores >= threshold).sum()) if threshold is not None else 0
    share, worth = flagged / count, max(1, min(count, round(effective)))
    low, high = exact_share(round(share * worth), worth)
    seen_of = f"of the normals held out {100 * share:.2g} in 100 are flagged, 95 % interval {100 * low:.2g} to {100 * high:.2g}"
    expect = f"{budget_words(manifest).removesuffix('.')}; {seen_of}."
    are = "is" if flagged == 1 else "are"
    seen = f"Seen on the {count:,} {what} learnt from, each judged by a detector that had not seen it: {flagged:,} {are} flagged."
    if worth <= 0.9 * count:
        seen += f" Neighbours are alike, so the interval counts them as {worth:,} independent ones."
    return expect, seen


def fit_page(bundle: Bundle, held_out: NDArray[np.float64], effective: float, shown: FitBlocks, evaluation: Evaluation | None) -> Page:
    """The page. `held_out` (n,) are the normals' held-out scores, `effective` how many unrelated ones they are worth."""
    manifest = bundle.manifest.model_dump(mode="json")
    fit, threshold = manifest["provenance"]["fit"], manifest["threshold"]["score"]
    usual = float(np.median(held_out))
    suspects = standing_out(fit.get("suspects", {}), threshold, usual)
    said = [*held_out_words(manifest, held_out, effective)]
    said += [shown.held_out] if shown.held_out else []
    said += _mark_words(fit.get("marks") or {})
    figures = manifest["metrics"] if evaluation is None else evaluation.figures
    labelled, warn = _labelled_words(figures)
    warnings = _warnings(manifest)
    said += labelled + warnings
    if suspects:
        said.append(_suspect_words(suspects, threshold))
    with styled():
        histogram = as_plot(
            "Held-out scores of the normals",
            "Histogram of held-out normal scores with the threshold",
            scores_figure(held_out, _labelled_scores(evaluation), threshold),
        )
    rejected = tuple(fit.get("rejected", {}).values())
    sections = (
        Section("What was read", (*_read(shown.read), *((Listing(rejected[:20], "Set aside"),) if rejected else ()))),
        Section("Suspects among the normals", suspect_blocks(manifest, usual)),
        Section("The normals with the highest scores", shown.highest),
        Section("Made-up faults", (*made_up_blocks(manifest), *shown.made_up)),
        Section("Labelled records", _labelled(figures, shown)),
        Section("What is looked at, and why", (*looked_at(manifest), *_tried(fit), *shown.plan)),
        Section("What speaks", shown.speaks),
        Section(
            "Threshold and alarms",
            (Words((*threshold_words(manifest), rules_words(bundle.manifest.alarm))), Legend(_colors(evaluation)), histogram),
        ),
        Section("What a record costs", (Words((shown.cost,)),) if shown.cost else ()),
        origin_section(manifest),
        spec_section(manifest),
    )
    title = f"{manifest['name']}, version {manifest['version']}: fitted"
    return Page(
        title,
        f"{manifest['kind']} detector, bundle {bundle.hash[:12]}",
        tuple(said),
        sections,
        foot(manifest, bundle.hash),
        warn or _unsafe(manifest),
    )


def _suspect_words(suspects: Mapping[str, float], threshold: float | None) -> str:
    """What to do about the suspects (name -> score), as a sentence.

    >>> _suspect_words({"a": 1.0, "b": 3.0, "c": 0.9}, 2.0)
    '1 of the normals stands out and is flagged: look at it below.'
    >>> _suspect_words({"a": 1.0, "b": 1.1}, 2.0)
    'No normal is flagged; the 2 most unusual are listed below, for a look.'
    """
    flagged = sum(threshold is None or score >= threshold for score in suspects.values())
    if not flagged:
        most = f"{len(suspects)} most unusual are" if len(suspects) > 1 else "most unusual one is"
        return f"No normal is flagged; the {most} listed below, for a look."
    stand, they = ("stands out and is", "it") if flagged == 1 else ("stand out and are", "them")
    return f"{flagged} of the normals {stand} flagged: look at {they} below{', the worst first' if flagged > 1 else ''}."


def _read(lines: tuple[str, ...]) -> tuple[Block, ...]:
    return (Listing(tuple(line.strip() for line in lines)),) if lines else ()


def _tried(fit: Mapping[str, Any]) -> tuple[Block, ...]:
    said = tried_words(fit["extractor"])
    return (Words(tuple(said)),) if said else ()


def _colors(evaluation: Evaluation | None) -> tuple[tuple[str, str], ...]:
    return (("normal", "normals, each held out"), *((("fault", "labelled faults"),) if len(_labelled_scores(evaluation)) else ()))


def _labelled_scores(evaluation: Evaluation | None) -> NDArray[np.float64]:
    if evaluation is None or "label" not in evaluation.records:
        return np.empty(0)
    found: Scores = evaluation.records.loc[faulty_rows(evaluation.records), "score"].dropna().to_numpy(dtype=np.float64)
    return found


def _labelled_words(figures: Mapping[str, Any]) -> tuple[list[str], bool]:
    """What labelled records of the same data say, if there are any."""
    if not figures.get("ci95"):
        return [], False
    if "n_defect" in figures:
        said, warn = verdict({key: value for key, value in figures.items() if key != "budget"})
        return [f"Labelled pictures. {said[0]}", *said[1:]], warn
    if "with_alarm_rules" in figures:
        said, warn = verdict(figures)
        return [f"Labelled tables. {said[0]}", *said[1:]], warn
    if figures.get("faults"):
        return [f"Labelled tables: {figures['faults_found']} of {figures['faults']} faults have a flagged row."], False
    return [], False


def _warnings(manifest: Mapping[str, Any]) -> list[str]:
    """What a person should know before trusting the detector."""
    fit, calibration = manifest["provenance"]["fit"], manifest["calibration"]
    said = [f"{note[0].upper()}{note[1:]}." for note in (calibration.get("too_short"), calibration.get("too_coarse")) if note]
    marks = fit.get("marks") or {}
    said += [f"Warning: {marks['warning']}."] if marks.get("warning") else []
    if _hardly_any(fit):
        found = fit["injected_found"]
        said.append(
            f"Hardly any made-up fault is found ({percent(sum(found.values()) / len(found))}). Either the normals vary that much, or "
            "faults among them set the threshold: look at what stands out below."
        )
    return said


def _hardly_any(fit: Mapping[str, Any]) -> bool:
    found: dict[str, float] = fit.get("injected_found") or {}
    return bool(found) and hardly_any(found)


def _mark_words(marks: Mapping[str, Any]) -> list[str]:
    """Which made-up marks are found, as a sentence; none where a warning says more.

    >>> _mark_words({"found": {"4": 0.2, "8": 0.6}, "smallest": 8.0, "warning": None})
    ['Of made-up marks on good parts half or more are found from 8 pixels on.']
    """
    if not marks.get("found") or marks.get("warning"):
        return []
    smallest = marks["smallest"]
    found = f"half or more are found from {smallest:g} pixels on" if smallest else "less than half are found, whatever their size"
    return [f"Of made-up marks on good parts {found}."]


def _unsafe(manifest: Mapping[str, Any]) -> bool:
    """Whether faults may well be missed: more than a word on how sure the threshold is."""
    fit = manifest["provenance"]["fit"]
    marks = fit.get("marks") or {}
    return bool(marks.get("warning")) or bool(marks.get("found") and mark_hints(manifest)) or _hardly_any(fit)


def _labelled(figures: Mapping[str, Any], shown: FitBlocks) -> tuple[Block, ...]:
    if not figures.get("ci95"):
        return ()
    return (*kind_blocks(figures), figure_table(figures, "labelled records"), *shown.labelled)


def p_values_of(calibrator: torch.nn.Module) -> Callable[[Scores], Scores]:
    """A function from scores (n,) to p-values (n,)."""

    def p_of(scores: Scores) -> Scores:
        with torch.inference_mode():
            found: Scores = calibrator(torch.from_numpy(np.asarray(scores, np.float32))).double().numpy()
        return found

    return p_of
