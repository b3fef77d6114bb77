"""Graphs by PyTorch's own exporter, for parts that `lower` has no function for: image networks first of all.

It takes 5 s or more for a network, so the graph of an extractor is kept on this machine, without its weights: these are filled in by name
each time. A graph serves every set of weights of its architecture, and a changed weight never meets an old one. The graph of the default
extractor comes with the package.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, fx, nn

from anomaly import __version__
from anomaly.atomic import replacing
from anomaly.cache import cache_folder
from anomaly.errors import ExportError
from anomaly.export.writer import OPSET
from anomaly.features.backbones import load_backbone
from anomaly.features.backbones.weights import LITE_STAGES
from anomaly.features.preprocess import ImagePreprocess, merge_gray_channels
from anomaly.features.stages import Stages, fold_batch_norm

MADE_BY = ("torch", "onnx", "onnxscript", "timm", "torchvision")  # libraries whose version a kept graph is made for
SHIPPED = "graphs"  # folder of the package: graphs that hold for every version, since the architecture's digest names them
FROM_WEIGHTS = "from_weights"  # metadata: digest of the weights that the exporter computed constants from, "" where it did not
TURNED = " turned"  # behind a weight's name: the matrix is read transposed, as a linear layer's is
STRIDE, SIDE = 32, 256  # pixels that a network halves without a rest, and the size at which a graph for all such sizes is made
DIGEST = 32  # bytes in front of a kept graph


def trace(module: nn.Module, examples: Sequence[Tensor], free: Mapping[int, str], *, listed: bool = False) -> onnx.ModelProto:
    """The graph of a module by PyTorch's exporter, on example inputs of each of which the dimensions `free` may vary, by number and name.

    `listed`: the module's `forward` takes the inputs as one list. Raises ExportError when the exporter cannot write the module.
    """
    varying = tuple({axis: torch.export.Dim(name) for axis, name in free.items()} for _ in examples)
    for chatty in ("torch.onnx", "onnxscript"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        try:
            program = torch.onnx.export(
                _Listed(module).eval() if listed else module.eval(),
                tuple(examples),
                dynamo=True,
                dynamic_shapes=(varying,) if listed else varying,
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            why = str(error.__cause__ or error).strip().splitlines()[0]
            raise ExportError(f"{type(module).__name__} cannot be written as ONNX: {why}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_metadata(model)
    return model


class _Listed(nn.Module):
    """A module whose `forward` takes a list, with separate inputs, as the exporter asks for."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *features: Tensor) -> Any:
        return self.module(list(features))


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove what describes this machine (source paths, stack traces), so that bytes depend on the module alone."""
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    graph.doc_string = ""
    for item in [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph]:
        del item.metadata_props[:]
        item.doc_string = ""
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]


def extractor_graph(extractor: Stages, x: Tensor) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """The graph of an image extractor for pictures like `x` (2, C, h, w), N free; and the weights that it leaves out, by name.

    Batch normalisation is folded into the convolutions first. Taken from the package or from this machine's cache where the architecture,
    the size and the libraries are the same; else made and kept. A damaged file is made again. A network whose backbone has no name may
    differ in ways that its modules do not show: its graph is never kept.
    """
    folded = fold_batch_norm(extractor)
    if folded.any_size and not any(side % STRIDE for side in x.shape[-2:]):
        x = x.new_zeros(2, x.shape[1], SIDE, SIDE)  # one graph serves all sizes
    weights = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in folded.state_dict().items()}
    for path in (shipped_path(folded, x), kept_path(folded, x)) if folded.backbone else ():
        model = read_graph(path, weights)
        if model is not None:
            return model, _parts(model, weights)
    model = without_weights(trace(folded, [x], {0: "N"}), weights)
    if folded.backbone:
        write_graph(kept_path(folded, x), model)
    return model, _parts(model, weights)


def without_weights(model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """The graph without the constants that are weights of the same name and value, or matrices of weights turned (transposed).

    Where the exporter has computed other constants from weights, the metadata holds the digest of all weights.
    """
    turned = {_turned_key(value.T): f"{name}{TURNED}" for name, value in weights.items() if value.ndim == 2}
    kept, renamed = [], {}
    for item in model.graph.initializer:
        value = numpy_helper.to_array(item)
        if value.ndim == 2 and _turned_key(value) in turned:
            renamed[item.name] = turned[_turned_key(value)]
        elif not _same(weights.get(item.name), value):
            kept.append(item)
    named = {item.name for item in model.graph.initializer} - {item.name for item in kept}
    named |= {name.removesuffix(TURNED) for name in renamed.values()}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
    onnx.helper.set_model_props(model, {FROM_WEIGHTS: _digest_of(weights) if set(weights) - named else ""})
    return model


def _turned_key(value: NDArray[Any]) -> tuple[Any, ...]:
    return value.shape, str(value.dtype), hashlib.sha256(np.ascontiguousarray(value).data).digest()


def _same(weight: NDArray[Any] | None, constant: NDArray[Any]) -> bool:
    return weight is not None and weight.shape == constant.shape and weight.dtype == constant.dtype and bool((weight == constant).all())


def _digest_of(weights: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].dtype} {weights[name].shape}".encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()


def _parts(model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Weights that the graph reads and does not hold."""
    held = {item.name for item in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input} - held
    found = {name: value for name, value in weights.items() if name in read}
    return found | {f"{name}{TURNED}": value.T.copy() for name, value in weights.items() if f"{name}{TURNED}" in read}


# --- files ---


def architecture(extractor: Stages, x: Tensor) -> str:
    """Digest of all that the graph depends on but for the weights' values: backbone, stages, modules, their order, shapes, picture size."""
    shapes = {name: (list(tensor.shape), str(tensor.dtype)) for name, tensor in extractor.state_dict().items()}
    order = [module.code for module in extractor.modules() if isinstance(module, fx.GraphModule)]
    text = json.dumps([extractor.backbone, list(extractor.stages), repr(extractor), order, shapes, list(x.shape[1:]), OPSET])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def shipped_path(extractor: Stages, x: Tensor) -> Path:
    """Where the package has the graph, if it has it."""
    return Path(str(files("anomaly.export"))) / SHIPPED / f"{architecture(extractor, x)}.onnx"


def kept_path(extractor: Stages, x: Tensor) -> Path:
    """Where this machine keeps the graph: a name of its own for each architecture, size and version of a library."""
    made_by = " ".join([__version__, *(f"{name} {version(name)}" for name in MADE_BY)])
    name = f"{architecture(extractor, x)}-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}.onnx"
    return cache_folder() / "extractors" / name


def write_graph(path: Path, model: onnx.ModelProto) -> None:
    """Keep a graph, behind its own digest."""
    content = model.SerializeToString(deterministic=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(hashlib.sha256(content).digest() + content)


def read_graph(path: Path, weights: Mapping[str, NDArray[Any]]) -> onnx.ModelProto | None:
    """A kept graph; None when there is none, it is damaged, or holds constants that were computed from other weights."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        return None
    model = onnx.load_from_string(content[DIGEST:])
    from_weights = {item.key: item.value for item in model.metadata_props}.get(FROM_WEIGHTS, "")
    return model if from_weights in ("", _digest_of(weights)) else None


# --- the package's own graphs ---


def default_extractor(stages: Sequence[str], channels: int, size: tuple[int, int] = (SIDE, SIDE)) -> tuple[Stages, Tensor]:
    """The packaged network for gray (1) or color (3) pictures, and an example of what it takes (2, channels, h, w)."""
    extractor, source = load_backbone("efficientnet_lite0", stages)
    if channels == 1:
        merge_gray_channels(ImagePreprocess(size, source.mean, source.std), extractor)
    return extractor, torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))


def main() -> None:
    """Write the graphs that come with the package, beside this file: `python -m anomaly.export.traced`, after an update of timm."""
    for channels in (1, 3):
        for stages in (LITE_STAGES, LITE_STAGES[1:]):  # on trial, and where none but the main view is taken
            extractor, x = default_extractor(stages, channels)
            folded = fold_batch_norm(extractor)
            weights = {name: tensor.detach().contiguous().numpy() for name, tensor in folded.state_dict().items()}
            path = shipped_path(folded, x)
            write_graph(path, without_weights(trace(folded, [x], {0: "N"}), weights))
            print(f"{path}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
