"""`anomaly fit --quick`, and `anomaly bundle variants`, which makes up for what it left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from anomaly.bundle.archive import DETECTOR, VARIANTS, read_bundle, write_bundle
from anomaly.errors import BundleError, DataError
from tests.conftest import Fitted, run


@pytest.fixture(scope="module")
def quick(camera: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The camera's bundle without variants; its other steps are in the work folder."""
    path = tmp_path_factory.mktemp("quick") / "q.anomaly"
    said = run("fit", camera.spec, "--data", camera.data, "--out", path, "--work", camera.steps.work, "--quick")
    assert f"without the fp16 and int8 variants; to add them: anomaly bundle variants {path} --data {camera.data}" in said
    return path


def test_variants_added_later_give_the_bundle_of_a_whole_fit(camera: Fitted, quick: Path, tmp_path: Path) -> None:
    assert not set(read_bundle(quick).members) & (set(VARIANTS.values()) - {DETECTOR})
    out = tmp_path / "v.anomaly"
    said = run("bundle", "variants", quick, "--data", camera.data, "--work", camera.steps.work, "--out", out)
    assert out.read_bytes() == camera.bundle.read_bytes()
    assert f"version 1 as before; hash {read_bundle(out).hash[:12]}, before {read_bundle(quick).hash[:12]}" in said
    again = run("bundle", "variants", out, "--data", camera.data, "--work", camera.steps.work)
    assert "has its variants already; nothing was changed" in again


def test_a_signed_bundle_is_to_be_signed_again(camera: Fitted, quick: Path, tmp_path: Path) -> None:
    key, bundle = tmp_path / "key.pem", tmp_path / "s.anomaly"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    bundle.write_bytes(quick.read_bytes())
    run("bundle", "sign", bundle, "--key", key)
    said = run("bundle", "variants", bundle, "--data", camera.data, "--work", camera.steps.work)
    assert "not signed any more" in said
    assert bundle.read_bytes() == camera.bundle.read_bytes()


def test_other_data_is_refused(camera: Fitted, quick: Path, tmp_path: Path) -> None:
    before = quick.read_bytes()
    shutil.copytree(camera.data, tmp_path / "data", ignore=shutil.ignore_patterns("003.jpg"))
    with pytest.raises(DataError, match=r"not the data that .* was fitted on: a file was added, removed or changed"):
        run("bundle", "variants", quick, "--data", tmp_path / "data", "--work", tmp_path / "w")
    assert quick.read_bytes() == before


def test_another_detector_is_refused(camera: Fitted, quick: Path, tmp_path: Path) -> None:
    real, forged = read_bundle(quick), tmp_path / "f.anomaly"
    write_bundle(forged, real.manifest, {**real.members, DETECTOR: real.detector + b"\x7a\x00"})  # an unknown field, which runs
    before = forged.read_bytes()
    with pytest.raises(BundleError, match=r"the same spec and data do not give its detector here.*--extractor"):
        run("bundle", "variants", forged, "--data", camera.data, "--work", camera.steps.work)
    assert forged.read_bytes() == before


def test_sensors_have_none(sensor: Fitted) -> None:
    assert "a sensor detector has no variants" in run("bundle", "variants", sensor.bundle, "--data", sensor.data)
