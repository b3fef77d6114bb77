"""The peer's side of metrics_reference.py, run by a Python that has anomalib: IN.npz OUT.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from anomalib.metrics.aupro import _AUPRO
from anomalib.metrics.f1_score import _F1Max
from torchmetrics.functional.classification import binary_auroc, binary_average_precision


def main() -> None:
    """Every figure by torchmetrics, or by anomalib where torchmetrics has none."""
    given = np.load(sys.argv[1])
    scores, labels = torch.from_numpy(given["scores"]).float(), torch.from_numpy(given["labels"]).long()
    maps, masks = torch.from_numpy(given["maps"]), torch.from_numpy(given["masks"]).long()
    best, overlap = _F1Max(), _AUPRO(fpr_limit=0.3)
    best.update(scores, labels)
    overlap.update(maps, masks)
    # torchmetrics puts scores outside 0..1 through a sigmoid of single precision, in which high ones become equal: ranks instead
    ranks = torch.from_numpy(np.unique(given["maps"].ravel(), return_inverse=True)[1]).double()
    order = torch.from_numpy(np.unique(given["scores"], return_inverse=True)[1]).double()
    found = {
        "image_auroc": binary_auroc(order / order.max(), labels),
        "image_ap": binary_average_precision(order / order.max(), labels),
        "image_f1": best.compute(),
        "pixel_auroc": binary_auroc(ranks / ranks.max(), masks.flatten()),
        "pixel_aupro": overlap.compute(),
    }
    Path(sys.argv[2]).write_text(json.dumps({name: float(value) for name, value in found.items()}))


if __name__ == "__main__":
    main()
