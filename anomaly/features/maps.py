"""Feature maps of many pictures in one tensor a stage: in memory, or on disk where that would take much of it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from anomaly.errors import DataError

IN_MEMORY = 1 << 30  # bytes of feature maps; more of them lie on disk


def gather_maps(parts: Iterable[Sequence[Tensor]], most: int) -> list[Tensor]:
    """Maps that come a few pictures at a time, joined: one (n, C_s, h_s, w_s) float32 a stage.

    `parts` gives one (k, C_s, h_s, w_s) a stage each time, or nothing where no picture could be read. `most` is how many pictures may come.
    Beyond 1 GB the tensors lie in files without a name in the folder for temporary files: the system removes them with the last
    reference, also when the process is killed. Raises DataError where there is no room for them.

    >>> maps = gather_maps([[torch.zeros(2, 3, 4, 4)], [], [torch.ones(1, 3, 4, 4)]], most=5)
    >>> [tuple(one.shape) for one in maps]
    [(3, 3, 4, 4)]
    """
    found: list[Tensor] = []
    count = 0
    for maps in parts:
        if not len(maps):
            continue
        found = found or _room([(most, *one.shape[1:]) for one in maps])
        for all_of_it, one in zip(found, maps, strict=True):
            all_of_it[count : count + len(one)] = one
        count += len(maps[0])
    return [all_of_it[:count] for all_of_it in found]


def pictures_at_once(most: int, size: Sequence[int]) -> int:
    """How many pictures of a size (high, wide) go through a network together: as many pixels as `most` pictures of 512 x 512 have.

    >>> pictures_at_once(4, (256, 256)), pictures_at_once(4, (1024, 1024))
    (4, 1)
    """
    return max(1, min(most, most * 512 * 512 // math.prod(size)))


def fewer_of_large(most: int, size: Sequence[int], least: int = 16, side: int = 384) -> int:
    """How many pictures of a size (high, wide) something is judged by: as many pixels as `most` of `side` x `side` have, `least` at least.

    >>> fewer_of_large(60, (256, 256)), fewer_of_large(60, (640, 640)), fewer_of_large(60, (1024, 1024))
    (60, 21, 16)
    """
    return min(most, max(least, most * side * side // math.prod(size)))


def _room(shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Tensors float32 of these shapes to be filled."""
    if sum(map(math.prod, shapes)) * 4 <= IN_MEMORY:
        return [torch.empty(shape) for shape in shapes]
    return [_on_disk(shape) for shape in shapes]


def _on_disk(shape: tuple[int, ...]) -> Tensor:
    """A tensor float32 in a file without a name."""
    size = math.prod(shape) * 4
    with tempfile.TemporaryFile() as file:
        try:
            if hasattr(os, "posix_fallocate"):  # a disk that is full shows here, and not as a crash at some later write
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise DataError(
                f"{tempfile.gettempdir()}: no room for {size / 1e9:.1f} GB of the pictures' features ({error.strerror}); free some space, "
                "name a larger folder by the environment variable TMPDIR, or take fewer pictures or a smaller input.size"
            ) from error
        return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))
