"""Every benchmark starts by the command that its first lines state, and says what it takes."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in [*(ROOT / "benchmarks").glob("*/*.py"), *(ROOT / "benchmarks").glob("*/peers/*.py")]
    if not path.name.startswith("peer_") and "__main__" in path.read_text()  # peers run in a Python of their own
)


@pytest.mark.parametrize("module", SCRIPTS)
def test_it_starts_by_the_command_it_states(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(module, run_name="__main__")
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"python -m {module}" in said
