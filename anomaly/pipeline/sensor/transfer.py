"""Sensors that start from another machine: the candidates, their judgement, and the extractor file that comes of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from anomaly.bundle.archive import CARRIED, read_bundle
from anomaly.data.tables.files import find_tables
from anomaly.data.tables.reader import SensorTable
from anomaly.errors import DataError, SpecError
from anomaly.evaluation.injected import Ranking
from anomaly.evaluation.transfer import ALONE, choose, judge, summary
from anomaly.features.build import is_changed, load_sensor_encoder, restore_sensor_encoder, save_extractor
from anomaly.features.encoder import SensorEncoder
from anomaly.features.training.pretrain_sensors import pretrain_sensors
from anomaly.pipeline.sensor.few_labels.vote import fit_vote
from anomaly.pipeline.sensor.held_out import held_out_scores
from anomaly.pipeline.sensor.lending import LendingMethod, LentWindows, lend
from anomaly.pipeline.sensor.tables import NormalReadings
from anomaly.progress import Progress
from anomaly.spec import SensorSpec, TransferMethod

CAMERAS_ONLY = ("deep-coral", "dann")


@dataclass(frozen=True)
class SensorCandidate:
    """What one method of transfer comes to: an encoder, and windows that the other machine lends. Neither is the machine alone."""

    encoder: SensorEncoder | None = None
    lent: LentWindows | None = None


class SensorTransfer:
    """The methods that lead from a source to this machine. Nothing heavy happens before a method is called."""

    def __init__(self, readings: NormalReadings, progress: Progress) -> None:
        """Read the source's encoder and find its tables. Raises SpecError, WeightsError, BundleError or DataError when they do not fit."""
        self.readings, self.spec, self.asked, self.progress = readings, readings.spec, readings.spec.transfer, progress
        self.encoder, self.about = None, describe_encoder(self.spec)
        if self.asked.source is not None:
            self.encoder, self.about = sensor_source(self.spec, self.asked.source)
        self.paths = find_tables(self.asked.normals)[0] if self.asked.normals is not None else []
        if not self.methods() and self.asked.faults is None:
            raise SpecError(
                f"transfer from {self.asked.source or self.asked.normals}: nothing to transfer by {self.asked.method!r}; its encoder was "
                f"not kept, or the way is for cameras ({', '.join(CAMERAS_ONLY)}); give the machine's normal record: [transfer] normals"
            )

    def methods(self) -> list[TransferMethod]:
        """The methods that what is given allows."""
        every: list[TransferMethod] = []
        if self.encoder is not None and self.readings.plan.shape:
            every += ["frozen", "finetune"]
        if self.paths:
            every += ["coral", "batch-norm"]
        return every if self.asked.method == "auto" else [m for m in every if m == self.asked.method]

    @cached_property
    def tables(self) -> list[SensorTable]:
        """The other machine's normal tables."""
        return self.readings.of_others(self.paths)

    def candidate(self, method: TransferMethod) -> SensorCandidate:
        """Carry out one method on the machine's normals."""
        if method in get_args(LendingMethod):
            lending: LendingMethod = "coral" if method == "coral" else "batch-norm"
            return SensorCandidate(lent=lend(self.tables, self.readings.values, self.readings.window, lending))
        encoder = copy.deepcopy(self.encoder)
        assert encoder is not None
        if method == "finetune":
            normals, generator = self.readings.normals, torch.Generator().manual_seed(self.spec.seed)
            encoder.requires_grad_(True).train()
            shapes = normals.features(self.readings.extractor())[3].reshape(len(normals.windows), -1, normals.plan.shape)
            pretrain_sensors(encoder, shapes, self.spec.pretrain, generator)
        return SensorCandidate(encoder=encoder)

    def run(self, out: Path) -> dict[str, Any]:
        """Judge, choose, and write the extractor file. Returns its description."""
        made = {method: self.candidate(method) for method in self.methods()}
        taken, report = self._chosen(made) if made else (ALONE, {})
        if made:
            self.progress(f"transfer: {taken}; {report['why']}")
        candidate = SensorCandidate() if taken == ALONE else made[next(m for m in made if m == taken)]
        described = self.about if candidate.encoder is not None else describe_encoder(self.spec)
        kept: dict[str, Any] = {"kept": False, "why": "starts from another machine" if taken != ALONE else "the transfer was not taken"}
        about = {**described, "adaptation": kept, "transfer": report, "changed": candidate.encoder is not None}
        vote = self._vote(candidate, report)
        lent = [] if candidate.lent is None else [torch.from_numpy(part.copy()) for part in (candidate.lent.windows, candidate.lent.places)]
        save_extractor(out, candidate.encoder, about, lent, vote)
        return about

    def _vote(self, candidate: SensorCandidate, report: dict[str, Any]) -> dict[str, Tensor]:
        """The vote of labelled faults, where there are any and it helps; what was found of it is added to the report."""
        if self.asked.faults is None:
            return {}
        extractor = self.readings.extractor(candidate.encoder)
        vote, report["few_labels"] = fit_vote(self.readings, self.readings.normals_with(candidate.lent), extractor)
        self.progress(f"{report['few_labels']['faults']} labelled faults: vote {report['few_labels']['vote']}")
        return vote

    def _chosen(self, made: dict[TransferMethod, SensorCandidate]) -> tuple[str, dict[str, Any]]:
        """(method taken, the guard's report)."""
        try:
            alone = candidate_ranking(self.readings, SensorCandidate())
        except DataError as error:  # too few normals for the machine to stand alone: nothing to compare with
            return self._unjudged(list(made), str(error))
        rankings = {ALONE: alone} | {str(method): candidate_ranking(self.readings, one) for method, one in made.items()}
        # A lent record widens scales: synthetic faults, which last seconds, gain by that and real ones need not. Of 36 loans to machines
        # that can stand alone 11 seemed to help; none of these gained over 0.011 ROC-AUC, and four lost over 0.02.
        verdicts = judge(rankings, self.spec.seed, unproven=get_args(LendingMethod))
        taken, why = choose(verdicts, self.asked.method)
        return taken, summary(self.asked.method, taken, why, alone, verdicts)

    def _unjudged(self, methods: Sequence[TransferMethod], reason: str) -> tuple[str, dict[str, Any]]:
        taken = next((m for m in methods if m in get_args(LendingMethod)), None)
        if taken is None:
            raise DataError(reason)
        why = f"not compared with the target alone, which cannot be fitted: {reason}"
        return taken, {"method": taken, "asked": self.asked.method, "why": why, "ways": {}, "negative_transfer": []}


def candidate_ranking(readings: NormalReadings, candidate: SensorCandidate) -> Ranking:
    """How a candidate ranks synthetic faults on the machine's own normals, by blocks. Raises DataError when these are too few for it."""
    extractor = readings.extractor(candidate.encoder)
    normals = readings.normals_with(candidate.lent) if candidate.lent is not None else readings.normals
    return held_out_scores(readings.spec, normals, extractor, normals.features(extractor)).ranking


def describe_encoder(spec: SensorSpec) -> dict[str, Any]:
    """The description of the spec's encoder before any training, as it travels in its file."""
    return {
        "kind": "sensor",
        "channels": spec.extractor.channels,
        "dilations": list(spec.extractor.dilations),
        "source": {"weights": "none", "licence": "none"},
        "adaptation": {"kept": False, "why": "not asked for"},
    }


def sensor_source(spec: SensorSpec, path: Path) -> tuple[SensorEncoder | None, dict[str, Any]]:
    """The encoder of another machine, None where it was not kept, with its description: of a bundle, or an extractor file.

    Raises BundleError or WeightsError when it cannot be read, or is of another make than the spec's.
    """
    if path.suffix != ".anomaly":
        return load_sensor_encoder(spec, path)
    bundle = read_bundle(path)
    described: dict[str, Any] = bundle.manifest.provenance["fit"]["extractor"]
    if not is_changed(described):
        return None, described
    return restore_sensor_encoder(spec, path, described, bundle.members[CARRIED]), described
