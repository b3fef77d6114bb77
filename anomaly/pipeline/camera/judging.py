"""How good an extractor is for a line, without one real defect: it is ranked by synthetic defects on the line's own normals.

A defect is drawn on each of some normal pictures, and the AUROC of defective pictures against the normal ones is the measure. Two
extractors that see the same pictures with the same defects can be compared in pairs (`evaluation.injected.Ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.defects import inject
from anomaly.data.pictures.reading import Picture
from anomaly.evaluation.injected import Ranking, joined
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import Stages, fold_batch_norm
from anomaly.pipeline.camera.pictures import PictureFolder, from_8_bit, to_8_bit
from anomaly.progress import Progress, counted, silent
from anomaly.scorers.build import fit_camera_scorer
from anomaly.scorers.pictures.memory_bank import MemoryBank, leave_one_out
from anomaly.spec import CameraSpec

JUDGED = 60  # pictures that fit, and as many that are ranked, when extractors are compared
JUDGE_BANK = 1000  # patches a bank at most, so that a comparison is quick
DEFECTS = 2  # synthetic defects a judged picture
COVERED = 0.2  # share of a place that a synthetic defect covers, from which the place counts as defective


class Judging:
    """Ranks extractors by synthetic defects on the pictures of one line. The draws depend on the spec's seed alone."""

    def __init__(self, spec: CameraSpec, pictures: PictureFolder) -> None:
        self.spec, self.pictures = spec, pictures

    def halves(self) -> tuple[list[Picture], list[Picture]]:
        """Two sets of normals without a picture in common, at most 60 each."""
        readable = self.pictures.readable
        order = np.random.default_rng(self.spec.seed).permutation(len(readable))
        half = min(JUDGED, len(order) // 2)
        return [readable[i] for i in order[:half]], [readable[i] for i in order[half : 2 * half]]

    def rank(
        self,
        extractor: Stages,
        preprocess: ImagePreprocess,
        fit: list[Picture],
        judged: list[Picture],
        seed: int,
        borrowed: Sequence[Tensor] = (),
    ) -> Ranking:
        """Scores of the `judged` normals, plain and with synthetic defects, by small banks fitted on the `fit` normals.

        `borrowed`, one (m, C_s, h_s, w_s) a stage, are another line's features that join the banks.
        """
        extractor = fold_batch_norm(extractor)
        features = self.pictures.features_of(extractor, preprocess, fit)
        generator = torch.Generator().manual_seed(seed)
        scorer = fit_camera_scorer(self.spec, features, generator, largest=JUDGE_BANK, borrowed=borrowed).scorer
        return self.rank_scorer(scorer, extractor, preprocess, judged, seed)

    def rank_scorer(
        self, scorer: torch.nn.Module, extractor: Stages, preprocess: ImagePreprocess, judged: list[Picture], seed: int
    ) -> Ranking:
        """Scores of pictures as they are (n,), and with two synthetic defects each (n, 2). A folded extractor is quicker."""
        rng = np.random.default_rng([self.spec.seed, seed])
        clean, faulty = [], []
        deep = self.pictures.format.deep
        for picture in judged:
            raw = self.pictures.read(picture)
            if raw is None:
                continue
            own = to_8_bit(raw, deep)
            batch = np.stack([own, *(inject(own, rng)[0] for _ in range(DEFECTS))])
            scores = _scores(scorer, extractor, preprocess, from_8_bit(batch, deep))
            clean.append(scores[0])
            faulty.append(scores[1:])
        return Ranking(np.array(clean), np.array(faulty))

    def injected_auroc(
        self,
        scorer: MemoryBank,
        extractor: Stages,
        preprocess: ImagePreprocess,
        features: list[Tensor],
        good: Tensor,
        progress: Progress = silent,
    ) -> float:
        """AUROC of synthetic defects against normals, each picture scored by the banks without it (leave one out).

        `scorer` is fitted on those of the `features` (N, C_s, h_s, w_s), one tensor a stage, that are `good` (N,) bool. The features
        are of the readable pictures, in their order.
        """
        generator = torch.Generator().manual_seed(self.spec.seed)
        chosen = good.nonzero()[:, 0].tolist()
        judged = torch.randperm(len(chosen), generator=generator)[: max(1, min(JUDGED, len(chosen) // 5))].tolist()
        rankings = []
        for i in counted(judged, progress, "made-up defects on normals, each left out of the banks"):
            at = chosen[i]
            less = leave_one_out(scorer, i, [maps[at : at + 1] for maps in features])
            rankings.append(self.rank_scorer(less, extractor, preprocess, [self.pictures.readable[at]], seed=3 + i))
        return joined(rankings).auroc()

    def marked_places(
        self, extractor: Stages, preprocess: ImagePreprocess, pictures: Sequence[Picture]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Features (n, C) of single places of the finest stage, and whether each has a synthetic defect (n,); as many with as without."""
        rng = np.random.default_rng([self.spec.seed, 4])
        extractor = fold_batch_norm(extractor)
        deep = self.pictures.format.deep
        rows, labels = [], []
        for picture in pictures:
            raw = self.pictures.read(picture)
            if raw is None:
                continue
            marked, mask = inject(to_8_bit(raw, deep), rng)
            wide = from_8_bit(marked, deep)
            with torch.inference_mode():
                maps = extractor(preprocess(torch.from_numpy(wide[None])))[0]
            covered = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask[None, None].astype(np.float32)), maps.shape[-2:])
            bad = (covered.flatten() > COVERED).numpy()
            flat = maps[0].flatten(1).T.double().numpy()  # (C, h, w) -> (h * w, C)
            others = rng.permutation(np.flatnonzero(~bad))[: max(1, int(bad.sum()))]
            rows += [flat[bad], flat[others]]
            labels += [np.ones(int(bad.sum()), bool), np.zeros(len(others), bool)]
        return np.concatenate(rows), np.concatenate(labels)


def _scores(scorer: torch.nn.Module, extractor: Stages, preprocess: ImagePreprocess, batch: NDArray[Any]) -> NDArray[np.float64]:
    with torch.inference_mode():
        score, _ = scorer(extractor(preprocess(torch.from_numpy(batch))))
    return score.double().numpy()  # type: ignore[no-any-return]
