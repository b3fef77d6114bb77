"""`python -m flows.serve`: the flows on a schedule, with Prefect's server and UI on this machine.

With PREFECT_API_URL set that server is used; else one is started on 127.0.0.1 and ends with this process. The runner of the flows is a
process of its own: this one watches both, ends when one of them dies, and stops them in time whatever they are doing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, get_args

import httpx

from anomaly.bundle.release_folder import Role
from anomaly.errors import AnomalyError
from anomaly.spec import read_spec

STARTS_S = 120.0  # seconds in which a server answers
ENDS_S = {"runner": 8.0, "server": 6.0}  # seconds in which each ends by itself, before it is killed; together less than 20
WATCHED_S = 0.5
# Which run holds the place of its line is kept on disk: after a power cut it is given back 5 minutes later, where otherwise it never were.
SERVER = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}
# A server answers HTTP 500 while its database is away: so it is asked again for 4 minutes.
CLIENT = {"PREFECT_CLIENT_RETRY_EXTRA_CODES": "500", "PREFECT_CLIENT_MAX_RETRIES": "7"}
Process = subprocess.Popen[bytes]


def main() -> None:
    """Serve the sample camera and plant pipelines, or one spec and data folder, on a cron schedule."""
    arguments = _arguments()
    if arguments.runner:
        _run(arguments)
        return
    _check(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started: dict[str, Process] = {}
    try:
        if not os.environ.get("PREFECT_API_URL"):
            started["server"] = _start_server(arguments.port)
        started["runner"] = _started([sys.executable, "-m", "flows.serve", "--runner", *sys.argv[1:]], CLIENT | os.environ)
        _watch(started)
    except KeyboardInterrupt:
        pass
    finally:
        _stop(started)
        print("stopped", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument("--spec", type=Path, help="a spec; the two samples when not given")
    parser.add_argument("--data", type=Path, help="its data")
    parser.add_argument("--cron", default="0 2 * * *", help="when to run (default: every night at 02:00)")
    parser.add_argument("--timezone", default="UTC")
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument("--release", type=Path, default=Path("out/release"))
    parser.add_argument("--work", type=Path, default=Path(".anomaly"))
    parser.add_argument(
        "--role",
        choices=get_args(Role),
        default="challenger",
        help="what a bundle becomes where the line has a champion (default: %(default)s)",
    )
    parser.add_argument("--runner", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _lines(arguments: argparse.Namespace) -> list[tuple[Path, Path]]:
    """The specs to serve, with their data."""
    samples = Path("data_samples")
    if arguments.spec is None:
        return [(Path("specs/camera.toml"), samples / "camera"), (Path("specs/plant.toml"), samples / "plant")]
    return [(arguments.spec, arguments.data)]


def _check(arguments: argparse.Namespace) -> None:
    """Say what is missing now, not at two in the morning. Raises SystemExit."""
    if arguments.spec and not arguments.data:
        raise SystemExit("--spec needs --data")
    if arguments.data and not arguments.spec:
        raise SystemExit("--data needs --spec")
    for spec, data in _lines(arguments):
        try:
            read_spec(spec)
        except (AnomalyError, OSError) as error:
            raise SystemExit(str(error)) from None
        if not data.exists():
            raise SystemExit(f"{data}: no such file or folder; it is to be the data of {spec}")


def _started(command: Sequence[str], settings: Mapping[str, str], said: IO[bytes] | None = None) -> Process:
    """Start a process in a session of its own: Ctrl-C reaches us alone, and it can be ended with all that it started."""
    return subprocess.Popen(command, env=os.environ | settings, start_new_session=True, stdout=said, stderr=said)  # noqa: S603


def _start_server(port: int) -> Process:
    """Prefect's server, once it answers. Raises SystemExit where the port is taken, or no server comes up."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SystemExit(f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); end what holds it, or try --port") from None
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # The UI runs in the browser and asks the address told here; else it would ask port 4200 whatever the port.
    with tempfile.TemporaryFile() as said:
        server = _started(command, SERVER | {"PREFECT_UI_API_URL": url, "PREFECT_API_URL": url}, said)
        if _answers(server, url):
            os.environ["PREFECT_API_URL"] = url
            print(f"Prefect UI: http://127.0.0.1:{port}", flush=True)
            return server
        _stop({"server": server})
        said.seek(0)
        last = said.read()[-2000:].decode(errors="replace")
    raise SystemExit(f"the Prefect server did not come up on port {port}; the last it said:\n{last}")


def _answers(server: Process, url: str) -> bool:
    """Wait until a server answers; whether it did, and not another's."""
    deadline = time.monotonic() + STARTS_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=2).is_success and server.poll() is None:
                return True
        time.sleep(WATCHED_S)
    return False


def _watch(started: Mapping[str, Process]) -> None:
    """Wait until one of them ends. Raises SystemExit: without a server nothing is run, without a runner neither."""
    while True:
        for name, process in started.items():
            if process.poll() is not None:
                raise SystemExit(f"the {name} ended by itself (exit code {process.returncode}): nothing would run any more")
        time.sleep(WATCHED_S)


def _stop(started: Mapping[str, Process]) -> None:
    """End the runner with its runs, then the server, which they tell that they ended; what has not gone in time is killed."""
    for name in ("runner", "server"):
        process = started.get(name)
        if process is None:
            continue
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_S[name])
        _signal(process, signal.SIGKILL)  # and whatever it left behind
        process.wait()


def _signal(process: Process, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, what)


def _run(arguments: argparse.Namespace) -> None:
    """The runner: the flows as deployments, whose runs are processes of their own."""
    from prefect import serve
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron

    from flows.pipeline import pipeline

    lines = _lines(arguments)
    deployments = [
        pipeline.to_deployment(
            name=spec.stem,
            schedule=Cron(arguments.cron, timezone=arguments.timezone),
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
            parameters={
                "spec": str(spec.resolve()),
                "data": str(data.resolve()),
                "release": str((arguments.release / spec.stem).resolve()),
                "work": str(arguments.work.resolve()),
                "out": str(arguments.release.resolve().parent),
                "role": arguments.role,
            },
        )
        for spec, data in lines
    ]
    names = ", ".join(spec.stem for spec, _ in lines)
    print(f"serving {names} on schedule {arguments.cron!r} ({arguments.timezone}); Ctrl-C stops", flush=True)
    serve(*deployments)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
