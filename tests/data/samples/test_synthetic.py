"""The sample data that is shipped: made by the generator, and hard enough to be worth looking at."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from anomaly.data.samples.synthetic import write_samples


def test_shipped_samples_are_what_the_generator_makes(tmp_path: Path) -> None:
    write_samples(tmp_path)
    shipped = Path("data_samples")
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert made == sorted(p.relative_to(shipped) for p in shipped.rglob("*") if p.is_file() and p.suffix in (".jpg", ".png", ".csv"))
    assert sum((shipped / p).stat().st_size for p in made) < 3_000_000
    for name in ("plant/train.csv", "plant/test.csv"):
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / name), pd.read_csv(shipped / name), rtol=1e-6)


def test_a_trivial_threshold_fails_on_the_sample_plant() -> None:
    """The faults hide inside the load changes: an alarm on the largest deviation, set on normals, misses most of them."""
    train, test = (pd.read_csv(f"data_samples/plant/{name}.csv") for name in ("train", "test"))
    sensors = list(train.columns[1:])
    seen, new = (((d[sensors] - train[sensors].mean()) / train[sensors].std()).abs().max(axis=1).fillna(0) for d in (train, test))
    flagged = new > seen.quantile(0.99)
    assert flagged[test["anomaly"] == 1].mean() < 0.3
    by_kind = flagged.groupby(test["fault_kind"]).mean()
    assert (by_kind > 0.5).sum() <= 1  # of five faults
