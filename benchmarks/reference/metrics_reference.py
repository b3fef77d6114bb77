"""Our picture figures beside torchmetrics' and anomalib's on the very same scores, maps and masks.

    python -m benchmarks.reference.metrics_reference DATA --bundle BUNDLE --peer PEER_PYTHON [--out FILE.json]

DATA is in MVTec AD layout, with masks; BUNDLE was fitted on its normals. PEER_PYTHON is the Python of an environment of its own with
anomalib, which brings torchmetrics.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from anomaly.atomic import write_text
from anomaly.bundle.archive import read_bundle
from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import format_of, read_picture
from anomaly.edge.runtime.session import Session
from anomaly.evaluation.figures import evaluate_pictures
from anomaly.evaluation.pixels import resize_map, shrink_mask, usable_mask

NAMES = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_aupro")


def main() -> None:
    """Score once, work every figure out twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reference/metrics_reference.json"))
    arguments = parser.parse_args()
    bundle, pictures = read_bundle(arguments.bundle), find_pictures(arguments.data).test
    run, form = Session(bundle.detector, "cpu").run, format_of(bundle.manifest.input)
    found = evaluate_pictures(run, pictures, form, 0.01)
    masks, maps = [], []
    for picture in (q for q in pictures if q.defect is None or q.mask is not None):
        raw = read_picture(picture.path, form).pixels
        maps.append(resize_map(run(raw[None])[2][0]))
        masks.append(shrink_mask(usable_mask(picture, raw.shape[:2]) if picture.mask else np.zeros(raw.shape[:2], bool)))
    with tempfile.TemporaryDirectory() as scratch:
        given, answer = Path(scratch) / "in.npz", Path(scratch) / "out.json"
        scores, labels = found.records["score"].to_numpy(), (found.records["label"] != "good").to_numpy()
        np.savez(given, scores=scores, labels=labels, masks=np.stack(masks), maps=np.stack(maps))
        script = Path(__file__).with_name("peer_metrics.py")
        subprocess.run([arguments.peer, str(script), str(given), str(answer)], check=True, stdout=subprocess.DEVNULL)
        theirs = json.loads(answer.read_text())
    figures = {name: {"ours": found.figures[name], "theirs": theirs[name]} for name in NAMES}
    for name, pair in figures.items():
        pair["difference"] = abs(pair["ours"] - pair["theirs"])
        print(f"{name}: ours {pair['ours']:.6f}, theirs {pair['theirs']:.6f}, difference {pair['difference']:.1e}")
    write_text(arguments.out, json.dumps({"pictures": len(found.records), "figures": figures}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
