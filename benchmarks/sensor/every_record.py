"""One setting, every record: how well a detector of sensors ranks, and what its own threshold makes of it.

    python -m benchmarks.sensor.every_record [--skab SKAB] [--tsb TSB] [--nab NAB] [--only NAME] [--place PLACE] [--view VIEW]
        [--spec SPEC.toml] [--json FILE]

The samples and made-up records (benchmarks/protocols/made.py) are always judged. SKAB is the folder of its runs, TSB holds files in
TSB-AD's form, NAB its series with windows.json. Judged are the rows that were not learnt from. Each window's score stands at its last row,
as a plant sees it; with --place the table shows it at the window's middle, or spread over all its rows (the JSON holds all).

Figures of a record: ROC-AUC; VUS-PR up to 100 rows; the share of faulty rows found at 1 % false alarms in hindsight; the same at the
threshold that was set for 1 %, and the share of normal rows flagged there: of all, and of those whose window is clear of faulty rows (a
fault stays in the windows of the rows after it); processor seconds to fit. The press is also judged by strokes.
SKAB's F1, false alarms and missed rows are of alarm states: a row counts as flagged while an alarm is open. "The 20 series" are SKAB's runs
and TSB-AD's files, judged as TSB-AD does: all rows, those learnt from too. With --view only what ranks counts: thresholds are those of all
views together.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly import __version__
from anomaly.alarms.process import ProcessAlarm, Rules
from anomaly.atomic import write_text
from anomaly.evaluation import metrics
from anomaly.evaluation.figures import by_row
from anomaly.evaluation.vus import vus
from anomaly.export.detector import Detector
from anomaly.scorers.sensors.deviation import MOVEMENT
from anomaly.spec import SensorSpec, read_spec
from benchmarks.protocols.records import Record, all_records
from benchmarks.protocols.sensors import Frame, Scored, learn, row_after_row

VIEWS = ("level", "shape", "dynamics")
NEVER = 1e30  # a unit that no score reaches
PLACES = ("end", "middle", "spread")
ASKED = 0.01  # false alarms in hindsight
ALARM_RATES = (0.01, 0.02, 0.05, 0.1)  # budgets at which SKAB's alarm states are judged
FIGURES = ("roc_auc", "vus_pr", "found_in_hindsight", "found", "false_alarm_rate", "false_alarm_rate_clear")
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def leave(view: str, detector: Detector) -> None:
    """Leave one view in a fitted detector: the others' units become so large that they never speak.

    "dynamics" is the movement among the features of the level view; "level" are its other features and the residuals.
    """
    views = detector.scorer
    if view == "shape":
        views.unit[0] = NEVER
        return
    views.unit[1:] = NEVER
    movement = torch.arange(views.level.scale.shape[1]) == MOVEMENT
    views.level.scale[:, movement if view == "level" else ~movement] = NEVER
    if view == "dynamics":
        views.level.mix_scale[:] = NEVER


def centred(of_windows: NDArray[Any], window: int) -> NDArray[Any]:
    """What windows that end at each row say (n,), put where their middle is; the last rows repeat the last window's."""
    ahead = window // 2
    return np.pad(of_windows[ahead:], (0, ahead), mode="edge")


def spread_out(of_windows: NDArray[Any], window: int) -> Floats:
    """What windows that end at each row say (n,), as the mean over all windows that hold a row, as PaAno and others state it.

    >>> spread_out(np.array([0.0, 0.0, 0.0, 6.0, 0.0, 0.0]), window=3).tolist()
    [0.0, 2.0, 2.0, 2.0, 0.0, 0.0]
    """
    total = np.cumsum(np.concatenate([[0.0], of_windows, np.full(window - 1, of_windows[-1])]))
    return np.asarray((total[window:] - total[:-window]) / window)


def in_hindsight(labels: Bools, scores: Floats, asked: float = ASKED) -> float | None:
    """The largest share of faulty rows (n,) above a threshold that at most `asked` of the normal rows exceed. None without both kinds.

    >>> in_hindsight(np.array([False] * 4 + [True] * 2), np.array([0.0, 1.0, 2.0, 3.0, 2.5, 3.5]), asked=0.25)
    1.0
    """
    if not labels.any() or labels.all():
        return None
    normal = np.sort(scores[~labels])[::-1]
    return float((scores[labels] > normal[int(asked * len(normal))]).mean())


def clear_of_faults(labels: Bools, window: int) -> Bools:
    """Whether the window that ends at each row (n,) holds no faulty row.

    >>> clear_of_faults(np.array([False, True, False, False, False]), 3)
    array([ True, False, False, False,  True])
    """
    count, last = np.cumsum(np.concatenate([[0], labels])), np.arange(len(labels))
    return np.asarray(count[last + 1] == count[np.maximum(last + 1 - window, 0)])


def figures(labels: Bools, scores: Floats, flagged: Bools, clear: Bools) -> dict[str, float | None]:
    """FIGURES of rows (n,); `clear`: whose windows hold no faulty row."""
    surface = vus(labels, scores)
    decided = metrics.decisions(labels, flagged)
    return {
        "roc_auc": metrics.auroc(labels, scores),
        "vus_pr": surface[1] if surface else None,
        "found_in_hindsight": in_hindsight(labels, scores),
        "found": decided.get("recall"),
        "false_alarm_rate": decided.get("false_alarm_rate"),
        "false_alarm_rate_clear": float(flagged[clear & ~labels].mean()) if (clear & ~labels).any() else None,
    }


def by_stroke(labels: Bools, scores: Floats, flagged: Bools, window: int, stroke: int) -> dict[str, Any]:
    """Strokes found and false strokes, of rows (n,) that begin with a stroke; scores and flags stand where windows end.

    A window belongs to the stroke in which its middle lies. A stroke with a fault is found when one of its windows is flagged. A good
    stroke is false when one of its windows is flagged that holds no faulty row.

    >>> labels = np.repeat([False, True, False], 4)
    >>> late = np.roll(labels, 1)  # windows of two rows that hold a faulty one
    >>> by_stroke(labels, late.astype(float), late, window=2, stroke=4)
    {'faulty': 1, 'found': 1, 'good': 2, 'false': 0, 'roc_auc': 1.0}
    """
    clear = clear_of_faults(labels, window)
    bad, worst, hit = [], [], []
    for first in range(0, len(labels) - stroke + 1, stroke):
        ends = np.arange(first, first + stroke) + window // 2
        ends = ends[ends < len(labels)]
        faulty = bool(labels[first : first + stroke].any())
        ends = ends if faulty else ends[clear[ends]]
        if len(ends):
            bad.append(faulty)
            worst.append(float(scores[ends].max()))
            hit.append(bool(flagged[ends].any()))
    at, flags = np.array(bad, bool), np.array(hit, bool)
    found = {"faulty": int(at.sum()), "found": int((at & flags).sum()), "good": int((~at).sum()), "false": int((~at & flags).sum())}
    return found | {"roc_auc": metrics.auroc(at, np.array(worst, np.float64))}


def alarm_open(rules: Rules, rows: Frame, count: int) -> Bools:
    """Whether an alarm is open (count,), by row: from the one at which it opens, its on-delay over, to the one at which it closes.

    `rows` are as `score_table` gives them. A row that ends no window leaves things as they are.
    """
    p, score = (rows[name].to_numpy(np.float32) for name in ("p_value", "score"))
    shares = rows.filter(like="share:").to_numpy(np.float32)
    changes = ProcessAlarm(rules).take_all(rows["time"].tolist(), p, score, shares)
    steps = np.zeros(count, int)
    for number, change in changes:
        steps[rows["row"].to_numpy()[number]] += {"opened": 1, "closed": -1}.get(change.kind, 0)
    found: Bools = np.cumsum(steps) > 0
    return found


def judged(record: Record, found: Scored) -> dict[str, Any]:
    """All figures of a scored record."""
    rows, first = len(record.whole), record.first
    flagged, scores = by_row(found.rows, 0, rows, found.p)
    at_end = (scores, flagged, clear_of_faults(record.labels, found.window))
    places = {"end": at_end, "middle": tuple(centred(each, found.window) for each in at_end)}
    places["spread"] = (spread_out(scores, found.window), *places["middle"][1:])
    result: dict[str, Any] = {
        "kind": record.kind,
        "rows": rows,
        "rows_learnt": len(record.train),
        "sensors": len(found.table.channels),
        "window": found.window,
        "fit_s": found.fit_s,
        "views": found.report.get("views"),
    }
    for place, (s, f, clear) in places.items():
        result[place] = figures(record.labels[first:], s[first:], f[first:], clear[first:])
        if record.kind in ("skab", "tsb_ad"):  # as TSB-AD judges
            surface = vus(record.labels, s)
            result[place] |= {"roc_auc_all_rows": metrics.auroc(record.labels, s), "vus_pr_all_rows": surface[1] if surface else None}
    if record.stroke:
        result["strokes"] = by_stroke(record.labels[first:], scores[first:], flagged[first:], found.window, record.stroke)
    if record.kind == "skab":
        late = found.rows[found.rows["row"] >= first]
        result["alarm_states"] = {}
        for rate in ALARM_RATES:
            rules = replace(found.rules, settings=found.rules.settings.model_copy(update={"threshold": rate}))
            is_open, labels = alarm_open(rules, late, rows)[first:], record.labels[first:]
            result["alarm_states"][str(rate)] = _counts(labels, is_open)
    return result


def _counts(labels: Bools, flagged: Bools) -> dict[str, int]:
    pairs = {"tp": (labels, flagged), "fp": (~labels, flagged), "fn": (labels, ~flagged), "tn": (~labels, ~flagged)}
    return {name: int((a & b).sum()) for name, (a, b) in pairs.items()}


def _decisions(counts: list[dict[str, int]]) -> dict[str, float]:
    """F1, false-alarm and missed-alarm rate of all runs' rows put together."""
    tp, fp, fn, tn = (sum(run[name] for run in counts) for name in ("tp", "fp", "fn", "tn"))
    return {"f1": 2 * tp / max(1, 2 * tp + fp + fn), "false_alarm_rate": fp / max(1, fp + tn), "missed_alarm_rate": fn / max(1, tp + fn)}


def summary(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """SKAB's means, worst run and alarm states, and the means over the 20 series; only of what was run."""
    skab = {name: one for name, one in results.items() if one["kind"] == "skab"}
    series = [one for one in results.values() if one["kind"] in ("skab", "tsb_ad")]
    found: dict[str, Any] = {}
    for place in PLACES if skab else ():
        rank = {name: one[place]["roc_auc"] for name, one in skab.items()}
        worst = min(rank, key=lambda name: rank[name])
        means = {name: _mean([one[place][name] for one in skab.values()]) for name in FIGURES}
        found[f"skab_{place}"] = {"runs": len(skab), **means, "worst_run": worst, "worst_roc_auc": rank[worst]}
    if skab:
        found["skab_alarm_states"] = {str(r): _decisions([one["alarm_states"][str(r)] for one in skab.values()]) for r in ALARM_RATES}
    for place in PLACES if series else ():
        names = ("roc_auc_all_rows", "vus_pr_all_rows")
        found[f"series_{place}"] = {"series": len(series)} | {name: _mean([one[place][name] for one in series]) for name in names}
    return found


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def line(name: str, one: dict[str, float | None], fit_s: float | None = None) -> str:
    """A row of the table."""
    cells = [f"{one[figure]:.3f}" if one[figure] is not None else "–" for figure in FIGURES]
    return f"| {name} | " + " | ".join([*cells, "" if fit_s is None else f"{fit_s:.1f}"]) + " |"


def main(arguments: list[str] | None = None) -> None:
    """Run, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skab", type=Path, help="your copy of SKAB's data folder")
    parser.add_argument("--tsb", type=Path, help="a folder of files in TSB-AD's form")
    parser.add_argument("--nab", type=Path, help="your copy of NAB's data folder")
    parser.add_argument("--only", help="records whose name holds this")
    parser.add_argument(
        "--place", choices=PLACES, default="end", help="where the table's scores stand: the windows' end, their middle, or all their rows"
    )
    parser.add_argument("--view", choices=VIEWS, help="a detector of one view alone")
    parser.add_argument("--spec", type=Path, help="a sensor spec; the defaults when not given")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args(arguments)
    spec = read_spec(given.spec) if given.spec else SensorSpec(kind="sensor")
    if not isinstance(spec, SensorSpec):
        parser.error(f"{given.spec}: a camera spec; this benchmark is of sensors")
    torch.set_num_threads(1)
    place = given.place
    results: dict[str, dict[str, Any]] = {}
    print(f"| record | {' | '.join(FIGURES)} | fit_s |\n|{'---|' * (len(FIGURES) + 2)}")
    for record in all_records(given.skab, given.tsb, given.nab):
        if given.only and given.only not in record.name:
            continue
        wanted = row_after_row(spec) if record.row_after_row else spec
        alter = partial(leave, given.view) if given.view else None
        found = learn(wanted, Path(f"{record.name.replace('/', '_')}.csv"), record.train, record.whole, alter=alter)
        if given.view == "shape" and not found.report["views"]["shape"]:
            print(f"| {record.name} | no view of shape |", flush=True)
            continue
        results[record.name] = one = judged(record, found)
        print(line(record.name, one[place], one["fit_s"]), flush=True)
    if not results:
        parser.error(f"--only {given.only}: no such record, or none with this view")
    totals = summary(results)
    if skab := totals.get(f"skab_{place}"):
        print(line("SKAB, mean", skab))
    strokes = {f"{name}, by stroke": one["strokes"] for name, one in results.items() if "strokes" in one}
    for name, one in (strokes | totals).items():
        print(f"{name}: {json.dumps(one)}")
    if given.json:
        whole = {"version": __version__, "view": given.view, "spec": spec.model_dump(mode="json"), **totals, "records": results}
        write_text(given.json, json.dumps(whole, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
