"""A bundle as an MLflow model: MLflow calls `_load_pyfunc` by this module's name. Needs the base install, no PyTorch, and no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from anomaly.api.detector import Detector, load
from anomaly.errors import DataError

ANSWERED = ["score", "p_value", "flagged"]


class BundleModel:
    """What `mlflow.pyfunc.load_model` calls to score records."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def predict(self, given: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score records: `score`, `p_value`, `flagged`, under the index that `anomaly.Detector.score` gives.

        Readings: a DataFrame, a row a moment. The first rows end no whole window and have no answer, so match by index. Pictures: paths or
        arrays in a list, or a DataFrame with one column, of paths. Raises DataError for what cannot be scored, and for any `params`.

        Of a list of pictures each must be readable: where one is not, DataError names it, so that no answer is taken for another's.
        """
        if params:
            raise DataError(f"{', '.join(map(str, params))}: no parameter of this model; it takes none")
        if isinstance(given, pd.DataFrame) and not self.detector.sensors:
            if given.shape[1] != 1:
                raise DataError(f"{self.detector.manifest.name}: looks at pictures; give a DataFrame with one column, of paths, or a list")
            given = given.iloc[:, 0].tolist()
        found = self.detector.score(given)
        rejected = found.attrs.get("rejected", [])
        if rejected and not self.detector.sensors:
            raise DataError("not every picture could be read:", *map(str, rejected[:5]))
        return found[ANSWERED]


def _load_pyfunc(path: str) -> BundleModel:
    """The model of a bundle, `path`; MLflow calls this. Raises BundleError for one that is damaged, or not signed where a key is set."""
    return BundleModel(load(Path(path)))
