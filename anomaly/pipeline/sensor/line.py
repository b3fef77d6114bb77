"""A line of sensors: tables of normal readings in, detector parts out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anomaly.calibration.conformal import Calibrator
from anomaly.calibration.dependence import extremal_index, independent_block
from anomaly.data.clock import span_words
from anomaly.data.records import fingerprint
from anomaly.data.tables.dialect.find import to_store
from anomaly.data.tables.files import find_tables, label_of, table_schema
from anomaly.data.tables.labels.stretches import labelled_among
from anomaly.data.tables.normal_range import with_normal_range
from anomaly.data.tables.profile import describe_tables
from anomaly.data.tables.reader import read_table
from anomaly.data.tables.windows import Run
from anomaly.evaluation.figures import Evaluation, evaluate_tables
from anomaly.export.detector import WINDOWS, Detector
from anomaly.features.build import load_borrowed, load_sensor_encoder, load_vote, save_extractor
from anomaly.features.preprocess import SensorPreprocess
from anomaly.pipeline.data_key import transfer_files, with_transfer
from anomaly.pipeline.fitted import Fitted
from anomaly.pipeline.line import Delays, Examples, Exported, Graphs
from anomaly.pipeline.sensor.few_labels.vote import Voting, fit_vote
from anomaly.pipeline.sensor.held_out import describe_normals, held_out_scores, name_suspects
from anomaly.pipeline.sensor.lending import LentWindows
from anomaly.pipeline.sensor.record import calibration_scores
from anomaly.pipeline.sensor.stream import make_stream
from anomaly.pipeline.sensor.tables import NormalReadings
from anomaly.pipeline.sensor.transfer import SensorTransfer, own_encoder
from anomaly.progress import Progress, finished, part
from anomaly.schema import DAY_S, InputSchema
from anomaly.scorers.build import load_sensor_scorer
from anomaly.scorers.suspects import is_outlier
from anomaly.spec import SensorSpec, Transfer

MOST_SUSPECT = 1 / 3  # of the windows, at most, are left out of the fit


class SensorLine:
    """The tables under one path with their spec: one file, or a folder with train*.csv (and test*.csv) or only normals."""

    def __init__(self, spec: SensorSpec, data: Path) -> None:
        """Find the tables. Raises DataError for a path that is not there or holds none."""
        self.spec = spec
        self.root = data
        train_paths, self.test_paths = find_tables(data)
        self.readings = NormalReadings(spec, data, train_paths)
        records = spec.calibration.records
        self.record_paths = find_tables(records)[0] if records else []

    def files(self) -> list[Path]:
        return [*self.readings.paths, *self.test_paths, *self.record_paths, *transfer_files(self.spec.transfer)]

    def fingerprint(self) -> str:
        own = with_transfer(fingerprint(self.readings.paths, self.root), self.spec.transfer)
        if not self.record_paths:
            return own
        assert self.spec.calibration.records is not None
        return hashlib.sha256(f"{own} {fingerprint(self.record_paths, self.spec.calibration.records)}".encode()).hexdigest()

    def test_fingerprint(self) -> str:
        return fingerprint(self.test_paths, self.root) if self.test_paths else ""

    def notes(self) -> list[str]:
        values = self.readings.values
        still = bool(len(values)) and not (np.nanmax(values, axis=0) > np.nanmin(values, axis=0)).any()
        flat = [f"{self.root}: no sensor moves in the normal rows, so any movement will be flagged; look whether the export is right"]
        return [*(flat if still else []), *(note for table in self.readings.tables for note in table.report.notes[:5])]

    def subset(self, start: int, count: int, transfer: Transfer) -> SensorLine:
        """The same line with this transfer, of whose normal rows only `count` from the `start`-th on are known."""
        part = SensorLine(self.spec.model_copy(update={"transfer": transfer}), self.root)
        part.readings = NormalReadings(part.spec, self.root, self.readings.paths, self.readings.subset(start, count).tables)
        return part

    # --- pretrain ---

    def pretrain(self, out: Path, progress: Progress, *, full: bool = False) -> dict[str, Any]:
        progress(f"reading {len(self.readings.paths)} table{'s' if len(self.readings.paths) > 1 else ''}")
        if self.readings.tables:  # they are read here, and kept
            for text in describe_tables(self.readings.tables)[:2]:  # how they are written, before anything is learnt from them
                progress(text)
            finished(part(progress, 0.0, 0.3))
        progress = part(progress, 0.3, 1.0)
        asked = self.spec.transfer
        if asked.source is not None or asked.normals is not None:
            return SensorTransfer(self.readings, progress).run(out)
        encoder, about = own_encoder(self.readings, progress, full=full)
        vote: dict[str, torch.Tensor] = {}
        if asked.faults is not None:
            network = self.readings.extractor(encoder)
            vote, found = fit_vote(self.readings, self.readings.normals, network)
            about["transfer"] = {"few_labels": found}
        save_extractor(out, encoder, about, vote=vote)
        return about

    # --- fit ---

    def fit(self, extractor: Path, progress: Progress) -> Fitted:
        encoder, about = load_sensor_encoder(self.spec, extractor)
        borrowed, readings = load_borrowed(extractor), self.readings
        network = readings.extractor(encoder)
        normals = readings.normals_with(LentWindows(borrowed[0].numpy(), borrowed[1].numpy())) if borrowed else readings.normals
        features = normals.features(network)
        held_out = held_out_scores(self.spec, normals, network, features)
        progress(f"made-up faults AUROC {held_out.ranking.auroc():.4f}")
        suspect = is_outlier(torch.from_numpy(held_out.scores)).numpy()
        leave_out = self.spec.scorer.suspects == "leave_out" and bool(0 < suspect.mean() <= MOST_SUSPECT)
        suspects = name_suspects(readings.tables, self.readings.window, normals.places, held_out.scores, suspect)
        kept = ~suspect if leave_out else np.ones_like(suspect)
        if leave_out:  # they still count when the threshold is set: until a person has looked at them they are normal
            held_out = held_out_scores(self.spec, normals, network, features, kept)
        vote = Voting(load_vote(extractor), held_out.scores, str(extractor))
        final, held_out = vote.beside(held_out.scorer), replace(held_out, scores=vote.raised(held_out.scores))
        tensors = {**final.state_dict(), "input.center": normals.preprocess.center, "input.scale": normals.preprocess.scale}
        reference = describe_normals(readings.names, normals, held_out)
        calibration = calibration_scores(readings, self.record_paths, network, held_out, about, progress, vote)
        report = {
            "normals": len(normals.windows),
            "learnt": span_words(len(readings.values) * readings.tables[0].period_s),
            "held_out_by": calibration.source,
            "block": independent_block(held_out.scores, normals.places, self.readings.window),
            "extremal_index": extremal_index(calibration.scores, self.readings.window),
            "views": readings.plan.as_dict() | {"unit": [round(float(value), 4) for value in held_out.unit]},
            "tables": describe_tables(readings.tables),
            "care": {table.path.name: table.report.summary() for table in readings.tables},
            "suspects": suspects,
            "suspects_left_out": leave_out,
            "injected_auroc": held_out.ranking.auroc(),
            "injected_scores": held_out.faulty_scores(),
            "extractor": about,
        }
        shown = held_out.shown
        return Fitted("views", tensors, calibration.scores, calibration.independent, reference, report, in_time=True, shown=shown)

    # --- what the bundle is made of ---

    def detector(self, extractor: Path, fitted: Fitted, calibrator: Calibrator) -> Detector:
        encoder, _ = load_sensor_encoder(self.spec, extractor)
        preprocess = SensorPreprocess(fitted.tensors["input.center"], fitted.tensors["input.scale"])
        scorer = load_sensor_scorer(fitted.method, fitted.tensors)
        return Detector(WINDOWS, preprocess, self.readings.extractor(encoder), scorer, calibrator).eval()

    def input_schema(self) -> InputSchema:
        table = self.readings.tables[0]
        modes = self.spec.input.modes
        return InputSchema(
            name="window",
            dtype="float32",
            channels=len(table.channels),
            window=self.readings.window,
            period_s=table.period_s,
            max_gap_s=table.max_gap_s,
            time=self.spec.input.time if isinstance(self.spec.input.time, str) else None,
            sensors=with_normal_range(table.channels, self.readings.tables),
            labels=self.spec.input.labels,
            mode_column=modes.column if modes else None,
            modes=modes.use if modes else (),
            dialect=to_store(table.dialect, self.readings.paths),
        )

    def evaluate(self, run: Run, schema: InputSchema, p: float, progress: Progress) -> Evaluation | None:
        if not self.test_paths:
            return None
        tables = [read_table(path, table_schema(schema)) for path in self.test_paths]
        label = label_of(tables[0])
        found = evaluate_tables(run, tables, label, self.readings.window, p, progress=progress) if label else None
        if found is not None and self.spec.transfer.faults is not None:  # figures on what was learnt from flatter
            found.figures["labels_learnt_from"] = [p.name for p in labelled_among(self.test_paths, self.spec.transfer.faults)]
        return found

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> Examples:
        noise, real = self.readings.random_windows(count, rng)
        return Examples([noise], [real])

    def graphs(self, exported: Exported, rng: np.random.Generator, progress: Progress, *, quick: bool = False) -> Graphs:
        graph, parity = make_stream(self.readings, exported.detector, exported.model, exported.p, rng)
        return Graphs(stream=graph, parity=parity)

    def decisions_per_day(self, report: dict[str, Any]) -> float | None:
        """Rows a day over the rows of a burst: high scores come in bursts, and a burst is one alarm."""
        return float(DAY_S / self.readings.tables[0].period_s * report["extremal_index"])

    def delays(self) -> Delays:
        """An alarm opens when records have been flagged for a sixth of a window. A whole window, which would outlast every single wild
        reading, lost two thirds of all faults on records of six other kinds, and gained precision on SKAB alone.

        It is over after three windows: what is flagged again sooner is the same fault.
        """
        rows, period_s = self.readings.plan.level, self.readings.tables[0].period_s
        return Delays(on_delay_s=max(rows // 6 - 1, 0) * period_s, off_delay_s=3 * rows * period_s)
