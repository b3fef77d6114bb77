"""`anomaly monitor`, `anomaly box`, `anomaly bench`, `anomaly doctor`: what runs beside the line."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.cli.console import err, out

if TYPE_CHECKING:
    from anomaly.alarms.delivery import DeliveryThread
    from anomaly.alarms.sinks.base import Sink
    from anomaly.bundle.archive import Bundle
    from anomaly.edge.monitor import Monitor, Totals
    from anomaly.edge.release import Release
    from anomaly.edge.runtime.session import Session

edge_app = typer.Typer()


class ProviderName(StrEnum):
    auto = "auto"
    tensorrt = "tensorrt"
    cuda = "cuda"
    cpu = "cpu"


Provider = Annotated[ProviderName, typer.Option(help="Where the graph runs: TensorRT, CUDA, then CPU, or one of them forced.")]
Alerts = Annotated[Path | None, typer.Option(help="Where alarms go (TOML, see deploy/alerts.toml).")]
Once = Annotated[bool, typer.Option("--once", help="Stop when there is nothing more.")]
GpuMemory = Annotated[float | None, typer.Option(help="GPU memory to use at most, in GB.")]
SILENT_PERIODS, SILENT_AT_LEAST_S = 20, 60.0


def open_bundle(bundle: Path, provider: ProviderName) -> tuple[Bundle, Session]:
    """A verified bundle in a session; says what runs where."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.runtime.session import open_session

    opened = read_bundle(bundle)
    session = open_session(opened, provider.value)
    err.print(session.line(), markup=False)
    return opened, session


def _from(
    where: str, keep: Path, provider: ProviderName, threads: int | None, memory: int | None
) -> tuple[Bundle, Session, Release | None]:
    """A bundle, or the champion of a release folder or URL, tested on this machine."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.release import Release
    from anomaly.edge.runtime.self_test import self_test
    from anomaly.edge.runtime.session import open_session

    if where.startswith(("http://", "https://")) or Path(where).is_dir():
        release = Release(where, keep, lambda bundle: open_session(bundle, provider.value, threads, memory))
        loaded, why = release.first()
        if why:
            err.print(f"the last good bundle is used: {why}", style="yellow", markup=False)
        return loaded.bundle, loaded.session, release
    bundle = read_bundle(Path(where))
    session = open_session(bundle, provider.value, threads, memory)
    self_test(bundle, session)
    return bundle, session, None


def _monitor(
    name: str | None,
    opened: tuple[Bundle, Session, Release | None],
    source: str,
    store: Path,
    sinks: list[Sink],
    delivery: DeliveryThread,
    silent_after_s: float | None,
) -> Monitor:
    from anomaly.alarms.store import Store
    from anomaly.edge.monitor import Monitor
    from anomaly.edge.sources.uri import open_source

    bundle, session, release = opened
    line = name or bundle.manifest.name
    db = Store(store)
    schema = bundle.manifest.input
    records = open_source(source, schema, lambda record: db.known(line, record), db.resume(line)[0])
    if silent_after_s is None and schema.period_s:
        silent_after_s = max(SILENT_AT_LEAST_S, SILENT_PERIODS * schema.period_s)
    return Monitor(
        bundle, session, records, db, line, [s.name for s in sinks], aside=store.with_name(store.name + ".aside"),
        wake=delivery.wake, say=lambda text: out.print(text, markup=False), release=release, silent_after_s=silent_after_s,
    )  # fmt: skip


@contextmanager
def _delivering(store: Path, alerts: Path | None) -> Iterator[tuple[list[Sink], DeliveryThread, threading.Event]]:
    """Sinks, the thread that sends to them, and an event that SIGTERM and SIGINT set."""
    from anomaly.alarms.delivery import DeliveryThread
    from anomaly.alarms.sinks.alerts_toml import read_sinks

    sinks = read_sinks(alerts) if alerts is not None else []
    delivery = DeliveryThread(store, sinks)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        yield sinks, delivery, stop
    finally:
        delivery.close()
    if delivery.error is not None:
        raise delivery.error


def _told(totals: Totals, store: Path) -> str:
    from anomaly.alarms.store import Store

    counts = Store(store).counts()
    dropped = f", {totals.dropped} let go by a full queue" if totals.dropped else ""
    return (
        f"{totals.scored} scored, {totals.flagged} flagged, {totals.opened} alarms opened, {totals.closed} closed, "
        f"{totals.rejected} set aside{dropped}; alerts delivered {counts['delivered']}, waiting {counts['waiting']}, dead {counts['dead']}"
    )


@edge_app.command()
def monitor(
    bundle: Annotated[str, typer.Argument(help="The bundle (.anomaly), or a release folder or URL whose champion is followed.")],
    source: Annotated[str, typer.Option(help="A folder of pictures, a growing CSV, rtsp://…, mqtt://…, kafka://…, opc.tcp://…")],
    alerts: Alerts = None,
    once: Once = False,
    store: Annotated[Path, typer.Option(help="The event store (SQLite).")] = Path("anomaly.db"),
    line: Annotated[str | None, typer.Option(help="The line's name; the bundle's when not given.")] = None,
    provider: Provider = ProviderName.auto,
    gpu_memory: GpuMemory = None,
    silent_after_s: Annotated[float | None, typer.Option(help="Seconds without a record that are an alarm.")] = None,
) -> None:
    """Watch a source, open and close alarms, and deliver them. Runs until stopped."""
    memory = int(gpu_memory * 1e9) if gpu_memory else None
    opened = _from(bundle, store.with_name(store.name + ".bundles"), provider, None, memory)
    err.print(opened[1].line(), markup=False)
    with _delivering(store, alerts) as (sinks, delivery, stop):
        loop = _monitor(line, opened, source, store, sinks, delivery, silent_after_s)
        err.print(
            f"line {loop.line}: watching {source}; self-test passed; store {store}; sinks: {', '.join(loop.sinks) or 'none'}", markup=False
        )
        try:
            totals = loop.run(stop, once)
        finally:
            loop.source.close()
    err.print(_told(totals, store), markup=False)


@edge_app.command()
def box(
    spec: Annotated[Path, typer.Argument(help="All lines of this machine (TOML, see deploy/box.toml).")],
    once: Once = False,
    provider: Provider = ProviderName.auto,
    gpu_memory: GpuMemory = None,
) -> None:
    """Watch many lines in one process, with one store: a core each, taken in turn. Runs until stopped."""
    from anomaly.edge.box import Box, read_box
    from anomaly.edge.monitor import Totals

    asked = read_box(spec)
    memory = int(gpu_memory * 1e9) if gpu_memory else None
    shared: dict[str, tuple[Bundle, Session, Release | None]] = {}
    with _delivering(asked.store, asked.alerts) as (sinks, delivery, stop):
        monitors = []
        for number, line in enumerate(asked.line):
            found = shared.get(line.bundle)
            if found is None:
                keep = asked.store.with_name(f"{asked.store.name}.bundles") / str(number)
                found = _from(line.bundle, keep, provider, 1, memory)
                err.print(f"{line.bundle}: {found[1].line()}", markup=False)
                if found[2] is None:  # lines that follow a release each have their own: they swap between their own records
                    shared[line.bundle] = found
            monitors.append(_monitor(line.name, found, line.source, asked.store, sinks, delivery, line.silent_after_s))
        lines = Box(monitors, asked.workers)
        err.print(f"{len(monitors)} lines on {lines.workers} workers; store {asked.store}", markup=False)
        try:
            lines.run(stop, once)
        finally:
            for one in monitors:
                one.source.close()
    totals = Totals(**{name: sum(getattr(one.totals, name) for one in monitors) for name in vars(Totals())})
    err.print(_told(totals, asked.store), markup=False)


@edge_app.command()
def bench(
    bundle: Annotated[Path, typer.Argument(help="The bundle (.anomaly).")],
    batch: Annotated[str, typer.Option(help="Batch sizes, with commas.")] = "1,8",
    streams: Annotated[str, typer.Option(help="Streams at a time, with commas.")] = "1",
    seconds: Annotated[float, typer.Option(help="Time for each figure.")] = 2.0,
    provider: Provider = ProviderName.auto,
    choose: Annotated[bool, typer.Option("--choose", help="Keep the quickest variant for this machine: later starts take it.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
) -> None:
    """Latency and throughput of a bundle's variants on this machine, as shares of what it can multiply at most."""
    from anomaly.atomic import write_text
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.runtime.bench import measure
    from anomaly.edge.runtime.variant_cache import write_variants

    try:
        batches, counts = [int(part) for part in batch.split(",")], [int(part) for part in streams.split(",")]
    except ValueError as error:
        raise typer.BadParameter("write whole numbers with commas: 1,8,32", param_hint="--batch / --streams") from error
    opened = read_bundle(bundle)
    figures = measure(opened, provider.value, batches, counts, seconds)
    for variant, rows in figures["variants"].items():
        for size, row in rows.items():
            out.print(
                f"{figures['provider']} {variant:6} batch {size:>4}: p50 {row['p50_ms']:.2f} ms, p99 {row['p99_ms']:.2f} ms, "
                f"{row['per_s']:.0f} a second" + (f", {row['share_of_limit']:.0%} of the measured limit" if "share_of_limit" in row else "")
            )
    for count, row in figures["streams"].items():
        out.print(f"{count:>4} streams: {row['per_s']:.0f} a second in all, fairness {row['fairness']:.2f} (most over least served)")
    out.print(f"limits: {', '.join(f'{k} {v:.3g}' for k, v in figures['limits'].items())}; memory {figures['memory_mb']:.0f} MB")
    out.print(f"quickest: {figures['quickest']}")
    if choose:
        path = write_variants(opened.hash, {figures["provider"]: figures["quickest"]})
        out.print(f"kept in {path}: this machine takes it from now on", markup=False)
    if json_ is not None:
        write_text(json_, json.dumps(figures, indent=1, sort_keys=True) + "\n")


@edge_app.command()
def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle to run on every provider.")] = None,
    store: Annotated[Path, typer.Option(help="Where the event store lies.")] = Path("anomaly.db"),
) -> None:
    """What this machine can run detectors on, and in plain words what is missing. Exit code 1 when something is."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.doctor import examine

    findings = examine(store, read_bundle(bundle) if bundle is not None else None)
    for found in findings:
        mark = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}[found.state]
        out.print(f"{mark}  {found.what}: {found.text}", markup=False)
    if any(found.state == "missing" for found in findings):
        raise typer.Exit(1)
