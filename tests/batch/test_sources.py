"""A history in an object store (a real server of S3's protocol) or in a database: scored as from a disk, fetched piece by piece."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from anomaly.batch import store
from anomaly.batch.run import run_batch
from anomaly.cli.main import app
from anomaly.data.database import write_query
from anomaly.errors import AnomalyError, DataError
from tests.batch.test_run import wait_for_parts
from tests.conftest import Fitted
from tests.integration.servers import free_port, listening, serving

BUCKET = "s3://history"
RUN = """
import sys
from pathlib import Path
from anomaly.batch.run import run_batch
if __name__ == "__main__":
    run_batch(Path(sys.argv[1]), [sys.argv[2]], Path(sys.argv[3]), 2, rows=60)
"""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of an S3 server on loopback, whose address is in the environment, and a bucket in it."""
    boto3 = pytest.importorskip("boto3", reason="the extra `dev` is not installed")
    port, patch = free_port(), pytest.MonkeyPatch()
    own = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name, value in own.items():
        patch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    with serving(command, lambda: listening(port), tmp_path_factory.mktemp("s3") / "log", own, starts_s=120):
        client = boto3.client("s3")
        client.create_bucket(Bucket="history", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield client
    patch.undo()
    store._store.cache_clear()


def put(s3: Any, folder: Path, prefix: str) -> None:
    for path in sorted(folder.rglob("*.*")):
        s3.upload_file(str(path), "history", f"{prefix}/{path.relative_to(folder).as_posix()}")


def scores_of(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "scores").sort_values("record", ignore_index=True)


@pytest.mark.timeout(600)
def test_tables_of_a_store_are_scored_as_from_a_disk_and_a_killed_run_goes_on(s3: Any, sensor: Fitted, tmp_path: Path) -> None:
    put(s3, sensor.data, "tables/line 3")
    s3.put_object(Bucket="history", Key="tables/line 3/.hidden/old.csv", Body=b"time,other\n1,2\n")
    s3.put_object(Bucket="history", Key="tables/line 3/notes.txt", Body=b"cleaned")
    (tmp_path / "run.py").write_text(RUN)
    out = tmp_path / "out"
    command = [sys.executable, str(tmp_path / "run.py"), str(sensor.bundle), f"{BUCKET}/tables", str(out)]
    process = subprocess.Popen(command, start_new_session=True)
    wait_for_parts(out, 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    made = {path.name: path.stat().st_mtime_ns for path in out.glob("scores/part-*")}
    subprocess.run(command, check=True, timeout=300)
    assert all((out / "scores" / name).stat().st_mtime_ns == at for name, at in made.items()), "a part was made again"
    assert not (out / ".fetched").exists()
    run_batch(sensor.bundle, [sensor.data], tmp_path / "disk", 1, rows=60)
    stored, disk = scores_of(out), scores_of(tmp_path / "disk")
    disk["record"] = disk["record"].str.replace(str(sensor.data), f"{BUCKET}/tables/line 3")
    pd.testing.assert_frame_equal(stored, disk.sort_values("record", ignore_index=True))
    assert stored["record"].is_unique


def test_pictures_of_a_store_and_what_cannot_be_read_have_their_addresses(s3: Any, camera: Fitted, samples: Path, tmp_path: Path) -> None:
    folder = samples / "camera" / "test"
    put(s3, folder, "pictures")
    s3.put_object(Bucket="history", Key="pictures/cut.png", Body=next(folder.rglob("*.jpg")).read_bytes()[:200])
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app, ["batch", str(camera.bundle), f"{BUCKET}/pictures", "--out", str(out), "--workers", "1", "--exit-zero"]
    )
    assert result.exit_code == 0, result.output
    run_batch(camera.bundle, [folder], tmp_path / "disk", 1)
    stored, disk = scores_of(out), scores_of(tmp_path / "disk")
    assert stored["record"].tolist() == disk["record"].str.replace(str(folder), f"{BUCKET}/pictures").tolist()
    np.testing.assert_array_equal(stored["score"], disk["score"])
    (rejected,) = pd.read_parquet(out / "rejected").to_dict("records")
    assert rejected["record"] == f"{BUCKET}/pictures/cut.png"
    assert rejected["reason"].startswith(f"{BUCKET}/pictures/cut.png: ")
    assert ".fetched" not in rejected["reason"]


def test_a_run_ends_when_an_object_changes(s3: Any, sensor: Fitted, tmp_path: Path) -> None:
    put(s3, sensor.data, "changing")

    def spoiled(work: Any) -> Any:
        s3.put_object(Bucket="history", Key="changing/train.csv", Body=b"time,a\n1,2\n")
        return lambda numbers: map(work, numbers)

    with pytest.raises(DataError, match=r"s3://history/changing/train.csv: was changed while the run went on"):
        run_batch(sensor.bundle, [f"{BUCKET}/changing"], tmp_path / "out", 1, scored=spoiled)
    with pytest.raises(DataError, match=r"was begun on other files: 1 changed \(s3://history/changing/train.csv\)"):
        run_batch(sensor.bundle, [f"{BUCKET}/changing"], tmp_path / "out", 1)


def test_what_is_not_in_the_store_is_said(s3: Any, sensor: Fitted, tmp_path: Path) -> None:
    s3.put_object(Bucket="history", Key="empty/notes.txt", Body=b"cleaned")
    for source, said in (
        ("s3://nowhere/a", "s3://nowhere/a: "),
        (f"{BUCKET}/gone", f"{BUCKET}/gone: no file to score in it"),
        (f"{BUCKET}/empty", f"{BUCKET}/empty: no file to score in it"),
    ):
        with pytest.raises(DataError, match=said):
            run_batch(sensor.bundle, [source], tmp_path / "out", 1)


AWAY = """
import sys
from pathlib import Path
if sys.argv[3] == "bare":
    sys.modules["s3fs"] = None
from anomaly.batch.run import run_batch
from anomaly.errors import AnomalyError, DataError
try:
    run_batch(Path(sys.argv[1]), ["s3://history/a"], Path(sys.argv[2]), 1)
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [("bare", "needs s3fs; run: pip install 'anomaly-pipeline[s3]'"), ("away", "s3://history/a: the store cannot be read (")],
)
def test_a_store_that_cannot_be_asked_is_an_error_in_words(sensor: Fitted, tmp_path: Path, how: str, said: str) -> None:
    pytest.importorskip("s3fs", reason="the extra `s3` is not installed")
    own = os.environ | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "S3cret-word",
        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", AWAY, str(sensor.bundle), str(tmp_path / "out"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=own, check=True)
    assert said in done.stdout, done.stdout + done.stderr
    assert "S3cret" not in done.stdout


@pytest.fixture
def database(sensor: Fitted, tmp_path: Path) -> str:
    """The readings of the sample in a table of a database."""
    path = tmp_path / "plant.db"
    with closing(sqlite3.connect(path)) as db:
        pd.read_csv(sensor.data / "test.csv").to_sql("history", db, index=False)
    return f"sqlite:///{path}"


def test_rows_of_a_database_are_taken_once_and_a_run_goes_on_with_them(
    sensor: Fitted, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANT_DB", database)
    out = tmp_path / "out"
    asked: dict[str, Any] = {"query": "SELECT * FROM history", "rows": 100}
    run_batch(sensor.bundle, ["env:PLANT_DB"], out, 1, **asked)
    whole = scores_of(out)
    run_batch(sensor.bundle, [sensor.data / "test.csv"], tmp_path / "disk", 1)
    np.testing.assert_allclose(whole.sort_values("time")["score"], scores_of(tmp_path / "disk").sort_values("time")["score"], rtol=1e-5)
    for path in sorted(out.glob("scores/part-*"))[1:]:
        path.unlink()
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as db:  # the plant goes on writing
        db.execute("DELETE FROM history WHERE rowid > 10")
        db.commit()
    assert run_batch(sensor.bundle, ["env:PLANT_DB"], out, 1, **asked).done_before == 1
    pd.testing.assert_frame_equal(scores_of(out), whole)
    with pytest.raises(DataError, match="was begun on other sources"):
        run_batch(sensor.bundle, ["env:PLANT_DB"], out, 1, query="SELECT * FROM history LIMIT 5")


def test_a_query_that_cannot_be_used_is_an_error_in_words(sensor: Fitted, camera: Fitted, database: str, tmp_path: Path) -> None:
    for bundle, sources, query, said in (
        (sensor.bundle, [database], "SELECT * FROM gone", "the query failed: .*no such table: gone"),
        (sensor.bundle, [database], "SELECT * FROM history WHERE 1 = 0", "the query found no rows"),
        (sensor.bundle, [database, "b"], "SELECT 1", "name one database"),
        (camera.bundle, [database], "SELECT 1", "the detector is for pictures"),
        (sensor.bundle, ["env:NOT_SET"], "SELECT 1", "NOT_SET is not set"),
    ):
        with pytest.raises(DataError, match=said):
            run_batch(bundle, sources, tmp_path / "out", 1, query=query)


@pytest.mark.parametrize(
    "address",
    ["sqlite://me:S3cret/S3cret@historian/plant", "sqlite://me:12/S3cret@historian/plant", "sqlite://me:p@ss:S3cret@historian/plant",
     "sqlite://historian/plant?password=S3cret", "gone+none:///?odbc_connect=UID%3Dme%3BPWD%3DS3cret%3B", "host=historian password=S3cret"],
)  # fmt: skip
def test_no_password_of_a_database_is_printed(sensor: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HISTORIAN", address)
    out = tmp_path / "out"
    for given in (address, "env:HISTORIAN"):
        for command in (
            ["batch", str(sensor.bundle), given, "--query", "SELECT 1", "--out", str(out)],
            ["table", given, "--query", "SELECT 1", "--out", str(tmp_path / "t.parquet")],
            ["fit", given, "--out", str(tmp_path / "fit")],
        ):
            result = CliRunner().invoke(app, command)
            assert result.exit_code in (1, 2), result.output
            assert isinstance(result.exception, (SystemExit, AnomalyError)), result.exception
            assert "S3cret" not in f"{result.output}{result.exception}"
    assert not any("S3cret" in path.read_text() for path in out.glob("*.json"))


def test_a_column_has_the_type_of_all_its_rows(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        db.execute("CREATE TABLE t (time INTEGER, a, b)")
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", [(2**60 + 1, 1, None), (2, 2, None), (3, 2.5, 7), (4, None, 8)])
        db.execute("CREATE TABLE mixed (a)")
        db.executemany("INSERT INTO mixed VALUES (?)", [(1,), (2,), ("three",), ("four",)])
        db.commit()
    url = f"sqlite:///{tmp_path}/a.db"
    assert write_query(url, "SELECT * FROM t", tmp_path / "t.parquet", rows=2) == 4
    found = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert found["time"] == [2**60 + 1, 2, 3, 4]
    np.testing.assert_array_equal(np.array(found["a"], float), [1, 2, 2.5, np.nan])
    np.testing.assert_array_equal(np.array(found["b"], float), [np.nan, np.nan, 7, 8])
    assert pyarrow.parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 2
    with pytest.raises(DataError, match="a column is text in some rows and numbers in others"):
        write_query(url, "SELECT * FROM mixed", tmp_path / "m.parquet", rows=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "t.parquet"]


def by_day(sensor: Fitted, folder: Path) -> pd.DataFrame:
    """The readings of the sample as a data set, a folder a day; and as one table."""
    frame = pd.read_csv(sensor.data / "test.csv")
    for number, part in enumerate(np.array_split(np.arange(len(frame)), 5)):
        path = folder / f"day={number}" / "part-0.parquet"
        path.parent.mkdir(parents=True)
        frame.iloc[part].to_parquet(path, index=False)
    return frame


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_data_set_is_one_table_whose_windows_go_on_from_file_to_file(s3: Any, sensor: Fitted, tmp_path: Path, where: str) -> None:
    frame = by_day(sensor, tmp_path / "set")
    frame.to_parquet(tmp_path / "whole.parquet", index=False)
    if where == "store":
        put(s3, tmp_path / "set", "set")
    source = f"{BUCKET}/set" if where == "store" else str(tmp_path / "set")
    command = ["batch", str(sensor.bundle), source, "--one-table", "--workers", "1", "--exit-zero", "--out", str(tmp_path / "set" / "out")]
    for _ in range(2):  # the second finds all done, and takes no score for data
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    run_batch(sensor.bundle, [tmp_path / "whole.parquet"], tmp_path / "whole", 1)
    found, whole = pd.read_parquet(tmp_path / "set" / "out" / "scores"), pd.read_parquet(tmp_path / "whole" / "scores")
    pd.testing.assert_frame_equal(found.drop(columns="record"), whole.drop(columns="record"))
    kept = pyarrow.parquet.read_schema(tmp_path / "set" / "out" / "query" / "rows.parquet").names
    assert "day" not in kept
    each = run_batch(sensor.bundle, sorted((tmp_path / "set").glob("day=*")), tmp_path / "each", 1)
    assert each.counts.records < len(whole), "each file for itself has fewer full windows"


@pytest.mark.parametrize("change", ["new", "gone", "changed"])
def test_a_data_set_that_changed_since_is_another_run(sensor: Fitted, tmp_path: Path, change: str) -> None:
    frame = by_day(sensor, tmp_path / "set")
    run_batch(sensor.bundle, [tmp_path / "set"], tmp_path / "out", 1, one_table=True)
    last, added = tmp_path / "set" / "day=4" / "part-0.parquet", tmp_path / "set" / "day=5.parquet"
    if change == "new":
        frame.to_parquet(added, index=False)
    elif change == "gone":
        last.unlink()
    else:
        frame.iloc[-3:].to_parquet(last, index=False)
    named = added if change == "new" else last
    with pytest.raises(DataError, match=f"on other files: 1 {change} \\({re.escape(str(named))}\\) since; score into another folder"):
        run_batch(sensor.bundle, [tmp_path / "set"], tmp_path / "out", 1, one_table=True)


def test_files_that_are_no_one_table_are_told(sensor: Fitted, tmp_path: Path) -> None:
    by_day(sensor, tmp_path / "set")
    pd.read_csv(sensor.data / "test.csv").astype(str).to_parquet(tmp_path / "set" / "day=0" / "part-1.parquet", index=False)
    for source, said in (
        ([tmp_path / "set"], "its files cannot be read as one table .*incompatible types"),
        ([sensor.data], "no Parquet file in it; leave --one-table out"),
        ([tmp_path, sensor.data], "name one folder"),
    ):
        with pytest.raises(DataError, match=said):
            run_batch(sensor.bundle, source, tmp_path / "out", 1, one_table=True)
