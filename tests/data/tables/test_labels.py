"""Faults that someone labelled: by a column, or by stretches of time that point into tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.data.tables.files import read_normals, table_schema
from anomaly.data.tables.labels.stretches import leave_out_faults, read_labelled
from anomaly.data.tables.reader import SensorTable
from anomaly.errors import DataError
from anomaly.spec import SensorInput

PLAIN = SensorInput()


def write(path: Path, rows: int, *, start: str = "2026-03-04 00:00:00", form: str = "%Y-%m-%d %H:%M:%S", **labels: object) -> Path:
    """A table of two sensors, a row a second; `labels` are (first, last) rows by column."""
    rng = np.random.default_rng(rows)
    frame = pd.DataFrame({"time": pd.date_range(start, periods=rows, freq="s").strftime(form), "flow": rng.normal(size=rows)})
    frame["force"] = rng.normal(size=rows)
    for name, (first, last) in labels.items():
        frame[name] = ((np.arange(rows) >= first) & (np.arange(rows) <= last)).astype(int)
    path.parent.mkdir(exist_ok=True)
    frame.to_csv(path, index=False, sep=";")
    return path


def normals(path: Path, asked: SensorInput = PLAIN) -> list[SensorTable]:
    return read_normals([path], table_schema(asked), None)


def test_a_column_and_stretches_say_the_same(tmp_path: Path) -> None:
    train = normals(write(tmp_path / "train.csv", 300))
    column = write(tmp_path / "column" / "leak.csv", 200, fault=(50, 99))
    (by_column,) = read_labelled(column, PLAIN, train, [])
    bare = write(tmp_path / "bare.csv", 200)
    spans = tmp_path / "spans.csv"
    spans.write_text("from,to,kind\n2026-03-04T00:00:50,2026-03-04T00:01:39,leak\n")
    (by_span,) = read_labelled(spans, PLAIN, train, [bare])
    assert np.flatnonzero(by_column.faulty).tolist() == list(range(50, 100)) == np.flatnonzero(by_span.faulty).tolist()
    assert np.array_equal(by_column.table.values, by_span.table.values)
    assert by_span.kinds == {50: "leak"}
    (by_folder,) = read_labelled(tmp_path / "column", PLAIN, train, [bare])
    assert np.array_equal(by_folder.faulty, by_column.faulty)


def test_stretches_may_lie_beside_the_table_they_point_into(tmp_path: Path) -> None:
    train = normals(write(tmp_path / "train.csv", 300))
    write(tmp_path / "faults" / "history.csv", 200)
    (tmp_path / "faults" / "list.csv").write_text("From;To;Kind\n2026-03-04 00:00:10;2026-03-04 00:00:19;\n")
    (found,) = read_labelled(tmp_path / "faults", PLAIN, train, [tmp_path / "train.csv"])[:1]
    assert found.table.path.name == "history.csv"
    assert np.flatnonzero(found.faulty).tolist() == list(range(10, 20))


def test_stretches_are_read_in_the_machines_own_format_and_zone(tmp_path: Path) -> None:
    """4.3. alone could be the 3rd of April: the machine's own table says which it is."""
    asked = SensorInput(zone="Europe/Berlin")
    train = normals(write(tmp_path / "train.csv", 300, start="2026-03-14", form="%d.%m.%Y %H:%M:%S"), asked)
    told = write(tmp_path / "test.csv", 100, form="%d.%m.%Y %H:%M:%S")
    spans = tmp_path / "spans.csv"
    spans.write_text("from;to;kind\n04.03.2026 00:00:10;04.03.2026 00:00:12;pump\n")
    (found,) = read_labelled(spans, asked, train, [told])
    assert found.table.times[10] == pd.Timestamp("2026-03-04 00:00:10", tz="Europe/Berlin").timestamp()
    assert np.flatnonzero(found.faulty).tolist() == [10, 11, 12]


def test_a_fault_in_the_normals_is_not_learnt(tmp_path: Path) -> None:
    train = normals(write(tmp_path / "train.csv", 300))
    spans = tmp_path / "spans.csv"
    spans.write_text("from,to\n2026-03-04T00:01:40,2026-03-04T00:01:49\n")
    leave_out_faults(train, spans, PLAIN)
    assert np.flatnonzero(~train[0].usable).tolist() == list(range(100, 110))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "from,to\n2026-03-05T00:00:50,2026-03-05T00:01:39\n",
            r"spans.csv: line 2: .* no row of the machine's tables lies in it(.|\n)*zone",
        ),
        ("from,to\n2026-03-04T00:01:39,2026-03-04T00:00:50\n", "spans.csv: line 2: .* the end comes before the begin; swap them"),
        (
            "from,to\n2026-03-04T00:00:50,2026-03-04T00:00:59\n2026-03-04T00:01:50,soon\n",
            "spans.csv: line 3: .*cannot be read .*time_format",
        ),
    ],
)
def test_stretches_that_make_no_sense_are_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    train = normals(write(tmp_path / "train.csv", 300))
    spans = tmp_path / "spans.csv"
    spans.write_text(text)
    with pytest.raises(DataError, match=message):
        read_labelled(spans, PLAIN, train, [tmp_path / "train.csv"])


def test_tables_that_label_nothing_or_everything_are_refused(tmp_path: Path) -> None:
    train = normals(write(tmp_path / "train.csv", 300))
    with pytest.raises(DataError, match=r"bare.csv: no label column; write 1 .* \[input\] labels .* from, to"):
        read_labelled(write(tmp_path / "bare.csv", 100), PLAIN, train, [])
    with pytest.raises(DataError, match=r"all.csv: column 'label' calls every one of 100 rows a fault; .* \[input\] labels"):
        read_labelled(write(tmp_path / "all.csv", 100, label=(0, 99)), PLAIN, train, [])
    with pytest.raises(DataError, match=r"none.csv: no row is labelled as a fault \(column label\)"):
        read_labelled(write(tmp_path / "none.csv", 100, label=(200, 300)), PLAIN, train, [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no table in it"):
        read_labelled(tmp_path / "empty", PLAIN, train, [])


def test_tables_of_other_sensors_are_refused_with_their_names(tmp_path: Path) -> None:
    train = normals(write(tmp_path / "train.csv", 300))
    other = write(tmp_path / "other.csv", 100, label=(10, 20))
    other.write_text(other.read_text().replace("force", "torque"))
    with pytest.raises(DataError) as caught:
        read_labelled(other, PLAIN, train, [])
    assert "'force' is missing" in str(caught.value)
    assert "[transfer] faults" in str(caught.value)
