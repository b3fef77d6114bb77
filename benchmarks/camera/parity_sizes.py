"""Does the exported graph score as PyTorch does, at every size? One JSON line a size.

    python -m benchmarks.camera.parity_sizes --data DATA --size 256 512 1024 640,256 --pictures 1000 [--normals 60] [--spec SPEC] [--out F]

At each size a detector is fitted on some of DATA's normals, without adaptation, and exported. Then pictures go through PyTorch and ONNX
Runtime, one at a time: the normals, the labelled pictures, and as many with a synthetic defect drawn on them as are asked for. No two
are alike. `failed` lists those whose score differs by more than 1e-4 relative, or whose decision differs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.atomic import write_text
from anomaly.data.pictures.defects import inject
from anomaly.data.pictures.reading import Picture
from anomaly.edge.runtime.session import Device, Session
from anomaly.errors import ExportError
from anomaly.export.onnx_graph import check_parity, export_onnx
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.pictures import PictureFolder, from_8_bit, to_8_bit
from anomaly.pipeline.steps import Steps
from anomaly.spec import CameraSpec, read_spec

SPECS = Path(__file__).parents[2] / "specs"
Size = tuple[int, int]
CHUNK = 32  # pictures compared at once


def side_lengths(text: str) -> Size:
    """Height and width, of "640,256" or of one number for both.

    >>> side_lengths("640,256"), side_lengths("512")
    ((640, 256), (512, 512))
    """
    sides = [int(part) for part in text.split(",")]
    return sides[0], sides[-1]


def distinct(folder: PictureFolder, pictures: list[Picture], count: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """`count` raw pictures (H, W, C), each with a name: first as they are, then with synthetic defects, one more each time round."""
    deep, rng, given = folder.format.deep, np.random.default_rng(0), 0
    for turn in range(-(-count // len(pictures))):
        for picture in pictures:
            raw = folder.read(picture)
            if raw is None or given == count:
                continue
            given += 1
            if turn:
                raw = from_8_bit(inject(to_8_bit(raw, deep), rng)[0], deep)
            yield (f"{picture.id}, defect {turn}" if turn else picture.id), raw


def at_size(spec: CameraSpec, data: Path, normals: int, count: int) -> dict[str, Any]:
    """Fit, export and compare at the spec's size."""
    line = CameraLine(spec, data)
    every = [*line.pictures.train, *line.pictures.test]
    line.pictures.train = line.pictures.train[:: max(1, len(line.pictures.train) // normals)][:normals]
    with tempfile.TemporaryDirectory() as work:
        started = time.monotonic()
        steps = Steps(line, Path(work))
        detector, p = steps.detector(), steps.threshold().p_value
        fitted = time.monotonic()
        example = line.examples(line.input_schema(), 4, np.random.default_rng(0)).noise[0][:1]
        session = Session(export_onnx(detector, np.concatenate([example, example])), "cpu", Device(threads=1))
        exported = time.monotonic()
    compared, relative, absolute, failed = 0, 0.0, 0.0, []
    pictures = distinct(line.pictures, every, count)
    while some := list(islice(pictures, CHUNK)):
        compared += len(some)
        try:
            found = [check_parity(detector, lambda batch: session.run(batch)[:2], [raw[None] for _, raw in some], p)]
        except ExportError:
            found = []
            for name, raw in some:
                try:
                    found.append(check_parity(detector, lambda batch: session.run(batch)[:2], [raw[None]], p))
                except ExportError as error:
                    failed.append(f"{name}: {error}")
        for parity in found:
            relative, absolute = max(relative, parity.max_relative_score), max(absolute, parity.max_absolute_p)
    return {
        "size": list(spec.input.size),
        "inputs": compared,
        "failed": failed,
        "max_relative_score_of_the_others": relative,
        "max_absolute_p_of_the_others": absolute,
        "decisions_that_differ": sum("0 of 1 decisions differ" not in reason for reason in failed),
        "seconds": {
            "fit": round(fitted - started, 1),
            "export": round(exported - fitted, 1),
            "compare": round(time.monotonic() - exported, 1),
        },
    }


def main() -> None:
    """Compare at each size, print each result, and write all of them where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pictures in MVTec AD layout, or a flat folder of normals")
    parser.add_argument("--size", type=side_lengths, nargs="+", default=[(256, 256), (512, 512), (1024, 1024), (640, 256)])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--normals", type=int, default=60, help="pictures that each detector is fitted on, at most")
    parser.add_argument("--spec", type=Path, default=SPECS / "camera.toml")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    asked = read_spec(arguments.spec)
    assert isinstance(asked, CameraSpec)
    results = []
    for size in arguments.size:
        changes = {
            "input": asked.input.model_copy(update={"size": size}),
            "pretrain": asked.pretrain.model_copy(update={"method": "none"}),
        }
        results.append(at_size(asked.model_copy(update=changes), arguments.data, arguments.normals, arguments.pictures))
        print(json.dumps(results[-1]), flush=True)
        if arguments.out:
            write_text(arguments.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
