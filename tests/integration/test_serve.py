"""A scheduled run against a real Prefect server, its artifacts read back through the API."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from anomaly.alarms.sinks.prefect_event import PrefectEvents
from anomaly.bundle.archive import read_bundle
from anomaly.errors import SinkError
from tests.alarms.sinks.conftest import HOSTILE, event
from tests.conftest import Fitted
from tests.edge.conftest import until
from tests.integration.servers import free_port


def runs(api: str) -> list[dict]:
    return httpx.post(f"{api}/flow_runs/filter", json={"sort": "START_TIME_DESC"}, timeout=10).json()


def an_event_is_there_once(api: str) -> None:
    """The sink `prefect` against the server that runs anyway: sent twice, the event is there once, with its line and what it says."""

    def found() -> list[dict]:
        wanted = {"filter": {"event": {"prefix": ["anomaly."]}, "occurred": {"since": "2026-01-01T00:00:00Z"}}}
        return httpx.post(f"{api}/events/filter", json=wanted, timeout=10).json()["events"]

    sink, (body, id_) = PrefectEvents("it", api, None), event("opened", line=HOSTILE, at=time.time())
    sink.send(body, id_)
    sink.send(body, id_)
    until(found, 60)
    (one,) = found()
    assert (one["id"], one["event"]) == (id_, "anomaly.alarm.opened")
    assert one["resource"]["prefect.resource.id"].startswith("anomaly.line.press")
    assert one["payload"]["condition"] == "process"
    sink.close()
    nowhere = PrefectEvents("it", f"{api}/nowhere", None)
    with pytest.raises(SinkError, match="HTTP 40") as raised:
        nowhere.send(body, id_)
    assert raised.value.permanent
    nowhere.close()


@pytest.mark.timeout(400)
def test_a_scheduled_run_fires_and_leaves_its_artifacts(sensor: Fitted, tmp_path: Path) -> None:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
    # every minute: the next full minute is at most 60 s away
    command = [sys.executable, "-m", "flows.serve", "--port", str(port), "--cron", "* * * * *", "--spec", str(sensor.spec)]
    command += ["--data", str(sensor.data), "--release", str(tmp_path / "release"), "--work", str(tmp_path / "work")]
    log = (tmp_path / "serve.log").open("w")
    served = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        found: list[dict] = []
        while time.monotonic() < deadline and served.poll() is None:
            try:
                found = [r for r in runs(api) if r["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]
            except (httpx.HTTPError, ValueError):
                found = []
            if found:
                break
            time.sleep(1)
        assert found, (tmp_path / "serve.log").read_text()
        assert found[0]["state_type"] == "COMPLETED", (tmp_path / "serve.log").read_text()
        assert found[0]["auto_scheduled"]
        artifacts = httpx.post(f"{api}/artifacts/filter", json={}, timeout=10).json()
        keys = {a["key"]: a for a in artifacts}
        assert {"pump-metrics", "pump-summary", "pump-scores"} <= set(keys)
        assert "roc_auc" in keys["pump-metrics"]["data"]
        assert "It is the champion in" in keys["pump-summary"]["data"]
        an_event_is_there_once(api)
        bundle = next((tmp_path / "release").rglob("*.anomaly"))
        assert read_bundle(bundle).hash == read_bundle(sensor.bundle).hash
    finally:
        served.send_signal(signal.SIGTERM)
        try:
            served.wait(120)  # a run that has just begun is let finish
        finally:
            if served.poll() is None:
                os.killpg(served.pid, signal.SIGKILL)
            log.close()
    assert "Traceback" not in (tmp_path / "serve.log").read_text()
    with pytest.raises(httpx.HTTPError):  # the server ended with it
        httpx.get(f"{api}/health", timeout=5)


TWICE = """
import sys
from pathlib import Path
from flows.pipeline import pipeline
for _ in range(2):
    print("BUNDLE", pipeline(*map(Path, sys.argv[1:3]), release=Path("rel"), out=Path("o"), work=Path("w")), flush=True)
"""


@pytest.mark.timeout(600)
def test_with_no_server_the_flow_runs_quietly_and_trains_only_once(sensor: Fitted, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {"PREFECT_HOME": str(tmp_path / "home")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", TWICE, str(sensor.spec), str(sensor.data)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    assert "database is locked" not in done.stdout
    first, second = re.findall(r"(?s)(.*?)BUNDLE (\S+)", done.stdout)
    assert first[1] == second[1]
    assert "fit: nothing changed" not in first[0]
    assert "fit: nothing changed" in second[0]
    assert (tmp_path / "rel" / "champion.json").is_file()
