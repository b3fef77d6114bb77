"""MLflow follows a release folder: real stores, no mocks."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest

from anomaly.api.detector import load
from anomaly.bundle.archive import read_bundle, write_bundle
from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.registry.follow import Fresh, follow, note_release
from anomaly.registry.store import SETTING
from tests.conftest import Fitted

pytest.importorskip("mlflow", reason="the extra `registry` is not installed")
from mlflow import MlflowClient


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store as MLflow makes it, once: its tables take seconds."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def address(empty: Path, tmp_path: Path) -> str:
    path = tmp_path / "mlflow" / "runs.db"
    path.parent.mkdir()
    with sqlite3.connect(empty) as source, sqlite3.connect(path) as copy:
        source.backup(copy)
    return f"sqlite:///{path}"


def _another(bundle: Path, folder: Path) -> Path:
    """The bundle under another version: another hash."""
    opened = read_bundle(bundle)
    path = folder / "another.anomaly"
    write_bundle(path, opened.manifest.model_copy(update={"version": "9"}), opened.members)
    return path


def _fresh(bundle: Path, data: Path) -> Fresh:
    return Fresh(bundle, data, lambda path: path.write_text("<p>a report</p>"))


def test_a_bundle_is_one_run_and_one_version_however_often_it_is_published(sensor: Fitted, address: str, tmp_path: Path) -> None:
    release = tmp_path / "release"
    published = ReleaseFolder(release).publish(sensor.bundle)
    assert len(follow(release, address, _fresh(published, sensor.data))) == 2
    assert follow(release, address, _fresh(published, sensor.data)) == []  # nothing is new

    client, bundle = MlflowClient(address), read_bundle(published)
    (version,) = client.search_model_versions("name = 'pump'")
    assert client.get_model_version_by_alias("pump", "champion").version == version.version
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["kind"] == "sensor"
    assert run.data.params["budget.false_alarm_rate"] == "0.02"
    figures = bundle.manifest.metrics
    assert run.data.metrics["threshold_p_value"] == bundle.manifest.threshold.p_value
    name, (low, high) = next(iter(figures["ci95"].items()))
    assert (run.data.metrics[f"{name}_low"], run.data.metrics[f"{name}_high"]) == (low, high)
    (used,) = run.inputs.dataset_inputs
    whole = bundle.manifest.provenance["data_sha256"]
    assert whole.startswith(used.dataset.digest)
    assert json.loads(used.dataset.source) == {"sha256": whole, "uri": str(sensor.data)}

    kept = [path for path in tmp_path.joinpath("mlflow").rglob("*") if path.is_file()]
    assert {"report.html", "MLmodel", published.name} <= {path.name for path in kept}
    assert not [path for path in kept if path.suffix in (".pkl", ".pickle", ".joblib")]


def test_aliases_follow_promotion_rollback_and_withdrawal(sensor: Fitted, address: str, tmp_path: Path) -> None:
    folder, client = ReleaseFolder(tmp_path / "release"), MlflowClient(address)

    def aliases() -> dict[str, str]:
        follow(folder.where, address)
        return {alias: str(version) for alias, version in client.get_registered_model("pump").aliases.items()}

    folder.publish(sensor.bundle)
    folder.publish(_another(sensor.bundle, tmp_path), role="challenger")
    assert aliases() == {"champion": "1", "challenger": "2"}
    folder.promote(by="me")
    assert aliases() == {"champion": "2"}
    folder.rollback(by="me")
    assert aliases() == {"champion": "1"}
    assert len(client.search_model_versions("name = 'pump'")) == 2


def test_a_run_that_was_cut_short_is_made_anew(sensor: Fitted, address: str, tmp_path: Path) -> None:
    def broken(_: Path) -> None:
        raise OSError("disk full")

    published = ReleaseFolder(tmp_path / "release").publish(sensor.bundle)
    with pytest.raises(OSError, match="disk full"):
        follow(tmp_path / "release", address, Fresh(published, sensor.data, broken))
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("pump")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    assert client.search_model_versions("name = 'pump'") == []
    follow(tmp_path / "release", address)
    assert len(client.search_model_versions("name = 'pump'")) == 1


def _closed_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.mark.parametrize("kind", ["server", "file", "address"])
def test_a_registry_that_is_away_is_a_warning_and_made_good_later(
    kind: str, sensor: Fitted, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").write_text("")
    away = {
        "server": f"http://me:secret@127.0.0.1:{_closed_port()}",
        "file": f"sqlite:///{tmp_path}/a file/runs.db",
        "address": "postgresql://me:secret@plant/runs",
    }[kind]
    release = tmp_path / "release"
    ReleaseFolder(release).publish(sensor.bundle)
    caplog.set_level(logging.INFO)
    log = logging.getLogger("fit")

    note_release(release, log)
    assert not caplog.records  # off by default
    monkeypatch.setenv(SETTING, away)
    note_release(release, log)
    (warned,) = caplog.records
    assert warned.levelname == "WARNING"
    assert "published all the same" in warned.message
    assert "secret" not in warned.message

    monkeypatch.setenv(SETTING, address)
    note_release(release, log)
    assert MlflowClient(address).get_model_version_by_alias("pump", "champion").source


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """MLflow's own server on this machine."""
    pytest.importorskip("flask", reason="MLflow's server needs the whole of MLflow")
    address = f"http://127.0.0.1:{_closed_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/served.db", "--artifacts-destination", str(tmp_path / "served")]
    with (tmp_path / "server.log").open("w") as log:
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True, env=environment)
    try:
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail((tmp_path / "server.log").read_text()[-2000:])
            try:
                if httpx.get(f"{address}/health", timeout=1).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.timeout(200)
def test_a_server_takes_run_files_and_version(sensor: Fitted, server: str, tmp_path: Path) -> None:
    published = ReleaseFolder(tmp_path / "release").publish(sensor.bundle)
    follow(tmp_path / "release", server, _fresh(published, sensor.data))
    assert follow(tmp_path / "release", server) == []
    version = MlflowClient(server, server).get_model_version_by_alias("pump", "champion")
    assert version.tags["anomaly.bundle_sha256"] == read_bundle(published).hash
    (kept,) = (tmp_path / "served").rglob(published.name)
    assert kept.read_bytes() == published.read_bytes()


LOADED = """
import json, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_registry_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
given = pd.read_csv(sys.argv[3]) if sys.argv[3].endswith(".csv") else sys.argv[3:]
found = model.predict(given)
if not isinstance(given, pd.DataFrame):
    assert found.equals(model.predict(pd.DataFrame({"path": given})))
print(json.dumps({"scores": found.to_dict("list"), "index": [str(i) for i in found.index], "torch": "torch" in sys.modules}))
"""


@pytest.mark.parametrize("kind", ["sensor", "camera"])
def test_the_model_scores_as_the_bundle_does_without_pytorch(
    kind: str, request: pytest.FixtureRequest, address: str, tmp_path: Path
) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    release = tmp_path / "release"
    name = read_bundle(ReleaseFolder(release).publish(fitted.bundle)).manifest.name
    follow(release, address)
    table = fitted.data / "test.csv"
    given = [str(path) for path in sorted(fitted.data.rglob("*.png"))[:3]] if kind == "camera" else [str(table)]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, address, f"models:/{name}@champion", *given], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    wanted = load(fitted.bundle, provider="cpu").score(given if kind == "camera" else pd.read_csv(table))
    assert not answer["torch"]
    assert answer["index"] == [str(label) for label in wanted.index]
    # rows before the first window have no score
    assert answer["scores"]["score"] == pytest.approx(wanted["score"].tolist(), rel=1e-5, nan_ok=True)
    assert answer["scores"]["flagged"] == wanted["flagged"].tolist()


def test_nothing_is_sent_from_the_plant(tmp_path: Path) -> None:
    code = """import os
from anomaly.registry.store import opened
with opened("sqlite:///runs.db"):
    from mlflow.telemetry.utils import is_telemetry_disabled
    print(is_telemetry_disabled())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.stdout.strip() == "True", done.stderr
