"""Learning curves of cameras: image AUROC against how many normal pictures there were to learn from, with a transfer and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.transfer import ALONE
from anomaly.features.stages import Stages
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.transfer import CameraTransfer, TransferCandidate
from anomaly.pipeline.line import check_transfer_given
from anomaly.progress import Progress
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import TransferMethod

SIZES = (5, 10, 20, 50, 100)
ALL = 1 << 30
BANK = 2000  # patches a bank at most: many fits
AT_ONCE = 32


def camera_curve(line: CameraLine, method: TransferMethod, sizes: Sequence[int], seeds: int, progress: Progress) -> pd.DataFrame:
    """Image AUROC on the line's labelled pictures, of the target alone and of one method of transfer.

    The columns are `way` (the method, or the target alone), `normals` (how many were learnt from), `seed` and `auroc`.

    A size beyond what there is means all normals. Every seed draws other normals. Banks hold at most 2,000 patches, whatever the
    spec says. Raises DataError when the line has no labelled pictures, SpecError when its spec names no source.
    """
    check_transfer_given(line.spec.transfer)
    if not line.pictures.test:
        raise DataError(f"{line.pictures.root}: no labelled pictures to measure on; give a folder with test/good and test/KIND")
    spec = line.settled()
    transfer = CameraTransfer(spec, line.pictures, line.judging, progress)
    test = [p for p in line.pictures.test if line.pictures.read(p) is not None]
    labels = np.array([p.defect is not None for p in test])
    seen: dict[int, tuple[Stages, list[Tensor], list[Tensor]]] = {}
    found = []

    def scores(way: TransferCandidate, chosen: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
        key = id(way.extractor)
        if key not in seen:
            if way.extractor not in (transfer.own, transfer.source):
                for other in [k for k, held in seen.items() if held[0] not in (transfer.own, transfer.source)]:
                    del seen[other]
            sides = [line.pictures.features_of(way.extractor, transfer.preprocess, side) for side in (line.pictures.readable, test)]
            seen[key] = (way.extractor, sides[0], sides[1])
        _, train, tested = seen[key]
        generator = torch.Generator().manual_seed(seed)
        maps = [m[torch.from_numpy(chosen)] for m in train]
        scorer = fit_camera_scorer(spec, maps, generator, largest=BANK, borrowed=way.borrowed).scorer
        with torch.inference_mode():
            parts = [scorer([m[i : i + AT_ONCE] for m in tested])[0] for i in range(0, len(test), AT_ONCE)]
        return torch.cat(parts).double().numpy()

    ways: dict[str, Callable[[list[Picture]], TransferCandidate]] = {
        ALONE: lambda _: TransferCandidate(transfer.own),
        method: lambda t: transfer.candidate(method, t),
    }
    every = len(line.pictures.readable)
    draws = {size: 1 if size == every else seeds for size in sorted({min(size, every) for size in sizes})}
    total = len(ways) * sum(draws.values())
    for name, make in ways.items():
        for size, count in draws.items():
            for seed in range(count):
                chosen = np.sort(np.random.default_rng([line.spec.seed, seed]).permutation(every)[:size])
                way = make([line.pictures.readable[i] for i in chosen])
                area = auroc(labels, scores(way, chosen, seed)) or 0.0
                found.append({"way": name, "normals": size, "seed": seed, "auroc": area})
                progress(f"{name}, {size} normals, seed {seed}: AUROC {area:.4f}; runs", len(found), total)
    return pd.DataFrame(found)
