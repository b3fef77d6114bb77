"""How good an extractor is for a line, without one real defect: it is ranked by synthetic defects on the line's own normals.

A defect is drawn on each of some normal pictures, and the AUROC of defective pictures against the normal ones is the measure. Two
extractors that see the same pictures with the same defects can be compared in pairs (`evaluation.injected.Ranking`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.defects import inject_inside
from anomaly.data.pictures.marks import Mark, draw_marks, part_of
from anomaly.data.pictures.reading import Picture, Smaller
from anomaly.evaluation.injected import Ranking
from anomaly.export.onnx_stages import onnx_stages
from anomaly.features.maps import fewer_of_large
from anomaly.features.preprocess import ImagePreprocess, inside_roi
from anomaly.features.stages import Stages
from anomaly.features.threads import one_thread
from anomaly.parallel import on_all_cores
from anomaly.pipeline.camera.pictures import PictureFolder, from_8_bit, to_8_bit
from anomaly.pipeline.camera.plan.sizes import marks_to_try, sizes_of, usual_size
from anomaly.pipeline.camera.plan.trial import with_each_mark
from anomaly.progress import Progress, counted, part, silent
from anomaly.scorers.build import fit_camera_scorer, region
from anomaly.scorers.pictures.embedding import standardise
from anomaly.scorers.pictures.memory_bank import FittedBanks, MemoryBank, leave_one_out, maps_left_out
from anomaly.scorers.pictures.views import told_by
from anomaly.spec import CameraSpec

JUDGED = 60  # pictures that fit, and as many that are ranked, when extractors are compared
JUDGE_BANK = 1000  # patches a bank at most, so that a comparison is quick
DEFECTS = 2  # synthetic defects a judged picture
MARKED, MARKED_SHARE = 40, 0.4  # normals that get made-up marks of each size, at most; and of how many of them
MARKS = 2  # of each size on a picture
LOOKED, ALIKE = 8, 1.5  # pictures on which the part is looked for, and how much larger the largest part may be than the smallest
COVERED = 0.2  # share of a place that a synthetic defect covers, from which the place counts as defective

Scorer = Callable[[list[Tensor]], tuple[Tensor, Tensor]]  # feature maps, one a stage -> score (N,), map (N, h, w)


@dataclass(frozen=True)
class MarkScores:
    """Of single made-up marks (m,): which of the readable pictures each is on, its size in pixels, and the picture's score with it.

    `middles` (m, 2): where they are, (x, y). `draws` (m, 2): what `Judging.with_marks` takes to draw them again. `speaks` (m,): which of
    the scorer's pools gave the score.
    """

    at: NDArray[np.int64]
    sizes: NDArray[np.float64]
    scores: NDArray[np.float64]
    middles: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    draws: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    speaks: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def shown(self) -> dict[str, Tensor]:
        """All of it for the fit's report (`Fitted.shown`)."""
        return {f"mark_{name}": torch.from_numpy(getattr(self, name)) for name in ("at", "sizes", "scores", "middles", "draws", "speaks")}

    def by_size(self) -> dict[str, list[float]]:
        """The scores by size, smallest first.

        >>> MarkScores(np.array([0, 0, 1]), np.array([4.0, 2.0, 2.0]), np.array([1.0, 0.5, 0.25])).by_size()
        {'2': [0.5, 0.25], '4': [1.0]}
        """
        return {f"{size:g}": self.scores[self.sizes == size].tolist() for size in np.unique(self.sizes)}


class Judging:
    """Ranks extractors by synthetic defects on the pictures of one line. The draws depend on the spec's seed alone."""

    def __init__(self, spec: CameraSpec, pictures: PictureFolder) -> None:
        self.spec, self.pictures = spec, pictures

    def halves(self) -> tuple[list[Picture], list[Picture]]:
        """Two sets of normals without a part in common, at most 60 each."""
        readable = self.pictures.parts
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
        progress: Progress = silent,
    ) -> Ranking:
        """Scores of the `judged` normals, plain and with synthetic defects, by small banks fitted on the `fit` normals.

        `borrowed`, one (m, C_s, h_s, w_s) a stage, are another line's features that join the banks.
        """
        extractor = onnx_stages(extractor)
        features = self.pictures.features_of(extractor, preprocess, fit, part(progress, 0.0, 0.25), on_trial=True)
        generator = torch.Generator().manual_seed(seed)
        scorer = fit_camera_scorer(self.spec, features, generator, largest=JUDGE_BANK, borrowed=borrowed).scorer
        return self.rank_scorer(scorer, extractor, preprocess, judged, seed, part(progress, 0.25, 1.0))

    def rank_scorer(
        self,
        scorer: Scorer,
        extractor: Stages,
        preprocess: ImagePreprocess,
        judged: Sequence[Picture],
        seed: int,
        progress: Progress = silent,
    ) -> Ranking:
        """Scores of pictures as they are (n,), and with two synthetic defects each (n, 2). A folded extractor is quicker."""
        rng = np.random.default_rng([self.spec.seed, seed])
        told = counted(judged, progress, "pictures judged")
        prepared = (self._with_defects(self.pictures.smaller(picture), rng) for picture in told)
        with one_thread():
            found = list(on_all_cores(lambda batch: _scores(scorer, extractor, preprocess, batch), prepared))
        return _ranking([scores for scores in found if scores is not None])

    def injected_auroc(
        self,
        scorer: MemoryBank,
        extractor: Stages,
        preprocess: ImagePreprocess,
        features: list[Tensor],
        good: Tensor,
        progress: Progress = silent,
    ) -> float:
        """AUROC of synthetic defects against normals, each picture scored by the banks without its part (leave one out).

        `scorer` is fitted on those of the `features` (N, C_s, h_s, w_s), one tensor a stage, that are `good` (N,) bool. The features
        are of the readable pictures, in their order.
        """
        generator = torch.Generator().manual_seed(self.spec.seed)
        chosen = good.nonzero()[:, 0].tolist()
        judged = torch.randperm(len(chosen), generator=generator)[
            : max(1, min(fewer_of_large(JUDGED, self.pictures.size), len(chosen) // 5))
        ].tolist()
        shown = self.pictures.survey.groups

        def scores_of(i: int) -> NDArray[np.float64] | None:
            at = chosen[i]
            own = [maps[at : at + 1] for maps in features]
            rng = np.random.default_rng([self.spec.seed, 3 + i])
            same = [j for j, other in enumerate(chosen) if shown[other] == shown[at]]
            with torch.inference_mode():
                less = leave_one_out(scorer, same, [maps[[chosen[j] for j in same]] for maps in features])
            small = self.pictures.smaller(self.pictures.readable[at])
            # Defects are drawn at 8 bits and on smaller pictures: where that changes a picture, it has other features.
            known = own if small is not None and small.whole and not self.pictures.format.deep else None
            return _scores(less, extractor, preprocess, self._with_defects(small, rng), known)

        told = counted(judged, progress, "made-up defects on normals, each left out of the banks")
        with one_thread():
            found = [scores for _, scores in zip(told, on_all_cores(scores_of, judged), strict=True)]
        return _ranking([scores for scores in found if scores is not None]).auroc()

    def mark_scores(
        self,
        fitted: FittedBanks,
        extractor: Stages,
        preprocess: ImagePreprocess,
        features: list[Tensor],
        good: Tensor,
        progress: Progress = silent,
    ) -> MarkScores:
        """Scores of single made-up marks on normals, by their size, each picture scored by the banks without its part.

        `fitted` is over those of the `features` that are `good`, as in `injected_auroc`. All marks of a picture are seen in one pass of
        the network (`plan.trial`), and what the banks say of it without marks is known from the fit.
        """
        chosen = good.nonzero()[:, 0].tolist()
        share = 1.0 if self.marks_lie == "part" else MARKED_SHARE  # a part has place for few marks
        count = max(1, min(fewer_of_large(MARKED, self.pictures.size), int(share * len(chosen))))
        drawn = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(self.spec.seed + 1))[:count].tolist()
        shown, deep = self.pictures.survey.groups, self.pictures.format.deep
        scorer = fitted.scorer
        usual = [bank.usual for bank in scorer.banks]

        def scores_of(i: int) -> tuple[list[Mark], Tensor, Tensor] | None:
            at = chosen[i]
            small = self.pictures.smaller(self.pictures.readable[at])
            if small is None:
                return None
            image, marks = self.with_marks(small, i, drawn.index(i))
            same = [j for j, other in enumerate(chosen) if shown[other] == shown[at]]
            with torch.inference_mode():
                less = maps_left_out(scorer, same, [maps[[chosen[j] for j in same]] for maps in features])
                marked = scorer.views(less(extractor(preprocess(torch.from_numpy(from_8_bit(image, deep)[None])))))
                if deep or not small.whole:  # else what 8 bits, or fewer pixels, change would be taken for a mark
                    plain = from_8_bit(to_8_bit(small.pixels, deep), deep)
                    clean = scorer.views(less(extractor(preprocess(torch.from_numpy(plain[None])))))
                else:
                    clean = scorer.views([standardise(d[i : i + 1], u) for d, u in zip(fitted.distances, usual, strict=True)])  # type: ignore[arg-type]
                return marks, *_each_mark(scorer, clean, marked, marks, small.size)

        told = counted(drawn, progress, "made-up marks on normals, each left out of the banks")
        with one_thread():
            found = [(i, one) for i, one in zip(told, on_all_cores(scores_of, drawn), strict=True) if one is not None]
        return MarkScores(
            np.array([chosen[i] for i, (marks, *_) in found for _ in marks], dtype=np.int64),
            np.array([mark.size for _, (marks, *_) in found for mark in marks], dtype=np.float64),
            torch.cat([scores for _, (_, scores, _) in found]).double().numpy() if found else np.empty(0),
            np.array([(mark.x, mark.y) for _, (marks, *_) in found for mark in marks], dtype=np.float64).reshape(-1, 2),
            np.array([(i, drawn.index(i)) for i, (marks, *_) in found for _ in marks], dtype=np.int64).reshape(-1, 2),
            torch.cat([speaks for _, (*_, speaks) in found]).numpy() if found else np.empty(0, np.int64),
        )

    def with_marks(self, picture: Smaller, number: int, position: int) -> tuple[NDArray[np.uint8], list[Mark]]:
        """A picture (h, w, C) at 8 bits with its made-up marks: those of the `number`-th good picture, drawn as the `position`-th."""
        sizes = marks_to_try(usual_size(self.pictures.survey.sizes), self.spec.input.mark_px)
        rng = np.random.default_rng([self.spec.seed, 9, number])
        own = to_8_bit(picture.pixels, self.pictures.format.deep)
        roi = region(self.spec)
        looked_at = part_of(own) if self.marks_lie == "part" else None
        if roi:
            looked_at = inside_roi(roi, own.shape[0], own.shape[1]).numpy()
        return draw_marks(own, sizes_of(sizes, MARKS, position), rng, looked_at, picture.size)

    @cached_property
    def marks_lie(self) -> str:
        """Where single made-up marks are drawn: in the "roi" that the spec names, on the "part" where all of some pictures show it against
        what it lies on, and about as large, or "anywhere"."""
        if region(self.spec):
            return "roi"
        readable = self.pictures.parts
        some = [readable[i] for i in np.unique(np.linspace(0, len(readable) - 1, min(LOOKED, len(readable))).astype(int))]
        deep = self.pictures.format.deep
        parts = [part_of(to_8_bit(small.pixels, deep)) for small in map(self.pictures.smaller, some) if small is not None]
        shares = [float(part.mean()) for part in parts if part is not None]
        return "part" if shares and len(shares) == len(parts) and max(shares) <= ALIKE * min(shares) else "anywhere"

    def _with_defects(self, picture: Smaller | None, rng: np.random.Generator) -> NDArray[Any] | None:
        """A picture as it is and with two synthetic defects (3, h, w, C), at its own depth; None when it cannot be read any more."""
        if picture is None:
            return None
        deep, roi = self.pictures.format.deep, region(self.spec)
        own = to_8_bit(picture.pixels, deep)
        return from_8_bit(np.stack([own, *(inject_inside(own, rng, roi, picture.scale)[0] for _ in range(DEFECTS))]), deep)

    def marked_places(
        self, extractor: Stages, preprocess: ImagePreprocess, pictures: Sequence[Picture]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Features (n, C) of single places of the finest stage, and whether each has a synthetic defect (n,); as many with as without."""
        rng = np.random.default_rng([self.spec.seed, 4])
        extractor = onnx_stages(extractor)
        deep = self.pictures.format.deep
        rows, labels = [], []
        for picture in pictures:
            small = self.pictures.smaller(picture)
            if small is None:
                continue
            marked, mask = inject_inside(to_8_bit(small.pixels, deep), rng, region(self.spec), small.scale)
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


def _each_mark(
    scorer: MemoryBank, clean: Mapping[str, Tensor], marked: Mapping[str, Tensor], marks: Sequence[Mark], sides: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Scores (m,) of a picture with each of its `marks` alone, and which pool gave each (m,).

    They are made of the views' maps (1, h, w) of the picture without marks and with all of them.
    """
    if not marks:
        return torch.empty(0), torch.empty(0, dtype=torch.int64)
    views = {view: torch.stack(with_each_mark(own[0], marked[view][0], marks, sides)) for view, own in clean.items()}
    found = told_by(views, scorer.pools, scorer.laws, scorer.roi).max(dim=1)
    return found.values, found.indices


def _ranking(scores: Sequence[NDArray[np.float64]]) -> Ranking:
    """Scores (3,) of some pictures, the first of each without a defect."""
    rows = np.stack(scores)
    return Ranking(rows[:, 0], rows[:, 1:])


def _scores(
    scorer: Scorer, extractor: Stages, preprocess: ImagePreprocess, batch: NDArray[Any] | None, known: Sequence[Tensor] | None = None
) -> NDArray[np.float64] | None:
    """Scores (3,) of what `_with_defects` gives. `known` are the features of the first, where they were computed already."""
    if batch is None:
        return None
    with torch.inference_mode():
        maps = extractor(preprocess(torch.from_numpy(batch if known is None else batch[1:])))
        if known is not None:
            maps = [torch.cat(both) for both in zip(known, maps, strict=True)]
        score, _ = scorer(maps)
    found: NDArray[np.float64] = score.double().numpy()
    return found
