"""The loop of a line from its first fit to a rollback, on real programs: nothing is mocked. 4 minutes beside another suite on two cores.

Prefect's server and workers, deployments from deploy/prefect.yaml, a broker that a line is replayed to, the edge, Alertmanager, MLflow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml

from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle, write_bundle
from anomaly.bundle.manifest import Threshold
from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.data.samples.synthetic import plant
from tests.alarms.sinks.test_alertmanager import alertmanager, on
from tests.edge.conftest import until
from tests.integration import servers
from tests.integration.servers import free_port, listening, program, serving

ROOT = Path(__file__).parents[2]
SENSORS = ["flow", "pressure", "vibration"]
# Nobody wants an alarm of the scores here: records of alarms are none of drift's. A reading that jumps is an alarm of its own.
SPEC = 'kind = "sensor"\nname = "pump"\n[input]\nwindow = 30\n[pretrain]\nmethod = "none"\n[budget]\nfalse_alarm_rate = 1e-9\n'
AUTOMATIONS = """
[[automation]]
on = "drift"
line = "pump"
run = "retrain/plant"
[[automation]]
on = "rolled back"
line = "pump"
run = "rollback/plant"
"""
AT_ONCE = 500  # rows
LONG_S = 400.0  # for anything that a flow does, on a busy machine


@dataclass
class Site:
    """Where all of it lies, and how to ask."""

    root: Path
    api: httpx.Client
    environment: dict[str, str]
    broker: int
    edge: int

    @property
    def release(self) -> ReleaseFolder:
        return ReleaseFolder(self.root / "release" / "pump")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The edge's events of a kind."""
        with closing(Store(self.root / "s.db")) as store:
            return [event for event in store.events() if str(event["type"]).endswith(kind)]

    def deployment(self, flow: str) -> str:
        return str(self.api.get(f"/deployments/name/{flow}/{'boxes' if flow == 'watch' else 'plant'}").raise_for_status().json()["id"])

    def ask(self, flow: str) -> str:
        """Ask for a run of a deployment; its id. A server whose SQLite is busy is asked again under the same key."""
        key, run = str(time.monotonic_ns()), ""

        def asked() -> bool:
            nonlocal run
            answer = self.api.post(f"/deployments/{self.deployment(flow)}/create_flow_run", json={"idempotency_key": key})
            run = answer.json()["id"] if answer.is_success else ""
            return bool(run)

        until(asked, LONG_S)
        return run

    def runs(self, flow: str, *states: str) -> list[dict[str, Any]]:
        """The runs of a flow that somebody or something asked for, in these states."""
        asked = {"flows": {"name": {"any_": [flow]}}}
        found: list[dict[str, Any]] = self.api.post("/flow_runs/filter", json=asked).raise_for_status().json()
        return [run for run in found if not run["auto_scheduled"] and run["state_type"] in states]

    def done(self, flow: str) -> None:
        """Wait until every run of a flow has come to a good end, one at least."""

        def ended() -> bool:
            wrong = self.runs(flow, "FAILED", "CRASHED", "CANCELLED")
            assert not wrong, (wrong[0]["state"]["message"], (self.root / "factory.log").read_text(errors="replace")[-3000:])
            return bool(self.runs(flow, "COMPLETED")) and not self.runs(flow, "SCHEDULED", "PENDING", "RUNNING", "PAUSED")

        until(ended, LONG_S)

    def replay(self, frame: pd.DataFrame) -> None:
        """Send rows to the broker, each a JSON object, and wait until the edge has judged them."""
        import paho.mqtt.client as mqtt

        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", self.broker)
        client.loop_start()
        for start in range(0, len(frame), AT_ONCE):  # a broker keeps no more than 1,000 for one who is slow
            some = frame.iloc[start : start + AT_ONCE]
            for row in some.assign(time=some["time"].astype(str)).to_dict("records"):
                client.publish("pump", json.dumps(row), qos=1)
            until(partial(self.judged, pd.Timestamp(some["time"].iloc[-1]).timestamp()), LONG_S)
        client.disconnect()
        client.loop_stop()

    def judged(self, until_then: float) -> bool:
        """Whether the edge has judged all records until then, in seconds since 1970."""
        with closing(Store(self.root / "s.db")) as store:
            scores = store.scores("pump")
        return bool(scores) and scores[-1].time >= until_then


def rows(count: int, seed: int, start: str, vibration: float = 0.0) -> pd.DataFrame:
    frame = plant(count, np.random.default_rng(seed), start=start)[["time", *SENSORS]]
    frame["vibration"] += vibration
    return frame


def deployments(site: Path, edge: int) -> Path:
    """Those of deploy/prefect.yaml for the plant and its boxes, with the paths and the address of this site."""
    made = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())
    own = {
        "spec": str(site / "spec.toml"),
        "data": str(site / "data"),
        "release": str(site / "release" / "pump"),
        "store": str(site / "s.db"),
        "line": "pump",
        "work": str(site / "work"),
    }
    made["deployments"] = [one for one in made["deployments"] if one["name"] in ("plant", "boxes")]
    for one in made["deployments"]:
        flow = one["entrypoint"].rpartition(":")[2]
        keys = {
            "pipeline": ("spec", "data", "release", "work"),
            "retrain_flow": ("spec", "data", "release", "store", "line", "work"),
            "rollback_flow": ("release",),
        }.get(flow, ("data", "release", "store", "line"))
        one["parameters"] = {key: own[key] for key in keys}
        if flow == "watch_flow":
            box = {"name": "hall", "url": f"http://127.0.0.1:{edge}", "release": own["release"]}
            one["parameters"] = {"boxes": [box], "state": str(site / "watch.json")}
        one["schedules"] = []
    (site / "prefect.yaml").write_text(yaml.safe_dump(made))
    return site / "prefect.yaml"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The servers, the workers, the deployments and the automations."""
    monkeypatch.setattr(servers, "START_S", 240.0)
    port, broker, edge = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{port}/api"
    own = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    own |= {
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": url,
    }
    own |= {"ANOMALY_HOME": str(ROOT), "PYTHONPATH": str(ROOT), "ANOMALY_MLFLOW_URI": f"sqlite:///{tmp_path}/runs.db"}
    (tmp_path / "spec.toml").write_text(SPEC)
    (tmp_path / "data").mkdir()
    rows(50_000, 1, "2026-01-05T06:00:00Z").to_csv(tmp_path / "data" / "a.csv", index=False)
    (tmp_path / "automations.toml").write_text(AUTOMATIONS)
    (tmp_path / "broker.conf").write_text(
        f"listener {broker} 127.0.0.1\nallow_anonymous true\nuser root\nlog_type subscribe\nlog_dest stderr\n"
    )

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def command(*words: object) -> None:
        told = subprocess.run([sys.executable, "-m", *map(str, words)], env=own, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S)
        assert told.returncode == 0, told.stdout + told.stderr

    prefect = [sys.executable, "-m", "prefect"]
    with ExitStack() as stack:
        stack.enter_context(
            serving([program("mosquitto"), "-c", tmp_path / "broker.conf"], lambda: listening(broker), tmp_path / "broker.log")
        )
        stack.enter_context(serving([*prefect, "server", "start", "--port", port], ready, tmp_path / "server.log", own))
        for pool in ("factory", "approvals"):
            command("prefect", "work-pool", "create", pool, "--type", "process")
        command("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", deployments(tmp_path, edge))
        command("flows.automations", tmp_path / "automations.toml")
        for pool in ("factory", "approvals"):
            stack.enter_context(serving([*prefect, "worker", "start", "--pool", pool], lambda: True, tmp_path / f"{pool}.log", own))
        api = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        yield Site(tmp_path, api, own, broker, edge)


def watched(site: Site, stack: ExitStack) -> int:
    """The edge on the broker, telling Alertmanager and Prefect; Alertmanager's port."""
    alerts = free_port()
    stack.enter_context(alertmanager(alerts, site.root))
    (site.root / "alerts.toml").write_text(
        f'[[sink]]\nname = "alerts"\nkind = "alertmanager"\nurl = "http://127.0.0.1:{alerts}"\nagain_s = 1\n'
        f'[[sink]]\nname = "prefect"\nkind = "prefect"\nurl = "{site.environment["PREFECT_API_URL"]}"\n'
    )
    command = [sys.executable, "-m", "anomaly.cli", "monitor", site.release.where, "--source", f"mqtt://127.0.0.1:{site.broker}/pump"]
    command += ["--store", site.root / "s.db", "--alerts", site.root / "alerts.toml", "--line", "pump", "--provider", "cpu"]
    command += ["--listen", f"127.0.0.1:{site.edge}", "--silent-after-s", 3600]

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{site.edge}/healthz", timeout=2).is_success
        except httpx.HTTPError:
            return False

    stack.enter_context(serving(command, ready, site.root / "edge.log", site.environment))
    until(lambda: " pump" in (site.root / "broker.log").read_text(), 120)  # it has subscribed: what is sent before is heard by nobody
    return alerts


def in_use(site: Site, bundle: Path) -> Callable[[], bool]:
    """Whether the edge has taken over a bundle, as it tells."""
    digest = read_bundle(bundle).hash
    return lambda: [event["data"]["bundle_hash"] for event in site.events("swapped")][-1:] == [digest]


@pytest.mark.timeout(1500)
def test_a_line_from_its_first_fit_to_a_rollback(site: Site) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `registry` is not installed")
    site.ask("pipeline")
    site.done("pipeline")
    first = site.release.pointed("champion")
    assert first is not None
    with ExitStack() as edge:
        alerts = watched(site, edge)
        calm = rows(1_500, 2, "2026-02-05T06:00:00Z")
        calm.loc[1_200:1_260, "pressure"] *= 8
        site.replay(calm)
        until(lambda: any("jumped" in str(alert["annotations"]) for alert in on(alerts)) or site.events("alarm.closed"), 60)
        assert site.events("alarm.opened")

        # The line drifts; the plant's historian holds the days since.
        site.replay(rows(3_500, 3, "2026-02-05T08:05:00Z", vibration=1.2))
        assert len(site.events("drifted")) == 1
        rows(20_000, 4, "2026-02-06T06:00:00Z", vibration=1.2).to_csv(site.root / "data" / "b.csv", index=False)
        site.ask("watch")
        site.done("watch")
        site.done("retrain")  # which the automation asked for
        second = site.release.pointed("challenger")
        assert second is not None
        assert site.release.pointed("champion") == first

        # Beside the line, compared, approved by the API, taken over.
        site.replay(rows(1_500, 5, "2026-02-05T14:00:00Z", vibration=1.2))
        site.ask("promote")
        until(lambda: site.runs("promote", "PAUSED") or site.runs("promote", "FAILED", "CRASHED", "COMPLETED"), LONG_S)
        (waiting,) = site.runs("promote", "PAUSED")
        answer = {"run_input": {"approve": True, "approver": "A. Meier", "why": "new bearing"}}
        site.api.post(f"/flow_runs/{waiting['id']}/resume", json=answer).raise_for_status()
        site.done("promote")
        assert site.release.pointed("champion") == second
        until(in_use(site, second), 120)

        # A bad one, put there by hand, flags everything: the edge goes back by itself, and the folder follows.
        bad = read_bundle(second)
        blunt = bad.manifest.model_copy(update={"threshold": Threshold(p_value=0.999, score=None, budget={"false_alarm_rate": 0.4})})
        write_bundle(site.root / "bad.anomaly", blunt, dict(bad.members))
        site.release.publish(site.root / "bad.anomaly", by="somebody")
        until(in_use(site, site.root / "bad.anomaly"), 120)
        site.replay(rows(600, 6, "2026-02-05T17:00:00Z", vibration=1.2))
        until(lambda: site.events("rolled_back"), 120)
        site.done("rollback")
        assert site.release.pointed("champion") == second

    client = mlflow.MlflowClient(f"sqlite:///{site.root}/runs.db", f"sqlite:///{site.root}/runs.db")
    versions = {version.tags["anomaly.bundle_sha256"]: version.version for version in client.search_model_versions("name = 'pump'")}
    assert {read_bundle(first).hash, read_bundle(second).hash} <= versions.keys()
    assert client.get_model_version_by_alias("pump", "champion").version == versions[read_bundle(second).hash]
    did = [(entry.action, entry.by) for entry in site.release.history()]
    assert [action for action, _ in did] == ["published", "challenger", "promoted", "published", "rolled back"]
    assert did[2][1] == "A. Meier"
