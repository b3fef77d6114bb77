"""The examples in docstrings do what they say, in every module of the library that has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import anomaly

ROOT = Path(anomaly.__file__).parent
WITH_EXAMPLES = sorted(path for path in ROOT.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(ROOT).with_suffix("").as_posix())
def test_examples(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write a file
    module = importlib.import_module(".".join(["anomaly", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"))
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0  # what was expected and what came is in the captured output
