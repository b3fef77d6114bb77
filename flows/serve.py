"""`python -m flows.serve`: the flows on a schedule, with Prefect's server and UI on this machine.

With PREFECT_API_URL set that server is used; else one is started on 127.0.0.1 and ends with this process.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx


def main() -> None:
    """Serve the sample camera and plant pipelines, or one spec and data folder, on a cron schedule."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the server ends with us
    server = None if os.environ.get("PREFECT_API_URL") else _start_server(arguments.port)
    try:
        _serve(arguments)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        if server is not None:
            _stop(server)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument("--spec", type=Path, help="a spec; the two samples when not given")
    parser.add_argument("--data", type=Path, help="its data")
    parser.add_argument("--cron", default="0 2 * * *", help="when to run (default: every night at 02:00)")
    parser.add_argument("--timezone", default="UTC")
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument("--release", type=Path, default=Path("out/release"))
    parser.add_argument("--work", type=Path, default=Path(".anomaly"))
    return parser.parse_args()


def _start_server(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # A session of its own: Ctrl-C reaches us first, and the server is ended last, when nothing talks to it any more.
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    url = f"http://127.0.0.1:{port}/api"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2).is_success:
                os.environ["PREFECT_API_URL"] = url
                print(f"Prefect UI: http://127.0.0.1:{port}", flush=True)
                return server
        except httpx.HTTPError:
            time.sleep(0.5)
    server.terminate()
    raise SystemExit(f"the Prefect server did not come up on port {port}; is the port taken? try --port")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server; one that has not gone after 20 s is killed with what it started, so that no port stays taken."""
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _serve(arguments: argparse.Namespace) -> None:
    from prefect import serve
    from prefect.schedules import Cron

    from flows.pipeline import pipeline

    samples = Path("data_samples")
    lines = (
        [(arguments.spec, arguments.data)]
        if arguments.spec
        else [(Path("specs/camera.toml"), samples / "camera"), (Path("specs/plant.toml"), samples / "plant")]
    )
    if any(data is None for _, data in lines):
        raise SystemExit("--spec needs --data")
    deployments = [
        pipeline.to_deployment(
            name=spec.stem,
            schedule=Cron(arguments.cron, timezone=arguments.timezone),
            parameters={
                "spec": str(spec.resolve()),
                "data": str(data.resolve()),
                "release": str((arguments.release / spec.stem).resolve()),
                "work": str(arguments.work.resolve()),
                "out": str(arguments.release.resolve().parent),
            },
        )
        for spec, data in lines
    ]
    print(
        f"serving {', '.join(spec.stem for spec, _ in lines)} on schedule {arguments.cron!r} ({arguments.timezone}); Ctrl-C stops",
        flush=True,
    )
    serve(*deployments)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
