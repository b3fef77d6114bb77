"""Industrial anomaly detection: from normal records to an alarm that can be trusted.

    import anomaly

    detector = anomaly.fit("good/", budget=0.01)     # learns from a folder of pictures, a table, a DataFrame or arrays
    scores = detector.score("new/")                  # a DataFrame: time, score, p_value, flagged, and what each score is made of
    detector.save("line.anomaly")                    # one file, as `anomaly fit` writes it
    detector = anomaly.load("line.anomaly")          # needs no PyTorch

Nothing slow is imported before one of these names is used.
"""

import os as _os
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from anomaly.api.detector import Detector as Detector
    from anomaly.api.detector import load as load
    from anomaly.api.sensor_detector import SensorDetector as SensorDetector
    from anomaly.api.training import fit as fit
    from anomaly.errors import AnomalyError as AnomalyError

# ONNX Runtime's packages report to their maker by network unless this is set before they are imported; 0 lets them.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.8.0"
_WHERE = {
    "AnomalyError": "anomaly.errors",
    "Detector": "anomaly.api.detector",
    "SensorDetector": "anomaly.api.sensor_detector",
    "fit": "anomaly.api.training",
    "load": "anomaly.api.detector",
}
__all__ = ["AnomalyError", "Detector", "SensorDetector", "__version__", "fit", "load"]


def __getattr__(name: str) -> object:
    """A name of the Python interface, imported when it is first asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module 'anomaly' has no attribute {name!r}")
    try:
        found: object = getattr(_import_module(_WHERE[name]), name)
    except ModuleNotFoundError as error:  # of the training side, which a base install lacks
        raise ImportError(f"anomaly.{name} needs {error.name}; run: pip install 'anomaly-pipeline[train]'", name=error.name) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
