"""A camera line: pictures of good parts in, detector parts out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.calibration.conformal import Calibrator
from anomaly.data.pictures.defects import inject
from anomaly.data.pictures.layouts import find_pictures, near_duplicates
from anomaly.data.pictures.reading import Color, Picture, decide_color, read_image
from anomaly.data.records import fingerprint
from anomaly.errors import DataError, RecordError
from anomaly.evaluation.figures import Evaluation, Run, evaluate_pictures, without_duplicates
from anomaly.evaluation.injected import Ranking, joined
from anomaly.evaluation.transfer import compare
from anomaly.export.detector import Detector
from anomaly.features.build import build_camera_extractor, load_borrowed, load_camera_extractor, load_vote, save_extractor
from anomaly.features.preprocess import ImagePreprocess, share_gray
from anomaly.features.stages import Stages, fold_batch_norm
from anomaly.features.training.pretrain_images import pretrain_images
from anomaly.features.weights import WeightsSource
from anomaly.pipeline.camera.transfer import CameraTransfer
from anomaly.pipeline.line import Exported, Fitted, Graphs, Progress, with_transfer
from anomaly.schema import InputSchema
from anomaly.scorers.boosted import raised, with_vote
from anomaly.scorers.build import fit_camera_scorer, load_camera_scorer
from anomaly.scorers.pictures.memory_bank import MemoryBank, without
from anomaly.scorers.suspects import fit_trimmed
from anomaly.spec import CameraSpec

JUDGED = 60  # pictures that fit, and as many that are ranked, when extractors are compared
JUDGE_BANK = 1000
MADE_UP = 2  # defects a judged picture
MARKED = 0.2  # share of a place that a made-up defect covers from which it counts as one
BATCH = 4  # pictures through the extractor at a time


class CameraLine:
    """The pictures under one folder with their spec."""

    def __init__(self, spec: CameraSpec, data: Path) -> None:
        """Find the pictures. Raises DataError for a folder that is not there or holds none."""
        self.spec: CameraSpec = spec
        self.root = data if data.is_dir() else data.parent
        self.pictures = find_pictures(data)
        self.rejected: dict[str, str] = {}

    @cached_property
    def format(self) -> tuple[Color, bool]:
        """(gray or rgb, 16 bit?) as the spec says or the files show."""
        found, deep = decide_color([p.path for p in self.pictures.train])
        return (found if self.spec.input.color == "auto" else self.spec.input.color), deep

    def fingerprint(self) -> str:
        return with_transfer(fingerprint((p.path for p in self.pictures.train), self.root), self.spec.transfer)

    def test_fingerprint(self) -> str:
        files = [p for q in self.pictures.test for p in (q.path, q.mask) if p is not None]
        return fingerprint(files, self.root) if files else ""

    def read(self, picture: Picture) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """One picture (H, W, C), or None when it cannot be read: it is then noted in `rejected`."""
        color, deep = self.format
        try:
            return read_image(picture.path, color, deep=deep)
        except RecordError as error:
            self.rejected[picture.id] = str(error)
            return None

    @cached_property
    def readable(self) -> list[Picture]:
        """Training pictures that can be decoded. Raises DataError when fewer than 16 are left."""
        good = [p for p in self.pictures.train if self.read(p) is not None]
        if len(good) < 16:
            reasons = "".join(f"\n  {reason}" for reason in list(self.rejected.values())[:5])
            raise DataError(f"{self.root}: {len(good)} readable pictures of good parts; at least 16 are needed{reasons}")
        return good

    # --- pretrain ---

    def pretrain(self, out: Path, progress: Progress) -> dict[str, Any]:
        if self.spec.transfer.given:
            return CameraTransfer(self, progress).run(out)
        extractor, source = build_camera_extractor(self.spec)
        about = self.describe(source)
        if next(extractor.parameters(), None) is None:
            about["adaptation"]["why"] = "fixed filters have nothing to adapt"
        elif self.spec.pretrain.method != "none":
            extractor, about["adaptation"] = self._adapt(extractor, source, progress)
        save_extractor(out, extractor, about)
        return about

    def describe(self, source: WeightsSource) -> dict[str, Any]:
        """The description of the spec's extractor with weights from `source`, as it travels in its file."""
        return {
            "kind": "camera",
            "backbone": self.spec.extractor.backbone,
            "stages": list(self.spec.extractor.stages),
            "source": source.as_dict(),
            "adaptation": {"kept": False, "why": "not asked for"},
        }

    def _adapt(self, frozen: Stages, source: WeightsSource, progress: Progress) -> tuple[Stages, dict[str, Any]]:
        """Adapt a copy; keep it only when a fresh half of the normals confirms a clear gain."""
        adapted, _ = build_camera_extractor(self.spec)
        preprocess = self.preprocess(source)
        generator = torch.Generator().manual_seed(self.spec.seed)
        first, second = self.halves()

        def pictures(indices: Sequence[int]) -> Tensor:
            return self.crops([self.readable[i] for i in indices], preprocess, generator)

        result = pretrain_images(
            adapted,
            pictures,
            len(self.readable),
            self.spec.pretrain,
            generator,
            lambda e: self.rank(e, preprocess, first, second, seed=1).auroc(),
            lambda epoch, loss, rating: progress(f"adaptation, epoch {epoch}: loss {loss:.2f}, made-up defects AUROC {rating:.4f}"),
        )
        report: dict[str, Any] = {"method": "dense VICReg", "epochs": result.epochs, "before": result.before, "best": result.best}
        if result.best <= result.before:
            return frozen, report | {"kept": False, "why": "no epoch ranked made-up defects better than the frozen weights"}
        ours = self.rank(adapted, preprocess, second, first, seed=2)
        theirs = self.rank(frozen, preprocess, second, first, seed=2)
        found = compare(ours, theirs, self.spec.seed)
        return (adapted if found.helps else frozen), report | found.kept("defects", "on the other half of the normals")

    def halves(self) -> tuple[list[Picture], list[Picture]]:
        """Two sets of normals without a picture in common, at most 60 each."""
        order = np.random.default_rng(self.spec.seed).permutation(len(self.readable))
        half = min(JUDGED, len(order) // 2)
        return [self.readable[i] for i in order[:half]], [self.readable[i] for i in order[half : 2 * half]]

    def rank(
        self,
        extractor: Stages,
        preprocess: ImagePreprocess,
        fit: list[Picture],
        judged: list[Picture],
        seed: int,
        borrowed: Sequence[Tensor] = (),
    ) -> Ranking:
        """Fit a small bank on some normals (and on another line's features); score others as they are and with made-up defects."""
        extractor = fold_batch_norm(extractor)
        features = self.features_of(extractor, preprocess, fit)
        generator = torch.Generator().manual_seed(seed)
        scorer = fit_camera_scorer(self.spec, features, generator, largest=JUDGE_BANK, borrowed=borrowed).scorer
        return self.made_up(scorer, extractor, preprocess, judged, seed)

    def made_up(self, scorer: torch.nn.Module, extractor: Stages, preprocess: ImagePreprocess, judged: list[Picture], seed: int) -> Ranking:
        """Scores of pictures as they are, and with two made-up defects each. The extractor is best given `fold_batch_norm`."""
        rng = np.random.default_rng([self.spec.seed, seed])
        clean, faulty = [], []
        deep = self.format[1]
        for picture in judged:
            raw = self.read(picture)
            if raw is None:
                continue
            own = narrow(raw, deep)
            batch = np.stack([own, *(inject(own, rng)[0] for _ in range(MADE_UP))])
            scores = _scores(scorer, extractor, preprocess, widen(batch, deep))
            clean.append(scores[0])
            faulty.append(scores[1:])
        return Ranking(np.array(clean), np.array(faulty))

    def marked_places(
        self, extractor: Stages, preprocess: ImagePreprocess, pictures: Sequence[Picture]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Features (n, C) of places of the finest stage with and without a made-up defect (n,), as many of either."""
        rng = np.random.default_rng([self.spec.seed, 4])
        extractor = fold_batch_norm(extractor)
        rows, labels = [], []
        for picture in pictures:
            raw = self.read(picture)
            if raw is None:
                continue
            marked, mask = inject(narrow(raw, self.format[1]), rng)
            wide = widen(marked, self.format[1])
            with torch.inference_mode():
                maps = extractor(preprocess(torch.from_numpy(wide[None])))[0]
            seen = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask[None, None].astype(np.float32)), maps.shape[-2:])
            bad = (seen.flatten() > MARKED).numpy()
            flat = maps[0].flatten(1).T.double().numpy()
            others = rng.permutation(np.flatnonzero(~bad))[: max(1, int(bad.sum()))]
            rows += [flat[bad], flat[others]]
            labels += [np.ones(int(bad.sum()), bool), np.zeros(len(others), bool)]
        return np.concatenate(rows), np.concatenate(labels)

    # --- fit ---

    def preprocess(self, source: WeightsSource) -> ImagePreprocess:
        """The first layers, for a backbone of this origin."""
        return ImagePreprocess(self.spec.input.size, source.mean, source.std, deep=self.format[1])

    def crops(self, pictures: list[Picture], preprocess: ImagePreprocess, generator: torch.Generator) -> Tensor:
        """Preprocessed pictures (n, 3, h, w), each cropped to a random half of either side: local features need no more."""
        half = [side // 2 for side in self.spec.input.size]
        crops = []
        for picture in pictures:
            raw = self.read(picture)
            assert raw is not None, picture.path
            x = preprocess(torch.from_numpy(raw.copy()).unsqueeze(0))
            y0, x0 = (int(torch.randint(side, (), generator=generator)) for side in half)
            crops.append(x[:, :, y0 : y0 + half[0], x0 : x0 + half[1]])
        return torch.cat(crops)

    def features_of(
        self, extractor: Stages, preprocess: ImagePreprocess, pictures: Sequence[Picture], progress: Progress | None = None
    ) -> list[Tensor]:
        """Feature maps of many pictures, one (n, C_s, h_s, w_s) a stage."""
        parts: list[list[Tensor]] = []
        extractor = fold_batch_norm(extractor)
        with torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                raws = [raw for picture in pictures[start : start + BATCH] if (raw := self.read(picture)) is not None]
                if raws:
                    parts.append(extractor(torch.cat([preprocess(torch.from_numpy(raw.copy()).unsqueeze(0)) for raw in raws])))
                if progress is not None and start % (16 * BATCH) == 0:
                    progress(f"features of {min(start + BATCH, len(pictures))} of {len(pictures)} pictures")
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]

    def fit(self, extractor: Path, progress: Progress) -> Fitted:
        loaded, source, about = load_camera_extractor(self.spec, extractor)
        network = fold_batch_norm(loaded)
        borrowed = load_borrowed(extractor)
        preprocess = self.preprocess(source)
        progress(f"features of {len(self.readable)} pictures")
        features = self.features_of(network, preprocess, self.readable, progress)
        generator = torch.Generator().manual_seed(self.spec.seed)
        leave_out = self.spec.scorer.suspects == "leave_out"
        trimmed = fit_trimmed(lambda maps: fit_camera_scorer(self.spec, maps, generator, progress, borrowed=borrowed), features, leave_out)
        held_out = trimmed.held_out.double().numpy()
        scorer: torch.nn.Module = trimmed.fitted.scorer
        vote = load_vote(extractor)
        if vote:
            boosted = with_vote(scorer, vote, float(held_out.std()))
            held_out = raised(held_out, vote["held_out"].numpy(), float(boosted.step))
            scorer = boosted
        suspects = {self.readable[i].id: round(float(held_out[i]), 3) for i in trimmed.suspect.nonzero()[:, 0].tolist()}
        if suspects:
            progress(f"{len(suspects)} pictures of good parts stand out from the others: look at them, {next(iter(suspects))} is one")
        reference = pd.DataFrame({"score": held_out, "map_mean": trimmed.maps.mean(dim=(1, 2)).double().numpy()})
        report = {
            "normals": len(held_out),
            "held_out_by": "leave one picture out",
            "suspects_left_out": leave_out,
            "suspects": suspects,
            "rejected": dict(self.rejected),
            "injected_auroc": self._injected_auroc(
                network,
                preprocess,
                trimmed.fitted.scorer,
                features,
                ~trimmed.suspect if leave_out else torch.ones_like(trimmed.suspect),
                progress,
            ),
            "extractor": about,
        }
        return Fitted(scorer.state_dict(), held_out, float(len(held_out)), reference, report)

    def _injected_auroc(
        self,
        network: Stages,
        preprocess: ImagePreprocess,
        scorer: MemoryBank,
        features: list[Tensor],
        good: Tensor,
        progress: Progress,
    ) -> float:
        """AUROC of made-up defects against normals, each picture scored by the banks without it.

        `scorer` is fitted on those of the `features` (N, C_s, h_s, w_s) that are `good` (N,).
        """
        progress("made-up defects on normals, each left out of the banks")
        generator = torch.Generator().manual_seed(self.spec.seed)
        chosen = good.nonzero()[:, 0].tolist()
        judged = torch.randperm(len(chosen), generator=generator)[: max(1, min(JUDGED, len(chosen) // 5))].tolist()
        rankings = []
        for i in judged:
            at = chosen[i]
            less = without(scorer, i, [maps[at : at + 1] for maps in features])
            rankings.append(self.made_up(less, network, preprocess, [self.readable[at]], seed=3 + i))
        return joined(rankings).auroc()

    # --- compose, describe, evaluate ---

    def detector(self, extractor: Path, tensors: dict[str, Tensor], calibrator: Calibrator) -> Detector:
        network, source, _ = load_camera_extractor(self.spec, extractor)
        preprocess = self.preprocess(source)
        if self.format[0] == "gray":
            share_gray(preprocess, network)
        return Detector(preprocess, network, load_camera_scorer(self.spec, tensors), calibrator).eval()

    def input_schema(self, tensors: dict[str, Tensor]) -> InputSchema:
        color, deep = self.format
        return InputSchema(name="image", dtype="uint16" if deep else "uint8", channels=1 if color == "gray" else 3)

    def evaluate(self, run: Run, schema: InputSchema, p: float) -> Evaluation | None:
        if not self.pictures.test:
            return None
        color, deep = self.format
        found = evaluate_pictures(run, self.pictures.test, color, deep, p)
        near = near_duplicates(list(self.pictures.train), list(self.pictures.test))
        found.figures |= without_duplicates(found.records, near)
        return found

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        deep = schema.dtype == "uint16"
        top, dtype = (65536, np.uint16) if deep else (256, np.uint8)
        noise = [
            rng.integers(top, size=(4, int(rng.integers(64, 400)), int(rng.integers(64, 400)), schema.channels)).astype(dtype)
            for _ in range(-(-count // 4))
        ]
        chosen = rng.choice(len(self.readable), size=min(count, len(self.readable)), replace=False)
        real = [raw for i in sorted(chosen.tolist()) if (raw := self.read(self.readable[i])) is not None]
        marked = [inject(narrow(real[int(i)], deep), rng)[0] for i in rng.integers(len(real), size=max(0, count - len(real)))]
        return noise, [picture[None] for picture in [*real, *(widen(m, deep) for m in marked)]]

    def graphs(self, exported: Exported, rng: np.random.Generator, progress: Progress) -> Graphs:
        from anomaly.pipeline.camera.variants import make_variants

        borrowed = load_borrowed(exported.extractor)
        found, parity = make_variants(self, exported.detector, exported.model, exported.held_out, borrowed, exported.p, progress)
        return Graphs(variants=found, parity=parity)

    def decisions_per_day(self, report: dict[str, Any]) -> float | None:
        return self.spec.budget.records_per_day

    def calm_s(self) -> float:
        return 0.0


def _scores(scorer: torch.nn.Module, extractor: Stages, preprocess: ImagePreprocess, batch: NDArray[Any]) -> NDArray[np.float64]:
    with torch.inference_mode():
        score, _ = scorer(extractor(preprocess(torch.from_numpy(batch))))
    return score.double().numpy()  # type: ignore[no-any-return]


def narrow(raw: NDArray[Any], deep: bool) -> NDArray[np.uint8]:
    """A picture in 8 bits, as made-up defects are drawn on it."""
    return (raw // 257 if deep else raw).astype(np.uint8)


def widen(picture: NDArray[np.uint8], deep: bool) -> NDArray[Any]:
    """Back to the camera's own depth."""
    return picture.astype(np.uint16) * 257 if deep else picture
