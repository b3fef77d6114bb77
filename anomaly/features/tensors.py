"""Named tensors with a JSON description in one safetensors file. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from anomaly.atomic import replacing
from anomaly.errors import WeightsError

_META = "anomaly"  # the safetensors metadata entry that holds our JSON
_DIGEST = "digest of the tensors"  # its key in that JSON; files of before had none


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON description as one safetensors file, atomically and with the same bytes every time.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors(Path(folder) / "x.safetensors", {"weight": torch.ones(2)}, {"kind": "sensor"})
    ...     load_tensors(Path(folder) / "x.safetensors")
    ({'weight': tensor([1., 1.])}, {'kind': 'sensor'})
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = json.dumps({**about, _DIGEST: _digest(plain)}, sort_keys=True)
    try:
        with replacing(path) as part:
            safetensors.torch.save_file(plain, part, metadata={_META: described})
    except safetensors.SafetensorError as error:  # what the system refuses, such as a full disk, comes as this
        raise WeightsError(f"{path}: cannot be written ({error}); free some space or choose another folder, and run it again") from error


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors by name, and their description.

    Raises WeightsError when the file is missing, damaged or not written by `save_tensors`.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; make it with: anomaly pretrain SPEC --data PATH --out {path}") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}); make it again") from error
    if _META not in metadata:
        raise WeightsError(f"{path}: safetensors, but not written by `anomaly pretrain`; make it with that command")
    about = json.loads(metadata[_META])
    if about.pop(_DIGEST, None) not in (None, _digest(tensors)):
        raise WeightsError(f"{path}: damaged, its tensors are not those that were written; delete it and run the same command again")
    return tensors, about
