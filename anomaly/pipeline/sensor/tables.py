"""One machine's normal readings: its tables, the windows cut from them, and each sensor's centre and spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.tables.faults import inject
from anomaly.data.tables.files import learn_patterns, read_normals, table_schema
from anomaly.data.tables.labels.stretches import leave_out_faults
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import block_folds, stack_windows, stretch_lengths, window_ends, windows_at
from anomaly.errors import DataError
from anomaly.features.encoder import SensorEncoder, SensorExtractor
from anomaly.features.preprocess import SensorPreprocess
from anomaly.pipeline.sensor.lending import LentWindows
from anomaly.scorers.sensors.choice import ViewPlan, plan_views
from anomaly.spec import SensorSpec

BATCH = 2048  # windows whose features are taken at a time
FEWEST = 8  # windows, or windows a fold, to fit on
MAX_WINDOWS = 20_000  # windows used for fitting; more are thinned evenly
MAX_READINGS, FEWEST_KEPT = 1 << 25, 2000  # in all of them together, as long as so many windows are left


@dataclass(frozen=True)
class Normals:
    """Normal windows (n, rows, C) float32 in time order, the row (n,) each ends at, their preprocessing, what is looked at in them, and
    what another machine lends."""

    windows: NDArray[np.float32]
    places: NDArray[np.int64]
    preprocess: SensorPreprocess
    plan: ViewPlan
    lent: LentWindows | None = None

    def thinned(self, most: int) -> Normals:
        """Every k-th window, `most` of them at most: neighbours share nearly all of their rows."""
        step = -(-len(self.windows) // most)
        return replace(self, windows=self.windows[::step], places=self.places[::step]) if step > 1 else self

    def features(self, extractor: SensorExtractor, windows: NDArray[np.float32] | None = None) -> list[Tensor]:
        """Feature maps [(n, C * k, 1)] of windows, its own when none are given; in batches, so that memory stays bounded."""
        parts: list[list[Tensor]] = []
        with torch.inference_mode():
            for chunk in torch.from_numpy(self.windows if windows is None else windows).split(BATCH):  # type: ignore[no-untyped-call]
                parts.append(extractor(self.preprocess(chunk)))
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]


class NormalReadings:
    """The normal tables of one machine, read by its spec. Nothing is read before it is asked for."""

    def __init__(self, spec: SensorSpec, root: Path, paths: Sequence[Path], tables: list[SensorTable] | None = None) -> None:
        """`root` is what messages name; `tables`, when given, stand in for those read from `paths`."""
        self.spec, self.root, self.paths = spec, root, list(paths)
        if tables is not None:
            self.tables = tables

    @cached_property
    def tables(self) -> list[SensorTable]:
        """Rows past `train_rows`, and rows labelled as faults, are not usable in them."""
        asked = self.spec.input
        tables = read_normals(self.paths, table_schema(asked), asked.train_rows, pattern=False)
        for table in tables:
            for begin, end in asked.leave_out:
                table.usable[(table.times >= begin.timestamp()) & (table.times <= end.timestamp())] = False
        if self.spec.transfer.faults is not None:
            leave_out_faults(tables, self.spec.transfer.faults, asked)
        return learn_patterns(tables, asked.sensors) if asked.pattern == "auto" else tables

    @property
    def names(self) -> list[str]:
        """The sensors, in the order of the columns."""
        return [channel.name for channel in self.tables[0].channels]

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """All normal rows (n, C) float32, NaN = missing."""
        return np.concatenate([table.values[table.usable] for table in self.tables])

    @cached_property
    def plan(self) -> ViewPlan:
        """How long windows are, and which views of them there are. Raises DataError where no row is normal."""
        asked, parts = self.spec.input.window, [part for table in self.tables for part in stretches(table)]
        if not parts:
            faults = self.spec.transfer.faults
            raise DataError(
                f"{self.root}: no normal row is left: all are labelled as faults, in modes that are not judged, or past [input] train_rows"
                + ("" if faults is None else f"; the labels of faults are in {faults}: look there first for a stretch that is too long")
            )
        return plan_views(parts, asked if isinstance(asked, int) else None)

    @property
    def window(self) -> int:
        """Rows of a window."""
        return self.plan.rows

    def extractor(self, encoder: SensorEncoder | None = None) -> SensorExtractor:
        """What the views see, by this encoder if there is one."""
        return build_extractor(self.plan, encoder)

    @cached_property
    def preprocess(self) -> SensorPreprocess:
        """Centre and spread of each sensor over all normal rows. Raises DataError for a sensor without a reading."""
        return fit_preprocess(self.values, self.names, str(self.root))

    @cached_property
    def normals(self) -> Normals:
        """Normal windows, their places counted over all tables with a gap between them. Raises DataError when there are too few."""
        return self.normals_with(None)

    def normals_with(self, lent: LentWindows | None) -> Normals:
        """The same with what another machine lends; then a few windows are enough."""
        rows = self.window
        ends = [window_ends(table.times, table.usable, rows, table.max_gap_s) for table in self.tables]
        most = max(FEWEST_KEPT, min(MAX_WINDOWS, MAX_READINGS // (rows * len(self.names))))
        windows, places = stack_windows([(table.values, found) for table, found in zip(self.tables, ends, strict=True)], rows, most)
        folds = self.spec.calibration.folds
        fewest = FEWEST if lent is not None else -(-(FEWEST + 2 * rows) * folds // (folds - 1))  # what a fold and the gaps beside it leave
        if len(windows) < fewest and (lent is not None or _smallest_fit(places, folds, rows) < FEWEST):
            raise DataError(
                f"{self.root}: {len(windows)} normal windows of {rows} rows without a gap; at least {fewest} are needed; give more "
                "rows, or lower [input] window, or raise [input] max_gap_s, or start from another machine (`anomaly transfer`)"
            )
        preprocess = self.preprocess if lent is None else fit_preprocess(self.values, self.names, str(self.root), lent)
        return Normals(windows, places, preprocess, self.plan, lent)

    def subset(self, start: int, count: int) -> NormalReadings:
        """The same machine of whose normal rows only `count` from the `start`-th on are known, counted over all tables."""
        tables, seen = [], 0
        for table in self.tables:
            number = seen + np.cumsum(table.usable) - 1
            tables.append(replace(table, usable=table.usable & (number >= start) & (number < start + count)))
            seen += int(table.usable.sum())
        if self.spec.input.pattern == "auto":  # what a machine knows that has no other rows
            tables = learn_patterns(tables, self.spec.input.sensors)
        return NormalReadings(self.spec, self.root, self.paths, tables)

    def of_others(self, paths: list[Path]) -> list[SensorTable]:
        """Normal tables of other machines, read by this machine's sensors; a daily or weekly pattern is their own."""
        channels = tuple(channel.model_copy(update={"pattern": None}) for channel in self.tables[0].channels)
        pattern = self.spec.input.pattern == "auto"
        return read_normals(paths, replace(table_schema(self.spec.input), channels=channels), None, learn=False, pattern=pattern)

    def random_windows(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(noise, normal windows), each (count, window, C): what a graph is checked on.

        Noise is five spreads wide with one reading in twenty missing; a quarter of the normal windows hold a synthetic fault.
        """
        rows = self.window
        center, scale = self.preprocess.center.numpy(), self.preprocess.scale.numpy()
        noise = (center + 5 * scale * rng.standard_normal((count, rows, len(center)))).astype(np.float32)
        noise[rng.random(noise.shape) < 0.05] = np.nan
        ends = [window_ends(table.times, table.usable, rows, table.max_gap_s) for table in self.tables]
        before = np.cumsum([0, *map(len, ends)])  # how many windows the tables before each have
        real = []
        for place in rng.integers(before[-1], size=count):
            index = int(np.searchsorted(before, place, side="right")) - 1
            real.append(windows_at(self.tables[index].values, ends[index][[place - before[index]]], rows)[0])
        real[::4] = [inject(window, rng, scale)[0] for window in real[::4]]
        return noise, np.stack(real)

    def successive_windows(self, count: int) -> NDArray[np.float32]:
        """Windows (n, window, C), each a row after the one before, from the beginning of the first table; `count` at most."""
        rows, values = self.window, self.tables[0].values
        return windows_at(values, np.arange(rows - 1, min(len(values), rows - 1 + count)), rows)


def fit_preprocess(values: NDArray[np.float32], names: Sequence[str], where: str, lent: LentWindows | None = None) -> SensorPreprocess:
    """Centre and spread of each sensor over rows (n, C), and over those lent.

    The centre is the median. The spread is the larger of the scaled median absolute deviation and half the standard deviation: the first
    alone is near zero for a sensor that seldom moves. Raises DataError, with `where`, for a sensor without a reading.
    """
    rows = values.astype(np.float64)
    if lent is not None and len(lent.windows):
        rows = np.concatenate([rows, lent.windows[:: max(1, len(lent.windows) // 200)].reshape(-1, rows.shape[1]).astype(np.float64)])
    empty = [name for name, column in zip(names, rows.T, strict=True) if np.isnan(column).all()]
    if empty:
        raise DataError(f"{where}: no readings in {empty}; leave them out of [input] sensors")
    center = np.nanmedian(rows, axis=0)
    mad = 1.4826 * np.nanmedian(np.abs(rows - center), axis=0)
    spread = np.maximum(mad, 0.5 * np.nanstd(rows, axis=0))
    spread = np.where(spread > 0, spread, np.maximum(1e-3 * np.abs(center), 1e-6))  # a constant sensor
    return SensorPreprocess(torch.from_numpy(center), torch.from_numpy(spread))


def build_extractor(plan: ViewPlan, encoder: SensorEncoder | None = None) -> SensorExtractor:
    """What the views of a plan see, by this encoder if there is one."""
    return SensorExtractor(plan.level, plan.shape, encoder, part=plan.part).requires_grad_(False).eval()


def stretches(table: SensorTable) -> list[NDArray[np.float32]]:
    """Rows (n, C) of a table that follow each other without a gap and are usable."""
    lengths = stretch_lengths(table.times, table.usable, table.max_gap_s)
    lasts = np.flatnonzero((lengths > 0) & (np.append(lengths[1:], 0) <= lengths))
    return [table.values[last + 1 - lengths[last] : last + 1] for last in lasts]


def _smallest_fit(places: NDArray[np.int64], folds: int, rows: int) -> int:
    """How many windows are left to fit on in the fold that has fewest."""
    return min((len(fit) for fit, _ in block_folds(places, folds, rows)), default=0)
