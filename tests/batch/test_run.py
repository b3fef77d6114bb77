"""A history scored in parts: the scores are those of `score`, each record has one, and a killed run leaves the same files as another."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from anomaly.batch.plan import read_plan
from anomaly.batch.run import Outcome, run_batch
from anomaly.bundle.archive import read_bundle
from anomaly.cli.main import app
from anomaly.edge.runtime.files import score_paths
from anomaly.edge.runtime.session import open_session
from anomaly.errors import DataError
from tests.conftest import Fitted
from tests.edge.tiny import tiny_bundle

RUN = """
import sys
from pathlib import Path
from anomaly.batch.run import run_batch
if __name__ == "__main__":
    run_batch(Path(sys.argv[1]), [Path(sys.argv[2])], Path(sys.argv[3]), int(sys.argv[4]), rows=60)
"""


def files_of(out: Path) -> dict[str, bytes]:
    """All that a run leaves, but for its lock."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock"
    }


def by_score(fitted: Fitted, source: Path) -> pd.DataFrame:
    """What `score` says of the same, named by path."""
    bundle = read_bundle(fitted.bundle)
    frames = []
    for path in sorted(source.rglob("*.*")):
        try:
            frame = score_paths(bundle, open_session(bundle, threads=1), [path], details=True)[0]
        except DataError:
            continue
        if "time" in frame:
            frame["record"] = f"{path}:" + frame["record"].str.rpartition(":")[2]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def test_rows_at_the_borders_of_parts_are_scored_as_in_one_piece(sensor: Fitted, tmp_path: Path) -> None:
    done = run_batch(sensor.bundle, [sensor.data], tmp_path / "out", 1, rows=97, shares=True)
    scores, other = pd.read_parquet(tmp_path / "out/scores"), by_score(sensor, sensor.data)
    assert done.parts > 20
    assert scores["record"].tolist() == other["record"].tolist()
    np.testing.assert_allclose(scores["score"], other["score"], rtol=1e-5)
    np.testing.assert_allclose(scores["p_value"], other["p_value"], rtol=1e-4)
    np.testing.assert_allclose(scores.filter(like="share:"), other.filter(like="share:"), atol=1e-4)
    assert scores["flagged"].tolist() == other["flagged"].tolist()
    assert scores["top_sensor"].tolist() == other["top_sensor"].tolist()
    assert scores["time"].astype("int64").tolist() == (other["time"] * 1e6).round().astype("int64").tolist()
    assert (done.counts.records, done.counts.flagged) == (len(scores), int(scores["flagged"].sum()))
    assert done.rows == sum(len(pd.read_csv(path)) for path in sensor.data.glob("*.csv")) == done.counts.records + done.without_window


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and len(list(out.glob("scores/part-*"))) < count and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, "ended before it could be killed: the test shows nothing"


def test_killed_twice_the_output_is_that_of_a_run_that_was_left_alone(sensor: Fitted, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(RUN)
    source = shutil.copytree(sensor.data, tmp_path / "source")
    (source / "rows.csv").write_text((source / "test.csv").read_text() + "2026,broken\n")
    out = tmp_path / "killed"
    command = [sys.executable, str(tmp_path / "run.py"), str(sensor.bundle), str(source), str(out), "2"]
    kept: dict[str, int] = {}
    for parts in (2, 12):
        process = subprocess.Popen(command, start_new_session=True)
        wait_for_parts(out, parts, process)
        os.kill(process.pid, signal.SIGKILL)  # its workers are left to notice it
        process.wait()
        assert all((out / "scores" / name).stat().st_mtime_ns == at for name, at in kept.items()), "a part was made again"
        kept = {path.name: path.stat().st_mtime_ns for path in out.glob("scores/part-*")}
    subprocess.run(command, check=True, timeout=120)
    assert len(list(out.glob("scores/part-*"))) == len(read_plan(out).parts) > 20
    assert all((out / "scores" / name).stat().st_mtime_ns == at for name, at in kept.items())
    run_batch(sensor.bundle, [source], tmp_path / "alone", 1, rows=60)
    assert files_of(out) == files_of(tmp_path / "alone")
    scores = pd.read_parquet(out / "scores")
    assert scores["record"].is_unique
    assert pd.read_parquet(out / "rejected")["reason"].tolist() == [
        "has 2 fields instead of " + str(len(pd.read_csv(sensor.data / "test.csv").columns))
    ]


def test_pictures_that_cannot_be_read_are_set_aside_and_the_rest_is_scored(camera: Fitted, samples: Path, tmp_path: Path) -> None:
    source = shutil.copytree(samples / "camera" / "test", tmp_path / "source")
    (source / "cut.png").write_bytes(next(source.rglob("*.jpg")).read_bytes()[:200])
    (source / "empty.png").touch()
    done = run_batch(camera.bundle, [source, source / "cut.png"], tmp_path / "out", 1, pictures=4)
    scores, rejected = pd.read_parquet(tmp_path / "out/scores"), pd.read_parquet(tmp_path / "out/rejected")
    other = by_score(camera, source).set_index("record").loc[scores["record"]]
    np.testing.assert_allclose(scores["score"], other["score"], rtol=1e-5)
    assert scores["flagged"].tolist() == other["flagged"].tolist()
    assert sorted(rejected["record"]) == [str(source / "cut.png"), str(source / "empty.png")]
    assert sorted([*scores["record"], *rejected["record"]]) == sorted(str(path) for path in source.rglob("*.*"))
    assert (done.rows, done.counts.rejected, done.without_window) == (len(scores) + 2, 2, 0)


@pytest.fixture
def begun(sensor: Fitted, tmp_path: Path) -> tuple[Callable[..., Outcome], Path, Path]:
    """A run of two tables, with one of its parts done, as one that was killed leaves it."""
    source, out = shutil.copytree(sensor.data, tmp_path / "source"), tmp_path / "out"

    def again(**changes: object) -> Outcome:
        asked = {"bundle": sensor.bundle, "sources": [source], "out": out, "workers": 1, "rows": 500} | changes
        return run_batch(**asked)  # type: ignore[arg-type]

    again()
    for path in sorted(out.glob("scores/part-*"))[1:]:
        path.unlink()
    return again, source, out


def test_a_run_goes_on_only_as_it_was_begun(begun: tuple[Callable[..., Outcome], Path, Path], camera: Fitted, tmp_path: Path) -> None:
    again, source, out = begun
    for changes, said in (
        ({"bundle": camera.bundle, "sources": [tmp_path]}, "holds tables, and the detector is for pictures"),
        ({"shares": True}, "was begun without --shares"),
        ({"sources": [source / "test.csv"]}, "was begun on other sources"),
    ):
        with pytest.raises(DataError, match=said):
            again(**changes)
    shutil.copy(source / "test.csv", source / "new.csv")
    with pytest.raises(DataError, match=r"on other files: 1 new \(.*new\.csv\) since; score into another folder, or delete"):
        again()
    (source / "new.csv").unlink()
    state = (source / "test.csv").stat()
    os.utime(source / "test.csv", ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    with pytest.raises(DataError, match=r"1 changed \(.*test\.csv\) since"):
        again()
    os.utime(source / "test.csv", ns=(state.st_atime_ns, state.st_mtime_ns))
    before = files_of(out)
    done = again()
    assert done.done_before == 1
    assert before.items() <= files_of(out).items()
    assert again().done_before == done.parts


def test_another_bundle_is_refused(begun: tuple[Callable[..., Outcome], Path, Path], sensor: Fitted, tmp_path: Path) -> None:
    again, _, out = begun
    kept = (out / "plan.json").read_text()
    (out / "plan.json").write_text(kept.replace(read_bundle(sensor.bundle).hash, "0" * 64))
    with pytest.raises(DataError, match="was begun with another bundle"):
        again()
    (out / "plan.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as a plan"):
        again()


def test_a_file_that_changes_under_way_ends_the_run(begun: tuple[Callable[..., Outcome], Path, Path]) -> None:
    again, source, _ = begun

    def spoiled(work: Callable[[int], object]) -> Callable[..., object]:
        def each(numbers: list[int]) -> object:
            with (source / "train.csv").open("a") as stream:
                stream.write("\n")
            yield from map(work, numbers)

        return each

    with pytest.raises(DataError, match=r"train\.csv: was changed while the run went on"):
        again(scored=spoiled)


def test_a_part_that_is_cut_short_or_gone_is_made_again(begun: tuple[Callable[..., Outcome], Path, Path]) -> None:
    again, _, out = begun
    again()
    whole = files_of(out)
    (out / "scores/part-00001.parquet").write_bytes(b"PAR1")
    (out / "scores/part-00002.parquet").unlink()
    (out / "scores/.part-00004.parquet.x.part").write_bytes(b"half")
    assert again().done_before == len(list(out.glob("scores/part-*"))) - 2
    assert files_of(out) == whole


def test_a_folder_with_other_things_in_it_is_left_alone(sensor: Fitted, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match=r"holds other files \(mine.txt\) and no plan.json"):
        run_batch(sensor.bundle, [sensor.data], tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["mine.txt"]


def test_a_table_that_cannot_be_used_is_told_and_the_others_are_scored(sensor: Fitted, tmp_path: Path) -> None:
    source = shutil.copytree(sensor.data, tmp_path / "source")
    (source / "wrong.csv").write_text("time,other\n1,2\n")
    out = source / "scored"  # within the source: not read as a table of it
    command = ["batch", str(sensor.bundle), str(source), "--out", str(out), "--workers", "1"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    flagged = int(pd.read_parquet(out / "scores")["flagged"].sum())
    assert result.exit_code == (3 if flagged else 1)
    assert f"{flagged:,} of {len(pd.read_parquet(out / 'scores')):,} records scored are flagged" in result.output
    assert "set aside" in result.output
    assert "wrong.csv" in result.output
    assert pd.read_parquet(out / "rejected")["record"].tolist() == [str(source / "wrong.csv")]
    again = CliRunner().invoke(app, [*command, "--exit-zero"], catch_exceptions=False)
    assert again.exit_code == 1
    assert "1 parts, 1 of them done before" in again.output


def test_a_folder_that_is_named_in_two_ways_is_scored_once(tmp_path: Path) -> None:
    (source := tmp_path / "src").mkdir()
    (source / "a.csv").write_text("time,a,b\n" + "".join(f"{row},0,0\n" for row in range(10)))
    (tmp_path / "other name").symlink_to(source)
    tiny_bundle(tmp_path / "tiny.anomaly")
    sources = [source, source / ".." / "src", tmp_path / "other name"]
    assert run_batch(tmp_path / "tiny.anomaly", sources, tmp_path / "out", 1).counts.records == 9
