"""The page on the Python interface is what its docstrings say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import anomaly

SCRIPT = Path(__file__).parents[2] / "docs" / "_site" / "python_reference.py"


def test_the_page_is_that_of_the_docstrings() -> None:
    spec = importlib.util.spec_from_file_location("python_reference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/_site/python_reference.py"
    headings = [line.removeprefix("## anomaly.") for line in module.page().splitlines() if line.startswith("## ")]
    assert sorted(headings) == sorted(set(anomaly.__all__) - {"__version__", "AnomalyError"})
