"""A handful of labelled faults as a vote beside the normal-only scorer: AdaBoost, or TrAdaBoost with another line's labels too.

All functions take what an extractor sees of pictures, so that they need neither the pictures nor the extractor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomaly.data.pictures.layouts import find_faults
from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError
from anomaly.evaluation.metrics import auroc
from anomaly.pipeline.few_labels import Labelled, choose_vote
from anomaly.scorers.boosted import FULL_VOTE, Rows, add_vote, pooled_features, stratified_folds, vote_tensors
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import CameraSpec

FOLDS = 5
FEWEST = 2  # labelled faults, at least: one is fitted on while another is judged


def labelled(normals: Sequence[Tensor], faults: Sequence[Tensor]) -> Labelled:
    """Feature maps of normals and of faults, one (n, C_s, h_s, w_s) a stage, as rows with labels. No stages at all: no pictures.

    >>> import torch
    >>> found = labelled([torch.zeros(3, 8, 4, 4)], [torch.ones(2, 8, 4, 4)])
    >>> found.x.shape, found.y.tolist()
    ((5, 16), [0, 0, 0, 1, 1])
    """
    parts = [(pooled_features(list(maps)).double().numpy(), label) for label, maps in enumerate((normals, faults)) if maps]
    return Labelled(np.concatenate([x for x, _ in parts]), np.concatenate([np.full(len(x), label, np.int64) for x, label in parts]))


def read_faults(folder: Path) -> list[Picture]:
    """The labelled faults of a line. Raises DataError when there are fewer than two."""
    faults = find_faults(folder)
    if len(faults) < FEWEST:
        raise DataError(f"{folder}: {len(faults)} labelled fault; at least {FEWEST} are needed to tell whether a vote helps")
    return faults


def fit_vote(
    spec: CameraSpec, normals: list[Tensor], faults: list[Tensor], source: Labelled | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A vote fitted on the line's normals and labelled faults, and what was found of it. No tensors when no vote is worth it.

    `normals` and `faults` are feature maps, one (n, C_s, h_s, w_s) a stage. `source` are another line's labelled pictures, or None.
    The tensors are those of `vote_tensors`, with `held_out` (n,): each normal's share of the vote by a vote fitted without it.

    A vote is taken only when, with the normal-only score, it ranks the labelled pictures better than that score does alone.
    """
    own = labelled(normals, faults)
    folds = stratified_folds(own.y, min(FOLDS, int(own.y.sum())), np.random.default_rng(spec.seed))
    vote, share, report = choose_vote(own, source, folds, spec.seed)
    alone, spread = _normal_only(spec, normals, faults)
    found = own.gain(add_vote(alone, share, FULL_VOTE * spread), alone, spec.seed)
    report["over_normal_only"] = {"auroc": auroc(own.y == 1, alone), "gain": found.gain, "gain_ci95": [found.low, found.high]}
    report["faults"] = int(own.y.sum())
    if found.gain <= 0 or not vote.stumps:
        return {}, report | {"vote": "none"}
    return {**vote_tensors(vote, own.x), "held_out": torch.from_numpy(share[own.y == 0])}, report


def _normal_only(spec: CameraSpec, normals: list[Tensor], faults: list[Tensor]) -> tuple[Rows, float]:
    """Scores of normals, each held out, and of faults by the normal-only scorer; the standard deviation of the former."""
    fitted = fit_camera_scorer(spec, normals, torch.Generator().manual_seed(spec.seed))
    with torch.inference_mode():
        score, _ = fitted.scorer(faults)
    own = fitted.held_out.double().numpy()
    return np.concatenate([own, score.double().numpy()]), float(own.std())
