"""`anomaly monitor`, `anomaly box`, `anomaly bench`, `anomaly doctor`: what runs beside the line."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.alarms.health.address import Address, read_address
from anomaly.cli.terminal.console import out
from anomaly.cli.terminal.log import LogFormat, LogLevel, start_log
from anomaly.cli.terminal.options import FOUND, AsJson, ExitZero, FiguresPath, Provider, ProviderName, counts, positive, write_json
from anomaly.errors import AnomalyError

if TYPE_CHECKING:
    from anomaly.alarms.health.board import Board
    from anomaly.alarms.sinks.base import Route
    from anomaly.edge.monitor import Totals
    from anomaly.edge.release import Loaded, Release

edge_app = typer.Typer()
log = logging.getLogger("anomaly")


def _address(text: str) -> Address:
    """Where to listen. Raises BadParameter."""
    try:
        return read_address(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Alerts = Annotated[Path | None, typer.Option(help="Where alarms go (TOML, see deploy/alerts.toml).")]
Once = Annotated[bool, typer.Option("--once", help="Stop when there is nothing more.")]
Listen = Annotated[
    Address | None,
    typer.Option(
        parser=_address,
        metavar="HOST:PORT",
        envvar="ANOMALY_LISTEN",
        help="The page there, and /healthz, /readyz, /metrics; such as 127.0.0.1:9464.",
    ),
]
PageAuth = Annotated[
    Path | None,
    typer.Option("--page-auth", envvar="ANOMALY_PAGE_AUTH", help="Who may open the page (TOML): needed where other machines reach it."),
]
Format = Annotated[LogFormat, typer.Option("--log-format", help="Text for people, or one JSON object a line.")]
Level = Annotated[LogLevel, typer.Option("--log-level", help="The least that is logged.")]
GpuMemory = Annotated[float | None, typer.Option(callback=positive, help="GPU memory to use at most, in GB.")]


def _open(where: str, keep: Path, provider: ProviderName, threads: int | None, gpu_memory: float | None) -> tuple[Loaded, Release | None]:
    """A bundle, or the champion of a release folder or URL, tested on this machine."""
    from anomaly.edge.release import open_detector
    from anomaly.edge.runtime.session import open_session

    memory = int(gpu_memory * 1e9) if gpu_memory else None
    detector, release, why = open_detector(where, keep, lambda bundle: open_session(bundle, provider.value, threads, memory))
    if why:
        log.warning("the last good bundle is used: %s", why)
    return detector, release


def stop_by_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set, and SIGHUP, which comes when a remote terminal is closed."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _zone_before(bundle: str, store: Path, line: str | None) -> str:
    """In which zone a line's log begins: as its bundle says, or, of a release that has not been looked at yet, as it was last time."""
    from anomaly.alarms.store import ZONE, Store
    from anomaly.bundle.archive import zone_told

    if Path(bundle).is_file():
        return zone_told(Path(bundle))
    return Store(store).kept(line, ZONE) if line is not None and store.exists() else ""


def _sinks(alerts: Path | None) -> list[Route]:
    from anomaly.alarms.sinks.alerts_toml import read_routes

    return read_routes(alerts) if alerts is not None else []


@contextmanager
def _delivering(board: Board, store: Path, routes: Sequence[Route]) -> Iterator[Callable[[], None]]:
    """Events and heartbeats are delivered while the block runs. Yields what is called when there are new events."""
    from anomaly.alarms.delivery import delivering
    from anomaly.alarms.health.heartbeat import beating

    every_s = {route.name: route.routing.heartbeat_s for route in routes if route.routing.heartbeat_s is not None}
    with delivering(store, routes) as delivery:
        board.sinks = delivery.health
        with beating(board, store, every_s, delivery.wake):
            yield delivery.wake


@contextmanager
def _shown(board: Board, listen: Address, auth: Path | None) -> Iterator[None]:
    """Health and metrics, and the page where it is installed and someone may look at it."""
    from importlib.util import find_spec

    if auth is None and not listen.own:  # known without loading the page
        log.warning("no page on %s, which other machines reach: say who may open it by --page-auth", listen)
    elif find_spec("fastapi") is None or find_spec("uvicorn") is None:
        log.info("there is no page without its libraries: pip install 'anomaly-pipeline[page]'")
    else:
        from anomaly.page.serve import auth_of, serving_page
        from anomaly.page.site import Site

        who = auth_of(listen, auth)
        assert who is not None
        with serving_page(Site(board.store, board), listen, who) as address:
            log.info("the page, health and metrics on http://%s", address)
            yield
        return
    from anomaly.alarms.health.server import serving

    with serving(board, listen) as address:
        log.info("health and metrics on http://%s%s", address, "" if address.own else ", for all who reach this machine")
        yield


@contextmanager
def _service(
    board: Board, listen: Address | None, form: LogFormat, level: LogLevel, name: str, auth: Path | None = None, zone: str = ""
) -> Iterator[None]:
    """The log goes on from here, and while the block runs others can watch by HTTP, where that is asked for.

    An error of ours is the last line of the log, in its own format, and exit code 1.
    """
    start_log(form, level, name, zone=zone)
    try:
        if listen is None:
            yield
            return
        with _shown(board, listen, auth):
            yield
    except AnomalyError as error:
        log.error("%s", error)
        raise typer.Exit(1) from error
    except OSError as error:
        log.error("%s%s", f"{error.filename}: " if error.filename else "", error.strerror or error)
        raise typer.Exit(1) from error
    except typer.Exit:
        raise
    except Exception as error:
        log.critical("ended by an error that is ours to mend", exc_info=True)
        raise typer.Exit(1) from error


def _print_totals(totals: Totals, store: Path) -> None:
    from anomaly.alarms.store import Store

    counts = Store(store).counts()
    dropped = f", {totals.dropped} let go by a full queue" if totals.dropped else ""
    text = (
        f"{totals.scored} scored, {totals.flagged} flagged, process alarms: {totals.opened} opened, {totals.closed} closed; "
        f"{totals.rejected} set aside{dropped}; alerts delivered {counts['delivered']}, waiting {counts['waiting']}, dead {counts['dead']}"
    )
    log.info("%s", text)


@edge_app.command()
def monitor(
    bundle: Annotated[str, typer.Argument(help="The bundle (.anomaly), or a release folder or URL whose champion is followed.")],
    source: Annotated[str, typer.Option(help="A folder of pictures, a growing CSV, rtsp://…, mqtt://…, kafka://…, opc.tcp://…")],
    alerts: Alerts = None,
    once: Once = False,
    store: Annotated[Path, typer.Option(help="The event store (SQLite).")] = Path("anomaly.db"),
    store_gb: Annotated[float, typer.Option(callback=positive, help="GB the store may take; the oldest scores go first.")] = 4.0,
    evidence_mb: Annotated[float, typer.Option(min=0, help="MB of it for pictures and readings of alarms; 0 keeps none.")] = 500.0,
    line: Annotated[str | None, typer.Option(help="The line's name; the bundle's when not given.")] = None,
    provider: Provider = ProviderName.auto,
    gpu_memory: GpuMemory = None,
    silent_after_s: Annotated[float | None, typer.Option(callback=positive, help="Seconds without a record that are an alarm.")] = None,
    listen: Listen = None,
    page_auth: PageAuth = None,
    log_format: Format = LogFormat.text,
    log_level: Level = LogLevel.info,
    exit_zero: ExitZero = False,
) -> None:
    """Watch a source, open and close alarms, and deliver them. Runs until stopped.

    With --once exit code 3 says that a record was flagged, 1 that none was and that half of the records or more could not be read.
    """
    from anomaly.alarms.health.board import Board
    from anomaly.alarms.health.systemd import watched
    from anomaly.alarms.quality import mostly_unread
    from anomaly.edge.line import Line
    from anomaly.edge.monitor import open_monitor

    board = Board(store)
    with _service(board, listen, log_format, log_level, line or "monitor", page_auth, _zone_before(bundle, store, line)):
        detector, release = _open(bundle, store.with_name(store.name + ".bundles"), provider, None, gpu_memory)
        name = line or detector.bundle.manifest.name
        start_log(log_format, log_level, name, zone=detector.bundle.manifest.input.zone)
        log.info("%s", detector.session.line())
        board.add([name])
        sinks = _sinks(alerts)
        with _delivering(board, store, sinks) as wake:
            stop = stop_by_signal()
            names = [sink.name for sink in sinks]
            health = board.lines[name]
            loop = Line(
                name,
                lambda: open_monitor(
                    detector, source, store, names, wake, release, name, silent_after_s, health, not once,
                    int(store_gb * 1e9), int(evidence_mb * 1e6),
                ),
                store, names, wake, once, True, health,
            )  # fmt: skip
            if loop.error is not None:
                raise loop.error
            log.info("watching %s; self-test passed; store %s; sinks: %s", source, store, ", ".join(names) or "none")
            try:
                with watched(board.stuck):
                    totals = loop.run(stop)
            finally:
                loop.close()
        _print_totals(totals, store)
        if once and totals.flagged and Path(source).exists():
            log.info("to look at what was flagged: anomaly flagged %s %s --out flagged", store, source)
        if once and not totals.flagged and mostly_unread(totals.scored, totals.rejected):
            log.error("most of what is in %s could not be read: what was judged is not the whole of it", source)
            raise typer.Exit(1)
    if once and totals.flagged and not exit_zero:
        raise typer.Exit(FOUND)


@edge_app.command()
def box(
    spec: Annotated[Path, typer.Argument(help="All lines of this machine (TOML, see deploy/box.toml).")],
    once: Once = False,
    provider: Provider = ProviderName.auto,
    gpu_memory: GpuMemory = None,
    listen: Listen = None,
    page_auth: PageAuth = None,
    log_format: Format = LogFormat.text,
    log_level: Level = LogLevel.info,
) -> None:
    """Watch many lines in one process, with one store: a core each, taken in turn. Runs until stopped."""
    from anomaly.alarms.health.board import Board
    from anomaly.alarms.health.systemd import watched
    from anomaly.edge.box import Box, open_lines, read_box
    from anomaly.edge.line import Line
    from anomaly.edge.monitor import Totals

    asked = read_box(spec)
    store = asked.store
    board = Board(store)
    board.add(line.name for line in asked.line)
    with _service(board, listen, log_format, log_level, "box", page_auth):
        sinks = _sinks(asked.alerts)
        names = [sink.name for sink in sinks]

        def open_(where: str, keep: Path) -> tuple[Loaded, Release | None]:
            detector, release = _open(where, keep, provider, 1, gpu_memory)
            log.info("%s: %s", where, detector.session.line())
            return detector, release

        lines: list[Line] = []
        try:
            with _delivering(board, store, sinks) as wake:
                stop = stop_by_signal()
                lines = open_lines(asked, open_, names, wake, board.lines, once)
                served = Box(lines, asked.workers)
                log.info("%d lines on %d workers; store %s", len(lines), served.workers, store)
                try:
                    with watched(board.stuck):
                        served.run(stop)
                finally:
                    for line in lines:
                        line.close()
        finally:
            if lines:  # told last, when what waited has been delivered
                _print_totals(sum((line.totals for line in lines), Totals()), store)


@edge_app.command()
def bench(
    bundle: Annotated[Path, typer.Argument(help="The bundle (.anomaly).")],
    batch: Annotated[str, typer.Option(callback=counts, help="Batch sizes, with commas.")] = "1,8",
    streams: Annotated[str, typer.Option(callback=counts, help="Streams at a time, with commas.")] = "1",
    seconds: Annotated[float, typer.Option(callback=positive, help="Time for each figure.")] = 2.0,
    provider: Provider = ProviderName.auto,
    choose: Annotated[bool, typer.Option("--choose", help="Keep the quickest variant for this machine: later starts take it.")] = False,
    json_: FiguresPath = None,
) -> None:
    """Latency and throughput of a bundle's variants on this machine, as shares of what it can multiply at most."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.runtime.bench import describe_figures, measure
    from anomaly.edge.runtime.variant_cache import write_variants

    opened = read_bundle(bundle)
    figures = measure(opened, provider.value, [int(part) for part in batch.split(",")], [int(part) for part in streams.split(",")], seconds)
    for line in describe_figures(figures):
        out.print(line)
    if choose:
        path = write_variants(opened.hash, {figures["provider"]: figures["quickest"]})
        out.print(f"kept in {path}: this machine takes it from now on")
    if json_ is not None:
        write_json(json_, json.dumps(figures, indent=1, sort_keys=True) + "\n")


@edge_app.command()
def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle to run on every provider.")] = None,
    store: Annotated[Path, typer.Option(help="Where the event store lies.")] = Path("anomaly.db"),
    json_: AsJson = False,
) -> None:
    """What this machine can run detectors on, and in plain words what is missing. Exit code 1 when something is."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.doctor import examine, verdict

    findings = examine(store, read_bundle(bundle) if bundle is not None else None)
    if json_:
        out.print_json(json.dumps([{"what": found.what, "state": found.state, "text": found.text} for found in findings]))
    else:
        out.print(verdict(findings), style="bold")
    for found in findings if not json_ else ():
        mark = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}[found.state]
        out.print(f"{mark}  {found.what}: {found.text}")
    if any(found.state == "missing" for found in findings):
        raise typer.Exit(1)
