"""A real Prefect server behind a login, as the stack runs it: it takes the deployments, and events of an edge that knows the password."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from anomaly.alarms.sinks.alerts_toml import read_route
from anomaly.errors import SinkError
from tests.alarms.sinks.conftest import event
from tests.edge.conftest import until
from tests.integration.servers import free_port, serving

ROOT = Path(__file__).parents[2]
LOGIN = "admin:secret"
LOOP = ("watch", "retrain", "compare", "promote", "rollback")


@contextmanager
def prefect_server(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A server behind a login as long as the block runs: its address, and the environment of a command that is to ask it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    own = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    own |= {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "ANOMALY_HOME": str(ROOT),
    }
    own |= {"PATH": f"{Path(sys.executable).parent}:{own['PATH']}", "PREFECT_API_URL": url, "PREFECT_SERVER_API_AUTH_STRING": LOGIN}

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=2).is_success  # as the stack's health check asks, without a password
        except httpx.HTTPError:
            return False

    with serving([sys.executable, "-m", "prefect", "server", "start", "--port", port], ready, folder / "server.log", own, starts_s=240):
        yield url, own


@pytest.mark.timeout(900)
def test_the_server_takes_deployments_and_events_with_the_password_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with prefect_server(tmp_path) as (url, own):
        script = ["sh", str(ROOT / "deploy" / "compose" / "servers" / "deployments.sh")]
        done = subprocess.run(script, env=own | {"PREFECT_API_AUTH_STRING": LOGIN}, cwd=ROOT, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        with httpx.Client(base_url=url, auth=("admin", "secret"), timeout=30) as api:
            names = {one["name"] for one in api.post("/deployments/filter", json={}).json()}
            assert {"camera", "plant", "boxes"} <= names
            loop = [one for one in api.post("/deployments/filter", json={}).json() if "loop" in one["tags"]]
            assert {one["entrypoint"].partition(":")[2] for one in loop} == {f"{step}_flow" for step in LOOP}
            assert all(one["global_concurrency_limit"]["limit"] == 1 for one in loop)
            told = subprocess.run(
                [sys.executable, "-m", "flows.automations", "deploy/automations.toml"],
                env=own | {"PREFECT_API_AUTH_STRING": LOGIN, "MAINTENANCE_WEBHOOK": "https://plant.example/hook"},
                cwd=ROOT, capture_output=True, text=True, timeout=200,
            )  # fmt: skip
            assert told.stdout.count("made: anomaly: ") == 8, told.stderr
            assert "factory" in {one["name"] for one in api.post("/work_pools/filter", json={}).json()}
            asked = [run for run in api.post("/flow_runs/filter", json={}).json() if not run["auto_scheduled"]]
            wanted = sum(not (ROOT / "out" / "release" / line / "champion.json").exists() for line in ("camera", "plant"))
            assert len(asked) == wanted

            file = tmp_path / "alerts.toml"
            file.write_text(f'[[sink]]\nname = "prefect"\nkind = "prefect"\nurl = "{url}"\nlogin_env = "PREFECT_API_AUTH_STRING"\n')
            monkeypatch.setenv("PREFECT_API_AUTH_STRING", LOGIN)
            sent = event("opened", at=time.time())
            route = read_route(file, "prefect")
            route.sink.send(*sent)
            route.sink.close()
            wanted_events = {"filter": {"event": {"prefix": ["anomaly."]}}}
            until(lambda: api.post("/events/filter", json=wanted_events).json()["events"], 60)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:wrong")
        route = read_route(file, "prefect")
        with pytest.raises(SinkError, match="HTTP 401"):
            route.sink.send(*sent)
        route.sink.close()
