"""The other side of tsb_ad.py: PaAno's public code on one series, run by a Python of its own, never by ours.

    PEER_PYTHON benchmarks/sensor/peer_paano.py CLONE JOB

JOB/in.npz holds values (n, C), how many rows are learnt from and the patch length; JOB/out.npz gets scores
(n,) and seconds. The steps are those of CLONE/main.py.
"""

import random
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, sys.argv[1])
from model import PatchEncoder
from train import train_model
from utils.data_preprocess import *  # noqa: F403
from utils.evaluation import *  # noqa: F403
from utils.utils import *  # noqa: F403

ITERATIONS = 200


def main() -> None:
    job = Path(sys.argv[2])
    given = np.load(job / "in.npz")
    values, learnt, patch = given["values"], int(given["learnt"]), int(given["patch"])
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(2000)
    train, test = values[:learnt], values[learnt:]
    full = np.concatenate([train, test]).astype(np.float32)
    started = time.time()
    creator = PatchCreator(L=patch, s=1, random_seed=2000)  # noqa: F405
    loader, test_loader, _ = creator.create_dataloaders(train.astype(np.float32), full, np.zeros(len(full)), batch_size=512)
    model = PatchEncoder(in_channels=next(iter(loader))[0].shape[1], use_revin=True)
    patches = preprocess_to_patches(train.astype(np.float32), patch_size=patch, stride=1)  # noqa: F405
    train_model(model, loader, patches, torch.device("cpu"), num_iter=ITERATIONS, pretext_step=patch, lr=1e-4, see_loss=False)
    bank, _ = create_memory_bank(model, loader, torch.device("cpu"), num_cores=0.1)  # noqa: F405
    found = calculate_anomaly_scores(model, test_loader, bank, top_k=3, device=torch.device("cpu"))  # noqa: F405
    scores = distribute_patch_scores_to_points(found, patch_size=patch, num_points=len(full))  # noqa: F405
    np.savez(job / "out.npz", scores=np.asarray(scores, dtype=np.float64), seconds=time.time() - started)


if __name__ == "__main__":
    main()
