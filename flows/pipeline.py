"""The path as Prefect flows: thin tasks around `anomaly.pipeline.steps`.

Tasks pass paths, never arrays. What a step made is kept in the work folder under a key over data, spec and code, so a
second run with unchanged data trains nothing, whatever server, or none, looks on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from anomaly.bundle.archive import read_bundle
from anomaly.bundle.release_folder import ReleaseFolder, Role
from anomaly.cli.terminal.bundle_page import bundle_page
from anomaly.edge.runtime.session import open_session
from anomaly.errors import SpecError
from anomaly.evaluation.report.drawing import png_of
from anomaly.evaluation.report.scores import figure_of
from anomaly.evaluation.report.tried import few_label_words, transfer_words
from anomaly.features.tensors import load_tensors
from anomaly.names import slug
from anomaly.parallel import one_run
from anomaly.pipeline.assess import evaluate_bundle, report_on, report_on_fit
from anomaly.pipeline.data_key import DataKey
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.registry.follow import Fresh, note_release
from anomaly.spec import read_spec
from flows.shared import RETRIED, challenged, logged, named

WORK = Path(".anomaly")
HOUR_S = 3600


@dataclass(frozen=True)
class Job:
    """What the tasks of one run share. `data_key` says which data it is; it is taken once a run and handed from task to task.

    `full_pretraining` trains the extractor to the end, where otherwise a first stretch that promises no gain is all. `overrides`: other
    values for keys of the spec. `before`: names of the files that were in the work folder when the run began.
    """

    spec: Path
    data: Path
    work: Path
    full_pretraining: bool = False
    data_key: DataKey | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    before: frozenset[str] = frozenset()


def _steps(job: Job) -> Steps:
    line = open_line(read_spec(job.spec, job.overrides), job.data)
    return Steps(line, job.work, progress=logged(line.spec.name), full_pretraining=job.full_pretraining, known=job.data_key)


def _take(steps: Steps, step: str) -> Path:
    """Take a step; when its result was there already, the run's log says so."""
    path: Path = getattr(steps, step)()
    if step not in steps.trained:
        get_run_logger().info(f"{step}: nothing changed, taken from {path.name}")
    return path


@task(**RETRIED)
def start(spec: Path, data: Path, work: Path, full_pretraining: bool = False, overrides: Mapping[str, Any] = MappingProxyType({})) -> Job:
    """The run's job: what its data is, hashed once for all tasks."""
    before = frozenset(path.name for path in work.glob("*")) if work.is_dir() else frozenset()
    job = Job(spec, data, work, full_pretraining, overrides=dict(overrides), before=before)
    return replace(job, data_key=_steps(job).data_key)


@task(task_run_name="{job.spec.stem}: pretrain", **RETRIED)
def pretrain(job: Job) -> Path:
    """The extractor file; where it starts from another line, the guard's verdict as an artifact."""
    steps = _steps(job)
    path = _take(steps, "pretrain")
    found = load_tensors(path)[1].get("transfer")
    if found is not None:
        told = "\n".join(f"- {text}" for text in (*transfer_words(found), *few_label_words(found)))
        create_markdown_artifact(
            key=f"{artifact_key(steps.line.spec.name)}-transfer", markdown=told, description="What the transfer was worth"
        )
    return path


@task(task_run_name="{job.spec.stem}: fit", **RETRIED)
def fit(job: Job) -> Path:
    """The fitted scorer."""
    return _take(_steps(job), "fit")


@task(task_run_name="{job.spec.stem}: calibrate", **RETRIED)
def calibrate(job: Job) -> Path:
    """The calibrator."""
    return _take(_steps(job), "calibrate")


@task(task_run_name="{job.spec.stem}: evaluate", **RETRIED)
def evaluate(job: Job) -> Path:
    """Figures as JSON, and as a table artifact."""
    steps = _steps(job)
    path = _take(steps, "evaluate")
    found = json.loads(path.read_text())
    report = steps.fit_report()
    description = f"{steps.line.spec.name}: {_judged(found, report)}"
    create_table_artifact(key=f"{artifact_key(steps.line.spec.name)}-metrics", table=_figures(found, report), description=description)
    return path


def _figures(found: Mapping[str, Any], report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a figure with its interval; what is known by made-up faults beside what labelled records say."""
    intervals = found.get("ci95") or {}
    rows = []
    for name, value in found.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not (name == "n" and not value):
            low, high = intervals.get(name) or ("", "")
            rows.append({"figure": name, "value": value, "95 % low": low, "95 % high": high})
    made_up = report.get("injected_found") or report.get("marks", {}).get("found") or {}
    shares = {kind: share for kind, share in made_up.items() if isinstance(share, (int, float))} if isinstance(made_up, dict) else {}
    return rows + [
        {"figure": f"made-up {kind}, share found", "value": share, "95 % low": "", "95 % high": ""} for kind, share in shares.items()
    ]


def _judged(found: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """How good the detector is, as a sentence."""
    if found.get("n") and found.get("recall") is not None:
        alarms = found.get("false_alarm_rate")
        wrong = "" if alarms is None else f", and {alarms:.2%} of the normal ones"
        return f"of {found['n']} labelled records it flags {found['recall']:.0%} of the faulty ones{wrong}."
    return f"learnt from {report['normals']} normal records; there are no labelled ones, so it is judged by made-up faults alone."


@task(task_run_name="{job.spec.stem}: export", **RETRIED)
def export(job: Job) -> Path:
    """The bundle."""
    return _take(_steps(job), "export")


@task(task_run_name="{job.spec.stem}: publish", **RETRIED)
def publish(job: Job, release: Path, role: Role = "champion", why: str = "") -> Path:
    """The bundle in the release folder, as its champion or challenger; a summary as a markdown artifact."""
    steps = _steps(job)
    published = steps.publish(release, role=role, by=f"the flow {flow_run.flow_name or 'publish'}", why=why)
    note_release(release, get_run_logger(), Fresh(published, job.data, lambda page: report_on_fit(steps, read_bundle(published), page)))
    head, *facts = bundle_page(read_bundle(published))
    stands = next((f"It is the {one} in" for one in get_args(Role) if ReleaseFolder(release).pointed(one) == published), "It lies in")
    made = [step for step, path in steps.results.items() if path.name not in job.before]
    text = (
        f"**{head}. {stands} `{release}`.**\n\n"
        + "".join(f"- {' '.join(fact.split())}\n" for fact in facts)
        + f"- data: `{steps.data_key.train[:12]}`\n"
        + f"- steps that worked in this run: {', '.join(made) or 'none, all taken from earlier runs'}\n"
    )
    create_markdown_artifact(key=f"{artifact_key(steps.line.spec.name)}-summary", markdown=text, description="What was published")
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
    create_image_artifact(image_url=f"data:image/png;base64,{png}", key=f"{artifact_key(opened.manifest.name)}-scores")
    return path


@flow(name="pretrain", flow_run_name=named("pretrain"), timeout_seconds=24 * HOUR_S)
def pretrain_flow(spec: Path, data: Path, work: Path = WORK) -> Path:
    """Only the extractor, trained in full: the long part, on a schedule of its own. `full_pretraining` of the other flows takes it."""
    with alone(spec, work):
        return pretrain(start(spec, data, work, full_pretraining=True))


@flow(name="fit", flow_run_name=named("fit"), timeout_seconds=12 * HOUR_S)
def fit_flow(spec: Path, data: Path, work: Path = WORK, full_pretraining: bool = False) -> Path:
    """From data to a bundle in the work folder, not published."""
    with alone(spec, work):
        return fit_all(start(spec, data, work, full_pretraining))


def fit_all(job: Job) -> Path:
    """The steps to the bundle, one task each. A task finds what the one before it left in the work folder."""
    extractor = pretrain(job)
    fitted = fit(job, wait_for=[extractor])
    calibrated = calibrate(job, wait_for=[fitted])
    evaluated = evaluate(job, wait_for=[calibrated])
    return export(job, wait_for=[evaluated])


@flow(name="transfer", flow_run_name=named("transfer"), timeout_seconds=12 * HOUR_S)
def transfer_flow(spec: Path, data: Path, work: Path = WORK) -> Path:
    """A bundle that starts from the line the spec names under [transfer], not published; the guard's verdict as an artifact."""
    named = read_spec(spec).transfer
    if not named.given:
        raise SpecError(f"{spec}: names no source; give [transfer] source, normals or faults")
    return fit_flow(spec, data, work)


@flow(name="publish", flow_run_name=named("publish"), timeout_seconds=12 * HOUR_S)
def publish_flow(spec: Path, data: Path, release: Path, work: Path = WORK, full_pretraining: bool = False) -> Path:
    """Publish what was fitted; fits it first where that has not been done."""
    with alone(spec, work):
        job = start(spec, data, work, full_pretraining)
        return publish(job, release, wait_for=[export(job)])


@flow(name="pipeline", flow_run_name=named("pipeline"), timeout_seconds=12 * HOUR_S)
def pipeline(
    spec: Path,
    data: Path,
    release: Path = Path("out/release"),
    out: Path = Path("out"),
    work: Path = WORK,
    full_pretraining: bool = False,
    role: Role = "challenger",
) -> Path:
    """Everything: pretrain, fit, calibrate, evaluate, export, publish, report. Returns the published bundle.

    The first of a release folder is its champion. One after it gets the `role` asked for: a challenger changes nothing at the line until it
    is promoted; a champion is taken over by the edge at once, compared by nobody.
    """
    with alone(spec, work):
        folder = ReleaseFolder(release)
        if not release.is_dir() or folder.pointed("champion") is None:
            role = "champion"
        before = folder.pointed("challenger") if release.is_dir() else None
        job = start(spec, data, work, full_pretraining)
        published = publish(job, release, role, "fitted anew on its schedule or on request", wait_for=[fit_all(job)])
        report(data, published, out)
    if role == "challenger" and folder.pointed("challenger") == published != before:
        challenged(release, published, "fitted anew on its schedule or on request")
    return published


@contextmanager
def alone(spec: Path, work: Path) -> Iterator[None]:
    """The whole run of a flow without another on the same line beside it, be it a flow or a command; waits for the one that is there."""
    line = read_spec(spec).name
    with one_run(work, line, logged(line)):
        yield


def artifact_key(name: str) -> str:
    """Prefect's artifact keys hold lower-case letters, digits and dashes only."""
    return slug(name).replace("_", "-").replace(".", "-")
