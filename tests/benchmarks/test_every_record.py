"""The table of every record: made-up records keep their promises, and its figures are what they are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.alarms.life import Settings
from anomaly.alarms.process import Rules
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.spec import read_spec
from benchmarks.protocols import made, records
from benchmarks.sensor import every_record
from benchmarks.sensor.every_record import alarm_open, by_stroke, centred, in_hindsight, summary


@pytest.mark.parametrize("name", records.MADE)
def test_a_made_up_record_is_normal_where_it_is_learnt_and_the_same_again(name: str) -> None:
    values, labels, learnt = records.MADE[name]()
    assert len(values) == len(labels)
    assert np.isfinite(values).all()
    assert not labels[:learnt].any()
    assert 0.02 < labels[learnt:].mean() < 0.5
    assert np.array_equal(values, records.MADE[name]()[0])


def test_a_press_stroke_that_is_faulty_keeps_its_mean_and_loses_its_shape() -> None:
    values, labels, _ = made.press()
    strokes, faulty = values.reshape(-1, made.STROKE, 3), labels[:: made.STROKE]
    usual = strokes[~faulty].mean(axis=0)
    means = strokes.mean(axis=1)
    assert np.abs(means[faulty].mean(axis=0) - means[~faulty].mean(axis=0)).max() < 0.05
    apart = np.abs(strokes - usual).max(axis=(1, 2))
    assert apart[faulty].min() > apart[~faulty].max()


def test_beats_are_about_90_rows_and_no_two_learnt_are_the_same_length() -> None:
    values, labels, learnt = made.beats(learnt=60)
    peaks = np.flatnonzero((values[1:-1, 0] > 0.7) & (values[1:-1, 0] >= values[:-2, 0]) & (values[1:-1, 0] > values[2:, 0]))
    gaps = np.diff(peaks[peaks < learnt])
    gaps = gaps[gaps > 30]  # noise on a peak makes two
    assert abs(float(np.median(gaps)) - made.BEAT) < 5
    assert 2 < gaps.std() < 9
    stretches = np.flatnonzero(np.diff(labels.astype(int)) == 1)
    assert len(stretches) > 5


def test_a_sticking_valve_leaves_means_and_changes_the_movement() -> None:
    values, labels, learnt = made.sticking()
    normal, faulty = values[learnt:][~labels[learnt:]], values[labels]
    assert (np.abs(normal.mean(axis=0) - faulty.mean(axis=0)) < 0.3 * normal.std(axis=0)).all()
    assert np.abs(faulty.std(axis=0) / normal.std(axis=0) - 1).max() < 0.3
    lagged = [float(np.corrcoef(v[:-4, 0], v[4:, 0])[0, 1]) for v in (normal, faulty)]
    assert lagged[1] < lagged[0] - 0.1  # the flow swings


def test_counts_are_whole_and_change_within_faults_alone() -> None:
    values, labels, learnt = made.counts()
    assert np.array_equal(values, np.round(values))
    assert values.min() == 0
    assert values[:learnt].mean(axis=0) == pytest.approx([6, 2, 0.4], rel=0.1)
    assert values[learnt:][~labels[learnt:]].mean(axis=0) == pytest.approx([6, 2, 0.4], rel=0.1)


@given(st.integers(2, 40), st.integers(41, 80))
def test_a_score_in_the_middle_stands_half_a_window_earlier(window: int, rows: int) -> None:
    ends = np.arange(rows)
    assert np.array_equal(centred(ends, window), np.minimum(ends + window // 2, rows - 1))


@given(st.integers(1, 12), st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_a_spread_score_is_the_mean_of_the_windows_that_hold_a_row(window: int, ends: list[int]) -> None:
    last = len(ends) - 1
    expected = [np.mean([ends[min(end, last)] for end in range(row, row + window)]) for row in range(len(ends))]
    assert every_record.spread_out(np.array(ends, float), window) == pytest.approx(expected)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=60), st.sampled_from([0.0, 0.1, 0.5]))
def test_no_threshold_within_the_false_alarms_allowed_finds_more(rows: list[tuple[bool, int]], asked: float) -> None:
    labels, scores = np.array([label for label, _ in rows]), np.array([score for _, score in rows], float)
    found = in_hindsight(labels, scores, asked)
    if not labels.any() or labels.all():
        assert found is None
        return
    cuts = [cut for cut in (*np.unique(scores), -1.0) if (scores[~labels] > cut).mean() <= asked]
    assert found == max((scores[labels] > cut).mean() for cut in cuts)


def test_a_flag_that_a_fault_left_behind_is_no_false_stroke() -> None:
    labels = np.repeat([False, False, True, False, False], 40)
    window = 30
    holds = np.array([labels[max(0, row + 1 - window) : row + 1].any() for row in range(len(labels))])
    figures = by_stroke(labels, holds.astype(float), holds, window, 40)
    assert np.array_equal(every_record.clear_of_faults(labels, window), ~holds)
    assert figures == {"faulty": 1, "found": 1, "good": 4, "false": 0, "roc_auc": 1.0}
    early = holds | (np.arange(len(labels)) == 35)  # a window that ends in the first stroke, and has its middle there
    assert by_stroke(labels, early.astype(float), early, window, 40) | {"roc_auc": None} == figures | {"false": 1, "roc_auc": None}


def test_rows_are_flagged_from_an_alarms_opening_to_its_closing() -> None:
    p = np.ones(30)
    p[10:16] = 0.001
    p[20] = 0.001  # too short to open one
    rows = pd.DataFrame({"row": np.arange(5, 35), "time": np.arange(5.0, 35.0), "p_value": p, "score": 1 - p, "share:a": 1 - p})
    rules = Rules(Settings(threshold=0.01, on_delay_s=2.0, off_delay_s=3.0))
    # Flagged in rows 15 to 20; the on-delay is over at 17. Calm from row 21, for three seconds at 24.
    assert np.flatnonzero(alarm_open(rules, rows, 40)).tolist() == list(range(17, 24))


def test_the_table_is_printed_and_written(tmp_path: Path, like_skab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every_record.main(["--only", "other", "--skab", str(like_skab), "--spec", str(_spec(tmp_path)), "--json", str(tmp_path / "f.json")])
    said, figures = capsys.readouterr().out, json.loads((tmp_path / "f.json").read_text())
    assert "other/1" in figures["records"]
    assert figures["records"]["other/1"]["end"]["roc_auc"] > 0.95
    assert figures["skab_end"]["worst_run"] == "other/1"
    assert set(figures["skab_alarm_states"]) == {"0.01", "0.02", "0.05", "0.1"}
    assert "| other/1 | " in said
    assert "SKAB, mean" in said


def _spec(folder: Path) -> Path:
    path = folder / "s.toml"
    path.write_text('kind = "sensor"\n[pretrain]\nmethod = "none"\n')
    return path


def test_a_mean_leaves_out_what_has_no_figure() -> None:
    one = {"roc_auc": 0.5, "vus_pr": None, "found_in_hindsight": 0.1, "found": 0.2, "false_alarm_rate": 0.0, "false_alarm_rate_clear": 0.0}
    one |= {"roc_auc_all_rows": 0.5, "vus_pr_all_rows": None}
    states = {str(rate): {"tp": 1, "fp": 0, "fn": 1, "tn": 2} for rate in every_record.ALARM_RATES}
    runs = {
        f"r{i}": {"kind": "skab", "end": one | {"roc_auc": auc}, "middle": one, "spread": one, "alarm_states": states}
        for i, auc in enumerate((0.5, 0.9))
    }
    found = summary(runs | {"t": {"kind": "tsb_ad", "end": one | {"vus_pr_all_rows": 0.8}, "middle": one, "spread": one}})
    assert (found["skab_end"]["roc_auc"], found["skab_end"]["vus_pr"], found["skab_end"]["worst_run"]) == (0.7, None, "r0")
    assert found["skab_alarm_states"]["0.01"] == {"f1": pytest.approx(2 / 3), "false_alarm_rate": 0.0, "missed_alarm_rate": 0.5}
    assert (found["series_end"]["series"], found["series_end"]["vus_pr_all_rows"]) == (3, 0.8)


def test_the_20_series_read_as_tsb_ad_and_skab_lay_them_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(60.0), "Label": np.r_[np.zeros(50, int), np.ones(10, int)]})
    frame.to_csv(tmp_path / "001_X_id_1_Y_tr_20_1st_50.csv", index=False)
    (record,) = records.tsb_ad(tmp_path)
    assert (record.first, len(record.train), record.values.shape, int(record.labels.sum())) == (20, 20, (60, 1), 10)


def test_samples_are_learnt_from_one_table_and_judged_on_all_of_another() -> None:
    for record in records.samples():
        assert not {"anomaly", "fault_kind"} & {*record.train, *record.whole}
        assert record.values.shape == (len(record.labels), record.train.shape[1] - 1)
        assert record.first == 0
        assert 0.02 < record.labels.mean() < 0.5


def test_a_view_alone_speaks_with_its_own_scores(tmp_path: Path) -> None:
    values, _, _ = made.press(strokes=60, judged=0)
    frame = records.of_rows("press", values, np.zeros(len(values), bool), len(values), "press").train
    frame.to_csv(tmp_path / "train.csv", index=False)
    steps = Steps(SensorLine(read_spec(_spec(tmp_path)), tmp_path / "train.csv"), tmp_path / "work")
    whole = steps.detector()
    window = steps.line.input_schema().window
    still, moved, shifted = (values[40 : 40 + window].astype(np.float32) for _ in range(3))
    moved, shifted = moved[::-1].copy(), shifted + 3.0  # the same levels, spreads and movements, mirrored; another level alone

    def score(view: str | None, rows: np.ndarray) -> float:
        detector = steps.detector() if view else whole
        if view:
            every_record.leave(view, detector)
        return float(detector.run(rows[None])[0][0])

    assert score("shape", moved) > 5 * score("shape", still)
    assert score("shape", shifted) == pytest.approx(score("shape", still), abs=1e-3)
    assert score("level", shifted) > 5 * score("level", still)
    assert score("dynamics", shifted) == pytest.approx(score("dynamics", still), abs=1e-3)
    for rows in (still, moved, shifted):
        assert score(None, rows) == pytest.approx(max(score(view, rows) for view in every_record.VIEWS), rel=1e-4)
