"""Our camera detector beside anomalib's PatchCore: same pictures, same backbone weights, same machine, one run.

    python -m benchmarks.camera.camera_vs_anomalib DATA --peer PEER_PYTHON [--train 120] [--share 0.02] [--out FILE.json]

DATA is in MVTec AD layout. PEER_PYTHON is the Python of an environment of its own with anomalib, onnxruntime and openvino. Reported:
time to fit (whole, and the coreset alone on the peer's own embeddings, same number of picks, with both covering radii), image AUROC,
latency of one picture from file bytes to decision, peak memory, and our graph against its bare backbone.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from anomaly.atomic import write_text
from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import Picture
from anomaly.features.backbones.weights import packaged_weights

INSTRUCTIONS = ("avx2", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")  # what tells how quick either side can be
TIMED = 40  # pictures whose latency is taken, three times each


def peer(python: str, job: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]:
    """Run the peer on a job; returns its result, and its embeddings and bank when it fitted."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "job.json").write_text(json.dumps(job | {"out": scratch}))
        script = Path(__file__).with_name("peer_anomalib.py")
        subprocess.run([python, str(script), str(folder / "job.json")], check=True, stdout=subprocess.DEVNULL)
        saved = [np.load(folder / n) if (folder / n).exists() else None for n in ("embeddings.npy", "bank.npy")]
        return json.loads((folder / "result.json").read_text()), saved[0], saved[1]


def radius(points: np.ndarray, bank: np.ndarray) -> float:
    """The largest distance of any point to its nearest bank row."""
    import torch

    rows = torch.from_numpy(bank)
    return max(float(torch.cdist(part, rows).amin(dim=1).max()) for part in torch.from_numpy(points).split(8192))


def coreset(points: np.ndarray, count: int) -> dict[str, float]:
    """Our coreset on the peer's embeddings."""
    import torch

    from anomaly.scorers.coreset import greedy_coreset

    rows = torch.from_numpy(points)
    started = time.perf_counter()
    picked = greedy_coreset(rows, count, torch.Generator().manual_seed(0))
    seconds = time.perf_counter() - started
    return {"coreset_s": seconds, "radius": radius(points, points[picked.numpy()])}


def fit_ours(data: str, queue: Any) -> None:
    """Fit with the default spec, without adaptation, in a process of its own so that its peak memory is its own."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.pipeline.kinds import open_line
    from anomaly.pipeline.steps import Steps
    from anomaly.spec import read_spec

    spec = read_spec(Path(__file__).parents[2] / "specs" / "camera.toml")
    spec = spec.model_copy(update={"pretrain": spec.pretrain.model_copy(update={"method": "none"})})
    with tempfile.TemporaryDirectory() as scratch:
        steps = Steps(open_line(spec, Path(data)), Path(scratch))
        steps.pretrain()
        started = time.perf_counter()
        steps.fit()
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        bundle = read_bundle(steps.export())
        queue.put((seconds, peak, dict(bundle.members), bundle.manifest.threshold.p_value))


def ours(data: Path, test: list[Picture]) -> dict[str, Any]:
    """Fit, scores and latency of our detector, float and 8-bit."""
    from anomaly.data.pictures.reading import read_image
    from anomaly.edge.runtime.session import Session

    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=fit_ours, args=(str(data), queue))
    process.start()
    seconds, peak, members, _ = queue.get()
    process.join()
    sessions = {
        "int8": Session(members["detector.int8.onnx"], "cpu"),
        "float": Session(members["detector.onnx"], "cpu"),
    }
    result: dict[str, Any] = {"fit_s": seconds, "peak_mb": peak}
    raws = [read_image(p.path, "gray")[None] for p in test]
    for name, session in sessions.items():
        result[f"scores_{name}"] = [float(session.run(raw).score[0]) for raw in raws]
        timed = [p.path for p in test[:TIMED]]  # read above, so the system has them in memory
        times = []
        for path in timed[:1] + timed * 3:
            started = time.perf_counter()
            session.run(read_image(path, "gray")[None])
            times.append(time.perf_counter() - started)
        result[f"{name}_ms"] = 1000 * float(np.median(times[1:]))
    result |= graph_cost(members, raws)
    return result


def graph_cost(members: dict[str, bytes], raws: list[np.ndarray]) -> dict[str, float]:
    """One thread: the whole graph from raw frame to p-value, and the bare backbone's graph on a ready tensor."""
    import onnxruntime as ort
    import torch

    from anomaly.edge.runtime.session import Device, Session
    from anomaly.features.backbones import load_backbone

    network, _ = load_backbone("efficientnet_lite0", ["blocks.5"])
    buffer = io.BytesIO()
    example = torch.zeros(1, 3, 256, 256)
    torch.onnx.export(network, (example,), buffer, dynamo=False, opset_version=17, input_names=["x"])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    bare = ort.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    whole = {n: Session(members[m], "cpu", Device(1)) for n, m in (("int8", "detector.int8.onnx"), ("float", "detector.onnx"))}
    runs = {"bare": lambda raw: bare.run(None, {"x": example.numpy()})} | {n: s.run for n, s in whole.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for raw in raws[:100]:  # taken in turns, so that a busy machine is busy for all
        for name, run in runs.items():
            started = time.perf_counter()
            run(raw)
            times[name].append(time.perf_counter() - started)
    return {f"one_thread_{name}_ms": 1000 * float(np.median(values)) for name, values in times.items()}


def main() -> None:
    """Run both sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--train", type=int, default=120)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/camera/camera_vs_anomalib.json"))
    arguments = parser.parse_args()
    found = find_pictures(arguments.data)
    train = found.train[:: max(1, len(found.train) // arguments.train)][: arguments.train]
    labels = np.array([p.defect is not None for p in found.test])
    paths = {"train": [str(p.path.resolve()) for p in train], "test": [str(p.path.resolve()) for p in found.test]}
    weights = str(packaged_weights("efficientnet_lite0"))
    job = paths | {"backbone": "tf_efficientnet_lite0", "layers": ["blocks.2", "blocks.4"], "weights": weights, "timed": TIMED}
    theirs, embeddings, bank = peer(arguments.peer, job | {"share": arguments.share, "bank_rows": 0})
    assert embeddings is not None
    assert bank is not None
    resnet = job | {"backbone": "resnet18", "layers": ["layer2", "layer3"], "weights": "", "share": 0.1, "bank_rows": 12_288}
    default, _, _ = peer(arguments.peer, resnet)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "train" / "good"
        folder.mkdir(parents=True)
        for picture in train:
            shutil.copyfile(picture.path, folder / picture.path.name)
        mine = ours(Path(scratch), list(found.test))
    same = coreset(embeddings, len(bank))
    theirs["radius"] = radius(embeddings, bank)
    theirs["image_auroc"] = float(roc_auc_score(labels, theirs.pop("scores")))
    for name in ("int8", "float"):
        mine[f"image_auroc_{name}"] = float(roc_auc_score(labels, mine.pop(f"scores_{name}")))
    quickest = min(theirs[k] for k in ("torch_ms", "onnxruntime_ms", "openvino_ms"))
    ratios = {
        "fit": (theirs["features_s"] + theirs["coreset_s"]) / mine["fit_s"],
        "coreset": theirs["coreset_s"] / same["coreset_s"],
        "coreset_radius": same["radius"] / theirs["radius"],
        "latency_against_its_quickest": quickest / mine["int8_ms"],
        "latency_against_default_resnet18": min(default[k] for k in ("torch_ms", "onnxruntime_ms", "openvino_ms")) / mine["int8_ms"],
        "peak_memory": theirs["peak_mb"] / mine["peak_mb"],
        "graph_to_bare_backbone": mine["one_thread_int8_ms"] / mine["one_thread_bare_ms"],
    }
    report = {"train": len(train), "share": arguments.share, "anomalib": theirs, "anomalib_resnet18": default, "ours": mine}
    report["cpu_instructions"] = [name for name in INSTRUCTIONS if f" {name}" in Path("/proc/cpuinfo").read_text()]
    write_text(arguments.out, json.dumps(report | {"same_coreset": same, "ratios": ratios}, indent=1, sort_keys=True) + "\n")
    print(json.dumps(report | {"same_coreset": same, "ratios": ratios}, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
