"""A camera line that starts from another line's detector: the ways, their judgement, and the extractor file that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor

from anomaly.bundle.archive import CARRIED, read_bundle
from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError
from anomaly.evaluation.injected import Ranking
from anomaly.evaluation.transfer import ALONE, choose, judge, summary
from anomaly.features.build import build_camera_extractor, is_changed, load_camera_extractor, restore_camera_extractor, save_extractor
from anomaly.features.stages import Stages
from anomaly.features.training.adapt_domains import adapt_domains, reestimate_batch_norm
from anomaly.features.training.alignment import align_maps
from anomaly.features.training.pretrain_images import pretrain_images
from anomaly.pipeline.camera.few_labels import fit_vote
from anomaly.pipeline.line import Progress
from anomaly.spec import NEEDS_NORMALS, CameraSpec, TransferMethod

if TYPE_CHECKING:
    from anomaly.pipeline.camera.line import CameraLine

BORROWED = 100  # pictures of the source line that join a bank at most
FEWEST = 8  # pictures a half, from which ways can be compared
BATCH = 16
CHANGES = ("batch-norm", "finetune", "deep-coral", "dann")  # ways after which the weights are no longer the source's


@dataclass(frozen=True)
class Way:
    """What one way of transfer comes to: an extractor for this line, and the source's normals as features that join the bank."""

    extractor: Stages
    borrowed: list[Tensor] = field(default_factory=list)


class CameraTransfer:
    """The ways from a source to a camera line. Nothing heavy happens before a method is called."""

    def __init__(self, line: CameraLine, progress: Progress) -> None:
        """Read the source's extractor and find its normals. Raises WeightsError, BundleError or DataError when they do not fit."""
        self.line, self.asked, self.progress = line, line.spec.transfer, progress
        self.own, self.origin = build_camera_extractor(line.spec)
        self.source, self.about = self.own, line.describe(self.origin)
        if self.asked.source is not None:
            self.source, self.about = camera_source(line.spec, self.asked.source)
        self.preprocess = line.preprocess(self.origin)
        self.normals = source_normals(self.asked.normals) if self.asked.normals is not None else []

    def ways(self) -> list[TransferMethod]:
        """The ways that what is given allows."""
        every: list[TransferMethod] = [m for m in get_args(TransferMethod) if m != "tradaboost"]  # that is a vote beside the score
        if self.asked.method == "tradaboost":
            return ["frozen"] if self.asked.source is not None else []
        if self.asked.method != "auto":
            return [self.asked.method]
        if self.asked.source is None:
            every.remove("frozen")  # the spec's own extractor: that is the target alone
        return [m for m in every if self.normals or m not in NEEDS_NORMALS]

    @cached_property
    def borrowed(self) -> list[Tensor]:
        """The source's normals as its own extractor sees them, one (n, C_s, h_s, w_s) a stage."""
        return self.line.features_of(self.source, self.preprocess, self.normals)

    def way(self, method: TransferMethod, target: list[Picture]) -> Way:
        """Carry out one way with these pictures of the target."""
        if method == "frozen":
            return Way(self.source)
        if method == "coral":
            return Way(self.source, align_maps(self.borrowed, self.line.features_of(self.source, self.preprocess, target)))
        if method == "batch-norm":  # each side by its own statistics, over as many pictures, so that both are shrunk alike
            theirs = self._renormalised(self.normals[:: max(1, len(self.normals) // len(target))][: len(target)])
            return Way(self._renormalised(target), self.line.features_of(theirs, self.preprocess, self.normals))
        extractor = self._copy()
        generator = torch.Generator().manual_seed(self.line.spec.seed)
        if method == "finetune":
            self._finetune(extractor, target, generator)
            return Way(extractor)
        adapt_domains(
            extractor,
            self.source,
            lambda indices: self._crops(self.normals, indices, generator),
            lambda indices: self._crops(target, indices, generator),
            (len(self.normals), len(target)),
            "dann" if method == "dann" else "deep-coral",
            self.line.spec.pretrain,
            generator,
            lambda epoch, held, apart: self.progress(f"{method}, epoch {epoch}: source {held:.4f}, domains {apart:.4f}"),
        )
        return Way(extractor, self.line.features_of(extractor, self.preprocess, self.normals))

    def _copy(self) -> Stages:
        """The source's extractor anew. Not by deepcopy: a traced network's copy comes back in training mode."""
        extractor, _ = build_camera_extractor(self.line.spec)
        extractor.load_state_dict(self.source.state_dict())
        return extractor

    def _renormalised(self, pictures: Sequence[Picture]) -> Stages:
        """The source's extractor with batch-norm statistics of these pictures."""
        extractor = self._copy()
        batches = [self._whole(pictures, range(i, min(i + BATCH, len(pictures)))) for i in range(0, len(pictures), BATCH)]
        reestimate_batch_norm(extractor, batches)
        return extractor

    def _finetune(self, extractor: Stages, target: list[Picture], generator: torch.Generator) -> None:
        """Dense VICReg on the target's normals from the source's weights; half of them judge when to stop."""
        half = len(target) // 2
        pretrain_images(
            extractor,
            lambda indices: self._crops(target, indices, generator),
            len(target),
            self.line.spec.pretrain,
            generator,
            lambda e: self.line.rank(e, self.preprocess, target[:half], target[half:], seed=1).auroc(),
            lambda epoch, loss, rating: self.progress(f"finetune, epoch {epoch}: loss {loss:.2f}, made-up defects AUROC {rating:.4f}"),
        )

    def _crops(self, pictures: Sequence[Picture], indices: Sequence[int], generator: torch.Generator) -> Tensor:
        return self.line.crops([pictures[i] for i in indices], self.preprocess, generator)

    def _whole(self, pictures: Sequence[Picture], indices: Sequence[int]) -> Tensor:
        raws = [raw for i in indices if (raw := self.line.read(pictures[i])) is not None]
        return torch.cat([self.preprocess(torch.from_numpy(raw.copy()).unsqueeze(0)) for raw in raws])

    # --- judge, and carry out what is chosen ---

    def rankings(self, methods: Sequence[TransferMethod]) -> dict[str, Ranking]:
        """How every way ranks made-up faults: fitted on one half of the normals and judged on the other, both ways round."""
        first, second = self.line.halves()
        if len(first) < FEWEST:
            raise DataError(
                f"{self.line.root}: {len(first) + len(second)} readable pictures of good parts; at least {2 * FEWEST} are needed to "
                "tell whether a transfer helps"
            )
        found: dict[str, Ranking] = {}
        makers: dict[str, Callable[[list[Picture]], Way]] = {ALONE: lambda _: Way(self.own)}
        makers |= {m: lambda target, m=m: self.way(m, target) for m in methods}  # type: ignore[misc]
        for name, make in makers.items():
            parts = []
            for seed, (fit, judged) in enumerate(((first, second), (second, first))):
                made = make(fit)
                parts.append(self.line.rank(made.extractor, self.preprocess, fit, judged, seed, made.borrowed))
            found[name] = Ranking(np.concatenate([p.clean for p in parts]), np.concatenate([p.faulty for p in parts]))
            self.progress(f"{name}: made-up defects AUROC {found[name].auroc():.4f}")
        return found

    def run(self, out: Path) -> dict[str, Any]:
        """Judge, choose, carry out on all normals, and write the extractor file. Returns its description."""
        taken, report = ALONE, {}
        methods = self.ways()
        if methods:
            rankings = self.rankings(methods)
            judged = judge(rankings, self.line.spec.seed)
            asked = "auto" if self.asked.method == "tradaboost" else self.asked.method
            taken, why = choose(judged, asked)
            report = summary(self.asked.method, taken, why, rankings[ALONE], judged)
            self.progress(f"transfer: {taken}; {why}")
        made = Way(self.own) if taken == ALONE else self.way(next(m for m in methods if m == taken), self.line.readable)
        vote: dict[str, Tensor] = {}
        if self.asked.faults is not None:
            vote, report["few_labels"] = fit_vote(self.line, made.extractor, self.preprocess, self.asked, self.normals)
            self.progress(f"{report['few_labels']['faults']} labelled faults: vote {report['few_labels']['vote']}")
        described = self.line.describe(self.origin) if taken == ALONE else self.about
        about = {
            **described,
            "adaptation": {"kept": False, "why": "starts from another line" if taken != ALONE else "no transfer was taken"},
            "transfer": report,
            "changed": taken in CHANGES or (taken != ALONE and is_changed(self.about)),
        }
        save_extractor(out, made.extractor, about, made.borrowed, vote)
        return about


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
    """Up to 100 pictures of good parts of the source line, evenly taken. Raises DataError when there are none."""
    found = find_pictures(path).train
    step = max(1, len(found) // BORROWED)
    return list(found[::step][:BORROWED])
