"""The learning curve's page: its table by hand, its sentence, and names that are no HTML."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.evaluation.report.curve import curve_table, equal_to, write_curve
from anomaly.evaluation.transfer import ALONE


@pytest.fixture
def curve() -> pd.DataFrame:
    rows = [
        (ALONE, 20, 0, 0.6),
        (ALONE, 20, 1, 0.7),
        (ALONE, 50, 0, 0.8),
        (ALONE, 100, 0, 0.9),
        ("coral", 20, 0, 0.75),
        ("coral", 20, 1, 0.85),
    ]
    return pd.DataFrame(rows, columns=["way", "normals", "seed", "auroc"])


def test_means_and_intervals_over_seeds(curve: pd.DataFrame) -> None:
    table = curve_table(curve).set_index(["way", "normals"])
    assert table.loc[(ALONE, 20), "auroc"] == pytest.approx(0.65)
    half = 12.7062 * 0.05  # Student's t with one degree of freedom, times the standard error
    assert table.loc[(ALONE, 20), "low"] == pytest.approx(0.65 - half, abs=1e-4)
    assert table.loc[(ALONE, 20), "high"] == 1.0  # never beyond what an area can be
    assert np.isnan(table.loc[(ALONE, 50), "low"])  # one run says nothing of the spread


def test_how_many_normals_the_target_alone_needs(curve: pd.DataFrame) -> None:
    table = curve_table(curve)
    assert equal_to(table, "coral", 20) == 50
    better = pd.concat([curve, pd.DataFrame([("coral", 50, 0, 0.95)], columns=curve.columns)])
    assert equal_to(curve_table(better), "coral", 50) is None


def test_the_page_says_so_and_escapes_its_title(curve: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "c.html"
    write_curve(curve, "<script>alert(1)</script>", path)
    page = path.read_text()
    words = re.sub("<[^>]+>", "", page)  # words of the glossary are links
    assert "To be as good as coral is with 20 normals, the target alone needs 50 normals." in words
    assert "<script>alert" not in page
