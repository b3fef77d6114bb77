"""What flows share: events that automations begin with, names and logs of runs that say line and step, what is tried again, and where."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from anomaly.cli.terminal.progress import Lines
from anomaly.errors import AnomalyError
from anomaly.names import one_line
from anomaly.progress import Course, Progress


def emit(what: str, line: str, says: str, more: dict[str, Any]) -> None:
    """One event `anomaly.release.WHAT` on a line, with a sentence."""
    resource = {"prefect.resource.id": f"anomaly.line.{line}", "prefect.resource.name": one_line(line)}
    emit_event(f"anomaly.release.{what}", resource=resource, payload={"line": line, "says": one_line(says), **more})


def challenged(release: Path, bundle: Path, why: str) -> None:
    """The event that a line has a new challenger."""
    emit("challenger", release.name, f"{bundle.name} is the challenger: {why}.", {"release": str(release)})


def named(step: str) -> Callable[[], str]:
    """The name of a flow's run: the line, by its release folder or its spec, and the step."""

    def name() -> str:
        given = flow_run.parameters or {}
        release, spec = given.get("release"), given.get("spec") or given.get("bundle")
        line = Path(str(release)).name if release and Path(str(release)).name != "release" else Path(str(spec or release or "")).stem
        return one_line(f"{line}: {step}")

    return name


def is_passing(task_: object, task_run: object, state: object) -> bool:
    """Whether a failure may pass by itself, as a lost share does; what a person must mend is not tried again."""
    error = getattr(state, "data", None)
    exception = getattr(error, "exception", error)
    return not isinstance(exception, AnomalyError)


RETRIED: dict[str, Any] = {
    "cache_policy": NO_CACHE,  # what is done already is in the work folder, whatever Prefect's server knows
    "retries": 2,
    "retry_delay_seconds": 10,
    "retry_condition_fn": is_passing,
}


def logged(name: str) -> Progress:
    """Progress as lines in the run's log. A task knows no share of the whole run, so no time left is told."""
    course = Course()
    Lines(name, course, get_run_logger().info)
    return lambda text, done=None, total=None: course.tell(text, done, total, share=0.0)


@contextmanager
def errors_told() -> Iterator[None]:
    """Errors of the block that a person can mend are told in words and end the command with exit code 1."""
    try:
        yield
    except AnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def one_server() -> Iterator[None]:
    """One server of Prefect for a command and its workers, where no address is set: else each worker would start its own beside it."""
    if PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        yield
        return
    from prefect.server.api.server import SubprocessASGIServer  # takes two seconds

    server = SubprocessASGIServer()
    server.start()  # it ends with this process, after the last lines of the log have been sent to it
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield


def runner(workers: int, scheduler: str | None) -> TaskRunner[Any]:
    """Where tasks run: a Dask cluster that is there, one of `workers` processes that ends with the run, or this process for none."""
    if workers == 0 and scheduler is None:
        return ThreadPoolTaskRunner(max_workers=1)
    import dask
    from prefect_dask.task_runners import DaskTaskRunner

    # Dask samples the stacks of its workers' threads. Where a thread ends at that moment, Pythons up to some of 3.11 wait for themselves
    # for ever (https://github.com/python/cpython/issues/106883): a fleet stood still at its last line.
    dask.config.set({"distributed.worker.profile.enabled": False})
    if scheduler is not None:
        return DaskTaskRunner(address=scheduler)
    cluster = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None, "host": "127.0.0.1"}
    return DaskTaskRunner(cluster_kwargs=cluster)
