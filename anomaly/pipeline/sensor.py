"""A line of sensors: tables of normal readings in, detector parts out."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.bundle.manifest import InputSchema, SensorColumn
from anomaly.calibration.budget import DAY_S
from anomaly.calibration.conformal import Calibrator, effective_size
from anomaly.data.faults import inject
from anomaly.data.records import fingerprint
from anomaly.data.sensors import Channel, SensorTable, TableSchema, read_table
from anomaly.data.windows import block_folds, window_ends, windows_at
from anomaly.errors import DataError
from anomaly.evaluation.evaluate import Evaluation, Run, evaluate_tables
from anomaly.evaluation.injected import Ranking
from anomaly.export.detector import Detector
from anomaly.features.build import build_sensor_extractor, load_sensor_extractor, save_extractor
from anomaly.features.encoder import SensorEncoder
from anomaly.features.preprocess import SensorPreprocess
from anomaly.features.pretrain_sensors import pretrain_sensors
from anomaly.pipeline.line import Fitted, Progress
from anomaly.scorers.build import fit_sensor_scorer, load_sensor_scorer
from anomaly.spec import SensorSpec

TABLES = {".csv", ".parquet", ".pq"}
BINARY_LABELS = ("anomaly", "label", "is_anomaly", "fault")
MAX_WINDOWS = 20_000  # windows used for fitting; more are thinned evenly


class SensorLine:
    """The tables under one path with their spec: one file, or a folder with train*.csv (and test*.csv) or only normals."""

    def __init__(self, spec: SensorSpec, data: Path) -> None:
        """Find the tables. Raises DataError for a path that is not there or holds none."""
        self.spec = spec
        self.root = data
        self.train_paths, self.test_paths = find_tables(data)

    def fingerprint(self) -> str:
        return fingerprint(self.train_paths, self.root)

    def test_fingerprint(self) -> str:
        return fingerprint(self.test_paths, self.root) if self.test_paths else ""

    @cached_property
    def tables(self) -> list[SensorTable]:
        """Training tables; rows past `train_rows`, and rows labelled as faults, are not usable in them."""
        schema = table_schema(self.spec)
        tables = []
        for path in self.train_paths:
            table = read_table(path, schema)
            schema = TableSchema(**{**vars(schema), "channels": table.channels, "period_s": table.period_s, "max_gap_s": table.max_gap_s})
            label = label_of(table)
            if label is not None:
                table.usable[table.labels[label] > 0] = False
            if self.spec.input.train_rows is not None:
                table.usable[self.spec.input.train_rows :] = False
            tables.append(table)
        return tables

    @cached_property
    def windows(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Normal windows (n, T, C) and the place (n,) each ends at, counted over all tables with a gap between them."""
        rows = self.spec.input.window
        parts, ends, offset = [], [], 0
        for table in self.tables:
            found = window_ends(table.times, table.usable, rows, table.max_gap_s)
            parts.append(windows_at(table.values, found, rows) if len(found) else np.empty((0, rows, len(table.channels)), np.float32))
            ends.append(found + offset)
            offset += len(table.times) + 2 * rows
        windows, places = np.concatenate(parts), np.concatenate(ends)
        if len(windows) < 8 * self.spec.calibration.folds:
            raise DataError(
                f"{self.root}: {len(windows)} normal windows of {rows} rows without a gap; at least {8 * self.spec.calibration.folds} are "
                "needed; give more rows, or lower [input] window, or raise [input] max_gap_s"
            )
        step = -(-len(windows) // MAX_WINDOWS)
        return windows[::step], places[::step]

    @cached_property
    def preprocess(self) -> SensorPreprocess:
        """Centre and spread of each sensor over usable rows: median, and the larger of MAD and half the deviation."""
        values = np.concatenate([table.values[table.usable] for table in self.tables]).astype(np.float64)
        empty = [c.name for c, column in zip(self.tables[0].channels, values.T, strict=True) if np.isnan(column).all()]
        if empty:
            raise DataError(f"{self.root}: no readings in {empty}; leave them out of [input] sensors")
        center = np.nanmedian(values, axis=0)
        mad = 1.4826 * np.nanmedian(np.abs(values - center), axis=0)
        spread = np.maximum(mad, 0.5 * np.nanstd(values, axis=0))
        spread = np.where(spread > 0, spread, np.maximum(1e-3 * np.abs(center), 1e-6))  # a constant sensor
        return SensorPreprocess(torch.from_numpy(center), torch.from_numpy(spread))

    def pretrain(self, out: Path, progress: Progress) -> dict[str, Any]:
        encoder = build_sensor_extractor(self.spec)
        about: dict[str, Any] = {
            "kind": "sensor",
            "channels": self.spec.extractor.channels,
            "dilations": list(self.spec.extractor.dilations),
            "source": {"weights": "random", "licence": "none"},
        }
        if self.spec.pretrain.method != "none":
            z = self.preprocess(torch.from_numpy(self.windows[0]))
            generator = torch.Generator().manual_seed(self.spec.seed)
            before, after = pretrain_sensors(
                encoder,
                z,
                self.spec.pretrain,
                generator,
                lambda epoch, error: progress(f"masked reconstruction, epoch {epoch}: held-out error {error:.4f}"),
            )
            about["source"] = {"weights": "self-supervised on the site's own normals", "licence": "the site's own"}
            about["adaptation"] = {"method": "masked reconstruction", "held_out_error_before": before, "held_out_error": after}
        save_extractor(out, encoder, about)
        return about

    def fit(self, extractor: Path, progress: Progress) -> Fitted:
        encoder, about = load_sensor_extractor(self.spec, extractor)
        windows, places = self.windows
        sensors = windows.shape[2]
        features = self._features(encoder, windows)
        held_out, shares = np.empty(len(windows)), np.empty((len(windows), sensors))
        rankings = []
        for index, (fit, held) in enumerate(block_folds(places, self.spec.calibration.folds, self.spec.input.window)):
            scorer = fit_sensor_scorer([m[torch.from_numpy(fit)] for m in features], sensors)
            with torch.inference_mode():
                score, share = scorer([m[torch.from_numpy(held)] for m in features])
            held_out[held], shares[held] = score.numpy(), share.numpy()
            rankings.append(self._made_up(scorer, encoder, windows[held], held_out[held], index))
            progress(f"held-out scores: block {index + 1} of {self.spec.calibration.folds}")
        final = fit_sensor_scorer(features, sensors)
        tensors = {**final.state_dict(), "input.center": self.preprocess.center, "input.scale": self.preprocess.scale}
        names = [f"share:{c.name}" for c in self.tables[0].channels]
        reference = pd.concat([pd.DataFrame({"score": held_out}), pd.DataFrame(shares, columns=names)], axis=1)
        injected = Ranking(np.concatenate([r.clean for r in rankings]), np.concatenate([r.faulty for r in rankings]))
        care = {table.path.name: table.care.summary() for table in self.tables}
        report = {
            "normals": len(windows),
            "held_out_by": f"{self.spec.calibration.folds} blocks",
            "care": care,
            "injected_auroc": injected.auroc(),
            "extractor": about,
        }
        return Fitted(tensors, held_out, effective_size(held_out), reference, report)

    def _features(self, encoder: SensorEncoder, windows: NDArray[np.float32]) -> list[Tensor]:
        """Feature maps of windows, in batches so that memory stays bounded; only their means over time are kept."""
        parts: list[list[Tensor]] = []
        with torch.inference_mode():
            for chunk in torch.from_numpy(windows).split(2048):  # type: ignore[no-untyped-call]
                parts.append([m.mean(dim=-1, keepdim=True) for m in encoder(self.preprocess(chunk))])
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]

    def _made_up(
        self, scorer: torch.nn.Module, encoder: SensorEncoder, windows: NDArray[np.float32], clean: NDArray[np.float64], seed: int
    ) -> Ranking:
        rng = np.random.default_rng([self.spec.seed, seed])
        rows = np.sort(rng.choice(len(windows), size=min(200, len(windows)), replace=False))
        spread = self.preprocess.scale.numpy()
        faulty = np.stack([inject(windows[i], rng, spread)[0] for i in rows])
        with torch.inference_mode():
            score, _ = scorer(self._features(encoder, faulty))
        return Ranking(clean[rows], score.double().numpy()[:, None])

    def detector(self, extractor: Path, tensors: dict[str, Tensor], calibrator: Calibrator) -> Detector:
        encoder, _ = load_sensor_extractor(self.spec, extractor)
        preprocess = SensorPreprocess(tensors["input.center"], tensors["input.scale"])
        return Detector(preprocess, encoder, load_sensor_scorer(tensors), calibrator).eval()

    def input_schema(self, tensors: dict[str, Tensor]) -> InputSchema:
        table = self.tables[0]
        modes = self.spec.input.modes
        return InputSchema(
            name="window",
            dtype="float32",
            channels=len(table.channels),
            window=self.spec.input.window,
            period_s=table.period_s,
            max_gap_s=table.max_gap_s,
            time=self.spec.input.time,
            sensors=[SensorColumn(name=c.name, unit=c.unit, low=c.low, high=c.high) for c in table.channels],
            labels=list(self.spec.input.labels),
            mode_column=modes.column if modes else None,
            modes=list(modes.use) if modes else [],
        )

    def evaluate(self, run: Run, schema: InputSchema, p: float) -> Evaluation | None:
        if not self.test_paths:
            return None
        tables = [read_table(path, schema_of_input(schema)) for path in self.test_paths]
        label = label_of(tables[0])
        return evaluate_tables(run, tables, label, self.spec.input.window, p) if label else None

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        windows, _ = self.windows
        center, scale = self.preprocess.center.numpy(), self.preprocess.scale.numpy()
        noise = (center + 5 * scale * rng.standard_normal((count, *windows.shape[1:]))).astype(np.float32)
        noise[rng.random(noise.shape) < 0.05] = np.nan
        real = windows[rng.integers(len(windows), size=count)].copy()
        real[::4] = np.stack([inject(w, rng, scale)[0] for w in real[::4]])
        return [noise], [real]

    def decisions_per_day(self, fitted_effective: float, count: int) -> float | None:
        """Rows a day over rows to one independent score."""
        return DAY_S / self.tables[0].period_s * fitted_effective / max(1, count)


def find_tables(data: Path) -> tuple[list[Path], list[Path]]:
    """(training, labelled test) tables of a path: a file; or a folder with train* and test*; or a folder of normals."""
    if data.is_file():
        return [data], []
    if not data.is_dir():
        raise DataError(f"{data}: no such file or folder; give a CSV or Parquet table, or a folder of them")
    found = sorted(p for p in data.iterdir() if p.suffix.lower() in TABLES)
    if not found:
        raise DataError(f"{data}: no table in it ({', '.join(sorted(TABLES))}); put the normal readings there as CSV or Parquet")
    train = [p for p in found if p.stem.lower().startswith("train")]
    test = [p for p in found if p.stem.lower().startswith("test")]
    return (train, test) if train else ([p for p in found if p not in test], test)


def table_schema(spec: SensorSpec) -> TableSchema:
    """How a spec says to read a table."""
    source = spec.input
    return TableSchema(
        channels=tuple(Channel(s.name, s.unit, s.low, s.high) for s in source.sensors),
        time=source.time,
        labels=source.labels,
        mode_column=source.modes.column if source.modes else None,
        modes=source.modes.use if source.modes else (),
        period_s=source.period_s,
        max_gap_s=source.max_gap_s,
    )


def schema_of_input(schema: InputSchema) -> TableSchema:
    """How a bundle says to read a table."""
    return TableSchema(
        channels=tuple(Channel(s.name, s.unit, s.low, s.high) for s in schema.sensors),
        time=schema.time,
        labels=tuple(schema.labels),
        mode_column=schema.mode_column,
        modes=tuple(schema.modes),
        period_s=schema.period_s,
        max_gap_s=schema.max_gap_s,
    )


def label_of(table: SensorTable) -> str | None:
    """The column that tells faults from normal rows, if the table has one."""
    return next((name for name in BINARY_LABELS if name in table.labels), next(iter(table.labels), None))
