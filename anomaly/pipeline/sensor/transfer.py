"""Sensors that start from another machine: the ways, their judgement, and the extractor file that comes of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from anomaly.bundle.archive import CARRIED, read_bundle
from anomaly.data.tables.files import find_tables
from anomaly.data.tables.reader import SensorTable
from anomaly.errors import DataError, SpecError
from anomaly.evaluation.injected import Ranking
from anomaly.evaluation.transfer import ALONE, choose, judge, summary
from anomaly.features.build import is_changed, load_sensor_extractor, restore_sensor_encoder, save_extractor
from anomaly.features.encoder import SensorEncoder, SensorExtractor, filled
from anomaly.features.training.pretrain_sensors import pretrain_sensors
from anomaly.pipeline.line import Progress
from anomaly.pipeline.sensor.held_out import Normals, held_out_scores
from anomaly.pipeline.sensor.lending import LendingWay, Lent, lend
from anomaly.spec import SensorSpec, TransferMethod

if TYPE_CHECKING:
    from anomaly.pipeline.sensor.line import SensorLine

CAMERAS_ONLY = ("deep-coral", "dann", "tradaboost")


@dataclass(frozen=True)
class Way:
    """What one way of transfer comes to: an encoder, and windows that the other machine lends."""

    encoder: SensorEncoder | None = None
    lent: Lent | None = None


class SensorTransfer:
    """The ways from a source to a line of sensors. Nothing heavy happens before a method is called."""

    def __init__(self, line: SensorLine, progress: Progress) -> None:
        """Read the source's encoder and find its tables. Raises SpecError, WeightsError, BundleError or DataError when they do not fit."""
        self.line, self.asked, self.progress = line, line.spec.transfer, progress
        self.encoder, self.about = None, line.describe()
        if self.asked.source is not None:
            self.encoder, self.about = sensor_source(line.spec, self.asked.source)
        self.paths = find_tables(self.asked.normals)[0] if self.asked.normals is not None else []
        if not self.ways():
            raise SpecError(
                f"transfer from {self.asked.source or self.asked.normals}: nothing to transfer by {self.asked.method!r}; its encoder was "
                f"not kept, or the way is for cameras ({', '.join(CAMERAS_ONLY)}); give the machine's normal record: [transfer] normals"
            )

    def ways(self) -> list[TransferMethod]:
        """The ways that what is given allows."""
        every: list[TransferMethod] = []
        if self.encoder is not None:
            every += ["frozen", "finetune"]
        if self.paths:
            every += ["coral", "batch-norm"]
        return every if self.asked.method == "auto" else [m for m in every if m == self.asked.method]

    @cached_property
    def tables(self) -> list[SensorTable]:
        """The other machine's normal tables."""
        return self.line.others(self.paths)

    def way(self, method: TransferMethod) -> Way:
        """Carry out one way on the line's normals."""
        if method in get_args(LendingWay):
            return Way(
                lent=lend(self.tables, self.line.values, self.line.spec.input.window, "coral" if method == "coral" else "batch-norm")
            )
        encoder = copy.deepcopy(self.encoder)
        assert encoder is not None
        if method == "finetune":
            normals, generator = self.line.normals, torch.Generator().manual_seed(self.line.spec.seed)
            encoder.requires_grad_(True).train()
            pretrain_sensors(encoder, filled(normals.preprocess(torch.from_numpy(normals.windows))), self.line.spec.pretrain, generator)
        return Way(encoder=encoder)

    def run(self, out: Path) -> dict[str, Any]:
        """Judge, choose, and write the extractor file. Returns its description."""
        made = {method: self.way(method) for method in self.ways()}
        try:
            alone = ranking(self.line, Way())
        except DataError as error:  # too few normals for the line to stand alone: nothing to compare with
            taken, report = self._unjudged(list(made), str(error))
        else:
            rankings = {ALONE: alone} | {str(method): ranking(self.line, way) for method, way in made.items()}
            # A lent record widens scales: made-up faults, which last seconds, gain by that and real ones need not. Of 36 loans to machines
            # that can stand alone 11 seemed to help; none of these gained over 0.011 ROC-AUC, and four lost over 0.02.
            judged = judge(rankings, self.line.spec.seed, unproven=get_args(LendingWay))
            taken, why = choose(judged, self.asked.method)
            report = summary(self.asked.method, taken, why, alone, judged)
        self.progress(f"transfer: {taken}; {report['why']}")
        way = Way() if taken == ALONE else made[next(m for m in made if m == taken)]
        described = self.about if way.encoder is not None else self.line.describe()
        kept: dict[str, Any] = {"kept": False, "why": "starts from another machine" if taken != ALONE else "the transfer was not taken"}
        about = {**described, "adaptation": kept, "transfer": report, "changed": way.encoder is not None}
        lent = [] if way.lent is None else [torch.from_numpy(part.copy()) for part in (way.lent.windows, way.lent.places)]
        save_extractor(out, way.encoder, about, lent)
        return about

    def _unjudged(self, methods: Sequence[TransferMethod], reason: str) -> tuple[str, dict[str, Any]]:
        taken = next((m for m in methods if m in get_args(LendingWay)), None)
        if taken is None:
            raise DataError(reason)
        why = f"not compared with the target alone, which cannot be fitted: {reason}"
        return taken, {"method": taken, "asked": self.asked.method, "why": why, "ways": {}, "negative_transfer": []}


def ranking(line: SensorLine, way: Way) -> Ranking:
    """How a way ranks made-up faults on the line's own normals, by blocks. Raises DataError when these are too few for it."""
    extractor = SensorExtractor(line.spec.input.window, way.encoder).eval()
    normals: Normals = line.normals_with(way.lent) if way.lent is not None else line.normals
    return held_out_scores(line.spec, line.first_method(), normals, extractor, normals.features(extractor)).ranking


def sensor_source(spec: SensorSpec, path: Path) -> tuple[SensorEncoder | None, dict[str, Any]]:
    """The encoder of another machine, None where it was not kept, with its description: of a bundle, or an extractor file.

    Raises BundleError or WeightsError when it cannot be read, or is of another make than the spec's.
    """
    if path.suffix != ".anomaly":
        extractor, about = load_sensor_extractor(spec, path)
        return extractor.encoder, about
    bundle = read_bundle(path)
    described: dict[str, Any] = bundle.manifest.provenance["fit"]["extractor"]
    if not is_changed(described):
        return None, described
    return restore_sensor_encoder(spec, path, described, bundle.members[CARRIED]), described
