"""What all commands have in common: groups and examples in the help, -h, -q, -v, all missing options at once, JSON on standard output."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from anomaly.cli.main import app
from anomaly.cli.terminal.helps import HELPS
from anomaly.cli.terminal.options import FOUND
from tests.conftest import Fitted, run

ROOT: Any = get_command(app)


def commands(group: Any = ROOT, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


COMMANDS = dict(commands())


def told(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_every_command_stands_in_a_group_of_the_help() -> None:
    said = told("-h").output
    for panel in {help_.panel for name, help_ in HELPS.items() if name in ROOT.commands}:
        assert f"─ {panel} ─" in said
    assert "─ Commands ─" not in said
    assert said == told("--help").output
    assert said.split() == told().output.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = HELPS[name].examples
    assert examples
    said = told(*name.split(), "-h").output
    for example in examples:
        words = shlex.split(example)
        assert words[: 1 + len(name.split())] == ["anomaly", *name.split()]
        COMMANDS[name].make_context(name, words[1 + len(name.split()) :])
        assert example in said
    assert "--quiet" in said
    assert "--verbose" in said


def test_all_that_is_missing_is_told_at_once() -> None:
    result = told("transfer", "other.anomaly")
    assert result.exit_code == 2
    for part in ("SPEC  The detector's spec", "--data  Folder of pictures", "--out  Where the bundle goes"):
        assert part in result.output
    assert "Missing option '--data'" in told("evaluate", "b.anomaly").output
    assert "pump.toml is a spec: name the data" in told("fit", "pump.toml").output


def test_json_is_all_that_standard_output_holds(sensor: Fitted, tmp_path: Path) -> None:
    table = str(sensor.data / "test.csv")
    result = told("score", str(sensor.bundle), table, "--json")
    assert result.exit_code == FOUND
    assert len(json.loads(result.stdout)) > 100
    assert "records" in result.stderr
    assert json.loads(told("bundle", "inspect", str(sensor.bundle), "--json").stdout)["name"] == "pump"
    assert {"what", "state", "text"} == set(json.loads(told("doctor", "--json", "--store", str(tmp_path / "s.db")).stdout)[0])
    kept = Path(table).read_bytes()
    refused = told("score", str(sensor.bundle), "--json", table)
    assert refused.exit_code == 2
    assert "would be written over" in refused.output or "Missing" in refused.output
    refused = told("score", str(sensor.bundle), table, "--json", table)
    assert "would be written over" in refused.output
    assert Path(table).read_bytes() == kept


def test_many_scores_are_a_sentence_and_the_worst_and_the_exit_code_says_that_some_are_flagged(sensor: Fitted, tmp_path: Path) -> None:
    result = told("score", str(sensor.bundle), str(sensor.data / "test.csv"), "--csv", str(tmp_path / "s.csv"))
    assert (result.exit_code, result.stdout) == (FOUND, "")
    frame = pd.read_csv(tmp_path / "s.csv")
    result = told("score", str(sensor.bundle), str(sensor.data / "test.csv"), "--exit-zero")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{int(frame.flagged.sum()):,} of {len(frame):,} records are flagged")
    assert len(lines) <= 14
    worst = frame.loc[frame.score.idxmax(), "record"].rpartition(":")[2]
    place = next(line for line in lines if line.startswith("  test.csv:"))
    first, last = place.split("test.csv:")[1].split(", ")[0].split(" to ")
    assert int(first) <= int(worst) <= int(last)
    every = told("score", str(sensor.bundle), str(sensor.data / "test.csv"), "-v").stdout.splitlines()
    assert len(every) == len(frame)
    calm = told("score", str(sensor.bundle), str(sensor.data / "train.csv"), "-q")
    assert calm.stderr == ""


def test_quiet_says_errors_and_lasts_for_one_command(sensor: Fitted, tmp_path: Path) -> None:
    loud, quiet = (told("inspect", *more, str(sensor.data)) for more in ([], ["-q"]))
    assert quiet.stdout == loud.stdout
    failed = told("-q", "inspect", str(tmp_path / "none"))
    assert "no such file or folder" in str(failed.exception)
    assert "set aside" not in run("inspect", sensor.data)
    assert "records" in told("score", str(sensor.bundle), str(sensor.data / "test.csv")).stderr


def test_monitor_once_says_by_its_exit_code_that_a_record_was_flagged(sensor: Fitted, tmp_path: Path) -> None:
    command = ["monitor", str(sensor.bundle), "--source", str(sensor.data / "test.csv"), "--once", "--store"]
    assert told(*command, str(tmp_path / "a.db"), "-q").exit_code == FOUND
    assert told(*command, str(tmp_path / "b.db"), "--exit-zero").exit_code == 0
    assert told(*command, str(tmp_path / "a.db")).exit_code == 0  # all of it was judged before
