"""What the fit step leaves, and the file it is kept in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.features.tensors import load_tensors, save_tensors


@dataclass
class Fitted:
    """What the fit step leaves.

    `method` names the scorer, `tensors` are what it has learnt. `held_out` (N,) are the normals' scores in record order, each by a scorer
    that has not seen the record; `effective` says how many of them are independent, `in_time` whether they follow each other.
    `reference` becomes the bundle's reference.parquet. It has the held-out `score` of each record and, where they follow each other,
    the `place` of each.
    `report` goes into its manifest. It has at least `normals` (how many records), `held_out_by` (in words), `injected_auroc` (synthetic
    faults against normals) and `extractor` (its description); `block`, how many records in a row are worth one independent score;
    `injected_scores`, the scores of synthetic faults by kind, of which the bundle tells the share found at the threshold.
    `shown` is for the fit's report alone, and goes into no bundle: see the line that makes it.
    """

    method: str
    tensors: dict[str, Tensor]
    held_out: NDArray[np.float64]
    effective: float
    reference: pd.DataFrame
    report: dict[str, Any] = field(default_factory=dict)
    in_time: bool = False
    shown: dict[str, Tensor] = field(default_factory=dict)


def save_fitted(path: Path, fitted: Fitted) -> None:
    """Write the fit step's result as one safetensors file."""
    tensors = {f"scorer.{name}": tensor for name, tensor in fitted.tensors.items()}
    tensors |= {f"shown.{name}": tensor for name, tensor in fitted.shown.items()}
    tensors["held_out"] = torch.from_numpy(fitted.held_out)
    tensors |= {f"reference.{c}": torch.tensor(fitted.reference[c].to_numpy(dtype=np.float64)) for c in fitted.reference}
    about = {"scorer": fitted.method, "effective": fitted.effective, "in_time": fitted.in_time}
    about |= {"report": fitted.report, "columns": list(fitted.reference)}
    save_tensors(path, tensors, about)


def load_fitted(path: Path) -> Fitted:
    """Read what `save_fitted` wrote. Raises WeightsError when the file is missing or damaged."""
    tensors, about = load_tensors(path)
    scorer = {name.removeprefix("scorer."): tensor for name, tensor in tensors.items() if name.startswith("scorer.")}
    reference = pd.DataFrame({column: tensors[f"reference.{column}"].numpy() for column in about["columns"]})
    held_out = tensors["held_out"].double().numpy()
    shown = {name.removeprefix("shown."): tensor for name, tensor in tensors.items() if name.startswith("shown.")}
    return Fitted(about["scorer"], scorer, held_out, about["effective"], reference, about["report"], about["in_time"], shown)
