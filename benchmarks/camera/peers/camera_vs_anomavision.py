"""Our camera beside AnomaVision's detectors on the same pictures: fit, and a picture from file bytes to score. Speed only.

    python -m benchmarks.camera.peers.camera_vs_anomavision DATA --peer PEER_PYTHON [--train 120] [--rounds 3] [--keep FOLDER] [--out FILE]

DATA is a folder in MVTec AD layout; PEER_PYTHON a Python that has AnomaVision (a venv of its own: pip install anomavision).

Neither side can fetch weights here, so both get one resnet18 with the same random weights, pictures of 224 x 224 and layer2 and layer3:
ours with two banks of 2,048 patches, the most that AnomaVision's PatchCore keeps. Its PaDiM and EfficientAD run as they come. Ours is
also timed as it comes: EfficientNet-Lite0 with its packaged weights, all banks. Scores of random weights say nothing, so none are compared.
What counts is processor time, of a picture on one core: what else a machine does hardly moves it. The two sides take turns, a process of
each a round; the median over rounds counts. `ratios` are theirs, in their quickest runtime, by ours in 8 bits. What was fitted and exported
is left in `--keep`, and found there again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.atomic import write_text
from anomaly.data.pictures.layouts import find_pictures
from anomaly.spec import CameraSpec, read_spec

SPECS = Path(__file__).parents[3] / "specs"
TIMED = 40  # pictures whose latency is taken, `--rounds` times
SAME = """kind = "camera"
[input]
size = 224
[extractor]
backbone = "resnet18"
weights = "WEIGHTS"
stages = ["layer2", "layer3"]
[scorer]
banks = [{stage = "layer2", metric = "unit", size = 2048}, {stage = "layer3", metric = "unit", size = 2048}]
[pretrain]
method = "none"
"""


def random_resnet18(folder: Path) -> Path:
    """A state dict of a resnet18 that was never trained, the same each time."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(0)
    path = folder / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


def specs(folder: Path, weights: Path) -> dict[str, CameraSpec]:
    """Ours with the peer's backbone, and ours as it comes; neither is adapted."""
    path = folder / "same.toml"
    path.write_text(SAME.replace("WEIGHTS", str(weights)))
    found = {"same backbone": read_spec(path), "default": read_spec(SPECS / "camera.toml")}
    return {
        name: spec.model_copy(update={"pretrain": spec.pretrain.model_copy(update={"method": "none"})})
        for name, spec in found.items()
        if isinstance(spec, CameraSpec)
    }


def fit_ours(spec: CameraSpec, data: str, out: str, queue: Any) -> None:
    """Fit and export in a process of its own, so that its peak memory is its own."""
    from anomaly.pipeline.kinds import open_line
    from anomaly.pipeline.steps import Steps

    with tempfile.TemporaryDirectory() as scratch:
        steps = Steps(open_line(spec, Path(data)), Path(scratch))
        steps.pretrain()
        started = time.process_time()
        steps.fit()
        seconds = time.process_time() - started
        shutil.copyfile(steps.export(), out)
    queue.put({"fit_cpu_s": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024})


def in_process(target: Any, *arguments: Any) -> Any:
    """What a function puts into the queue that it is given last, run in a new process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=target, args=(*arguments, queue))
    process.start()
    found = queue.get()
    process.join()
    return found


def time_ours(bundles: dict[str, str], test: list[str], queue: Any) -> None:
    """Median milliseconds of one core a picture, from file to score, of each bundle's graphs."""
    from anomaly.bundle.archive import DETECTOR, VARIANTS, read_bundle
    from anomaly.data.pictures.reading import format_of, read_picture
    from anomaly.edge.runtime.session import Device, Session

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = {}
    for name, path in bundles.items():
        bundle = read_bundle(Path(path))
        form = format_of(bundle.manifest.input)
        graphs = {"float": DETECTOR, "int8": VARIANTS["int8"]}
        for variant, member in graphs.items():
            if member not in bundle.members:
                continue
            session, times = Session(bundle.members[member], "cpu", Device(threads=1)), []
            for picture in test[:1] + test:
                started = time.process_time()
                session.run(read_picture(Path(picture), form).pixels[None])
                times.append(time.process_time() - started)
            found[f"{name}, {variant}"] = 1000 * float(np.median(times[1:]))
    queue.put(found)


def peer(python: str, folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """What the peer's script finds."""
    (folder / "job.json").write_text(json.dumps(job | {"out": str(folder)}))
    script = Path(__file__).with_name("peer_anomavision.py")
    subprocess.run([python, str(script), str(folder / "job.json")], check=True, stdout=subprocess.DEVNULL)
    return dict(json.loads((folder / f"{job['do']}.json").read_text()))


def main(arguments: list[str] | None = None) -> None:
    """Run both sides, and write and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--train", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder for what is fitted; what is there is not fitted again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/camera/peers/anomavision.json"))
    given = parser.parse_args(arguments)
    found = find_pictures(given.data)
    train = found.train[:: max(1, len(found.train) // given.train)][: given.train]
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        normals = folder / "data" / "train" / "good"
        normals.mkdir(parents=True, exist_ok=True)
        for picture in train:
            shutil.copyfile(picture.path, normals / picture.path.name)
        weights = random_resnet18(folder)
        test = [str(picture.path.resolve()) for picture in found.test[:TIMED]]
        ours: dict[str, Any] = {}
        for name, spec in specs(folder, weights).items():
            bundle = folder / f"{name}.anomaly"
            ours[name] = {} if bundle.exists() else in_process(fit_ours, spec, str(folder / "data"), str(bundle))
        (folder / "peer").mkdir(exist_ok=True)
        job = {"weights": str(weights), "train": [str(path) for path in sorted(normals.iterdir())], "test": test, "timed": TIMED}
        there = folder / "peer" / "fit.json"
        theirs = json.loads(there.read_text()) if there.exists() else peer(given.peer, folder / "peer", job | {"do": "fit"})
        bundles = {name: str(folder / f"{name}.anomaly") for name in ours if (folder / f"{name}.anomaly").exists()}
        rounds = [
            (in_process(time_ours, bundles, test), peer(given.peer, folder / "peer", job | {"do": "time"})) for _ in range(given.rounds)
        ]
    mine_ms, theirs_ms = ({key: statistics.median(r[side][key] for r in rounds) for key in rounds[0][side]} for side in (0, 1))
    quickest = {m: min((ms, key) for key, ms in theirs_ms.items() if key.startswith(m)) for m in ("patchcore", "padim", "efficientad")}
    report = {"train": len(train), "ours": ours, "anomavision": theirs, "ours_ms": mine_ms, "anomavision_ms": theirs_ms}
    report["quickest_of_anomavision"] = {name: {"ms": ms, "how": how} for name, (ms, how) in quickest.items()}
    report["ratios"] = {
        f"{name} by ours, {mine}": ms / mine_ms[f"{mine}, int8"]
        for name, (ms, _) in quickest.items()
        for mine in bundles
        if f"{mine}, int8" in mine_ms
    } | {
        f"fit, {name} by ours, {mine}": theirs[name]["fit_cpu_s"] / ours[mine]["fit_cpu_s"]
        for name in quickest
        for mine in bundles
        if "fit_cpu_s" in theirs[name] and "fit_cpu_s" in ours[mine]
    }
    text = json.dumps(report, indent=1, sort_keys=True)
    write_text(given.out, text + "\n")
    print(text)


if __name__ == "__main__":
    main()
