"""What files scored show on a terminal, and their times."""

from __future__ import annotations

import pandas as pd
import pytest

from anomaly.cli.terminal.scores import on_the_clock, stretches


def scored(times: list[float], flagged: list[bool], file: str = "t.csv") -> pd.DataFrame:
    names = [f"{file}:{at + 2}" for at in range(len(times))]
    values = {"score": [float(at) for at in range(len(times))], "p_value": [0.01] * len(times), "flagged": flagged}
    return pd.DataFrame({"record": names, "time": times, **values})


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("", ["2026-10-25 00:59:59.500Z", "2026-10-25 01:00:00.000Z"]),
        ("Europe/Berlin", ["2026-10-25 02:59:59.500+02:00", "2026-10-25 02:00:00.000+01:00"]),
    ],
)
def test_times_are_on_the_clock_of_the_line(zone: str, shown: list[str]) -> None:
    assert on_the_clock(scored([1_792_889_999.5, 1_792_890_000.0], [True, True]), zone)["time"].tolist() == shown


def test_seconds_from_the_begin_of_a_record_stay() -> None:
    assert on_the_clock(scored([0.0, 10.0], [True, True]), "Europe/Berlin")["time"].tolist() == [0.0, 10.0]


def test_flagged_rows_less_than_a_window_apart_are_one_place_of_one_file() -> None:
    times = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    one = scored(times, [True, False, True, False, False, False, True])
    both = pd.concat([one, scored(times, [True, *[False] * 6], "u.csv")], ignore_index=True)
    assert [(first, last, rows, began) for first, last, rows, _, _, began in stretches(both, 30.0)] == [
        ("t.csv:8", "t.csv:8", 1, 60.0),
        ("t.csv:2", "t.csv:4", 2, 0.0),
        ("u.csv:2", "u.csv:2", 1, 0.0),
    ]
