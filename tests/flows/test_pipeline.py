"""The flows as a plant's scheduler runs them, on Prefect's throw-away server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.bundle.archive import read_bundle
from anomaly.data import records
from anomaly.data.samples.synthetic import plant
from anomaly.errors import SpecError
from anomaly.evaluation.report.tried import transfer_words
from anomaly.pipeline.data_key import stamp_of

SPEC = """kind = "sensor"
name = "pump"
[input]
labels = ["anomaly"]
[pretrain]
method = "none"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a spec, and data to learn from and to judge by."""
    (tmp_path / "spec.toml").write_text(SPEC)
    data = tmp_path / "data"
    data.mkdir()
    plant(700, np.random.default_rng(1)).drop(columns=["anomaly", "fault_kind"]).to_csv(data / "train.csv", index=False)
    plant(400, np.random.default_rng(2)).drop(columns="fault_kind").to_csv(data / "test.csv", index=False)
    return tmp_path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file of data is hashed, by its name."""
    counts: Counter[str] = Counter()
    real = records.sha256_file

    def counted(path: Path) -> str:
        counts[path.name] += 1
        return real(path)

    monkeypatch.setattr(records, "sha256_file", counted)
    return counts


@pytest.mark.timeout(600)
def test_a_run_hashes_its_data_once_and_the_next_run_sees_a_change(site: Path, hashed: Counter[str], prefect: str) -> None:
    from flows.pipeline import pipeline, publish_flow

    arguments = (site / "spec.toml", site / "data", site / "release", site / "out", site / "work")
    first = pipeline(*arguments)
    assert hashed == {"train.csv": 1, "test.csv": 1}
    assert (site / "release" / "champion.json").is_file()
    assert (site / "out" / "pump-report.html").is_file()

    hashed.clear()
    made = sorted((site / "work").iterdir())
    assert pipeline(*arguments) == first
    assert sorted((site / "work").iterdir()) == made  # nothing was fitted again
    assert hashed == {"train.csv": 1, "test.csv": 1}

    hashed.clear()
    elsewhere = publish_flow(site / "spec.toml", site / "data", site / "elsewhere", site / "work")
    assert elsewhere.read_bytes() == first.read_bytes()
    assert hashed == {"train.csv": 1, "test.csv": 1}

    frame = pd.read_csv(site / "data" / "train.csv")
    frame.iloc[5, 1] += 0.25
    frame.to_csv(site / "data" / "train.csv", index=False)
    second = pipeline(*arguments)
    assert second != first
    assert read_bundle(second).manifest.provenance["data_sha256"] != read_bundle(first).manifest.provenance["data_sha256"]


@pytest.mark.timeout(300)
def test_the_flow_leaves_the_guards_verdict_as_an_artifact(site: Path, prefect: str) -> None:
    from prefect.artifacts import Artifact

    from flows.pipeline import transfer_flow

    other = plant(1500, np.random.default_rng(12)).drop(columns=["anomaly", "fault_kind"])
    other[other.columns[1:]] = other[other.columns[1:]] * 1.5 + 3.0
    other.to_csv(site / "other.csv", index=False)
    (site / "t.toml").write_text(f'{SPEC}[transfer]\nnormals = "{site / "other.csv"}"\nmethod = "batch-norm"\n')
    bundle = transfer_flow(site / "t.toml", site / "data", site / "work")
    artifact = Artifact.get("pump-transfer")
    assert artifact is not None
    with pytest.raises(SpecError, match="names no source"):
        transfer_flow(site / "spec.toml", site / "data", site / "work")
    found = read_bundle(bundle).manifest.provenance["fit"]["extractor"]["transfer"]
    assert found["method"] == "batch-norm"
    assert str(artifact.data).splitlines() == [f"- {text}" for text in transfer_words(found)]
    assert "- batch-norm: AUROC" in str(artifact.data)


def test_a_key_holds_only_while_the_files_are_as_they_were(site: Path, hashed: Counter[str]) -> None:
    from anomaly.pipeline.kinds import open_line
    from anomaly.pipeline.steps import Steps
    from anomaly.spec import read_spec

    def steps(known: object = None) -> Steps:
        return Steps(open_line(read_spec(site / "spec.toml"), site / "data"), site / "work", known=known)  # type: ignore[arg-type]

    key = steps().data_key
    hashed.clear()
    assert steps(key).data_key is key
    assert not hashed
    with (site / "data" / "test.csv").open("a") as table:
        table.write("\n")
    again = steps(key).data_key
    assert again.train == key.train
    assert again.test != key.test
    assert again.stamp != key.stamp


@pytest.mark.parametrize("change", ["written", "added", "removed", "same size and time"])
def test_a_stamp_changes_with_the_files(tmp_path: Path, change: str) -> None:
    import os

    files = [tmp_path / name for name in "abc"]
    for path in files:
        path.write_text(path.name)
        os.utime(path, (1e9, 1e9))
    before = stamp_of(files)
    assert stamp_of(reversed(files)) == before
    if change == "written":
        files[0].write_text("longer")
    elif change == "added":
        files.append(tmp_path / "d")
        files[-1].write_text("d")
    elif change == "removed":
        files.pop()
    else:
        copy = tmp_path / "copy"
        copy.write_text("z")
        os.utime(copy, (1e9, 1e9))
        copy.replace(files[0])
    assert stamp_of(files) != before
