"""The report of an evaluation: what a detector makes of labelled records, the verdict first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomaly.data.clock import span_words
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.metrics import exact_share
from anomaly.evaluation.report.detector import (
    Manifest,
    budget_words,
    foot,
    hits_words,
    looked_at,
    made_up_blocks,
    number,
    origin_section,
    percent,
    spec_section,
    suspect_blocks,
    threshold_words,
)
from anomaly.evaluation.report.page import Block, Cell, Legend, Listing, Page, Section, Table, Words, write_page
from anomaly.evaluation.report.scores import faulty_rows, plot_calibration, plot_curves, plot_scores

_NAMES = {
    "image_auroc": "AUROC", "image_ap": "Average precision", "image_f1": "Best F1 that any threshold gives",
    "pixel_auroc": "AUROC of pixels", "pixel_aupro": "AUPRO (up to 30 % of good pixels)",
    "recall": "Recall: share of faulty records flagged", "precision": "Precision: share of flagged records that are faulty", "f1": "F1",
    "accuracy": "Share of records judged right", "false_alarm_rate": "Share of normal records flagged",
    "missed_alarm_rate": "Share of faulty records not flagged", "roc_auc": "AUROC of rows", "pr_auc": "Average precision of rows",
    "vus_roc": "VUS-ROC", "vus_pr": "VUS-PR", "detection_delay_s": "Detection delay, median in seconds, before the alarm rules",
    "false_alarms_per_day": "Flagged runs of normal rows a day, before the alarm rules", "faults": "Labelled faults",
    "faults_found": "Labelled faults with a flagged row",
}  # fmt: skip


def named_figures(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name in words, value, interval) of the figures of merit, in the order of a report."""
    intervals = figures.get("ci95", {})
    rows = []
    for key, name in _NAMES.items():
        value = figures.get(key)
        if isinstance(value, (int, float)):
            between = intervals.get(key)
            told = f"{number(between[0])} to {number(between[1])}" if between and between[1] > between[0] else ""
            rows.append((name, str(value) if isinstance(value, int) else number(value), told))
    return rows


def missed_kinds(figures: Mapping[str, Any]) -> list[str]:
    """The kinds of faults of which not one is flagged."""
    return [kind for kind, found in figures.get("per_defect", {}).items() if found["found"] == 0]


def verdict(figures: Mapping[str, Any]) -> tuple[list[str], bool]:
    """(sentences, whether they are no good news): what was found, whether the budget held, what is missed entirely."""
    said, warn = [], False
    flattered = figures.get("learnt_from")
    if flattered:
        part = "This is" if 2 * flattered["records"] >= flattered["of"] else "Some of this is"
        said.append(f"{part} training data: {flattered['words']}, so the figures below flatter. Evaluate on other records.")
        warn = True
    alarms = figures.get("with_alarm_rules")
    if alarms is not None:
        said += _alarm_sentences(alarms)
        warn = warn or bool(alarms["faults"] and alarms["faults_alarmed"] < alarms["faults"]) or " did not hold" in alarms["promise"]
    elif "n_defect" in figures:
        n, faulty = figures["n"], figures["n_defect"]
        if faulty:
            said.append(f"Faulty parts flagged: {hits_words(round(figures['recall'] * faulty), faulty)}.")
        if n > faulty and "budget" not in figures:  # whose sentence says so
            said.append(f"Good parts flagged: {hits_words(round(figures['false_alarm_rate'] * (n - faulty)), n - faulty)}.")
    else:
        said.append(f"{figures.get('n', 0):,} records were judged.")
    if "budget" in figures:
        said.append(figures["budget"]["promise"])
        warn = warn or " did not hold" in figures["budget"]["promise"]
    missed = missed_kinds(figures)
    if missed:
        said.append(
            f"Missed entirely: {', '.join(missed)}. Not one fault of {'this kind' if len(missed) == 1 else 'these kinds'} is flagged."
        )
    return said, warn or bool(missed)


def _alarm_sentences(alarms: Mapping[str, Any]) -> list[str]:
    said = []
    if alarms["faults"]:
        delay = alarms["median_delay_s"]
        after = f", after {span_words(delay)} (median)" if delay is not None else ""
        said.append(f"{alarms['faults_alarmed']} of {alarms['faults']} labelled faults raised an alarm{after}.")
    return [*said, alarms["promise"]]


def write_evaluation(
    path: Path,
    manifest: Manifest,
    bundle_hash: str,
    evaluation: Evaluation,
    blocks: Sequence[Block],
    data: str = "",
) -> None:
    """Write the page atomically. `manifest` is the bundle's, as plain data; `blocks` show records: pictures, or readings over time."""
    write_page(evaluation_page(manifest, bundle_hash, evaluation, blocks, data), path)


def evaluation_page(manifest: Manifest, bundle_hash: str, evaluation: Evaluation, blocks: Sequence[Block], data: str = "") -> Page:
    """The page of an evaluation."""
    figures = evaluation.figures
    said, warn = verdict(figures)
    records = evaluation.records.dropna(subset=["score"])
    normal = records.loc[~faulty_rows(records), "score"] if len(records) else records["score"]
    usual = float(normal.median()) if len(normal) else None
    threshold = manifest["threshold"].get("score")
    plots = [plot_scores(evaluation, threshold), plot_curves(evaluation), plot_calibration(evaluation)]
    sections = (
        Section("Kinds of faults", kind_blocks(figures)),
        Section("The records", tuple(blocks)),
        Section("Figures", (figure_table(figures, "records"), *_run_table(figures))),
        Section("Scores", (Legend((("normal", "normal"), ("fault", "labelled fault"))), *(plot for plot in plots if plot is not None))),
        Section("Time", _speed(figures)),
        Section("Could not be read", (Listing(tuple(evaluation.rejected[:20])),) if evaluation.rejected else ()),
        Section("What was noticed in the data", (Listing(tuple(evaluation.notes[:20])),) if evaluation.notes else ()),
        Section("The threshold", (Words((budget_words(manifest), *threshold_words(manifest))), *_near(manifest)), folded=True),
        Section("Suspects among the normals", suspect_blocks(manifest, usual), folded=True),
        Section("Made-up faults", made_up_blocks(manifest), folded=True),
        Section("What is looked at", looked_at(manifest), folded=True),
        origin_section(manifest),
        spec_section(manifest),
    )
    title = f"{manifest['name']}, version {manifest['version']}: evaluation"
    extra = [("Judged data", data)] if data else []
    return Page(
        title, f"{manifest['kind']} detector, bundle {bundle_hash[:12]}", tuple(said), sections, foot(manifest, bundle_hash, extra), warn
    )


def kind_blocks(figures: Mapping[str, Any]) -> tuple[Block, ...]:
    """A row a kind of fault; those missed entirely in red."""
    kinds = figures.get("per_defect")
    if not kinds:
        return ()
    rows = []
    for kind, found in sorted(kinds.items(), key=lambda item: (item[1]["found"], item[0])):
        hits = round(found["found"] * found["n"])
        low, high = exact_share(hits, found["n"])
        area = "–" if found["image_auroc"] is None else number(found["image_auroc"])
        gone = hits == 0
        rows.append(
            (
                Cell(kind, "bad" if gone else ""),
                Cell(
                    f"{hits} of {found['n']}" + (", all missed" if gone else ""), "bad" if gone else "n", None if gone else found["found"]
                ),
                Cell(f"{percent(low)} to {percent(high)}", "n"),
                Cell(area, "n"),
            )
        )
    return (Table(tuple(rows), ("Kind", "Flagged", "95 % interval", "AUROC")),)


def figure_table(figures: Mapping[str, Any], what: str) -> Table:
    """The figures of merit on so many of `what`, a row each with its interval."""
    rows = tuple((Cell(name), Cell(value, "n"), Cell(between, "n")) for name, value, between in named_figures(figures))
    return Table(rows, (f"On {figures.get('n', 0):,} {what}", "Value", "95 % interval"), words_first=True)


def _run_table(figures: Mapping[str, Any]) -> tuple[Block, ...]:
    runs = figures.get("roc_auc_by_run", {})
    if len(runs) < 2:
        return ()
    rows = tuple((Cell(run), Cell(number(value), "n")) for run, value in runs.items())
    return (Table(rows, ("Record", "AUROC")),)


def speed_words(speed: Mapping[str, Any]) -> str:
    """How long a picture takes, in a sentence."""
    whole = speed["decode_ms"] + speed["decide_ms"]
    return (
        f"A picture takes {whole:.3g} ms here (median): {speed['decode_ms']:.3g} ms to read the file and {speed['decide_ms']:.3g} ms from "
        f"frame to decision, on {speed['on']}."
    )


def _speed(figures: Mapping[str, Any]) -> tuple[Block, ...]:
    return (Words((speed_words(figures["speed"]),)),) if "speed" in figures else ()


def _near(manifest: Manifest) -> tuple[Block, ...]:
    near = manifest["metrics"].get("near_duplicates_of_training")
    if not near or not near["n"]:
        return ()
    without = manifest["metrics"]["image_auroc_without_near_duplicates"]
    words = f"{near['n']} of the test pictures nearly repeat a training picture: figures on them say little about new parts."
    words += f" AUROC without them: {number(without)}." if without is not None else ""
    return Words((words,)), Listing(tuple(f"{test} – {train}" for test, train in near["examples"].items()))
