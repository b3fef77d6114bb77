"""An extractor adapted to a line's own normals by dense VICReg, kept only where synthetic defects show a clear gain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomaly.data.pictures.reading import Picture
from anomaly.evaluation.transfer import compare
from anomaly.features.backbones.weights import WeightsSource
from anomaly.features.build import build_camera_extractor, save_extractor
from anomaly.features.maps import fewer_of_large
from anomaly.features.stages import Stages
from anomaly.features.training.pretrain_images import pretrain_briefly, pretrain_images
from anomaly.pipeline.camera.judging import Judging
from anomaly.pipeline.camera.pictures import PictureFolder
from anomaly.pipeline.camera.plan.cost import FEWEST_PROBED, PROBED, adaptation_s, adapting_s
from anomaly.progress import Progress, part, parts, skipped
from anomaly.spec import CameraSpec

METHOD = "dense VICReg"
PROBE_STEPS = 8  # of training, before it is decided whether to go on
PROBE_BATCH = 8  # pictures a step of these, at most
TRIALS = 4  # at most: with the adapted weights and with the frozen ones, on both halves
PROMISE = 0.01  # AUROC of synthetic defects gained by the first steps, on two sets of normals; half of what must be gained in the end


def describe_extractor(spec: CameraSpec, source: WeightsSource) -> dict[str, Any]:
    """The description of the spec's extractor with weights from `source`, as it travels in the extractor's file."""
    return {
        "kind": "camera",
        "backbone": spec.extractor.backbone,
        "stages": list(spec.extractor.stages),
        "source": source.as_dict(),
        "adaptation": {"kept": False, "why": "not asked for"},
    }


def pretrain(
    spec: CameraSpec,
    pictures: PictureFolder,
    judging: Judging,
    out: Path,
    progress: Progress,
    plan: Mapping[str, Any],
    *,
    full: bool = False,
) -> dict[str, Any]:
    """Write the extractor file of a line that stands alone: adapted where the spec asks for it and it pays. Returns its description.

    `plan` says how pictures are looked at, and is kept in the file. Unless `full`, a first short stretch decides whether it is
    trained at all.
    """
    extractor, source = build_camera_extractor(spec)
    about = describe_extractor(spec, source) | {"plan": plan}
    if next(extractor.parameters(), None) is None:
        about["adaptation"]["why"] = "fixed filters have nothing to adapt"
    elif spec.pretrain.method != "none":
        adaptation = _Adaptation(spec, pictures, judging, extractor, source)
        first, whole = parts(progress, adapting_s(spec, pictures.size, len(pictures.parts))).values()
        about["adaptation"] = {} if full else adaptation.probe(first)
        if full or about["adaptation"].get("kept") is None:
            extractor, found = adaptation.run(progress if full else whole)
            about["adaptation"] |= found
        skipped(whole)  # where the first steps promised nothing
    save_extractor(out, extractor, about)
    return about


class _Adaptation:
    """Dense VICReg on a copy of the line's frozen extractor, with what it is judged by."""

    def __init__(self, spec: CameraSpec, pictures: PictureFolder, judging: Judging, frozen: Stages, source: WeightsSource) -> None:
        self.spec, self.pictures, self.judging, self.frozen = spec, pictures, judging, frozen
        self.preprocess = pictures.preprocess(source)

    def _copy(self) -> tuple[Stages, Callable[[Sequence[int]], Tensor], torch.Generator]:
        """A copy to train, random crops of its pictures, and the generator of all that is random."""
        generator = torch.Generator().manual_seed(self.spec.seed)
        readable = self.pictures.readable
        copy, _ = build_camera_extractor(self.spec)
        return copy, lambda indices: self.pictures.crops([readable[i] for i in indices], self.preprocess, generator), generator

    def probe(self, progress: Progress) -> dict[str, Any]:
        """Train for a few steps, and see whether that ranks synthetic defects better than the frozen weights.

        A number of steps, not a clock, ends it. So the same data and spec give the same answer on every machine.
        """
        adapted, crops, generator = self._copy()
        first, second = self.judging.halves()
        count = min(fewer_of_large(PROBED, self.pictures.size, FEWEST_PROBED), len(first) // 2)
        training, ranking = adaptation_s(self.pictures.size, count)
        trained = training / (training + TRIALS * ranking)
        pretrain_briefly(
            adapted,
            crops,
            len(self.pictures.readable),
            self.spec.pretrain.model_copy(update={"batch": min(PROBE_BATCH, self.spec.pretrain.batch)}),
            generator,
            PROBE_STEPS,
            lambda done, total: part(progress, 0.0, trained)("adaptation, first steps", done, total),
        )
        gains = []
        ways = ((first[:count], second[:count]), (second[-count:], first[-count:]))  # no picture in common
        for at, (fit, judged) in enumerate(ways):
            gains.append(self._gain(adapted, fit, judged, part(progress, trained, 1.0), at))
            if gains[-1] < PROMISE:
                skipped(progress)  # what is not tried any more says nothing about the pace
                break
        found: dict[str, Any] = {"method": METHOD, "first_stretch": {"steps": PROBE_STEPS, "gains": gains}}
        if gains[-1] >= PROMISE:
            return found
        why = (
            f"stopped after a first stretch of {PROBE_STEPS} steps: made-up defects were ranked no clearly better "
            f"(AUROC changed by {gains[-1]:+.4f}); `anomaly pretrain` trains in full and says what it gains"
        )
        progress(f"adaptation {why}")
        return found | {"kept": False, "why": why}

    def _gain(self, adapted: Stages, fit: list[Picture], judged: list[Picture], progress: Progress, half: int) -> float:
        """AUROC of synthetic defects on the judged pictures of a half (0 or 1), that of the frozen weights taken off."""

        def rated(extractor: Stages, at: int) -> float:
            told = part(progress, at / TRIALS, (at + 1) / TRIALS, f"adaptation on trial, {at + 1} of up to {TRIALS}")
            return self.judging.rank(extractor, self.preprocess, fit, judged, seed=1, progress=told).auroc()

        ours, theirs = rated(adapted, 2 * half), rated(self.frozen, 2 * half + 1)
        return ours - theirs

    def run(self, progress: Progress) -> tuple[Stages, dict[str, Any]]:
        """Train in full. The copy is kept only when the half of the normals that did not choose its epoch confirms a clear gain."""
        adapted, crops, generator = self._copy()
        first, second = self.judging.halves()
        at, epochs = 0.05, self.spec.pretrain.epochs

        def judge(extractor: Stages) -> float:
            told = part(progress, at - 0.05, at)
            return self.judging.rank(extractor, self.preprocess, first, second, seed=1, progress=told).auroc()

        def ended(epoch: int, loss: float, rating: float) -> None:
            nonlocal at
            at = 0.05 + 0.8 * epoch / epochs
            progress(f"adaptation, epoch {epoch}: loss {loss:.2f}, made-up defects AUROC {rating:.4f}")

        result = pretrain_images(
            adapted,
            crops,
            len(self.pictures.readable),
            self.spec.pretrain,
            generator,
            judge,
            ended,
            lambda done, total: part(progress, at, at + 0.8 / epochs)("adaptation, steps of an epoch", done, total),
        )
        report: dict[str, Any] = {"method": METHOD, "epochs": result.epochs, "before": result.before, "best": result.best}
        if result.out_of_time:
            report["out_of_time"] = f"pretrain.max_minutes = {self.spec.pretrain.max_minutes:g} ended it; a quicker machine gets further"
        if result.best <= result.before:
            return self.frozen, report | {"kept": False, "why": "no epoch ranked made-up defects better than the frozen weights"}
        told = part(progress, 0.85, 1.0)
        ours = self.judging.rank(adapted, self.preprocess, second, first, seed=2, progress=told)
        theirs = self.judging.rank(self.frozen, self.preprocess, second, first, seed=2, progress=told)
        found = compare(ours, theirs, self.spec.seed)
        return (adapted if found.helps else self.frozen), report | found.kept("defects", "on the other half of the normals")
