"""The table of a fleet: what it takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.errors import SpecError
from anomaly.pipeline.fleet import read_fleet
from anomaly.spec import read_spec

ROOT = Path(__file__).parents[3]


def test_a_spreadsheet_says_the_same_as_toml(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(
        '[[line]]\nname = "Press 1"\nspec = "s.toml"\ndata = "a"\n'
        "[line.override]\nseed = 3\n[line.override.budget]\nfalse_alarm_rate = 0.02\n"
        '[[line]]\nname = "Press 2"\nspec = "/x/s.toml"\ndata = "b"\n'
    )
    rows = "name;spec;data;seed;budget.false_alarm_rate\nPress 1;s.toml;a;3;0.02\n;;;;\nPress 2;/x/s.toml;b;;\n"
    (tmp_path / "fleet.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    toml, table = read_fleet(tmp_path / "fleet.toml"), read_fleet(tmp_path / "fleet.csv")
    assert toml == table
    assert [(line.slug, line.spec, line.data, line.override) for line in toml.line] == [
        ("press-1", tmp_path / "s.toml", tmp_path / "a", {"seed": 3, "budget.false_alarm_rate": 0.02}),
        ("press-2", Path("/x/s.toml"), tmp_path / "b", {}),
    ]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("f.toml", "", r"f\.toml: no lines; give each a \[\[line\]\]"),
        ("f.toml", '[[line]]\nname = "a"\nspec = "s"\n', "line 1 of the table: key `data`: field required"),
        ("f.toml", '[[line]]\nname = "a"\nspec = "s"\ndata = "d"\ndate = 1\n', "unknown key `date`; did you mean `data`"),
        (
            "f.toml",
            '[[line]]\nname = "A 1"\nspec = "s"\ndata = "d"\n[[line]]\nname = "a-1"\nspec = "s"\ndata = "d"\n',
            "A 1, a-1 would share",
        ),
        ("f.csv", "name,spec,data\na,b,\n", "key `data`: is empty; name a file or folder"),
        ("f.csv", "name,spec,data,seed,seed\na,b,c,1,2\n", "column seed is there twice"),
        ("f.csv", "name,spec,data,\na,b,c,7\n", "row 2: '7' stands in a column without a name"),
        ("f.csv", "name,data\na,b\n", "no column spec"),
        ("f.csv", "name,spec,data\na,b\n", "row 2: 3 cells are expected"),
        ("f.csv", "name,spec,data\na,b,c,d\n", "row 2: 3 cells are expected"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=why):
        read_fleet(tmp_path / name)


def test_a_spreadsheet_is_read_as_it_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "lines.csv"
    path.write_bytes(b"name,spec , data,version,,\r1.10,s.toml,d,1.10,,\rb,s.toml,e,,,\r")  # an old Mac's ends of lines, columns left empty
    first, second = read_fleet(path).line
    assert (first.name, first.override) == ("1.10", {"version": "1.10"})
    assert (second.name, second.data.name, second.override) == ("b", "e", {})


def test_a_key_that_a_line_sets_otherwise_is_checked_as_the_specs_own(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('kind = "sensor"\nname = "a"\n[budget]\nfalse_alarm_rate = 0.01\n')
    assert read_spec(tmp_path / "s.toml", {"budget.false_alarm_rate": 0.02, "name": "b"}).budget.false_alarm_rate == 0.02
    with pytest.raises(SpecError, match=r"unknown key `budget\.false_alarm_rat`"):
        read_spec(tmp_path / "s.toml", {"budget.false_alarm_rat": 0.02})


def test_the_example_names_what_is_there() -> None:
    for line in read_fleet(ROOT / "deploy" / "fleet.toml").line:
        read_spec(line.spec, {"name": line.name, **line.override})
        assert line.data.is_dir()
