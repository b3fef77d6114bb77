"""A history on a real Dask cluster of this machine: the same files as without it, and a part that fails stops no other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly.batch.plan import read_plan
from anomaly.batch.run import run_batch
from anomaly.bundle.release_folder import ReleaseFolder
from tests.batch.test_run import files_of
from tests.conftest import Fitted


def run(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.batch", *map(str, arguments)]
    own = os.environ | {"PREFECT_HOME": str(root / "prefect"), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "240"}
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=own)


def test_a_typed_password_is_refused_before_prefect_keeps_it(tmp_path: Path) -> None:
    done = run(tmp_path, "a.anomaly", "postgresql://me:S3cret@historian/plant", "--query", "SELECT 1", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "name env:NAME" in done.stderr
    assert "S3cret" not in done.stdout + done.stderr
    assert not any((tmp_path / "prefect").rglob("*.db"))


@pytest.mark.timeout(900)
def test_the_files_are_those_of_one_process_and_only_what_failed_is_done_again(sensor: Fitted, tmp_path: Path) -> None:
    source = shutil.copytree(sensor.data, tmp_path / "source")
    (source / "wrong.csv").write_text("time,other\n1,2\n")
    run_batch(sensor.bundle, [source], tmp_path / "alone", 1, rows=500)
    release = ReleaseFolder(tmp_path / "release")
    release.publish(sensor.bundle)
    out = shutil.copytree(tmp_path / "alone", tmp_path / "out")
    shutil.rmtree(out / "scores")
    plan = read_plan(out)
    (table,) = [number for number, file in enumerate(plan.files) if file.path.endswith("test.csv")]
    lost = [number for number, part in enumerate(plan.parts) if any(file == table for file, _, _ in part)]
    kept = out / "plan" / f"{table:05}.npy"
    kept.rename(tmp_path / "kept.npy")  # so no part of this table can be scored

    failed = run(tmp_path, release.where, source, "--out", out, "--workers", 2)
    assert failed.returncode == 1, failed.stderr
    assert f"error: {len(lost)} of {len(plan.parts)} parts failed; run it again" in failed.stderr
    assert f"part {lost[0]}: FileNotFoundError" in failed.stderr
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("scores/*.parquet")}
    assert sorted(done) == [f"part-{number:05}.parquet" for number in range(len(plan.parts)) if number not in lost]
    assert done

    (tmp_path / "kept.npy").rename(kept)
    again = run(tmp_path, release.where, source, "--out", out, "--workers", 0)
    assert again.returncode == 0, again.stderr
    assert f"{len(plan.parts)} parts, {len(done)} of them done before" in again.stderr
    assert files_of(out) == files_of(tmp_path / "alone")
    assert all((out / "scores" / name).stat().st_mtime_ns == at for name, at in done.items()), "a part was made again"


def test_a_release_folder_without_a_champion_is_said(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    found = run(tmp_path, tmp_path / "release", tmp_path, "--out", tmp_path / "out")
    assert found.returncode == 1
    assert "no champion in it; publish one first" in found.stderr
