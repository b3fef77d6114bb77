"""A camera line that starts from another line's detector: the candidates, the choice among them, the extractor file that results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from anomaly.bundle.archive import CARRIED, read_bundle
from anomaly.data.pictures.layouts import find_faults, find_pictures
from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError
from anomaly.evaluation.injected import Ranking, joined
from anomaly.evaluation.transfer import ALONE, choose, judge, summary
from anomaly.features.build import build_camera_extractor, is_changed, load_camera_extractor, restore_camera_extractor, save_extractor
from anomaly.features.stages import Stages
from anomaly.features.training.adapt_domains import adapt_domains, reestimate_batch_norm
from anomaly.features.training.alignment import align_maps
from anomaly.features.training.pretrain_images import pretrain_images
from anomaly.pipeline.camera.adaptation import describe_extractor
from anomaly.pipeline.camera.few_labels import fit_vote, labelled, read_faults
from anomaly.pipeline.camera.judging import Judging
from anomaly.pipeline.camera.pictures import PictureFolder
from anomaly.progress import Progress, part
from anomaly.spec import NEEDS_NORMALS, CameraSpec, TransferMethod

BORROWED = 100  # pictures of the source line that join a bank at most
FEWEST = 8  # pictures a half, from which candidates can be compared
BATCH = 16
CHANGES = ("batch-norm", "finetune", "deep-coral", "dann")  # methods after which the weights are no longer the source's


@dataclass(frozen=True)
class TransferCandidate:
    """What one method of transfer gives: an extractor for this line, and the source's normals as features that join the bank.

    `borrowed` holds one (n, C_s, h_s, w_s) a stage, and nothing where the method lends no features.
    """

    extractor: Stages
    borrowed: list[Tensor] = field(default_factory=list)


class CameraTransfer:
    """The methods of transfer from a source to a camera line. Nothing heavy happens before a method is called."""

    def __init__(self, spec: CameraSpec, pictures: PictureFolder, judging: Judging, progress: Progress) -> None:
        """Read the source's extractor, find its normals and labelled faults. Raises WeightsError, BundleError or DataError for misfits."""
        self.spec, self.pictures, self.judging, self.progress = spec, pictures, judging, progress
        self.asked = spec.transfer
        self.own, self.origin = build_camera_extractor(spec)
        self.source, self.about = self.own, describe_extractor(spec, self.origin)
        if self.asked.source is not None:
            self.source, self.about = camera_source(spec, self.asked.source)
        self.preprocess = pictures.preprocess(self.origin)
        self.normals = source_normals(self.asked.normals) if self.asked.normals is not None else []
        self.faults = read_faults(self.asked.faults) if self.asked.faults is not None else []

    def methods(self) -> list[TransferMethod]:
        """The methods to try: those that the spec asks for and that what is given allows."""
        every: list[TransferMethod] = [m for m in get_args(TransferMethod) if m != "tradaboost"]  # that is a vote beside the score
        if self.asked.method == "tradaboost":
            return ["frozen"] if self.asked.source is not None else []
        if self.asked.method != "auto":
            return [self.asked.method]
        if self.asked.source is None:
            every.remove("frozen")  # the spec's own extractor: that is the target alone
        return [m for m in every if self.normals or m not in NEEDS_NORMALS]

    # --- the candidates ---

    def candidate(self, method: TransferMethod, target: list[Picture]) -> TransferCandidate:
        """Carry out one method with these pictures of the target line."""
        if method == "frozen":
            return TransferCandidate(self.source)
        if method == "coral":
            return TransferCandidate(self.source, align_maps(self.borrowed, self._seen(self.source, target)))
        if method == "batch-norm":  # each side by its own statistics, over as many pictures, so that both are shrunk alike
            theirs = self._renormalised(self.normals[:: max(1, len(self.normals) // len(target))][: len(target)])
            return TransferCandidate(self._renormalised(target), self._seen(theirs, self.normals))
        if method == "finetune":
            return TransferCandidate(self._finetuned(target))
        extractor = self._adapted("dann" if method == "dann" else "deep-coral", target)
        return TransferCandidate(extractor, self._seen(extractor, self.normals))

    @cached_property
    def borrowed(self) -> list[Tensor]:
        """The source's normals as its own extractor sees them, one (n, C_s, h_s, w_s) a stage."""
        return self._seen(self.source, self.normals)

    def _seen(self, extractor: Stages, pictures: Sequence[Picture]) -> list[Tensor]:
        return self.pictures.features_of(extractor, self.preprocess, pictures)

    def _copy(self) -> Stages:
        """The source's extractor anew. Not by deepcopy: a traced network's copy comes back in training mode."""
        extractor, _ = build_camera_extractor(self.spec)
        extractor.load_state_dict(self.source.state_dict())
        return extractor

    def _renormalised(self, pictures: Sequence[Picture]) -> Stages:
        """The source's extractor with batch-norm statistics of these pictures."""
        extractor = self._copy()
        batches = [self.pictures.whole(pictures[i : i + BATCH], self.preprocess) for i in range(0, len(pictures), BATCH)]
        reestimate_batch_norm(extractor, batches)
        return extractor

    def _finetuned(self, target: list[Picture]) -> Stages:
        """Dense VICReg on the target's normals from the source's weights; half of them judge when to stop."""
        extractor, generator = self._copy(), torch.Generator().manual_seed(self.spec.seed)
        half = len(target) // 2
        pretrain_images(
            extractor,
            self._crops(target, generator),
            len(target),
            self.spec.pretrain,
            generator,
            lambda e: self.judging.rank(e, self.preprocess, target[:half], target[half:], seed=1).auroc(),
            lambda epoch, loss, rating: self.progress(f"finetune, epoch {epoch}: loss {loss:.2f}, made-up defects AUROC {rating:.4f}"),
        )
        return extractor

    def _adapted(self, method: Literal["deep-coral", "dann"], target: list[Picture]) -> Stages:
        """The source's extractor trained until it sees the source's and the target's normals alike (Deep CORAL or DANN)."""
        extractor, generator = self._copy(), torch.Generator().manual_seed(self.spec.seed)
        adapt_domains(
            extractor,
            self.source,
            self._crops(self.normals, generator),
            self._crops(target, generator),
            (len(self.normals), len(target)),
            method,
            self.spec.pretrain,
            generator,
            lambda epoch, held, apart: self.progress(f"{method}, epoch {epoch}: source {held:.4f}, domains {apart:.4f}"),
        )
        return extractor

    def _crops(self, pictures: Sequence[Picture], generator: torch.Generator) -> Callable[[Sequence[int]], Tensor]:
        return lambda indices: self.pictures.crops([pictures[i] for i in indices], self.preprocess, generator)

    # --- judge, and carry out what is chosen ---

    def rankings(self, methods: Sequence[TransferMethod]) -> dict[str, Ranking]:
        """How each method, and the target alone, ranks synthetic defects.

        Each is fitted on one half of the normals and judged on the other, both ways round. Raises DataError for too few normals.
        """
        first, second = self.judging.halves()
        if len(first) < FEWEST:
            raise DataError(
                f"{self.pictures.root}: {len(first) + len(second)} readable pictures of good parts; at least {2 * FEWEST} are needed to "
                "tell whether a transfer helps"
            )
        found: dict[str, Ranking] = {}
        told = part(self.progress, 0.0, 0.8)
        for name in (None, *methods):
            parts = []
            for seed, (fit, judged) in enumerate(((first, second), (second, first))):
                made = TransferCandidate(self.own) if name is None else self.candidate(name, fit)
                parts.append(self.judging.rank(made.extractor, self.preprocess, fit, judged, seed, made.borrowed))
            found[name or ALONE] = joined(parts)
            told(f"{name or ALONE}: made-up defects AUROC {found[name or ALONE].auroc():.4f}; methods", len(found), len(methods) + 1)
        return found

    def run(self, out: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Judge, choose, carry out on all normals, and write the extractor file with the line's `plan`. Returns its description."""
        taken, report = self._choose()
        made = TransferCandidate(self.own) if taken is None else self.candidate(taken, self.pictures.readable)
        vote: dict[str, Tensor] = {}
        if self.faults:
            vote, report["few_labels"] = self._vote(made.extractor)
            self.progress(f"{report['few_labels']['faults']} labelled faults: vote {report['few_labels']['vote']}")
        described = describe_extractor(self.spec, self.origin) if taken is None else self.about
        about = {
            **described,
            "plan": plan,
            "adaptation": {"kept": False, "why": "no transfer was taken" if taken is None else "starts from another line"},
            "transfer": report,
            "changed": taken is not None and (taken in CHANGES or is_changed(self.about)),
        }
        save_extractor(out, made.extractor, about, made.borrowed, vote)
        return about

    def _choose(self) -> tuple[TransferMethod | None, dict[str, Any]]:
        """The method to take, None for the target alone, and what was found of all."""
        methods = self.methods()
        if not methods:
            return None, {}
        rankings = self.rankings(methods)
        judged = judge(rankings, self.spec.seed)
        taken, why = choose(judged, "auto" if self.asked.method == "tradaboost" else self.asked.method)
        self.progress(f"transfer: {taken}; {why}")
        return next((m for m in methods if m == taken), None), summary(self.asked.method, taken, why, rankings[ALONE], judged)

    def _vote(self, extractor: Stages) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The vote of the line's labelled faults, with the source's labels where they are given: see `fit_vote`."""
        faults = self._seen(extractor, self.faults)
        normals = self._seen(extractor, self.pictures.readable)
        source = None
        if self.asked.source_faults is not None:
            theirs = find_faults(self.asked.source_faults)
            source = labelled(self._seen(extractor, self.normals), self._seen(extractor, theirs))
        return fit_vote(self.spec, normals, faults, source)


def camera_source(spec: CameraSpec, path: Path) -> tuple[Stages, dict[str, Any]]:
    """The extractor of another line with its description: of its bundle, or an extractor file.

    Raises BundleError or WeightsError when it cannot be read, or is of another make than the spec's.
    """
    if path.suffix != ".anomaly":
        extractor, _, about = load_camera_extractor(spec, path)
        return extractor, about
    bundle = read_bundle(path)
    described: dict[str, Any] = bundle.manifest.provenance["fit"]["extractor"]
    return restore_camera_extractor(spec, path, described, bundle.members.get(CARRIED)), described


def source_normals(path: Path) -> list[Picture]:
    """Up to 100 pictures of good parts of the source line, spread evenly over its folder. Raises DataError when there are none."""
    found = find_pictures(path).train
    step = max(1, len(found) // BORROWED)
    return list(found[::step][:BORROWED])
