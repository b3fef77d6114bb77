"""The bundle: same content same bytes, and nothing hostile or damaged gets in."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from anomaly.bundle.archive import read_bundle, sign_bundle, sign_where_set, write_bundle
from anomaly.bundle.manifest import parse_manifest
from anomaly.errors import BundleError
from tests.conftest import Fitted


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    secret = Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    private.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def repack(source: Path, target: Path, change) -> Path:
    """A copy of a bundle with its list of (name, bytes) changed, as an attacker would write it."""
    with zipfile.ZipFile(source) as archive:
        members = [(i.filename, archive.read(i)) for i in archive.infolist()]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in change(members):
            archive.writestr(name, content)
    return target


def test_round_trip_and_equal_bytes(sensor: Fitted, tmp_path: Path) -> None:
    bundle = read_bundle(sensor.bundle)
    assert bundle.manifest.name == "pump"
    again = tmp_path / "again.anomaly"
    assert write_bundle(again, bundle.manifest, bundle.members) == bundle.hash
    assert again.read_bytes() == sensor.bundle.read_bytes()


def test_nothing_in_a_bundle_names_this_machine(sensor: Fitted, camera: Fitted) -> None:
    for fitted in (sensor, camera):
        bundle = read_bundle(fitted.bundle)
        everything = bundle.manifest.to_bytes() + bundle.detector
        assert str(Path(__file__).parents[2]).encode() not in everything
        assert str(fitted.data).encode() not in everything


@pytest.mark.parametrize("name", ["../evil.onnx", "/etc/passwd", "examples/../../x.npz", "detector.onnx/", "run.py", "examples/a.pkl"])
def test_names_that_have_no_place_are_refused(sensor: Fitted, tmp_path: Path, name: str) -> None:
    bad = repack(sensor.bundle, tmp_path / "bad.anomaly", lambda m: [*m, (name, b"x")])
    with pytest.raises(BundleError, match="has no place in a bundle"):
        read_bundle(bad)


def test_compressed_members_are_refused_unread(sensor: Fitted, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.anomaly"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("detector.onnx", b"\0" * 50_000_000)
    with pytest.raises(BundleError, match="compressed"):
        read_bundle(bomb)


def test_one_flipped_bit_is_found(sensor: Fitted, tmp_path: Path) -> None:
    def flip(members):
        return [(n, bytes([c[0] ^ 1]) + c[1:] if n == "detector.onnx" else c) for n, c in members]

    with pytest.raises(BundleError, match=r"detector\.onnx does not match its hash"):
        read_bundle(repack(sensor.bundle, tmp_path / "bad.anomaly", flip))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_cut_short(sensor: Fitted, tmp_path: Path, share: float) -> None:
    raw = sensor.bundle.read_bytes()
    cut = tmp_path / "cut.anomaly"
    cut.write_bytes(raw[: int(len(raw) * share)])
    # half a bundle may end in a whole npz, a zip itself, whose members then have no place here
    with pytest.raises(BundleError, match=r"not a whole bundle|has no place in a bundle"):
        read_bundle(cut)


def test_unlisted_missing_and_double_members(sensor: Fitted, tmp_path: Path) -> None:
    def without(members):
        return [m for m in members if m[0] != "reference.parquet"]

    with pytest.raises(BundleError, match=r"missing \['reference\.parquet'\]"):
        read_bundle(repack(sensor.bundle, tmp_path / "a.anomaly", without))
    with pytest.raises(BundleError, match=r"unlisted \['examples/99\.npz'\]"):
        read_bundle(repack(sensor.bundle, tmp_path / "b.anomaly", lambda m: [*m, ("examples/99.npz", b"")]))
    with pytest.warns(UserWarning, match="Duplicate"):
        double = repack(sensor.bundle, tmp_path / "c.anomaly", lambda m: [*m, m[-1]])
    with pytest.raises(BundleError, match="occur twice"):
        read_bundle(double)


def test_manifest_of_another_form(sensor: Fitted, tmp_path: Path) -> None:
    def meddle(members):
        manifest = json.loads(dict(members)["manifest.json"])
        manifest["threshold"]["p_value"] = 7
        return [(n, json.dumps(manifest).encode() if n == "manifest.json" else c) for n, c in members]

    with pytest.raises(BundleError, match=r"manifest\.json, threshold\.p_value"):
        read_bundle(repack(sensor.bundle, tmp_path / "bad.anomaly", meddle))


def test_signature(sensor: Fitted, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = keys
    path = tmp_path / "b.anomaly"
    path.write_bytes(sensor.bundle.read_bytes())
    with pytest.raises(BundleError, match="not signed, but a trusted key is set"):
        read_bundle(path, public)
    sign_bundle(path, private)
    assert read_bundle(path, public).signed
    monkeypatch.setenv("ANOMALY_TRUSTED_KEY", str(public))
    assert read_bundle(path).hash == read_bundle(path, public).hash

    def alter(members):
        return [(n, c.replace(b'"version": "1"', b'"version": "2"') if n == "manifest.json" else c) for n, c in members]

    with pytest.raises(BundleError, match="the signature is not by the trusted key"):
        read_bundle(repack(path, tmp_path / "altered.anomaly", alter), public)
    other = tmp_path / "other.pem"
    other.write_bytes(Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(BundleError, match="the signature is not by the trusted key"):
        read_bundle(path, other)


def test_where_a_key_is_set_what_is_made_is_signed_and_its_hash_stays(
    sensor: Fitted, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys
    path = Path(shutil.copy(sensor.bundle, tmp_path / "b.anomaly"))
    plain = read_bundle(path)
    sign_where_set(path)
    assert path.read_bytes() == Path(sensor.bundle).read_bytes()  # no key is set
    monkeypatch.setenv("ANOMALY_SIGNING_KEY", str(private))
    monkeypatch.setenv("ANOMALY_TRUSTED_KEY", str(public))
    sign_where_set(path)
    signed = path.read_bytes()
    assert (read_bundle(path).hash, read_bundle(path).signed) == (plain.hash, True)
    sign_where_set(path)
    assert path.read_bytes() == signed
    assert write_bundle(tmp_path / "c.anomaly", plain.manifest, plain.members) == plain.hash
    assert (tmp_path / "c.anomaly").read_bytes() == signed
    monkeypatch.setenv("ANOMALY_SIGNING_KEY", str(tmp_path / "nowhere.pem"))
    with pytest.raises(BundleError, match=r"nowhere\.pem: not a readable PEM private key"):
        write_bundle(tmp_path / "d.anomaly", plain.manifest, plain.members)
    monkeypatch.delenv("ANOMALY_TRUSTED_KEY")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"ir_version") if b"ir_version" in raw else len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BundleError):
        sign_bundle(path, private)  # what is damaged gets no signature


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        read_bundle(tmp_path / "none.anomaly")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("detector.onnx", b"x")
    (tmp_path / "z.anomaly").write_bytes(buffer.getvalue())
    with pytest.raises(BundleError, match=r"no manifest\.json in it"):
        read_bundle(tmp_path / "z.anomaly")


def of_version_1(source: Path, target: Path) -> Path:
    """The bundle with the manifest that version 0.8.0 would have written: each kind of input had the key `context`."""

    def older(members):
        manifest = json.loads(dict(members)["manifest.json"]) | {"schema_version": 1}
        manifest["input"] |= {"context": 200 if manifest["input"]["name"] == "window" else 0}
        return [("manifest.json", json.dumps(manifest).encode()), *((n, c) for n, c in members if n != "manifest.json")]

    return repack(source, target, older)


def test_an_older_detector_of_readings_is_refused_and_one_of_pictures_still_runs(sensor: Fitted, camera: Fitted, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"s\.anomaly: made by an older version, whose scores were eased after a fault; fit it again"):
        read_bundle(of_version_1(sensor.bundle, tmp_path / "s.anomaly"))
    found = read_bundle(of_version_1(camera.bundle, tmp_path / "c.anomaly"))
    assert found.manifest.schema_version == 1
    assert found.manifest.input == read_bundle(camera.bundle).manifest.input


# --- hostile graphs: refused in words, before any record is scored ---


def hostile(kind: str) -> bytes:
    from onnx import TensorProto, helper

    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["N", 30, 8])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("score", ["N"]), ("p_value", ["N"]), ("contribution", ["N", 8]))
    ]
    mean = [helper.make_node("ReduceMean", ["window", "axes"], ["score"], keepdims=0), helper.make_node("Identity", ["score"], ["p_value"])]
    detail = [helper.make_node("ReduceMean", ["window", "rows"], ["contribution"], keepdims=0)]
    constants = [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]), helper.make_tensor("rows", TensorProto.INT64, [1], [1])]
    if kind == "unknown operator":
        mean.append(helper.make_node("LaunchMissiles", ["window"], ["unused"], domain="evil"))
    if kind == "huge tensor":
        constants.append(helper.make_tensor("size", TensorProto.INT64, [2], [1 << 24, 1 << 24]))
        mean = [
            helper.make_node("ConstantOfShape", ["size"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
            helper.make_node("ReduceMean", ["window", "axes"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "sum"], ["score"]),
            helper.make_node("Identity", ["score"], ["p_value"]),
        ]
    if kind == "file of this machine":
        stolen = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[8], data_location=TensorProto.EXTERNAL)
        stolen.external_data.add(key="location", value="../../../../../etc/hostname")
        constants.append(stolen)
        detail = [
            helper.make_node("ReduceMean", ["window", "rows"], ["plain"], keepdims=0),
            helper.make_node("Add", ["plain", "stolen"], ["contribution"]),
        ]
    graph = helper.make_graph(mean + detail, "g", [window], outputs, constants)
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid("evil", 1)] if kind == "unknown operator" else [])
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return content[: len(content) // 2] if kind == "truncated" else content


@pytest.mark.parametrize("kind", ["unknown operator", "huge tensor", "file of this machine", "truncated", "another detector"])
def test_hostile_graphs_are_refused_in_words_and_at_once(sensor: Fitted, tmp_path: Path, kind: str) -> None:
    from anomaly.edge.runtime.self_test import self_test
    from anomaly.edge.runtime.session import open_session

    good = read_bundle(sensor.bundle)
    path = tmp_path / "hostile.anomaly"
    write_bundle(path, good.manifest.model_copy(update={"members": {}}), {**good.members, "detector.onnx": hostile(kind)})

    def use() -> None:
        bundle = read_bundle(path)
        self_test(bundle, open_session(bundle, "cpu"))

    with pytest.raises(BundleError, match=r"cannot be loaded|cannot be run|self-test"):
        use()


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("alarm", "on_delay_s", 1e9), ("alarm", "off_delay_s", -1), ("alarm", "off_delay_s", float("inf")), ("alarm", "deadband", 1e300),
     ("alarm", "deadband", float("nan")), ("input", "period_s", 0), ("input", "period_s", -5.0), ("input", "period_s", 1e12),
     ("input", "max_gap_s", float("nan")), ("input", "sensors", []), ("input", "channels", 3)],
)  # fmt: skip
def test_a_manifest_out_of_bounds_is_refused_by_the_key(sensor: Fitted, part: str, key: str, value: object) -> None:
    raw = json.loads(read_bundle(sensor.bundle).manifest.to_bytes())
    parse_manifest(json.dumps(raw).encode(), "good.anomaly")
    raw[part][key] = value
    with pytest.raises(BundleError, match=rf"bad\.anomaly: manifest\.json, {part}"):
        parse_manifest(json.dumps(raw).encode(), "bad.anomaly")
