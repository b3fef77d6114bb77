"""A handful of labelled faults of a camera line, alone or with another line's, as a vote beside the normal-only scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.layouts import find_faults
from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.transfer import Judged, label_gain
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import Stages
from anomaly.scorers.boosted import RAISE, Rows, Vote, fit_adaboost, fit_tradaboost, held_out_shares, pooled, raised, vote_tensors
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import Transfer

if TYPE_CHECKING:
    from anomaly.pipeline.camera.line import CameraLine

FOLDS = 5


def fit_vote(
    line: CameraLine, extractor: Stages, preprocess: ImagePreprocess, asked: Transfer, normals: Sequence[Picture]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The vote's tensors, with held-out shares of the line's normals, and what the guard found; no tensors when no vote is worth it.

    `normals` are the source line's. TrAdaBoost is taken over AdaBoost on the target's own labels only when it is clearly better on
    them by folds, and a vote at all only when it ranks them better with the normal-only score than that does alone. Raises
    DataError for fewer than two labelled faults.
    """
    assert asked.faults is not None
    faults = find_faults(asked.faults)
    if len(faults) < 2:
        raise DataError(f"{asked.faults}: {len(faults)} labelled fault; at least 2 are needed to tell whether a vote helps")

    def rows(pictures: Sequence[Picture]) -> Rows:
        return pooled(line.features_of(extractor, preprocess, pictures)).double().numpy()

    x = np.concatenate([rows(line.readable), rows(faults)])
    y = np.concatenate([np.zeros(len(line.readable), np.int64), np.ones(len(faults), np.int64)])
    source, source_y = None, None
    if asked.source_faults is not None:
        theirs = [rows(pictures) for pictures in (normals, find_faults(asked.source_faults)) if pictures]
        source, source_y = np.concatenate(theirs), np.concatenate([np.full(len(r), int(r is theirs[-1])) for r in theirs])
    vote, share, report = choose_vote(x, y, source, source_y, line.spec.seed)
    scores, spread = _normal_only(line, extractor, preprocess, faults)
    gain, low, high = _gain(y, raised(scores, share, RAISE * spread), scores, line.spec.seed)
    report["over_normal_only"] = {"auroc": auroc(y == 1, scores), "gain": gain, "gain_ci95": [low, high]}
    report["faults"] = len(faults)
    if gain <= 0 or not vote.stumps:
        return {}, report | {"vote": "none"}
    return {**vote_tensors(vote), "held_out": torch.from_numpy(share[: len(line.readable)])}, report


def choose_vote(
    x: Rows, y: NDArray[np.int64], source: Rows | None, source_y: NDArray[np.int64] | None, seed: int
) -> tuple[Vote, Rows, dict[str, Any]]:
    """AdaBoost on the target's rows, or TrAdaBoost with the source's where that is clearly better on the target's, by folds.

    Rows (n, D) with labels (n,) of 0 and 1. Returns the vote fitted on all of them, each target row's share by a vote fitted without
    it, and the figures.
    """
    ways: dict[str, Callable[[NDArray[np.int64]], Vote]] = {"adaboost": lambda kept: fit_adaboost(x[kept], y[kept])}
    if source is not None and source_y is not None:
        ways["tradaboost"] = lambda kept: fit_tradaboost(source, source_y, x[kept], y[kept])
    folds = min(FOLDS, int(y.sum()))
    shares = {name: held_out_shares(fit, x, y, folds, np.random.default_rng(seed)) for name, fit in ways.items()}
    report: dict[str, Any] = {name: {"held_out_auroc": auroc(y == 1, share)} for name, share in shares.items()}
    taken = "adaboost"
    if "tradaboost" in ways:
        found = Judged(auroc(y == 1, shares["tradaboost"]) or 0.0, *_gain(y, shares["tradaboost"], shares["adaboost"], seed))
        report["tradaboost"] |= {"gain": found.gain, "gain_ci95": [found.low, found.high], "verdict": found.verdict}
        taken = "tradaboost" if found.verdict == "helps" else "adaboost"
    return ways[taken](np.arange(len(x))), shares[taken], report | {"vote": taken}


def _gain(y: NDArray[np.int64], ours: Rows, theirs: Rows, seed: int) -> tuple[float, float, float]:
    return label_gain(y, ours, theirs, np.random.default_rng(seed))


def _normal_only(line: CameraLine, extractor: Stages, preprocess: ImagePreprocess, faults: Sequence[Picture]) -> tuple[Rows, float]:
    """Scores of normals, each held out, and of faults by the normal-only scorer; the deviation of the former."""
    features = line.features_of(extractor, preprocess, line.readable)
    fitted = fit_camera_scorer(line.spec, features, torch.Generator().manual_seed(line.spec.seed))
    with torch.inference_mode():
        score, _ = fitted.scorer(line.features_of(extractor, preprocess, faults))
    own = fitted.held_out.double().numpy()
    return np.concatenate([own, score.double().numpy()]), float(own.std())
