"""Sensors that start from another machine: the candidates, their judgement, and the extractor file that comes of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from anomaly.bundle.archive import CARRIED, read_bundle
from anomaly.data.tables.files import find_tables
from anomaly.data.tables.reader import SensorTable
from anomaly.errors import DataError, SpecError
from anomaly.evaluation.injected import Ranking
from anomaly.evaluation.transfer import ALONE, choose, compare, judge, summary
from anomaly.features.build import build_sensor_encoder, is_changed, load_sensor_encoder, restore_sensor_encoder, save_extractor
from anomaly.features.encoder import SensorEncoder, balanced
from anomaly.features.training.pretrain_sensors import pretrain_sensors
from anomaly.pipeline.sensor.few_labels.vote import fit_vote
from anomaly.pipeline.sensor.held_out import HeldOut, held_out_scores
from anomaly.pipeline.sensor.lending import LendingMethod, LentWindows, lend
from anomaly.pipeline.sensor.tables import NormalReadings, Normals, build_extractor
from anomaly.progress import Progress, part, silent
from anomaly.spec import Pretrain, SensorSpec, TransferMethod

CAMERAS_ONLY = ("deep-coral", "dann")
ENCODERS = ("frozen", "finetune")  # methods that start from another machine's encoder
PROBED = 1500  # windows that an encoder is judged on


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

    @cached_property
    def alone(self) -> tuple[SensorEncoder | None, dict[str, Any]]:
        """What the machine comes to by itself: its encoder, None where there is none, and its description."""
        try:
            return own_encoder(self.readings, self.progress)
        except DataError:  # too few normals to hold some out
            return None, describe_encoder(self.spec)

    def candidate(self, method: TransferMethod) -> SensorCandidate:
        """Carry out one method on the machine's normals."""
        if method in get_args(LendingMethod):
            lending: LendingMethod = "coral" if method == "coral" else "batch-norm"
            return SensorCandidate(self.alone[0], lend(self.tables, self.readings.values, self.readings.window, lending))
        assert self.encoder is not None
        training = self.spec.pretrain if method == "finetune" else None
        return SensorCandidate(fitted_encoder(self.encoder, self.readings.normals, self.spec.seed, training, self.progress))

    def run(self, out: Path) -> dict[str, Any]:
        """Judge, choose, and write the extractor file. Returns its description."""
        made = {method: self.candidate(method) for method in self.methods()}
        taken, report = self._chosen(made) if made else (ALONE, {})
        if made:
            self.progress(f"transfer: {taken}; {report['why']}")
        candidate = SensorCandidate(self.alone[0]) if taken == ALONE else made[next(m for m in made if m == taken)]
        about = self.alone[1]
        if taken in ENCODERS:
            about = {**self.about, "adaptation": {"kept": False, "why": "starts from another machine"}, "changed": True}
        about = {**about, "transfer": report}
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
            alone = candidate_ranking(self.readings, SensorCandidate(self.alone[0]))
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
    normals = readings.normals_with(candidate.lent) if candidate.lent is not None else readings.normals
    held_out = _held_out(readings.spec, normals, candidate.encoder)
    if not readings.plan.shape:
        return held_out.ranking
    return Ranking(held_out.ranking.clean, np.concatenate([held_out.ranking.faulty, held_out.shapes.faulty], axis=1))


def _held_out(spec: SensorSpec, normals: Normals, encoder: SensorEncoder | None) -> HeldOut:
    extractor = build_extractor(normals.plan, encoder)
    return held_out_scores(spec, normals, extractor, normals.features(extractor))


# --- the encoder ---


def own_encoder(
    readings: NormalReadings, progress: Progress = silent, *, full: bool = False
) -> tuple[SensorEncoder | None, dict[str, Any]]:
    """The encoder that the machine's own normals speak for, None where they speak for none, and its description.

    It is judged on some of the normals: made-up faults of shape must rank better with it than by the readings themselves. With `full`
    it is also trained on all of them, which is kept only where that clearly gains. Raises DataError where there are too few normals.
    """
    spec, about = readings.spec, describe_encoder(readings.spec)
    if spec.pretrain.method == "none":
        return None, about
    if not readings.plan.shape:
        about["adaptation"] = {"kept": False, "why": "there is no shape in these readings for an encoder to see"}
        return None, about
    normals = readings.normals
    some = normals.thinned(PROBED)
    part(progress, 0.0, 0.2)("made-up faults of shape, with the encoder and without")
    encoder = fitted_encoder(build_sensor_encoder(spec), some, spec.seed)
    ranked = _held_out(spec, some, encoder).shapes
    gain = compare(ranked, _held_out(spec, some, None).shapes, spec.seed)
    about["adaptation"] = {
        "method": "fixed kernels",
        **gain.kept("faults of shape", "over the readings themselves"),
        "kept": gain.low > 0,
    }
    if full:
        trained = fitted_encoder(build_sensor_encoder(spec), normals, spec.seed, spec.pretrain, part(progress, 0.2, 0.9))
        gain = compare(_held_out(spec, some, trained).shapes, ranked, spec.seed)
        about["adaptation"]["trained"] = gain.kept("faults of shape", "over the kernels as they were")
        if gain.helps:
            about["adaptation"] |= {"method": "trained kernels", "kept": True}
            about["source"] = {"weights": "self-supervised on the site's own normals", "licence": "the site's own"}
            return trained, about
    return (fitted_encoder(encoder, normals, spec.seed) if about["adaptation"]["kept"] else None), about


def fitted_encoder(
    encoder: SensorEncoder, normals: Normals, seed: int, training: Pretrain | None = None, progress: Progress = silent
) -> SensorEncoder:
    """A copy of the encoder with the units of these normals; trained on them first, where that is asked for."""
    plan, sensors = normals.plan, normals.windows.shape[2]
    apart = normals.features(build_extractor(plan))[3].reshape(-1, sensors, plan.shape)
    encoder = copy.deepcopy(encoder)
    if training is not None:
        pretrain_sensors(encoder, apart, training, seed, progress)
    return balanced(encoder, apart, torch.from_numpy(normals.places))


def describe_encoder(spec: SensorSpec) -> dict[str, Any]:
    """The description of the spec's encoder before any training, as it travels in its file."""
    return {
        "kind": "sensor",
        "kernels": spec.extractor.kernels,
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
