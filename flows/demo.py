"""`python -m flows.demo`: the main job on the samples, for a camera, a plant and a press, and where its results are."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle
from anomaly.names import slug
from flows.pipeline import pipeline

OUT = Path("out")
SAMPLES = Path("data_samples")
SPECS = {"camera": "specs/camera.toml", "plant": "specs/plant.toml", "press": "specs/sensor.toml"}  # of each sample
ALERTS = """# written by the demo: alarms go to one file
[[sink]]
name = "file"
kind = "jsonl"
path = "{path}"
"""


def main() -> None:
    """Fit, publish, then monitor the test data as an edge would; prints where bundle, report and alarms are."""
    started = time.monotonic()
    OUT.mkdir(exist_ok=True)
    done = []
    for name, spec in SPECS.items():
        data = SAMPLES / name
        print(f"\n=== {name}: fit on {data}", flush=True)
        bundle = pipeline(Path(spec), data, OUT / "release" / name, OUT, role="champion")
        source = _drop_folder(data) if name == "camera" else data / "test.csv"
        print(f"=== {name}: monitor {source}", flush=True)
        done.append((name, bundle, _monitor(name, bundle, source)))
    print(f"\n=== done in {time.monotonic() - started:.0f} s")
    for name, bundle, alarms in done:
        figures = read_bundle(bundle).manifest.metrics
        main_figure = "image_auroc" if "image_auroc" in figures else "roc_auc"
        events = Store(OUT / f"{name}.db").events()
        opened = sum(e["type"] == "anomaly.alarm.opened" for e in events)
        report = OUT / f"{slug(read_bundle(bundle).manifest.name)}-report.html"
        print(f"{name}: {main_figure} {figures[main_figure]:.3f}, {opened} alarms")
        print(f"  bundle {bundle}\n  report {report}\n  alarms {alarms}  (store {OUT / f'{name}.db'})")


def _drop_folder(data: Path) -> Path:
    """The test pictures in one folder, as a camera would drop them."""
    folder = OUT / "camera-in"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted((data / "test").glob("*/*.jpg")):
        shutil.copy2(path, folder / f"{path.parent.name}-{path.name}")
    return folder


def _monitor(name: str, bundle: Path, source: Path) -> Path:
    """Run `anomaly monitor --once` in a process of its own, as the edge does, on a fresh store."""
    store, alarms, alerts = OUT / f"{name}.db", OUT / f"{name}-alarms.jsonl", OUT / f"{name}-alerts.toml"
    for old in [*OUT.glob(f"{name}.db*"), alarms]:
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    alerts.write_text(ALERTS.format(path=alarms.as_posix()))
    command = [sys.executable, "-m", "anomaly.cli", "monitor", str(bundle), "--source", str(source), "--once", "--exit-zero"]
    subprocess.run([*command, "--alerts", str(alerts), "--store", str(store), "--line", name], check=True)  # noqa: S603 - fixed arguments
    return alarms


if __name__ == "__main__":
    main()
