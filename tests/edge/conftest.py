"""What tests of the edge share: other versions of a bundle, release folders, pictures on disk, waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly.bundle.archive import read_bundle, write_bundle


def other_version(source: Path, target: Path, version: str, **changes: object) -> str:
    """The same detector under another version, with parts of its manifest changed. Returns its hash."""
    bundle = read_bundle(source)
    return write_bundle(target, bundle.manifest.model_copy(update={"version": version, "members": {}, **changes}), bundle.members)


def save(path: Path, picture: np.ndarray, age: float = 10.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    os.utime(path, (time.time() - age, time.time() - age))


def until(found: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something to become true; fails when it does not."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
