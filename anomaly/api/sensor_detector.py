"""The scorers of sensors as an outlier detector of scikit-learn."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from anomaly.calibration.budget import score_threshold
from anomaly.calibration.conformal import fit_calibrator
from anomaly.calibration.dependence import independent_scores
from anomaly.data.tables.reader import ReadReport, SensorTable
from anomaly.data.tables.windows import block_folds, windows_at
from anomaly.errors import DataError
from anomaly.features.encoder import SensorExtractor
from anomaly.pipeline.sensor.held_out import held_out_scores
from anomaly.pipeline.sensor.tables import BATCH, NormalReadings, fit_preprocess
from anomaly.schema import Channel, Dialect
from anomaly.scorers.sensors.choice import LEVEL_ROWS
from anomaly.scorers.sensors.deviation import Deviation, fit_deviation
from anomaly.scorers.sensors.views import Views
from anomaly.spec import Budget, SensorSpec

SHORTEST = 6  # rows of a window
FEWEST_ROWS = 8  # that can be calibrated on
WINDOWS = 25  # side by side, that rows must hold for windows of the usual length; with 10 a budget of 1 % came to 0.15 %


class SensorDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Outliers among readings of sensors: the scorers of `anomaly fit`, with the interface of scikit-learn.

    `X` is (n_rows, n_sensors), rows in the order of time and evenly spaced; NaN is a missing reading. A row is judged by the window that
    ends with it, so the order of rows matters: split with `TimeSeriesSplit` or an unshuffled `KFold`. The rows before the first whole
    window get its score. What is learnt from should be normal running; a few faults in it are borne.

    With the window "auto", of fewer than 750 rows windows are at most a 25th. Of fewer than 35 there are none: each row is then judged by
    itself, `window_` is 1, and a warning says so.

    Parameters
    ----------
    budget : float
        The share of normal rows that may be flagged. `offset_` follows from it by scores of rows that the scorer had not seen, so it holds
        for new rows; of the rows learnt from fewer are flagged.
    window : "auto" or int
        Rows of a window, a multiple of 3 from 6 on; "auto" chooses by the readings and by how many there are.
    folds : int
        Contiguous blocks of `X`; each is scored by a scorer fitted on the others.
    random_state : int, RandomState or None
        What is drawn at random follows from it.

    Attributes
    ----------
    window_ : int
        Rows of a window; 1 where each row is judged by itself.
    offset_ : float
        `decision_function` is `score_samples` less this; what is below 0 is an outlier.
    n_features_in_, feature_names_in_ : as everywhere in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from anomaly import SensorDetector
    >>> rng = np.random.default_rng(0)
    >>> normal = rng.normal(size=(900, 3))
    >>> detector = SensorDetector().fit(normal)
    >>> detector.window_
    30
    >>> new = rng.normal(size=(200, 3))
    >>> new[100:150, 1] += 5  # a fault of the second sensor
    >>> int((detector.predict(new)[110:150] == -1).sum()), int((detector.predict(new)[:100] == -1).sum())
    (40, 0)
    """

    def __init__(
        self, *, budget: float = 0.01, window: int | str = "auto", folds: int = 3, random_state: int | np.random.RandomState | None = 0
    ) -> None:
        self.budget = budget
        self.window = window
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: N803 - as scikit-learn calls it
        """Learn from normal rows (n_rows, n_sensors). `y` is not looked at. Raises ValueError for what cannot be learnt from."""
        rows = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=FEWEST_ROWS)
        spec = SensorSpec.model_validate(
            {
                "kind": "sensor",
                "seed": int(check_random_state(self.random_state).randint(2**31 - 1)),
                "input": {"window": self._rows_asked(len(rows))},
                "calibration": {"folds": self.folds},
                "budget": Budget(false_alarm_rate=self.budget),
            }
        )
        names = [str(name) for name in getattr(self, "feature_names_in_", range(self.n_features_in_))]
        empty = [name for name, column in zip(names, rows.T, strict=True) if np.isnan(column).all()]
        if empty:
            raise ValueError(f"no readings in columns {empty}; leave them out")
        self._center = np.nanmedian(rows, axis=0)
        values = self._less_center(rows)
        readings = NormalReadings(spec, Path("X"), [], [_as_table(values, names)])
        try:
            normals = readings.normals
        except DataError as error:
            if self.window != "auto":
                raise ValueError(str(error)) from error
            warnings.warn(f"{len(rows)} rows are too few for windows, so each row is judged by itself", UserWarning, stacklevel=2)
            self.window_ = 1
            self._preprocess = fit_preprocess(values, names, "X")
            self._extractor: SensorExtractor | None = None
            scores = self._fit_rows(values)
        else:
            self.window_ = readings.window
            self._preprocess, self._extractor = normals.preprocess, readings.extractor()
            held_out = held_out_scores(spec, normals, self._extractor, normals.features(self._extractor))
            self._scorer: Views | Deviation = held_out.scorer
            scores = held_out.scores
        calibrator = fit_calibrator(scores, independent_scores([scores]), in_time=True)
        self.offset_ = -score_threshold(calibrator, self.budget)
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """How normal each row is (n_rows,), higher is more normal. Raises ValueError for fewer rows than a window has."""
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        if len(rows) < self.window_:
            raise ValueError(f"X has {len(rows)} rows, a window {self.window_}: a row is judged with those before it, so give them too")
        ends = np.arange(self.window_ - 1, len(rows))
        values = self._less_center(rows)
        scores = [self._scored(windows_at(values, part, self.window_)) for part in np.array_split(ends, -(-len(ends) // BATCH))]
        whole = np.concatenate(scores)
        return -np.concatenate([np.full(self.window_ - 1, whole[0]), whole])

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """`score_samples` less `offset_`, (n_rows,): below 0 is an outlier."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:  # noqa: N803
        """-1 for an outlier, 1 for a normal row, (n_rows,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    # --- inside ---

    def _rows_asked(self, rows: int) -> int | str:
        """Rows of a window as the spec takes them: of few rows shorter windows, or too few would be independent to set a threshold by."""
        return max(SHORTEST, 3 * (rows // (3 * WINDOWS))) if self.window == "auto" and rows < WINDOWS * LEVEL_ROWS else self.window

    def _less_center(self, rows: NDArray[np.float64]) -> NDArray[np.float32]:
        """In float32, after a large level was taken off, so that it does not hide a small change."""
        with np.errstate(over="ignore"):
            values: NDArray[np.float32] = (rows - self._center).astype(np.float32)
        values[np.isinf(values)] = np.nan
        return values

    def _fit_rows(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Rows each by itself: their levels alone, and how sensors go together. Returns the scores (n,) of rows held out."""
        features, places = self._row_features(values[:, None]), np.arange(len(values))
        scores = np.empty(len(values))
        for fit, held in block_folds(places, self.folds, 1):
            own = fit_deviation([feature[fit] for feature in features], values.shape[1], places[fit], 1, 1)
            scores[held] = own([feature[held] for feature in features])[0].double().numpy()
        self._scorer = fit_deviation(features, values.shape[1], places, 1, 1)
        return scores

    def _row_features(self, windows: NDArray[np.float32]) -> list[Tensor]:
        """(n, 1, C) -> [level, known], each (n, C, 1)."""
        level, known = self._preprocess(torch.from_numpy(windows)).unbind(1)
        return [level.transpose(1, 2), known.transpose(1, 2)]

    @torch.inference_mode()
    def _scored(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores (n,) of windows (n, T, C)."""
        seen = self._row_features(windows) if self._extractor is None else self._extractor(self._preprocess(torch.from_numpy(windows)))
        found: NDArray[np.float64] = self._scorer(seen)[0].double().numpy()
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _as_table(values: NDArray[np.float32], names: list[str]) -> SensorTable:
    """Rows in the order of time as a table of one machine, without a gap."""
    rows = np.arange(len(values))
    usable, times = np.ones(len(values), bool), rows.astype(np.float64)
    channels = tuple(Channel(name=name) for name in names)
    return SensorTable(Path("X"), channels, times, values, usable, {}, 1.0, 10.0, ReadReport(), rows, Dialect(), values)
