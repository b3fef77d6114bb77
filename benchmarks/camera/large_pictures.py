"""What a large picture costs beside the line: time and memory by size of input and of raw frame. One JSON line a size.

    python -m benchmarks.camera.large_pictures --data DATA [--size 256 512 640 1024] [--frames 1024 2048 4096] [--fine] [--out F]

At each size a detector with full banks (8,000, 4,000 and 4,000 patches, and the Gaussians) is fitted on a few of DATA's normals, which
is enough for the time of a run: that depends on how many patches there are, not on which. Its graphs in float and int8, and the bare
networks of both (preprocessing and extractor alone), then run in turns in one process. `--fine` adds a bank of 4,000 patches on blocks.2.

`cpu_ms`: processor time of a run on one thread, which other work on the machine moves little. `wall_ms`: the quickest run on two
threads, which it moves much: see `load`. `memory_mb`: what the process of a session alone grows by from before it is opened.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly.atomic import write_text
from anomaly.calibration.conformal import fit_calibrator
from anomaly.export.detector import PICTURES, Detector
from anomaly.export.onnx_graph import export_features, export_onnx
from anomaly.export.onnx_stages import onnx_stages
from anomaly.export.precision import int8_extractor
from anomaly.features.backbones.load import load_backbone
from anomaly.features.preprocess import merge_gray_channels
from anomaly.features.stages import fold_batch_norm
from anomaly.pipeline.camera.pictures import PictureFolder
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import Bank, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec

FINE = Bank(stage="blocks.2", metric="unit", size=4000)
FEWEST = 16  # normals that a detector is fitted on; more where the pictures are small, so that all banks are full


def spec_of(size: int, fine: bool) -> CameraSpec:
    """The default detector at a size, with or without a bank on the stage of stride 8."""
    banks, stages = MemoryBankSpec().banks, CameraExtractor().stages
    return CameraSpec(
        kind="camera",
        name="large",
        input=CameraInput(size=(size, size)),
        extractor=CameraExtractor(stages=("blocks.2", *stages) if fine else stages),
        scorer=MemoryBankSpec(banks=(*banks, FINE) if fine else banks, coreset_share=1.0),
    )


def graphs_of(spec: CameraSpec, data: Path) -> dict[str, bytes]:
    """The detector's graphs and the bare networks', by name."""
    pictures = PictureFolder(data, spec.input)
    places = (int(spec.input.size[0]) // 32) ** 2  # of the coarsest stage
    count = max(FEWEST, -(-4000 // places) + 1)
    pictures.train = pictures.train[:: max(1, len(pictures.train) // count)][:count]
    network, source = load_backbone(spec.extractor.backbone, spec.extractor.stages)
    preprocess = pictures.preprocess(source)
    features = pictures.features_of(onnx_stages(network), preprocess, pictures.readable)
    fitted = fit_camera_scorer(spec, features, torch.Generator().manual_seed(spec.seed))
    if pictures.format.color == "gray":
        merge_gray_channels(preprocess, network)
    calibrator = fit_calibrator(fitted.held_out.double().numpy(), float(len(fitted.held_out)))
    detector = Detector(PICTURES, preprocess, fold_batch_norm(network), fitted.scorer, calibrator).eval()
    raw = [one[None] for one in pictures.read_all(pictures.readable[:8])]
    example = np.concatenate([raw[0], raw[0]])
    bare = export_features(detector, example)
    network_alone = bare.SerializeToString()  # before the quantisation, which changes what it is given
    quantised = int8_extractor(bare, raw)
    assert quantised is not None
    return {
        "float": export_onnx(detector, example),
        "int8": export_onnx(detector, example, features=quantised, search="integers"),
        "network": network_alone,
        "network_int8": quantised.SerializeToString(),
    }


def frame(side: int) -> NDArray[np.uint8]:
    """A gray raw frame (1, side, side, 1)."""
    return np.random.default_rng(0).integers(256, size=(1, side, side, 1), dtype=np.uint8)


def times(graphs: Mapping[str, bytes], raw: NDArray[np.uint8], threads: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Of each graph: the median processor time and the shortest wall time of a run in ms, run in turns."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    sessions = {name: ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]) for name, graph in graphs.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in graphs}
    for turn in range(rounds + 2):
        for name, session in sessions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            session.run(None, {"image": raw})
            if turn >= 2:
                found[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: (1e3 * float(np.median([c for c, _ in rows])), 1e3 * min(w for _, w in rows)) for name, rows in found.items()}


def memory(graph: bytes, side: int) -> int:
    """MB by which a process grows that opens a session of the graph and runs three frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(graph)
        command = [sys.executable, "-m", "benchmarks.camera.large_pictures", "--memory-of", str(path), "--frames", str(side)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def own_memory(path: Path, side: int) -> int:
    """MB by which this process grows with a session of the graph at `path` and three frames."""
    from anomaly.edge.runtime.session import Device, Session

    raw, before = frame(side), _peak()
    session = Session(path.read_bytes(), "cpu", Device(threads=2))
    for _ in range(3):
        session.run(raw)
    return (_peak() - before) // 1024


def _peak() -> int:
    """KB that this program held at most: unlike `ru_maxrss` without what its parent held."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def at_size(spec: CameraSpec, data: Path, frames: list[int], rounds: int) -> dict[str, Any]:
    """Fit, export and time at the spec's size: raw frames as large as the input, and of all `frames`."""
    graphs, size = graphs_of(spec, data), int(spec.input.size[0])
    rows = []
    for side in sorted({size, *frames}):
        one, two = times(graphs, frame(side), 1, rounds), times(graphs, frame(side), 2, rounds)
        row: dict[str, Any] = {"frame": side, "load": round(os.getloadavg()[0], 1)}
        for name in graphs:
            row[name] = {"cpu_ms": round(one[name][0], 1), "wall_ms": round(two[name][1], 1)}
        for name in ("float", "int8"):
            row[name]["times_bare_float_network"] = round(one[name][0] / one["network"][0], 2)
            row[name]["memory_mb"] = memory(graphs[name], side)
        rows.append(row)
    megabytes = {name: round(len(graph) / 1e6, 1) for name, graph in graphs.items()}
    return {"size": size, "stages": list(spec.extractor.stages), "graph_mb": megabytes, "frames": rows}


def main() -> None:
    """Time each size, print each result, and write all of them where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="pictures in MVTec AD layout, or a flat folder of normals")
    parser.add_argument("--size", type=int, nargs="+", default=[256, 512, 640, 1024])
    parser.add_argument("--frames", type=int, nargs="*", default=[1024, 2048, 4096], help="sides of square raw frames")
    parser.add_argument("--fine", action="store_true", help="with a bank on blocks.2")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="results are added to those that it holds")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(own_memory(arguments.memory_of, arguments.frames[0]))
        return
    results = json.loads(arguments.out.read_text()) if arguments.out and arguments.out.exists() else []
    for size in arguments.size:
        results.append(at_size(spec_of(size, arguments.fine), arguments.data, arguments.frames, arguments.rounds))
        print(json.dumps(results[-1]), flush=True)
        if arguments.out:
            write_text(arguments.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
