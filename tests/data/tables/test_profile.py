"""What is told of tables before anything is learnt from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.data.files import looks_like
from anomaly.data.tables.files import read_normals
from anomaly.data.tables.profile import assumed_of_times, describe_tables
from anomaly.data.tables.reader import TableSchema
from anomaly.schema import Dialect
from tests.data.tables.test_ways import WAYS
from tests.data.tables.written import Way, write


def page(path: Path, schema: TableSchema | None = None) -> list[str]:
    return describe_tables(read_normals([path], schema or TableSchema(), None))


def test_two_lines_tell_how_a_table_is_written(tmp_path: Path) -> None:
    way = WAYS["a preamble and units, German"]
    write(tmp_path / "t.csv", way, lambda row, column, text: "Kabelbruch" if column == 1 and row == 9 else text)
    told = page(tmp_path / "t.csv")[:2]
    assert told == [
        "read as: cp1252, cells between ';', decimal comma, 3 lines before the header, 1 line between it and the readings; no reading: "
        "'kabelbruch'; not UTF-8, so taken for cp1252: where names look odd, set [input] encoding",
        "time: time as %d.%m.%Y %H:%M:%S (day first), UTC, for they name no zone: 2026-01-05 00:00:00Z to "
        "2026-01-21 15:00:00Z, every 3600 s",
    ]


def test_the_zone_is_told(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", WAYS["local time"])
    assert (
        "local time of Europe/Berlin: 2026-01-05 01:00:00+01:00"
        in page(tmp_path / "t.csv", TableSchema(dialect=Dialect(zone="Europe/Berlin")))[1]
    )


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A table with a sensor of each kind that a person should look at, and a gap."""
    rng = np.random.default_rng(0)
    noise = rng.normal(10, 1, 2000)
    frozen = rng.normal(5, 1, 2000)
    frozen[700:900] = frozen[700]
    frame = pd.DataFrame(
        {
            "time": pd.date_range("2026-01-01", periods=2000, freq="s"),
            "good": noise,
            "still": 7.5,
            "frozen": frozen,
            "twin": noise,
            "wears": rng.normal(0, 1, 2000) + np.linspace(0, 8, 2000),
            "switch": rng.integers(0, 2, 2000),
            "gappy": np.where(rng.random(2000) < 0.1, np.nan, noise),
            "slow": np.where(np.arange(2000) % 12 == 0, noise, np.nan),
            "large": 1e12 + 49 * rng.normal(size=2000),
            "few": [*([np.nan] * 1995), 1, 2, 3, 4, 5],
            "remark": "ok",
        }
    )
    frame.loc[1000:, "time"] += pd.Timedelta(hours=2)
    frame.to_csv(tmp_path / "odd.csv", index=False)
    return tmp_path / "odd.csv"


def test_what_stands_out_is_named(odd: Path) -> None:
    (table,) = read_normals([odd], TableSchema(), None)
    told = {line.split()[0]: line for line in describe_tables([table])}
    assert told["rows:"] == "rows: 2000, 2000 to learn from; steps of 1 s, all equal"
    assert told["gaps:"].endswith("which no window spans; the longest 7201 s after 2026-01-01 00:16:39Z")
    assert ";" not in told["good"]
    assert told["still"].endswith("; constant")
    assert told["frozen"].endswith("; frozen for 200 rows from row 701")
    assert told["twin"].endswith("; the same as good")
    assert "; drifts from 0." in told["wears"]
    assert told["switch"].endswith("a switch, or a label to name in [input] labels")
    assert "% missing" in told["gappy"]
    assert told["slow"].endswith("held for 30 s")
    assert "less 1" in told["large"]
    assert [note.split("column ")[1] for note in table.report.notes if "is no sensor" in note] == [
        "'few' is no sensor: 5 readings in 2000 rows, too few to tell how often it reports; name it in [input] sensors to use it all "
        "the same",
        "'remark' is no sensor: most of its cells are text",
    ]


def test_a_slow_sensor_is_held_for_a_stated_time_and_no_longer(odd: Path) -> None:
    (table,) = read_normals([odd], TableSchema(), None)
    slow = table.values[:, [channel.name for channel in table.channels].index("slow")]
    assert np.isfinite(slow[:1000]).all()
    assert slow[11] == slow[0]
    assert slow[12] != slow[11]


def test_a_path_shows_by_its_names_what_it_holds(tmp_path: Path) -> None:
    for name in ("pictures/001.png", "readings/a.csv", "both/1.png", "both/t.csv", "none/readme.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("time,a\n")
    (tmp_path / "list.csv").write_text("image,label\n")
    asked = ("pictures", "readings", "both", "none", "list.csv", "readings/a.csv", "pictures/001.png")
    found = [looks_like(tmp_path / name) for name in asked]
    assert found == ["pictures", "readings", "", "", "", "readings", "pictures"]


def test_lines_before_the_header_take_nothing_from_the_sensors(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", Way(before="a;b;c\n"))
    assert [line.split()[0] for line in page(tmp_path / "t.csv")[3:]] == ["flow", "heat", "level"]


@pytest.mark.parametrize(
    ("times", "assumed"),
    [
        (("2026-01-05 00:00", "2026-01-05 00:01"), ["zone"]),
        (("2026-01-05T00:00:00Z", "2026-01-05T00:01:00Z"), []),
        (("2026-01-05 00:00:00+01:00", "2026-01-05 00:01:00+01:00"), []),
        (("1767571200", "1767571260"), []),
        (("25.01.2026 00:00", "25.01.2026 00:01"), ["dates", "zone"]),
        (("01/25/2026 00:00 Z", "01/25/2026 00:01 Z"), ["dates"]),
    ],
)
def test_what_is_assumed_of_times_is_said_with_the_key_that_changes_it(tmp_path: Path, times: tuple[str, ...], assumed: list[str]) -> None:
    (tmp_path / "t.csv").write_text("time,flow\n" + "".join(f"{time},{at}.5\n" for at, time in enumerate(times)))
    told = assumed_of_times(read_normals([tmp_path / "t.csv"], TableSchema(), None))
    assert [line.partition(":")[0] for line in told] == assumed
    assert all("[input] " in line for line in told)
