"""Weights from a local file, as timm, torchvision, DINOv2 and DINOv3 publish them or as a training script saved them, into a network.

A file may hold more than the network: another head or none, a training's other networks, tokens that only its training used. It may not
hold less, or another network: that is an error which names what does not fit.
"""

from __future__ import annotations

import contextlib
import io
import pickle  # for the error that torch.load raises; nothing is unpickled here
import sys
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from anomaly.errors import WeightsError

# What a training script keeps its networks under, in the order in which we would take them.
_WRAPPERS = (
    "state_dict_ema", "model_ema", "ema", "teacher", "state_dict", "model", "module", "_orig_mod", "network", "net", "backbone", "encoder",
    "student",
)  # fmt: skip
# Layers behind the features: no stage needs them, and they differ with what a network was trained to tell apart.
_HEADS = ("head", "head_dist", "heads", "fc", "fc_norm", "classifier", "attn_pool", "aux1", "aux2", "AuxLogits", "aux_logits")
_OF_TRANSFORMERS = ("embeddings.", "encoder.layer.", "layer.0.attention.", "dinov2.embeddings.", "vit.embeddings.", "model.layer.")
_SHOWN = 5  # names in a message


def read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors file, or of one of `torch.save` (nothing in it is run). Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise WeightsError(f"{path}: not a whole safetensors file ({error}); fetch it again") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than tensors, or is no file of torch.save, and is not opened, since that could run code in it; "
            "save the network's state_dict() alone, or fetch the .safetensors file"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as a file of torch.save ({str(error)[:200]}); fetch it again") from error
    return _tensors(path, state)


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """The tensors of a saved training, which may keep them some dictionaries down."""
    while isinstance(state, Mapping) and not any(isinstance(value, Tensor) for value in state.values()):
        state = next((state[name] for name in _WRAPPERS if isinstance(state.get(name), Mapping)), None)
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: holds no network's tensors by name; save the network's state_dict()")
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def load_weights(network: nn.Module, path: Path, name: str) -> None:
    """Fill the network called `name` with a file's weights, in place; its head stays as it is.

    Raises WeightsError when the file cannot be read, lacks weights, or holds another network's.
    """
    wanted = {key: value for key, value in network.state_dict().items() if _is_needed(key)}
    state = _converted(network, _without_prefix(read_weights(path), wanted))
    state = {key: value for key, value in state.items() if isinstance(value, Tensor) and _is_needed(key)}
    missing = [key for key in wanted if key not in state]
    roots = {key.partition(".")[0] for key in wanted}
    foreign = [key for key in state if key not in wanted and key.partition(".")[0] in roots]
    other = [
        f"{key} is {list(state[key].shape)} in the file and {list(value.shape)} in the network"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    found = [
        *([f"the file lacks {_some(missing)}"] if missing else []),
        *([_some(other)] if other else []),
        *([f"the network has no {_some(foreign)}"] if foreign else []),
    ]
    if found:
        raise WeightsError(f"{path}: does not fit {name}: {'; '.join(found)}. {_what_to_do(state, network, name)}")
    network.load_state_dict({key: state[key] for key in wanted}, strict=False)


def _is_needed(key: str) -> bool:
    return key.partition(".")[0] not in _HEADS and not key.endswith("num_batches_tracked")


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _what_to_do(state: Mapping[str, Tensor], network: nn.Module, name: str) -> str:
    if any(key.startswith(_OF_TRANSFORMERS) for key in state):
        return "Its names are those of the library transformers; fetch the same weights as timm publishes them"
    check = "Check extractor.backbone: the file may be of another size or version of this network"
    if not type(network).__module__.startswith("torchvision."):
        return check
    return f"{check}, or be of timm's network where this is torchvision's: then write timm's name with its tag, such as \"{name}.a1_in1k\""


def _without_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors under the prefix, such as "teacher.backbone.", below which most names are the network's; all where none is better."""
    prefixes = {""}
    for key in state:
        parts = key.split(".")
        words = list(takewhile(lambda part: part in _WRAPPERS, parts[:-1]))
        prefixes |= {".".join(words[: i + 1]) + "." for i in range(len(words))}
    fits = {prefix: sum(f"{prefix}{key}" in state for key in wanted) for prefix in prefixes}
    best = min(prefixes, key=lambda prefix: (-fits[prefix], len(prefix) > 0, [_WRAPPERS.index(word) for word in prefix.split(".")[:-1]]))
    return {key.removeprefix(best): value for key, value in state.items() if key.startswith(best)}


def _converted(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The same tensors under timm's names and for its patch and position grids, by timm's own function for such a network."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return dict(state)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it skips
            converted: dict[str, Any] = convert(dict(state), network)
    except (KeyError, IndexError, ValueError, RuntimeError, AssertionError, AttributeError, TypeError):
        return dict(state)  # of another network: the names tell
    return converted
