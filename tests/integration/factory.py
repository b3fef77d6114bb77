"""A plant's factory on real programs: Prefect's server and workers, deployments from deploy/prefect.yaml, automations."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import yaml

from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.data.samples.synthetic import plant
from tests.integration.servers import free_port, serving

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
STARTS_S = 240.0  # in which a server answers, on a busy machine
LONG_S = 400.0  # for anything that a flow does
POOLS = ("factory", "approvals")
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def until(found: Callable[[], object], seconds: float = LONG_S) -> None:
    """Wait for something to become true, asking four times a second: a server is asked, and it has other things to do."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.25)


@dataclass
class Factory:
    """Where all of it lies, and how to ask. `edge`: the port that the line's monitor is asked at."""

    root: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    edge: int = field(default_factory=free_port)
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    running: dict[str, ExitStack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{self.port}/api"

    @cached_property
    def api(self) -> httpx.Client:
        return httpx.Client(base_url=self.environment["PREFECT_API_URL"], timeout=60)

    @property
    def release(self) -> ReleaseFolder:
        return ReleaseFolder(self.root / "release" / "pump")

    def log(self, name: str) -> str:
        """The end of what a server or a worker printed."""
        return (self.root / f"{name}.log").read_text(errors="replace")[-3000:]

    def start_server(self) -> None:
        """Prefect's server, on the same port each time."""
        command = [sys.executable, "-m", "prefect", "server", "start", "--port", self.port]
        self._start("server", command, self.answers)

    def start_worker(self, pool: str) -> None:
        """A worker of a pool, as deploy/compose starts it. The first one makes the pool."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
        self.workers[pool] = self._start(pool, command, lambda: True)

    def stop(self, name: str) -> None:
        """End the server, or the worker of a pool."""
        self.running.pop(name).close()

    def answers(self) -> bool:
        try:
            return self.api.get("/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def has_pools(self) -> bool:
        return {pool["name"] for pool in self.api.post("/work_pools/filter", json={}).raise_for_status().json()} >= set(POOLS)

    def command(self, *words: object) -> None:
        """Run a Python module as a plant engineer does, with words after it."""
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)], env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def deployment(self, flow: str) -> str:
        return str(self.api.get(f"/deployments/name/{flow}/{'boxes' if flow == 'watch' else 'plant'}").raise_for_status().json()["id"])

    def ask(self, flow: str, **parameters: object) -> str:
        """Ask for a run of a deployment; its id. A server whose database is busy is asked again under the same key."""
        body = {"idempotency_key": str(time.monotonic_ns()), "parameters": {key: str(value) for key, value in parameters.items()}}
        run = ""

        def asked() -> bool:
            nonlocal run
            answer = self.api.post(f"/deployments/{self.deployment(flow)}/create_flow_run", json=body)
            run = answer.json()["id"] if answer.is_success else ""
            return bool(run)

        until(asked)
        return run

    def run(self, id_: str) -> dict[str, Any]:
        """A run as the server has it."""
        found: dict[str, Any] = self.api.get(f"/flow_runs/{id_}").raise_for_status().json()
        return found

    def ended(self, id_: str) -> dict[str, Any]:
        """The state that a run has come to in the end."""
        until(lambda: self.run(id_)["state_type"] in ENDED)
        state: dict[str, Any] = self.run(id_)["state"]
        return state

    def places_taken(self) -> int:
        """How many runs hold a place of their line."""
        limits = self.api.post("/v2/concurrency_limits/filter", json={}).raise_for_status().json()
        return sum(int(limit["active_slots"]) for limit in limits)

    def runs(self, flow: str, *states: str, scheduled: bool = False) -> list[dict[str, Any]]:
        """The runs of a flow that somebody or something asked for, in these states; with `scheduled` those by a schedule."""
        asked = {"flows": {"name": {"any_": [flow]}}}
        found: list[dict[str, Any]] = self.api.post("/flow_runs/filter", json=asked).raise_for_status().json()
        return [run for run in found if run["auto_scheduled"] == scheduled and run["state_type"] in states]

    def done(self, flow: str) -> None:
        """Wait until every run of a flow has come to a good end, one at least."""

        def ended() -> bool:
            wrong = self.runs(flow, "FAILED", "CRASHED", "CANCELLED")
            assert not wrong, (wrong[0]["state"]["message"], self.log("factory"))
            return bool(self.runs(flow, "COMPLETED")) and not self.runs(flow, "SCHEDULED", "PENDING", "RUNNING", "PAUSED")

        until(ended)

    def by_schedule(self, flow: str) -> None:
        """Give a deployment a schedule of each minute, until a run that nobody asked for has come to a good end."""
        deployment = self.deployment(flow)
        every = {"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}
        self.api.post(f"/deployments/{deployment}/schedules", json=[every]).raise_for_status()
        until(lambda: self.runs(flow, "COMPLETED", scheduled=True))
        self.api.post(f"/deployments/{deployment}/pause_deployment").raise_for_status()

    def approved(self, approver: str) -> None:
        """Ask for a promotion, say yes to its question over the API, and wait until it is done."""
        self.ask("promote")
        until(lambda: self.runs("promote", "PAUSED") or self.runs("promote", *ENDED))
        (waiting,) = self.runs("promote", "PAUSED")
        answer = {"run_input": {"approve": True, "approver": approver, "why": "new bearing"}}
        self.api.post(f"/flow_runs/{waiting['id']}/resume", json=answer).raise_for_status()
        self.done("promote")

    def _start(self, name: str, command: Sequence[object], ready: Callable[[], bool]) -> subprocess.Popen[bytes]:
        self.running[name] = ExitStack()
        return self.running[name].enter_context(serving(command, ready, self.root / f"{name}.log", self.environment, starts_s=STARTS_S))


def rows(count: int, seed: int, start: str, vibration: float = 0.0) -> pd.DataFrame:
    """Readings of the line, five seconds apart. `vibration`: how far that sensor has drifted."""
    frame = plant(count, np.random.default_rng(seed), start=start)[["time", *SENSORS]]
    frame["vibration"] += vibration
    return frame


@contextmanager
def factory(root: Path, more: Mapping[str, str], count: int = 50_000) -> Iterator[Factory]:
    """The server, the workers, the deployments and the automations while the block runs, with data in `data` to learn from.

    `more`: environment variables of all of them, such as the address of the server's database. `count`: rows of the data.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(root / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    environment |= {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}  # seconds, the least
    environment |= {"PREFECT_CLIENT_RETRY_EXTRA_CODES": "500", "PREFECT_CLIENT_MAX_RETRIES": "7"}  # as the image sets them
    environment |= {"ANOMALY_HOME": str(ROOT), "PYTHONPATH": str(ROOT), **more}
    environment["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] = "prefect.server.concurrency.lease_storage.filesystem"
    (root / "spec.toml").write_text(SPEC)
    (root / "data").mkdir()
    rows(count, 1, "2026-01-05T06:00:00Z").to_csv(root / "data" / "a.csv", index=False)
    (root / "automations.toml").write_text(AUTOMATIONS)
    made = Factory(root, environment)
    try:
        made.start_server()
        for pool in POOLS:
            made.start_worker(pool)
        until(made.has_pools)
        made.command("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", _deployments(root, made.edge))
        made.command("flows.automations", root / "automations.toml")
        yield made
    finally:
        for name in reversed(list(made.running)):
            made.stop(name)
        made.api.close()


def _deployments(root: Path, edge: int) -> Path:
    """Those of deploy/prefect.yaml for the plant and its boxes, with the paths and the address of this site."""
    made = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())
    own = {
        "spec": str(root / "spec.toml"),
        "data": str(root / "data"),
        "release": str(root / "release" / "pump"),
        "store": str(root / "s.db"),
        "line": "pump",
        "work": str(root / "work"),
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
            one["parameters"] = {"boxes": [box], "state": str(root / "watch.json")}
        one["schedules"] = []
    (root / "prefect.yaml").write_text(yaml.safe_dump(made))
    return root / "prefect.yaml"
