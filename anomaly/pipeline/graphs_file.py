"""The file in the work folder that further graphs of a detector are kept in: a plain zip of graphs and what was found of them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from anomaly.atomic import replacing
from anomaly.errors import WeightsError
from anomaly.pipeline.line import Graphs

PARITY, STREAM = "parity.json", "stream.onnx"


def save_graphs(path: Path, graphs: Graphs) -> None:
    """Write the graphs atomically."""
    members = {f"{name}.onnx": content for name, content in graphs.variants.items()}
    if graphs.stream is not None:
        members[STREAM] = graphs.stream
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(PARITY, json.dumps(graphs.parity))


def load_graphs(path: Path) -> Graphs:
    """Read what `save_graphs` wrote. Raises WeightsError when the file is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        parity = json.loads(members.pop(PARITY))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: damaged ({error}); delete it and run the same command again") from error
    stream = members.pop(STREAM, None)
    return Graphs({name.removesuffix(".onnx"): content for name, content in members.items()}, stream, parity)
