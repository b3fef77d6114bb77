"""The path as Prefect flows: thin tasks around `anomaly.pipeline.steps`.

Tasks pass paths, never arrays. What a step made is kept in the work folder under a key over data, spec and code, so a
second run with unchanged data trains nothing, whatever server, or none, looks on.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from anomaly.bundle.archive import read_bundle
from anomaly.cli.terminal.progress import Lines
from anomaly.edge.runtime.session import open_session
from anomaly.errors import AnomalyError, SpecError
from anomaly.evaluation.report.drawing import png_of
from anomaly.evaluation.report.scores import figure_of
from anomaly.features.tensors import load_tensors
from anomaly.names import slug
from anomaly.pipeline.assess import evaluate_bundle, report_on
from anomaly.pipeline.data_key import DataKey
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.progress import Course, Progress
from anomaly.spec import read_spec

WORK = Path(".anomaly")


def _is_passing(task_: object, task_run: object, state: object) -> bool:
    """Whether a failure may pass by itself, as a lost share does; what a person must mend is not tried again."""
    error = getattr(state, "data", None)
    exception = getattr(error, "exception", error)
    return not isinstance(exception, AnomalyError)


@dataclass(frozen=True)
class Job:
    """What the tasks of one run share. `data_key` says which data it is; it is taken once a run and handed from task to task.

    `full_pretraining` trains the extractor to the end, where otherwise a first stretch that promises no gain is all.
    """

    spec: Path
    data: Path
    work: Path
    full_pretraining: bool = False
    data_key: DataKey | None = None


def _steps(job: Job) -> Steps:
    line = open_line(read_spec(job.spec), job.data)
    return Steps(line, job.work, progress=_logged(line.spec.name), full_pretraining=job.full_pretraining, known=job.data_key)


def _logged(name: str) -> Progress:
    """Progress as lines in the run's log. A task knows no share of the whole run, so no time left is told."""
    course = Course()
    Lines(name, course, get_run_logger().info)
    return lambda text, done=None, total=None: course.tell(text, done, total, share=0.0)


def _take(steps: Steps, step: str) -> Path:
    """Take a step; when its result was there already, the run's log says so."""
    path: Path = getattr(steps, step)()
    if step not in steps.trained:
        get_run_logger().info(f"{step}: nothing changed, taken from {path.name}")
    return path


RETRIED: dict[str, Any] = {
    "cache_policy": NO_CACHE,  # what is done already is in the work folder, whatever Prefect's server knows
    "retries": 2,
    "retry_delay_seconds": 10,
    "retry_condition_fn": _is_passing,
}


@task(**RETRIED)
def start(spec: Path, data: Path, work: Path, full_pretraining: bool = False) -> Job:
    """The run's job: what its data is, hashed once for all tasks."""
    job = Job(spec, data, work, full_pretraining)
    return replace(job, data_key=_steps(job).data_key)


@task(**RETRIED)
def pretrain(job: Job) -> Path:
    """The extractor file; where it starts from another line, the guard's verdict as an artifact."""
    steps = _steps(job)
    path = _take(steps, "pretrain")
    found = load_tensors(path)[1].get("transfer")
    if found is not None:
        create_markdown_artifact(
            key=f"{_key(steps.line.spec.name)}-transfer", markdown=_verdict(found), description="What the transfer was worth"
        )
    return path


def _verdict(found: dict[str, Any]) -> str:
    """The transfer guard's findings as markdown: what was taken and why, and a row for each candidate."""
    lines = [f"**{found.get('method', 'target only')}**: {found.get('why', 'only labelled faults were given')}", ""]
    if found.get("negative_transfer"):
        lines += [f"**Negative transfer:** {', '.join(found['negative_transfer'])}", ""]
    if "few_labels" in found:
        labels = found["few_labels"]
        lines += [f"**Labelled faults:** {labels['faults']}, vote {labels['vote']}; {labels.get('why', '')}".rstrip("; "), ""]
    if found.get("ways"):
        lines += ["| way | AUROC on made-up faults | gain over the target alone | 95 % interval | verdict |", "|---|---|---|---|---|"]
    for way, figures in found.get("ways", {}).items():
        low, high = figures["gain_ci95"]
        lines.append(f"| {way} | {figures['auroc']:.4f} | {figures['gain']:+.4f} | {low:+.4f} to {high:+.4f} | {figures['verdict']} |")
    return "\n".join(lines) + "\n"


@task(**RETRIED)
def fit(job: Job) -> Path:
    """The fitted scorer."""
    return _take(_steps(job), "fit")


@task(**RETRIED)
def calibrate(job: Job) -> Path:
    """The calibrator."""
    return _take(_steps(job), "calibrate")


@task(**RETRIED)
def evaluate(job: Job) -> Path:
    """Figures as JSON, and as a table artifact."""
    steps = _steps(job)
    path = _take(steps, "evaluate")
    figures = json.loads(path.read_text())
    intervals = figures.get("ci95", {})
    rows = [
        {"figure": name, "value": value, "95 % low": intervals.get(name, ["", ""])[0], "95 % high": intervals.get(name, ["", ""])[1]}
        for name, value in figures.items()
        if isinstance(value, (int, float))
    ]
    create_table_artifact(key=f"{_key(steps.line.spec.name)}-metrics", table=rows, description=f"Figures of {steps.line.spec.name}")
    return path


@task(**RETRIED)
def export(job: Job) -> Path:
    """The bundle."""
    return _take(_steps(job), "export")


@task(**RETRIED)
def publish(job: Job, release: Path) -> Path:
    """The bundle in the release folder, champion.json pointing at it; a summary as a markdown artifact."""
    steps = _steps(job)
    published = steps.publish(release)
    opened = read_bundle(published)
    text = (
        f"## {opened.manifest.name} {opened.manifest.version}\n\n"
        f"- bundle `{published.name}`, hash `{opened.hash[:12]}`\n"
        f"- {opened.manifest.provenance['fit']['normals']} normal records, data `{steps.data_key.train[:12]}`\n"
        f"- flagged at p <= {opened.manifest.threshold.p_value:.3g}\n"
        f"- steps that worked in this task: {', '.join(steps.trained) or 'none, all taken from earlier runs'}\n"
    )
    create_markdown_artifact(key=f"{_key(steps.line.spec.name)}-summary", markdown=text, description="What was published")
    return published


@task(**RETRIED)
def report(data: Path, bundle: Path, out: Path) -> Path | None:
    """The HTML report of the bundle on the data's labelled part; the score histogram as an image artifact."""
    opened = read_bundle(bundle)
    if not opened.manifest.metrics.get("n"):
        get_run_logger().info("no labelled records in the data: no report")
        return None
    evaluation = evaluate_bundle(opened, open_session(opened), data)
    path = out / f"{slug(opened.manifest.name)}-report.html"
    report_on(opened, evaluation, data, path)
    drawn = png_of(figure_of(evaluation, opened.manifest.threshold.score))
    picture = path.with_suffix(".png")
    picture.write_bytes(drawn)
    png = base64.b64encode(drawn).decode()
    create_image_artifact(image_url=f"data:image/png;base64,{png}", key=f"{_key(opened.manifest.name)}-scores")
    return path


@flow(name="pretrain")
def pretrain_flow(spec: Path, data: Path, work: Path = WORK) -> Path:
    """Only the extractor, trained in full: the long part, on a schedule of its own. `full_pretraining` of the other flows takes it."""
    return pretrain(start(spec, data, work, full_pretraining=True))


@flow(name="fit")
def fit_flow(spec: Path, data: Path, work: Path = WORK, full_pretraining: bool = False) -> Path:
    """From data to a bundle in the work folder, not published."""
    return _fit(start(spec, data, work, full_pretraining))


def _fit(job: Job) -> Path:
    """The steps to the bundle, one task each. A task finds what the one before it left in the work folder."""
    extractor = pretrain(job)
    fitted = fit(job, wait_for=[extractor])
    calibrated = calibrate(job, wait_for=[fitted])
    evaluated = evaluate(job, wait_for=[calibrated])
    return export(job, wait_for=[evaluated])


@flow(name="transfer")
def transfer_flow(spec: Path, data: Path, work: Path = WORK) -> Path:
    """A bundle that starts from the line the spec names under [transfer], not published; the guard's verdict as an artifact."""
    named = read_spec(spec).transfer
    if not named.given:
        raise SpecError(f"{spec}: names no source; give [transfer] source, normals or faults")
    return fit_flow(spec, data, work)


@flow(name="publish")
def publish_flow(spec: Path, data: Path, release: Path, work: Path = WORK, full_pretraining: bool = False) -> Path:
    """Publish what was fitted; fits it first where that has not been done."""
    job = start(spec, data, work, full_pretraining)
    return publish(job, release, wait_for=[export(job)])


@flow(name="pipeline")
def pipeline(
    spec: Path,
    data: Path,
    release: Path = Path("out/release"),
    out: Path = Path("out"),
    work: Path = WORK,
    full_pretraining: bool = False,
) -> Path:
    """Everything: pretrain, fit, calibrate, evaluate, export, publish, report. Returns the published bundle."""
    job = start(spec, data, work, full_pretraining)
    published = publish(job, release, wait_for=[_fit(job)])
    report(data, published, out)
    return published


def _key(name: str) -> str:
    """Prefect's artifact keys hold lower-case letters, digits and dashes only."""
    return slug(name).replace("_", "-").replace(".", "-")
