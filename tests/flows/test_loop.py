"""The loop's flows on a real server of Prefect: events, the approval, automations."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from anomaly.alarms.health.address import Address
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.server import serving
from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle, write_bundle
from anomaly.bundle.manifest import Threshold
from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.data.samples.synthetic import plant
from anomaly.errors import BundleError, SpecError
from anomaly.operations.watch import Box
from tests.conftest import run
from tests.edge.conftest import until


def test_a_look_leaves_a_table_that_says_what_is_wrong(tmp_path: Path, prefect: str) -> None:
    from prefect.artifacts import Artifact

    from flows.watch import watch_flow

    Store(tmp_path / "s.db").close()
    board = Board(tmp_path / "s.db")
    board.add(["press"])
    board.lines["press"].alive()
    with serving(board, Address("127.0.0.1", 0)) as address:
        found = watch_flow([Box(name="hall", url=f"http://{address}")], tmp_path / "watch.json")
    assert [change.what for change in found.changes] == ["data"]
    artifact = Artifact.get("watch")
    assert artifact is not None
    assert artifact.description == "1 of 1 line needs a look."
    assert "bundle: not loaded yet" in str(artifact.data)
    assert watch_flow([], tmp_path / "none.json").verdicts == []


SPEC = """kind = "sensor"
name = "pump"
[input]
labels = ["anomaly"]
window = 30
[pretrain]
method = "none"
[budget]
false_alarm_rate = 0.02
"""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, prefect: str) -> Path:
    """A line with a champion, and a challenger that was fitted on newer data."""
    from flows.loop import retrain_flow
    from flows.pipeline import publish_flow

    site = tmp_path_factory.mktemp("line")
    (site / "spec.toml").write_text(SPEC)
    for name, seed in (("old", 1), ("new", 3)):
        (site / name).mkdir()
        readings = plant(900, np.random.default_rng(seed)).drop(columns=["anomaly", "fault_kind"])
        readings.to_csv(site / name / "train.csv", index=False)
    publish_flow(site / "spec.toml", site / "old", site / "release" / "pump", site / "work")
    assert retrain_flow(site / "spec.toml", site / "old", site / "release" / "pump", work=site / "work") is None  # nothing new
    made = retrain_flow(site / "spec.toml", site / "new", site / "release" / "pump", why="drift", work=site / "work")
    assert made is not None
    assert ReleaseFolder(site / "release" / "pump").pointed("challenger") == made
    return site


def emitted(what: str) -> list[dict[str, Any]]:
    """Events of this name on the server, the newest first; they take a moment to get there."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        deadline = time.monotonic() + 60
        while True:
            answer = client.request("POST", "/events/filter", json={"filter": {"event": {"name": [what]}}})
            found: list[dict[str, Any]] = answer.json()["events"]
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


def answered(site: Path, answer: dict[str, Any]) -> Any:
    """What the flow `promote` returns when a person answers its question over the API."""
    from prefect.client.orchestration import get_client
    from prefect.flow_runs import resume_flow_run

    from flows.loop import promote_flow

    with ThreadPoolExecutor(1) as pool, get_client(sync_client=True) as client:
        run = pool.submit(promote_flow, site / "release" / "pump", site / "new")
        deadline = time.monotonic() + 120
        asked: list[dict[str, Any]] = []
        while not asked:
            assert not run.done(), run.result()
            assert time.monotonic() < deadline
            time.sleep(0.2)
            asked = client.request("POST", "/flow_runs/filter", json={"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}).json()
        assert asked[0]["name"] == "pump: promote"
        resume_flow_run(UUID(asked[0]["id"]), run_input=answer)
        return run.result(120)


@pytest.mark.timeout(600)
def test_a_person_says_yes_or_no_by_the_api_and_is_remembered(line: Path) -> None:
    from prefect.artifacts import Artifact

    from flows.loop import retrain_flow, rollback_flow

    folder = ReleaseFolder(line / "release" / "pump")
    old, new = folder.pointed("champion"), folder.pointed("challenger")
    assert answered(line, {"approve": False, "approver": "A. Meier", "why": "not before the audit"}) is None
    assert folder.pointed("champion") == old
    done = answered(line, {"approve": True, "approver": "A. Meier", "why": "two weeks beside the line"})
    assert (done.by, done.why) == ("A. Meier", "two weeks beside the line")
    assert folder.pointed("champion") == new
    assert "A. Meier" in run("release", "history", folder.where)
    assert "by A. Meier" in emitted("anomaly.release.promoted")[0]["payload"]["says"]
    artifact = Artifact.get("pump-compared")
    assert artifact is not None
    assert str(artifact.description).startswith("The challenger is ")
    assert "| made-up faults |" in str(artifact.data)
    rollback_flow(folder.where, "the edge", "it flagged 60% of 20 records")
    assert folder.pointed("champion") == old
    with pytest.raises(BundleError, match="was rolled back here"):
        retrain_flow(line / "spec.toml", line / "new", folder.where, work=line / "work")


def test_the_summary_says_what_this_run_did(line: Path) -> None:
    from prefect.artifacts import Artifact

    from flows.pipeline import publish_flow

    publish_flow(line / "spec.toml", line / "old", line / "second" / "pump", line / "work")
    again = Artifact.get("pump-summary")
    assert again is not None
    assert "none, all taken from earlier runs" in str(again.data)
    publish_flow(line / "spec.toml", line / "old", line / "third" / "pump", line / "work-anew")
    anew = Artifact.get("pump-summary")
    assert anew is not None
    assert "steps that worked in this run: pretrain, fit, calibrate, evaluate" in str(anew.data)
    assert "It is the champion in" in str(anew.data)
    metrics = Artifact.get("pump-metrics")
    assert metrics is not None
    assert "judged by made-up faults alone" in str(metrics.description)
    assert "share found" in str(metrics.data)


AUTOMATIONS = """
[[sink]]
name = "maintenance"
url_env = "HOOK"
[[automation]]
on = "drift"
line = "pump"
run = "retrain/pump"
notify = "maintenance"
[[automation]]
on = "rolled back"
line = "pump"
run = "rollback/pump"
[[automation]]
on = "flow failed"
notify = "maintenance"
[[automation]]
on = "watch stopped"
notify = "maintenance"
"""


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook of a plant's own, and what came in."""
    got: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", got
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(600)
def test_drift_starts_a_retrain_and_a_rollback_of_the_edge_that_of_the_folder(
    line: Path, hook: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.events import emit_event
    from prefect.server.utilities.user_templates import render_user_template_sync

    from flows.automations import apply, read_automations
    from flows.loop import retrain_flow, rollback_flow
    from flows.watch import watch_flow

    file = tmp_path / "automations.toml"
    file.write_text(AUTOMATIONS)
    asked, environment = read_automations(file), {"HOOK": hook[0]}
    with pytest.raises(SpecError, match=r"no such deployment on the server; it has none yet"):
        apply(asked, environment)
    given = {"spec": str(line / "spec.toml"), "data": str(line / "new"), "release": str(line / "release" / "pump"), "why": "drift"}
    with get_client(sync_client=True) as client:
        client.request("POST", "/work_pools/", json={"name": "factory", "type": "process"})
    retrain_flow.to_deployment("pump", parameters=given).apply(work_pool_name="factory")
    rollback_flow.to_deployment("pump", parameters={"release": given["release"]}).apply(work_pool_name="factory")
    with pytest.raises(SpecError, match="HOOK is not set"):
        apply(asked, {})
    assert [one.partition(":")[0] for one in apply(asked, environment)] == ["made"] * 4
    assert [one.partition(":")[0] for one in apply(asked, environment)] == ["kept"] * 4
    with get_client(sync_client=True) as client:
        stopped = next(one for one in client.read_automations() if "watch stopped" in one.name)
    told = json.loads(render_user_template_sync(stopped.actions[-1].payload, {"event": None}))  # nothing came: there is no event
    assert told == {"line": "", "what": "watch stopped", "says": "No watch has ended for a while."}

    Store(tmp_path / "s.db").close()
    board = Board(tmp_path / "s.db")
    board.add(["pump"])
    board.lines["pump"].source, board.lines["pump"].bundle_hash, board.lines["pump"].drift = "", "ab" * 32, 1.0
    board.lines["pump"].alive()
    with serving(board, Address("127.0.0.1", 0)) as address, get_client(sync_client=True) as client:

        def scheduled(flow: str) -> list[dict[str, Any]]:
            asked_for = {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
            found: list[dict[str, Any]] = client.request("POST", "/flow_runs/filter", json=asked_for).json()
            return found

        watch_flow([Box(name="hall", url=f"http://{address}")], tmp_path / "watch.json")
        until(lambda: scheduled("retrain") and hook[1], 120)
        assert scheduled("retrain")[0]["parameters"]["why"] == "drift"
        assert hook[1] == [{"line": "pump", "what": "drift", "says": "pump: Its normal records are no longer those that it learnt from."}]
        payload = {"bundle_hash": "cd" * 32, "reason": 'it flagged 60% of "20" records'}
        emit_event(
            "anomaly.bundle.rolled_back", {"prefect.resource.id": "anomaly.line.pump", "prefect.resource.name": "pump"}, payload=payload
        )
        until(lambda: scheduled("rollback"), 120)
        told = scheduled("rollback")[0]["parameters"]
        assert (told["of"], told["why"], told["by"]) == ("cd" * 32, 'it flagged 60% of "20" records', "the edge")
        assert len(scheduled("retrain")) == 1
    file.write_text("")
    assert all(one.startswith("taken away: ") for one in apply(read_automations(file), environment))


def test_the_file_that_is_shipped_is_read_and_mistakes_are_said(tmp_path: Path) -> None:
    from flows.automations import read_automations

    assert len(read_automations(Path("deploy/automations.toml")).automation) == 8
    file = tmp_path / "a.toml"
    for text, why in (
        ('[[automation]]\non = "drift"\nnotify = "nobody"', "is no sink of this file"),
        ('[[automation]]\non = "drift"', "nothing would happen"),
        ('[[automation]]\non = "drift"\nrun = "a/b"\nminutes = 5', "begins at once"),
        ('[[automation]]\non = "drft"\nrun = "a/b"', "drift"),
        ('[[automation]]\non = "flow failed"\nline = "pump"\nrun = "a/b"', "belongs to no line"),
    ):
        file.write_text(text)
        with pytest.raises(SpecError, match=why):
            read_automations(file)


@pytest.mark.timeout(600)
def test_a_better_challenger_is_promoted_by_itself_where_its_spec_says_so_and_a_worse_one_never(line: Path, tmp_path: Path) -> None:
    from flows.loop import promote_flow

    made = read_bundle(next((line / "release" / "pump").glob("*.anomaly")))
    spec = {**made.manifest.provenance["spec"], "release": {"approve": "automatic"}}
    sharp = made.manifest.model_copy(update={"provenance": {**made.manifest.provenance, "spec": spec}})
    blind = sharp.model_copy(update={"threshold": Threshold(p_value=1e-9, score=None, budget={"false_alarm_rate": 1e-9})})
    for name, manifest in (("sharp", sharp), ("blind", blind)):
        write_bundle(tmp_path / f"{name}.anomaly", manifest, dict(made.members))
    folder = ReleaseFolder(tmp_path / "pump")
    folder.publish(tmp_path / "blind.anomaly")
    folder.publish(tmp_path / "sharp.anomaly", role="challenger")
    done = promote_flow(folder.where, line / "new")
    assert done is not None
    assert (done.by, done.hash) == ("automatic, by its spec", read_bundle(tmp_path / "sharp.anomaly").hash)
    assert done.why.startswith("The challenger is better: it finds more made-up faults")
    folder.publish(tmp_path / "blind.anomaly", role="challenger")
    assert promote_flow(folder.where, line / "new") is None
    assert folder.history()[-1].action == "challenger"
