"""`anomaly bundle inspect`, `verify` and `sign`, as a user types them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from anomaly.bundle.archive import read_bundle
from anomaly.errors import BundleError
from tests.conftest import Fitted, run


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """(private, public) PEM files of a new key."""
    secret = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_inspect_tells_in_words_what_a_bundle_is_and_with_json_all_of_it(sensor: Fitted, camera: Fitted) -> None:
    said = run("bundle", "inspect", sensor.bundle).splitlines()
    assert said[0] == "pump: a detector of readings, version 1"
    facts = {line.strip().partition(":")[0]: line.partition(":")[2].strip() for line in said[1:]}
    assert facts["budget"] == "1 normal moment in 50 may be flagged"
    assert (facts["hash"], facts["signed"]) == (read_bundle(sensor.bundle).hash, "no")
    assert "judged in windows of 30 rows" in facts["takes"]
    assert "{" not in "".join(said)
    assert run("bundle", "inspect", camera.bundle).startswith(
        "cam: a detector of pictures, version 1\n  takes:       color pictures of 8 bits"
    )
    assert json.loads(run("bundle", "inspect", sensor.bundle, "--json"))["name"] == "pump"


def test_sign_then_verify_with_the_key(sensor: Fitted, tmp_path: Path) -> None:
    bundle = Path(shutil.copy(sensor.bundle, tmp_path / "b.anomaly"))
    private, public = key_pair(tmp_path, "ours")
    assert "self-test passed on 4 examples; not signed" in run("bundle", "verify", bundle)
    with pytest.raises(BundleError, match="not signed, but a trusted key is set"):
        run("bundle", "verify", bundle, "--key", public)
    assert run("bundle", "sign", bundle, "--key", private).strip() == f"{bundle}: signed"
    assert read_bundle(bundle).hash == read_bundle(sensor.bundle).hash
    assert "signature valid" in run("bundle", "verify", bundle, "--key", public)
    assert "signed, no key given to check against" in run("bundle", "verify", bundle)
    assert re.search(r"signed: +yes", run("bundle", "inspect", bundle))
    with pytest.raises(BundleError, match="the signature is not by the trusted key"):
        run("bundle", "verify", bundle, "--key", key_pair(tmp_path, "theirs")[1])


def test_a_damaged_bundle_is_not_verified(sensor: Fitted, tmp_path: Path) -> None:
    raw = bytearray(sensor.bundle.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "b.anomaly").write_bytes(raw)
    with pytest.raises(BundleError, match=r"b\.anomaly: "):
        run("bundle", "verify", tmp_path / "b.anomaly")
