"""The loop of a line from its first fit to a rollback, on real programs: nothing is mocked. 4 minutes beside another suite on two cores.

Prefect's server and workers, deployments from deploy/prefect.yaml, a broker that a line is replayed to, the edge, Alertmanager, MLflow. And
again on PostgreSQL, with what touches the server's database: 1 minute more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle, write_bundle
from anomaly.bundle.manifest import Threshold
from tests.alarms.sinks.test_alertmanager import alertmanager, on
from tests.integration.factory import LONG_S, Factory, factory, rows, until
from tests.integration.servers import free_port, listening, program, serving

AT_ONCE = 500  # rows


@dataclass
class Site:
    """A factory, a broker, and the edge that writes its store beside them."""

    factory: Factory
    broker: int

    @property
    def root(self) -> Path:
        return self.factory.root

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The edge's events of a kind."""
        with closing(Store(self.root / "s.db")) as store:
            return [event for event in store.events() if str(event["type"]).endswith(kind)]

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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The servers, the workers, the deployments and the automations."""
    broker = free_port()
    (tmp_path / "broker.conf").write_text(
        f"listener {broker} 127.0.0.1\nallow_anonymous true\nuser root\nlog_type subscribe\nlog_dest stderr\n"
    )
    command = [program("mosquitto"), "-c", tmp_path / "broker.conf"]
    with (
        serving(command, lambda: listening(broker), tmp_path / "broker.log"),
        factory(tmp_path, {"ANOMALY_MLFLOW_URI": f"sqlite:///{tmp_path}/runs.db"}) as made,
    ):
        yield Site(made, broker)


def watched(site: Site, stack: ExitStack) -> int:
    """The edge on the broker, telling Alertmanager and Prefect; Alertmanager's port."""
    alerts = free_port()
    stack.enter_context(alertmanager(alerts, site.root))
    (site.root / "alerts.toml").write_text(
        f'[[sink]]\nname = "alerts"\nkind = "alertmanager"\nurl = "http://127.0.0.1:{alerts}"\nagain_s = 1\n'
        f'[[sink]]\nname = "prefect"\nkind = "prefect"\nurl = "{site.factory.environment["PREFECT_API_URL"]}"\n'
    )
    feed, where = f"mqtt://127.0.0.1:{site.broker}/pump", site.factory.release.where
    command = [sys.executable, "-m", "anomaly.cli", "monitor", where, "--source", feed]
    command += ["--store", site.root / "s.db", "--alerts", site.root / "alerts.toml", "--line", "pump", "--provider", "cpu"]
    command += ["--listen", f"127.0.0.1:{site.factory.edge}", "--silent-after-s", 3600]

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{site.factory.edge}/healthz", timeout=2).is_success
        except httpx.HTTPError:
            return False

    stack.enter_context(serving(command, ready, site.root / "edge.log", site.factory.environment))
    until(lambda: " pump" in (site.root / "broker.log").read_text(), 120)  # it has subscribed: what is sent before is heard by nobody
    return alerts


def in_use(site: Site, bundle: Path) -> Callable[[], bool]:
    """Whether the edge has taken over a bundle, as it tells."""
    digest = read_bundle(bundle).hash
    return lambda: [event["data"]["bundle_hash"] for event in site.events("swapped")][-1:] == [digest]


@pytest.mark.timeout(1500)
def test_a_line_from_its_first_fit_to_a_rollback(site: Site) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `registry` is not installed")
    site.factory.by_schedule("pipeline")
    first = site.factory.release.pointed("champion")
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
        until(lambda: site.events("drifted"), 60)  # told a moment after the rows are judged
        assert len(site.events("drifted")) == 1
        rows(20_000, 4, "2026-02-06T06:00:00Z", vibration=1.2).to_csv(site.root / "data" / "b.csv", index=False)
        site.factory.ask("watch")
        site.factory.done("watch")
        site.factory.done("retrain")  # which the automation asked for
        second = site.factory.release.pointed("challenger")
        assert second is not None
        assert site.factory.release.pointed("champion") == first

        # Beside the line, compared, approved by the API, taken over.
        site.replay(rows(1_500, 5, "2026-02-05T14:00:00Z", vibration=1.2))
        site.factory.approved("A. Meier")
        assert site.factory.release.pointed("champion") == second
        until(in_use(site, second), 120)

        # A bad one, put there by hand, flags everything: the edge goes back by itself, and the folder follows.
        bad = read_bundle(second)
        blunt = bad.manifest.model_copy(update={"threshold": Threshold(p_value=0.999, score=None, budget={"false_alarm_rate": 0.4})})
        write_bundle(site.root / "bad.anomaly", blunt, dict(bad.members))
        site.factory.release.publish(site.root / "bad.anomaly", by="somebody")
        until(in_use(site, site.root / "bad.anomaly"), 120)
        site.replay(rows(600, 6, "2026-02-05T17:00:00Z", vibration=1.2))
        until(lambda: site.events("rolled_back"), 120)
        site.factory.done("rollback")
        assert site.factory.release.pointed("champion") == second

    client = mlflow.MlflowClient(f"sqlite:///{site.root}/runs.db", f"sqlite:///{site.root}/runs.db")
    versions = {version.tags["anomaly.bundle_sha256"]: version.version for version in client.search_model_versions("name = 'pump'")}
    assert {read_bundle(first).hash, read_bundle(second).hash} <= versions.keys()
    assert client.get_model_version_by_alias("pump", "champion").version == versions[read_bundle(second).hash]
    did = [(entry.action, entry.by) for entry in site.factory.release.history()]
    assert [action for action, _ in did] == ["published", "challenger", "promoted", "published", "rolled back"]
    assert did[2][1] == "A. Meier"
