"""A handful of labelled faults of a camera: when they become a vote, and whose labels it is taken from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from anomaly.errors import DataError
from anomaly.pipeline.camera.few_labels import fit_vote, labelled, read_faults
from anomaly.pipeline.few_labels import Labelled, choose_vote
from anomaly.scorers.boosted import stratified_folds
from anomaly.spec import Bank, CameraExtractor, CameraSpec, MemoryBankSpec

SPEC = CameraSpec(
    kind="camera",
    extractor=CameraExtractor(stages=("blocks.4",)),
    scorer=MemoryBankSpec(banks=(Bank(stage="blocks.4", metric="raw", size=200),)),
)


def maps(count: int, shift: float, seed: int) -> list[Tensor]:
    """Feature maps (count, 6, 8, 8) of noise of unit deviation; in a fault one channel lies `shift` higher everywhere."""
    found = torch.randn(count, 6, 8, 8, generator=torch.Generator().manual_seed(seed))
    found[:, 2] += shift
    return [found]


def folds(own: Labelled) -> np.ndarray:
    return stratified_folds(own.y, min(5, int(own.y.sum())), np.random.default_rng(0))


def test_a_fault_that_only_its_channel_mean_gives_away_becomes_a_vote() -> None:
    """0.6 deviations: too little for any single place, and six times the deviation of a mean over 64 places."""
    tensors, report = fit_vote(SPEC, maps(24, 0, 1), maps(6, 0.6, 101), None)
    assert report["vote"] == "adaboost"
    assert report["faults"] == 6
    assert report["over_normal_only"]["gain"] > 0.3
    assert tensors["held_out"].shape == (24,)
    assert tensors["feature"][0] == 2  # the mean of channel 2: rows hold the means of all channels, then their largest values


def test_no_vote_where_the_normal_only_score_ranks_every_fault_above_every_normal() -> None:
    tensors, report = fit_vote(SPEC, maps(24, 0, 1), maps(6, 10.0, 101), None)
    assert report["over_normal_only"] == {"auroc": 1.0, "gain": 0.0, "gain_ci95": [0.0, 0.0]}
    assert report["vote"] == "none"
    assert tensors == {}


def test_another_lines_labels_are_taken_only_where_they_clearly_help() -> None:
    source = labelled(maps(100, 0, 7), maps(100, 0.5, 8))
    two = labelled(maps(24, 0, 0), maps(2, 0.5, 100))  # of two faults one is learnt from while the other is judged
    _, _, report = choose_vote(two, source, folds(two), 0)
    assert report["tradaboost"]["verdict"] == "helps"
    assert report["vote"] == "tradaboost"
    six = labelled(maps(24, 0, 1), maps(6, 0.6, 101))  # enough by themselves
    vote, share, report = choose_vote(six, source, folds(six), 0)
    assert report["adaboost"]["held_out_auroc"] == 1
    assert report["vote"] == "adaboost"
    assert share.shape == (30,)
    assert vote == choose_vote(six, None, folds(six), 0)[0]


def test_one_labelled_fault_is_too_few(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="1 labelled fault; at least 2"):
        read_faults(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "b.png")
    assert len(read_faults(tmp_path)) == 2
