"""A line of sensors: tables of normal readings in, detector parts out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.calibration.budget import DAY_S
from anomaly.calibration.conformal import Calibrator, extremal_index, independent_scores
from anomaly.data.records import fingerprint
from anomaly.data.tables.faults import inject
from anomaly.data.tables.files import find_tables, label_of, read_normals, table_schema, window_of
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import block_folds, stack_windows, stretch_lengths, window_ends, windows_at
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation, Run, evaluate_tables
from anomaly.evaluation.transfer import compare
from anomaly.export.detector import Detector
from anomaly.features.build import build_sensor_encoder, load_borrowed, load_sensor_extractor, save_extractor
from anomaly.features.encoder import SensorExtractor, filled
from anomaly.features.preprocess import SensorPreprocess
from anomaly.features.training.pretrain_sensors import pretrain_sensors
from anomaly.pipeline.line import Fitted, Progress, with_transfer
from anomaly.pipeline.sensor.held_out import HeldOut, Normals, fit_preprocess, fit_scorer, held_out_scores, pseudo_runs, wandering_scores
from anomaly.pipeline.sensor.lending import LendingWay, Lent
from anomaly.pipeline.sensor.transfer import SensorTransfer
from anomaly.schema import InputSchema
from anomaly.scorers.build import load_sensor_scorer
from anomaly.scorers.sensors.windows import Recovering
from anomaly.scorers.suspects import stands_out
from anomaly.spec import SensorMethod, SensorSpec, Transfer

FEWEST = 8  # windows, or windows a fold, to fit on
MAX_WINDOWS = 20_000  # windows used for fitting; more are thinned evenly
SHOWN = 20  # suspects named in the report
MOST_SUSPECT = 1 / 3  # of the windows, at most, are left out of the fit


class SensorLine:
    """The tables under one path with their spec: one file, or a folder with train*.csv (and test*.csv) or only normals."""

    def __init__(self, spec: SensorSpec, data: Path) -> None:
        """Find the tables. Raises DataError for a path that is not there or holds none."""
        self.spec = spec
        self.root = data
        self.train_paths, self.test_paths = find_tables(data)
        records = spec.calibration.records
        self.record_paths = find_tables(records)[0] if records else []

    def fingerprint(self) -> str:
        own = with_transfer(fingerprint(self.train_paths, self.root), self.spec.transfer)
        if not self.record_paths:
            return own
        assert self.spec.calibration.records is not None
        return hashlib.sha256(f"{own} {fingerprint(self.record_paths, self.spec.calibration.records)}".encode()).hexdigest()

    def test_fingerprint(self) -> str:
        return fingerprint(self.test_paths, self.root) if self.test_paths else ""

    @cached_property
    def tables(self) -> list[SensorTable]:
        """Training tables; rows past `train_rows`, and rows labelled as faults, are not usable in them."""
        return read_normals(self.train_paths, table_schema(self.spec.input), self.spec.input.train_rows)

    @cached_property
    def normals(self) -> Normals:
        """Normal windows, their places counted over all tables with a gap between them. Raises DataError when there are too few."""
        return self.normals_with(None)

    def normals_with(self, lent: Lent | None) -> Normals:
        """The same with what another machine lends; then a few windows are enough."""
        rows = self.spec.input.window
        ends = [window_ends(table.times, table.usable, rows, table.max_gap_s) for table in self.tables]
        windows, places = stack_windows([(table.values, found) for table, found in zip(self.tables, ends, strict=True)], rows, MAX_WINDOWS)
        folds = self.spec.calibration.folds
        fewest = FEWEST if lent is not None else -(-(FEWEST + 2 * rows) * folds // (folds - 1))  # what a fold and the gaps beside it leave
        if len(windows) < fewest and (lent is not None or _smallest_fit(places, folds, rows) < FEWEST):
            raise DataError(
                f"{self.root}: {len(windows)} normal windows of {rows} rows without a gap; at least {fewest} are needed; give more "
                "rows, or lower [input] window, or raise [input] max_gap_s, or start from another machine (`anomaly transfer`)"
            )
        names = [c.name for c in self.tables[0].channels]
        return Normals(windows, places, fit_preprocess(self.values, names, str(self.root), lent), lent)

    @property
    def values(self) -> NDArray[np.float32]:
        """All normal rows (n, C)."""
        return np.concatenate([table.values[table.usable] for table in self.tables])

    def knowing(self, start: int, count: int, transfer: Transfer) -> SensorLine:
        """The same line with this transfer, of whose normal rows only `count` from the `start`-th on are known."""
        part, seen = SensorLine(self.spec.model_copy(update={"transfer": transfer}), self.root), 0
        part.tables = []
        for table in self.tables:
            number = seen + np.cumsum(table.usable) - 1
            part.tables.append(replace(table, usable=table.usable & (number >= start) & (number < start + count)))
            seen += int(table.usable.sum())
        return part

    def others(self, paths: list[Path]) -> list[SensorTable]:
        """Normal tables of other machines, read by this machine's sensors."""
        return read_normals(paths, replace(table_schema(self.spec.input), channels=self.tables[0].channels), None)

    # --- pretrain ---

    def describe(self) -> dict[str, Any]:
        """The description of the spec's encoder before any training, as it travels in its file."""
        return {
            "kind": "sensor",
            "channels": self.spec.extractor.channels,
            "dilations": list(self.spec.extractor.dilations),
            "source": {"weights": "none", "licence": "none"},
            "adaptation": {"kept": False, "why": "not asked for"},
        }

    def pretrain(self, out: Path, progress: Progress) -> dict[str, Any]:
        if self.spec.transfer.given:
            return SensorTransfer(self, progress).run(out)
        encoder, about = build_sensor_encoder(self.spec), self.describe()
        if self.spec.pretrain.method != "none":
            z = filled(self.normals.preprocess(torch.from_numpy(self.normals.windows)))
            generator = torch.Generator().manual_seed(self.spec.seed)
            before, after = pretrain_sensors(
                encoder,
                z,
                self.spec.pretrain,
                generator,
                lambda epoch, error: progress(f"masked reconstruction, epoch {epoch}: held-out error {error:.4f}"),
            )
            judged = self._judge(SensorExtractor(self.spec.input.window, encoder))
            errors = {"held_out_error_before": before, "held_out_error": after}
            about["adaptation"] = {"method": "masked reconstruction", **errors, **judged}
            if about["adaptation"]["kept"]:
                about["source"] = {"weights": "self-supervised on the site's own normals", "licence": "the site's own"}
        save_extractor(out, encoder, about)
        return about

    def _judge(self, learnt: SensorExtractor) -> dict[str, Any]:
        """Is the encoder worth its place? Only if made-up faults on normals not fitted on rank clearly better with it."""
        method = self.first_method()
        ours, theirs = (
            held_out_scores(self.spec, method, self.normals, extractor, self.normals.features(extractor))
            for extractor in (learnt, SensorExtractor(self.spec.input.window))
        )
        return compare(ours.ranking, theirs.ranking, self.spec.seed).kept("faults", "over level and spread alone")

    # --- fit ---

    def first_method(self) -> SensorMethod:
        """The scorer the spec names, the default for "auto"."""
        return "deviation" if self.spec.scorer.method == "auto" else self.spec.scorer.method

    def _choose(
        self, extractor: SensorExtractor, normals: Normals, features: list[Tensor], progress: Progress
    ) -> tuple[SensorMethod, HeldOut, dict[str, float]]:
        """The scorer the spec names; for "auto" the default, unless another ranks made-up faults clearly better."""
        first = self.first_method()
        best, held_out = first, held_out_scores(self.spec, first, normals, extractor, features)
        tried: dict[str, float] = {first: held_out.ranking.auroc()}
        progress(f"{first}: made-up faults AUROC {tried[first]:.4f}")
        others: list[SensorMethod] = [m for m in get_args(SensorMethod) if m != first] if self.spec.scorer.method == "auto" else []
        for other in others:
            found = held_out_scores(self.spec, other, normals, extractor, features)
            tried[other] = found.ranking.auroc()
            progress(f"{other}: made-up faults AUROC {tried[other]:.4f}")
            if compare(found.ranking, held_out.ranking, self.spec.seed).helps:
                best, held_out = other, found
        return best, held_out, tried

    def fit(self, extractor: Path, progress: Progress) -> Fitted:
        network, about = load_sensor_extractor(self.spec, extractor)
        borrowed = load_borrowed(extractor)
        normals = self.normals_with(Lent(borrowed[0].numpy(), borrowed[1].numpy())) if borrowed else self.normals
        features = normals.features(network)
        method, held_out, tried = self._choose(network, normals, features, progress)
        suspect = stands_out(torch.from_numpy(held_out.scores)).numpy()
        leave_out = self.spec.scorer.suspects == "leave_out" and bool(0 < suspect.mean() <= MOST_SUSPECT)
        suspects = self._suspects(held_out.scores, suspect, normals.places)
        kept = ~suspect if leave_out else np.ones_like(suspect)
        if leave_out:  # they still count when the threshold is set: until a person has looked at them they are normal
            held_out = held_out_scores(self.spec, method, normals, network, features, kept)
        final = fit_scorer(self.spec, method, normals, network, features, np.flatnonzero(kept))
        tensors = {**final.state_dict(), "input.center": normals.preprocess.center, "input.scale": normals.preprocess.scale}
        names = [f"share:{c.name}" for c in self.tables[0].channels]
        reference = pd.concat([pd.DataFrame({"score": held_out.scores}), pd.DataFrame(held_out.shares, columns=names)], axis=1)
        scores, effective, by = self._calibration(method, network, held_out, about, progress)
        report = {
            "normals": len(normals.windows),
            "held_out_by": by,
            "extremal_index": extremal_index(scores, self.spec.input.window),
            "scorer": method,
            "scorers_tried": tried,
            "care": {table.path.name: table.care.summary() for table in self.tables},
            "suspects": suspects,
            "suspects_left_out": leave_out,
            "injected_auroc": held_out.ranking.auroc(),
            "extractor": about,
        }
        return Fitted(tensors, scores, effective, reference, report)

    def _calibration(
        self, method: SensorMethod, network: SensorExtractor, held_out: HeldOut, about: dict[str, Any], progress: Progress
    ) -> tuple[NDArray[np.float64], float, str]:
        """(normal scores to calibrate by, how many of them are independent, where they came from).

        From pseudo-runs of other machines' normal records, where the spec names some or such a record was lent; else from blocks.
        """
        way, named = None, self.spec.calibration.records
        tables, learnt = self.others(self.record_paths), len(self.values)
        if about.get("transfer", {}).get("method") in get_args(LendingWay):
            way = about["transfer"]["method"]
            if not tables and self.spec.transfer.normals is not None:
                lenders = self.others(find_tables(self.spec.transfer.normals)[0])
                if pseudo_runs(lenders, learnt, self.spec.input.window, lent=True):
                    tables, named = lenders, self.spec.transfer.normals
        if not tables:
            return held_out.scores, independent_scores([held_out.scores]), f"{self.spec.calibration.folds} blocks"
        scores, effective, runs = wandering_scores(self.spec, method, tables, learnt, network, way)
        by = f"{runs} pseudo-run{'s' if runs > 1 else ''} of {learnt} rows learnt and the rows after them, from {named}"
        progress(f"threshold from {by}")
        return scores, effective, by

    def _suspects(self, scores: NDArray[np.float64], found: NDArray[np.bool_], places: NDArray[np.int64]) -> dict[str, float]:
        """Normal windows that stand out from the others, by the table and row their worst one ends at: {where: score}."""
        rows, offset = self.spec.input.window, 0
        named: dict[str, float] = {}
        for table in self.tables:
            own = np.flatnonzero(found & (places >= offset) & (places < offset + len(table.times)))
            for stretch in np.split(own, np.flatnonzero(np.diff(places[own]) > rows) + 1):
                if len(stretch):
                    first, last = (int(places[i]) - offset + 1 for i in (stretch[0], stretch[-1]))
                    named[f"{table.path.name}, data rows {first} to {last}"] = round(float(scores[stretch].max()), 3)
            offset += len(table.times) + 2 * rows
        return dict(sorted(named.items(), key=lambda item: -item[1])[:SHOWN])

    # --- what the bundle is made of ---

    def detector(self, extractor: Path, tensors: dict[str, Tensor], calibrator: Calibrator) -> Detector:
        network, _ = load_sensor_extractor(self.spec, extractor)
        preprocess = SensorPreprocess(tensors["input.center"], tensors["input.scale"])
        return Detector(preprocess, network, Recovering(load_sensor_scorer(tensors)), calibrator).eval()

    def input_schema(self, tensors: dict[str, Tensor]) -> InputSchema:
        table = self.tables[0]
        modes = self.spec.input.modes
        return InputSchema(
            name="window",
            dtype="float32",
            channels=len(table.channels),
            window=self.spec.input.window,
            context=self.spec.input.context,
            period_s=table.period_s,
            max_gap_s=table.max_gap_s,
            time=self.spec.input.time,
            sensors=table.channels,
            labels=self.spec.input.labels,
            mode_column=modes.column if modes else None,
            modes=modes.use if modes else (),
        )

    def evaluate(self, run: Run, schema: InputSchema, p: float) -> Evaluation | None:
        if not self.test_paths:
            return None
        tables = [read_table(path, table_schema(schema)) for path in self.test_paths]
        label = label_of(tables[0])
        return evaluate_tables(run, tables, label, *window_of(schema), p) if label else None

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        rows, whole = self.spec.input.window, self.spec.input.window + self.spec.input.context
        usual = fit_preprocess(self.values, [c.name for c in self.tables[0].channels], str(self.root))
        center, scale = usual.center.numpy(), usual.scale.numpy()
        noise = (center + 5 * scale * rng.standard_normal((count, whole, len(center)))).astype(np.float32)
        noise[rng.random(noise.shape) < 0.05] = np.nan
        lengths = [stretch_lengths(table.times, table.usable, table.max_gap_s) for table in self.tables]
        places = [(index, int(end)) for index, length in enumerate(lengths) for end in np.flatnonzero(length >= rows)]
        real = []
        for index, end in (places[i] for i in rng.integers(len(places), size=count)):
            at, known = np.array([end]), np.minimum(lengths[index][[end]], whole)
            real.append(windows_at(self.tables[index].values, at, whole, known)[0])
        real[::4] = [np.concatenate([w[:-rows], inject(w[-rows:], rng, scale)[0]]) for w in real[::4]]
        return [noise], [np.stack(real)]

    def stretch(self, count: int) -> NDArray[np.float32]:
        """`count` (or as many as there are) windows (n, T, C) that follow each other row by row, from the beginning of the first table."""
        whole, values = self.spec.input.window + self.spec.input.context, self.tables[0].values
        ends = np.arange(self.spec.input.window - 1, min(len(values), self.spec.input.window - 1 + count))
        return windows_at(values, ends, whole, ends + 1)

    def decisions_per_day(self, report: dict[str, Any]) -> float | None:
        """Rows a day over the rows of a burst: high scores come in bursts, and a burst is one alarm."""
        return float(DAY_S / self.tables[0].period_s * report["extremal_index"])

    def calm_s(self) -> float:
        """One window: what is flagged again sooner is the same burst."""
        return self.spec.input.window * self.tables[0].period_s


def _smallest_fit(places: NDArray[np.int64], folds: int, rows: int) -> int:
    """How many windows are left to fit on in the fold that has fewest."""
    return min((len(fit) for fit, _ in block_folds(places, folds, rows)), default=0)
