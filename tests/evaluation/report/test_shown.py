"""What a report shows can be read: names beside plots, the bars of a histogram, and how suspects are spoken of."""

from __future__ import annotations

from typing import Any

import numpy as np

from anomaly.evaluation.report.detector import suspect_blocks
from anomaly.evaluation.report.page import Table, Words
from anomaly.evaluation.report.scores import scores_figure
from anomaly.evaluation.report.series import Stretch, stretch_figure


def test_names_beside_a_plot_are_on_it_however_long() -> None:
    rows = 50
    names = ("Lagertemperatur Antriebsseite Hauptpumpe Linie 3 [°C]", "p")
    readings = np.column_stack([np.linspace(60, 70, rows), np.linspace(1.01e7, 1.0101e7, rows)])
    stretch = Stretch(np.arange(rows) * 10.0, readings, np.full(rows, 0.5), np.full((rows, 2), 0.5), names, ("°C", "Pa"))
    figure, _ = stretch_figure(stretch, 0.01, [0, 1])
    figure.draw_without_rendering()
    assert min(axes.yaxis.get_tightbbox().x0 for axes in figure.axes) > 0
    assert [axes.get_ylabel() for axes in figure.axes[1:]] == [
        "Lagertemperatur\nAntriebsseite Hauptpumpe\nLinie 3 [°C]\n50 % of the score",  # the unit once
        "p Pa\n50 % of the score",
    ]


def test_what_is_flagged_is_drawn_beyond_the_threshold_and_the_last_bar_is_explained() -> None:
    figure = scores_figure(np.array([*np.linspace(0.0, 1.0, 99), 1.02]), np.array([500.0, 900.0]), 1.01)
    axes = figure.axes[0]
    bars = [(bar.get_x(), bar.get_height()) for bar in axes.patches if bar.get_height()]
    assert sum(height for left, height in bars if left >= 1.01 - 1e-9) == 3
    assert len([left for left, _ in bars if left < 1]) > 10  # the normals are no single bar beside far faults
    assert axes.get_xlabel() == "score\nthe last bar holds all from 3.97 on, the highest 900"


def test_suspects_below_the_threshold_are_not_called_faults() -> None:
    manifest: dict[str, Any] = {"kind": "sensor", "threshold": {"score": 2.0}, "provenance": {"fit": {"suspects": {"a": 1.9, "b": 1.5}}}}
    words, table = suspect_blocks(manifest, 0.0)
    assert isinstance(words, Words)
    assert isinstance(table, Table)
    assert words.paragraphs[0].startswith(
        "None of the normals is flagged. The most unusual 2 stretches of rows learnt from may well be normal"
    )
    assert [row[2].text for row in table.rows] == ["below the threshold"] * 2
    manifest["provenance"]["fit"]["suspects"]["c"] = 2.5
    words, table = suspect_blocks(manifest, 0.0)
    assert isinstance(words, Words)
    assert isinstance(table, Table)
    assert words.paragraphs[0].startswith("1 stretch of rows learnt from stands out from all others. Look at it")
    assert words.paragraphs[0].endswith("2 more lie below the threshold, and may well be normal.")
    assert [row[2].text for row in table.rows] == ["flagged", "below the threshold", "below the threshold"]
