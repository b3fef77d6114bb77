"""Sources that can and that cannot help: how they are ranked before, what comes of them when forced, and what the guard says.

    python -m benchmarks.transfer.transfer_sources [--tile DATA --solar SOLAR --steel STEEL] [--skab SKAB] [--normals 20] [--out FILE.json]

Tiles: `--normals` good tiles; sources are pictures of solar cells, steel, and lines of text. Every source's normals join the bank by CORAL,
whatever the guard says: image AUROC on the labelled tiles beside the target alone. SKAB: every run's first 400 rows; sources are the
anomaly-free record, the same with its columns shuffled, and generated signals, lent by CORAL: mean ROC-AUC of the rows after them.
`first` and `last`: how often a source was ranked so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from scipy.stats import spearmanr

from anomaly.atomic import write_text
from anomaly.data.files import PICTURES, find_files
from anomaly.data.samples.generated import write_generated
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import read_table
from anomaly.data.tables.windows import score_table
from anomaly.evaluation import metrics
from anomaly.evaluation.figures import by_row
from anomaly.evaluation.transfer import ALONE, judge
from anomaly.features.tensors import load_tensors
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.transfer import CameraTransfer, TransferCandidate
from anomaly.pipeline.rank_sources import rank_sources
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import CameraSpec, Pretrain, SensorSpec, Transfer
from benchmarks.protocols.sensors import SKAB_LABELS, SKAB_TRAINING_ROWS, row_after_row, skab_runs


def quiet(_: str) -> None:
    """Say nothing."""


def text_pictures(out: Path, count: int = 60) -> Path:
    """White pages with lines of random letters."""
    out.mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        page = Image.new("L", (256, 256), 255)
        draw = ImageDraw.Draw(page)
        for line in range(16):
            draw.text((8, 8 + 15 * line), "".join(chr(97 + c) for c in rng.integers(26, size=38)), fill=0)
        page.save(out / f"{number}.png")
    return out


def some(source: Path, out: Path, count: int) -> Path:
    """A flat folder of some of a source's pictures, evenly or by a seed."""
    found = find_files(source, PICTURES)
    out.mkdir(parents=True)
    for path in found[:: max(1, len(found) // count)][:count]:
        (out / path.name).symlink_to(path.resolve())
    return out


def tiles(tile: Path, solar: Path, steel: Path, normals: int, scratch: Path) -> dict[str, Any]:
    """Ranking, forced transfer and guard on tiles."""
    root = scratch / "tile"
    some(tile / "train" / "good", root / "train" / "good", normals)
    (root / "test").symlink_to((tile / "test").resolve())
    sources = {
        "solar": some(solar / "train" / "good", scratch / "solar", 60),
        "steel": some(steel, scratch / "steel", 60),
        "text": text_pictures(scratch / "text"),
    }
    line = CameraLine(CameraSpec(kind="camera"), root)
    ranked = rank_sources(line, list(sources.values()), quiet)
    result: dict[str, Any] = {"ranked": [{**row, "source": Path(row["source"]).name} for row in ranked]}
    test = [p for p in line.pictures.test if line.pictures.read(p) is not None]
    labels = np.array([p.defect is not None for p in test])
    for name, path in sources.items():
        spec = CameraSpec(kind="camera", transfer=Transfer(normals=path, method="coral"))
        line = CameraLine(spec, root)
        transfer = CameraTransfer(line.settled(), line.pictures, line.judging, quiet)
        tested = line.pictures.features_of(transfer.own, transfer.preprocess, test)

        def auroc(way: TransferCandidate) -> float:
            features = line.pictures.features_of(way.extractor, transfer.preprocess, line.pictures.readable)  # noqa: B023 - called at once
            generator = torch.Generator().manual_seed(0)
            scorer = fit_camera_scorer(line.settled(), features, generator, largest=4000, borrowed=way.borrowed).scorer  # noqa: B023
            with torch.inference_mode():
                score, _ = scorer(tested)  # noqa: B023
            return metrics.auroc(labels, score.double().numpy()) or 0.0

        result.setdefault(ALONE, auroc(TransferCandidate(transfer.own)))
        found = judge(transfer.rankings(["coral"]), 0)["coral"]
        result[name] = {
            "auroc": auroc(transfer.candidate("coral", line.pictures.readable)),
            "guard": found.verdict,
            "gain": found.gain,
            "ci95": [found.low, found.high],
        }
        print(name, json.dumps(result[name]), flush=True)
    return result


def skab(data: Path, scratch: Path) -> dict[str, Any]:
    """Ranking, forced transfer and guard on SKAB's runs."""
    free = next(p for p in sorted((data / "anomaly-free").glob("*.csv")))
    frame = pd.read_csv(free, sep=";")
    names = list(frame.columns[1:])
    shuffled = frame.rename(columns=dict(zip(names, np.roll(names, 3).tolist(), strict=True)))
    shuffled.to_csv(scratch / "shuffled.csv", index=False)
    frame.to_csv(scratch / "anomaly-free.csv", index=False)
    sources = {
        "anomaly-free": scratch / "anomaly-free.csv",
        "shuffled": scratch / "shuffled.csv",
        "generated": write_generated(scratch / "generated.csv", names, 9400, 0),
    }
    first, last, verdicts, harm = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    aucs, agreement, by_run = [], [], {}
    for path in skab_runs(data):
        whole = pd.read_csv(path, sep=";")
        label = whole["anomaly"].to_numpy()[SKAB_TRAINING_ROWS:] > 0
        folder = Path(tempfile.mkdtemp(dir=scratch))
        values = whole.drop(columns=list(SKAB_LABELS))
        values.head(SKAB_TRAINING_ROWS).to_csv(folder / "train.csv", index=False)
        values.to_csv(folder / "whole.csv", index=False)
        base = row_after_row(SensorSpec(kind="sensor", pretrain=Pretrain(method="none")))
        order = [Path(r["source"]).stem for r in rank_sources(SensorLine(base, folder / "train.csv"), list(sources.values()), quiet)]
        first[order[0]] += 1
        last[order[-1]] += 1
        row, guard = {}, {}
        for name, transfer in {ALONE: Transfer(), **{n: Transfer(normals=p, method="coral") for n, p in sources.items()}}.items():
            spec = base.model_copy(update={"transfer": transfer})
            steps = Steps(SensorLine(spec, folder / "train.csv"), folder / name.replace(" ", "-"))
            table = read_table(folder / "whole.csv", table_schema(spec.input))
            scored = score_table(steps.detector().run, table, steps.line.input_schema().window or 1)
            _, score = by_row(scored, SKAB_TRAINING_ROWS, len(whole), 0.01)
            row[name] = metrics.auroc(label, score) or 0.0
            if name != ALONE:
                guard[name] = load_tensors(steps.pretrain())[1]["transfer"]["ways"]["coral"]
                verdict = guard[name]["verdict"]
                verdicts[f"{name}: {verdict}"] += 1
                harm[name] += int(verdict == "helps" and row[name] < row[ALONE] - 0.02)
        aucs.append(row)
        by_run[f"{path.parent.name}/{path.stem}"] = {"order": order, "roc_auc": row, "guard": guard}
        agreement.append(float(spearmanr([-order.index(n) for n in sources], [row[n] for n in sources]).statistic))
        print(path.stem, order, json.dumps(row), flush=True)
    means = {name: float(np.mean([row[name] for row in aucs])) for name in aucs[0]}
    return {
        "first": dict(first),
        "last": dict(last),
        "guard": dict(verdicts),
        "said to help and lost more than 0.02": dict(harm),
        "mean_roc_auc": means,
        "by_run": by_run,
        "mean_rank_correlation": float(np.nanmean(agreement)),
    }


def main() -> None:
    """Everything asked for, into one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tile", type=Path)
    parser.add_argument("--solar", type=Path)
    parser.add_argument("--steel", type=Path)
    parser.add_argument("--skab", type=Path)
    parser.add_argument("--normals", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/transfer/transfer_sources.json"))
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.skab:
            results["skab"] = skab(arguments.skab, Path(scratch))
            print(json.dumps({k: v for k, v in results["skab"].items() if k != "by_run"}, indent=1), flush=True)
        if arguments.tile:
            results["tile"] = tiles(arguments.tile, arguments.solar, arguments.steel, arguments.normals, Path(scratch))
    write_text(arguments.out, json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
