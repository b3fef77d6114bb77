"""`python -m flows.serve` with a real server of Prefect: what it refuses, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from anomaly.data.samples.synthetic import plant
from tests.integration.servers import children, free_port

SPEC = 'kind = "sensor"\nname = "pump"\n[pretrain]\nmethod = "none"\n'
STARTS = 240.0  # seconds that a server may take where other tests run beside this one


class Served:
    """`flows.serve` as a process, with what it prints."""

    def __init__(self, site: Path, *arguments: str) -> None:
        self.out = site / f"out-{time.monotonic_ns()}.txt"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        environment |= {"PREFECT_HOME": str(site / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        with self.out.open("wb") as file:
            command = [sys.executable, "-m", "flows.serve", "--work", str(site / "work"), "--release", str(site / "release"), *arguments]
            self.process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)

    def text(self) -> str:
        return self.out.read_text(errors="replace")

    def until(self, found: Callable[[], object], what: str) -> None:
        """Wait for something to be so."""
        deadline = time.monotonic() + STARTS
        while not found():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, f"{what} did not come: {self.text()}"
            time.sleep(0.2)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "spec.toml").write_text(SPEC)
    (tmp_path / "data").mkdir()
    plant(30_000, np.random.default_rng(1)).drop(columns=["anomaly", "fault_kind"]).to_csv(tmp_path / "data" / "train.csv", index=False)
    return tmp_path


@pytest.fixture
def serve(site: Path) -> Iterator[Callable[..., Served]]:
    begun: list[Served] = []

    def start(*arguments: str) -> Served:
        begun.append(Served(site, *arguments))
        return begun[-1]

    yield start
    for served in begun:
        if served.process.poll() is None:
            served.process.terminate()
            served.process.wait(60)


@pytest.mark.timeout(900)
def test_one_run_of_a_line_at_a_time_and_an_end_in_time_with_a_run_going_on(site: Path, serve: Callable[..., Served]) -> None:
    port = free_port()
    served = serve("--spec", str(site / "spec.toml"), "--data", str(site / "data"), "--port", str(port), "--cron", "0 0 1 1 *")
    served.until(lambda: "serving spec on schedule" in served.text(), "the runner")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as api:
        assert api.get("/ui-settings").json()["api_url"] == f"http://127.0.0.1:{port}/api"  # else the UI would ask port 4200

        other = serve("--spec", str(site / "spec.toml"), "--data", str(site / "data"), "--port", str(port))
        assert other.process.wait(STARTS) == 1
        assert f"port {port} of 127.0.0.1 cannot be used" in other.text()

        def deployment() -> str | None:
            answer = api.get("/api/deployments/name/pipeline/spec")
            return answer.json()["id"] if answer.is_success else None

        served.until(deployment, "the deployment")
        at = (datetime.now(UTC) + timedelta(seconds=15)).isoformat()

        def asked(key: str) -> bool:
            """Whether a run was asked for: a server whose SQLite file is busy answers 503, and is asked again under the same key."""
            due = {
                "type": "SCHEDULED",
                "state_details": {"scheduled_time": at},
            }  # at one moment: else the first may be through before the second is seen
            run = {"state": due, "idempotency_key": key}
            answer = api.post(f"/api/deployments/{deployment()}/create_flow_run", json=run)
            assert answer.is_success or answer.status_code == 503, answer.text
            return answer.is_success

        for key in ("first", "second"):
            served.until(lambda key=key: asked(key), f"the {key} run")

        def states() -> list[str]:
            return sorted(run["state_type"] for run in api.post("/api/flow_runs/filter", json={}).json() if not run.get("auto_scheduled"))

        served.until(lambda: states() == ["CANCELLED", "RUNNING"], "one run, the other cancelled")
        runner = next(pid for pid, command in children(served.process.pid).items() if "--runner" in command)
        assert b"PREFECT_CLIENT_MAX_RETRIES=7" in Path(f"/proc/{runner}/environ").read_bytes().split(b"\0")
        runs = children(runner)
        assert runs
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(40) == 0  # 20 by itself; the machine may be busy
    assert not [pid for pid in (runner, *runs) if Path(f"/proc/{pid}").exists()]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=2)


@pytest.mark.timeout(600)
def test_the_death_of_the_server_is_noticed(site: Path, serve: Callable[..., Served]) -> None:
    served = serve("--spec", str(site / "spec.toml"), "--data", str(site / "data"), "--port", str(free_port()))
    served.until(lambda: "Prefect UI:" in served.text(), "the server")
    server = next(pid for pid, command in children(served.process.pid).items() if "prefect server" in command)
    os.kill(server, signal.SIGKILL)
    assert served.process.wait(60) == 1
    assert "the server ended by itself (exit code -9): nothing would run any more" in served.text()


def test_what_is_not_there_is_said_before_a_server_is_started(site: Path, serve: Callable[..., Served]) -> None:
    (site / "bad.toml").write_text('kind = "sensor"\nname = "pump"\nnope = 1\n')
    wrong = {
        "nope.toml": (["--spec", str(site / "nope.toml"), "--data", str(site / "data")], "nope.toml"),
        "bad.toml": (["--spec", str(site / "bad.toml"), "--data", str(site / "data")], "nope"),
        "no data": (["--spec", str(site / "spec.toml"), "--data", str(site / "elsewhere")], "no such file or folder"),
        "data alone": (["--data", str(site / "data")], "--data needs --spec"),
    }
    begun = {name: serve(*arguments) for name, (arguments, _) in wrong.items()}
    for name, (_, why) in wrong.items():
        assert begun[name].process.wait(STARTS) == 1
        assert why in begun[name].text()
        assert "Prefect UI" not in begun[name].text()
