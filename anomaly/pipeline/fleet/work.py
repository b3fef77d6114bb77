"""What is done for one line of a fleet, and the summary of all. Whatever goes wrong with a line is a row, never an end of the others."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from anomaly.bundle.archive import read_bundle
from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.edge.runtime.bench import memory_mb
from anomaly.errors import AnomalyError, BundleError, in_words
from anomaly.pipeline.fleet.lines import FleetLine
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.progress import Progress, silent
from anomaly.spec import read_spec


@dataclass(frozen=True)
class Outcome:
    """What came of a line.

    state       published (something was worked out anew), unchanged (all taken from earlier runs), failed
    reason      why it failed, as one line without passwords; of an error that is not ours, where it came up too
    trained     the steps that did work
    normals     normal records learnt from; NaN when it failed
    auroc       of labelled records; NaN where there are none
    flagged     share of labelled normal records that are flagged; NaN where there are none
    seconds     of wall time
    peak_mb     largest memory of the process that did it, until then
    """

    line: str
    state: str
    reason: str = ""
    bundle: str = ""
    trained: str = ""
    normals: float = float("nan")
    auroc: float = float("nan")
    flagged: float = float("nan")
    seconds: float = 0.0
    peak_mb: float = 0.0


def fit_line(line: FleetLine, release: Path, work: Path, progress: Progress = silent) -> Outcome:
    """Fit, judge and publish one line into `release`/NAME. Never raises: an error is a failed outcome."""
    return _outcome(line, lambda: _fitted(line, release, work, progress))


def report_on_line(line: FleetLine, bundle: Path, work: Path, path: Path) -> None:
    """Write the HTML report of a line's fit, whose steps are in the work folder."""
    from anomaly.pipeline.assess import report_on_fit

    report_on_fit(_steps(line, work, silent), read_bundle(bundle), path)


def _steps(line: FleetLine, work: Path, progress: Progress) -> Steps:
    spec = read_spec(line.spec, {"name": line.name, **line.override})
    return Steps(open_line(spec, line.data), work, progress=progress)


def _fitted(line: FleetLine, release: Path, work: Path, progress: Progress) -> dict[str, Any]:
    steps = _steps(line, work, progress)
    steps.export()
    try:
        published = steps.publish(release / line.slug)
    except BundleError as error:
        if steps.trained:
            raise
        return {"state": "unchanged", "reason": in_words(error)}  # rolled back here, and nothing new since
    champion = ReleaseFolder(release / line.slug).pointed("champion")
    figures = json.loads(steps.evaluate().read_text())
    return {
        "state": "published" if steps.trained else "unchanged",
        "reason": "" if champion in (None, published) else f"its champion is {champion.name} still, which was promoted",
        "bundle": published.name,
        "trained": " ".join(steps.trained),
        "normals": steps.fitted.report["normals"],
        "auroc": _first(figures, "image_auroc", "roc_auc"),
        "flagged": _first(figures, "false_alarm_rate"),
    }


def _first(figures: dict[str, Any], *names: str) -> float:
    return next((float(figures[name]) for name in names if isinstance(figures.get(name), (int, float))), float("nan"))


def _outcome(line: FleetLine, work: Callable[[], dict[str, Any]]) -> Outcome:
    began = time.monotonic()
    try:
        found = work()
    except AnomalyError as error:
        found = {"state": "failed", "reason": in_words(error)}
    except Exception as error:  # whatever a library does with one line's data
        last = traceback.extract_tb(error.__traceback__)[-1]
        found = {"state": "failed", "reason": f"{in_words(error)} ({Path(last.filename).name}, line {last.lineno})"}
    return Outcome(line.name, seconds=round(time.monotonic() - began, 2), peak_mb=round(memory_mb()), **found)


def summary(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """A row a line, those that failed first, then as they were given."""
    rows = sorted(outcomes, key=lambda one: one.state != "failed")
    return pd.DataFrame([asdict(one) for one in rows])
