"""The bundle file NAME-VERSION.anomaly: a stored zip with a manifest that holds the hash of every member."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from anomaly.atomic import replacing
from anomaly.bundle.manifest import Manifest, Member, parse_manifest
from anomaly.errors import BundleError

MANIFEST, SIGNATURE, DETECTOR = "manifest.json", "manifest.sig", "detector.onnx"
VARIANTS = {"float": DETECTOR, "fp16": "detector.fp16.onnx", "int8": "detector.int8.onnx"}  # the same detector in other arithmetic
STREAM = "detector.stream.onnx"  # a sensor detector for rows that follow each other
CARRIED = "extractor.safetensors"  # weights for another line to start from; the edge does not read them
TRUSTED_KEY = "ANOMALY_TRUSTED_KEY"  # path of a PEM public key; where set, unsigned bundles are refused
SIGNING_KEY = "ANOMALY_SIGNING_KEY"  # path of a PEM private key; where set, every bundle that is made here is signed
MAX_BYTES = 2 << 30  # ONNX's own limit for one file
MAX_MANIFEST = 4 << 20
_ALLOWED = re.compile(
    r"detector(\.[a-z0-9]{1,16})?\.onnx|manifest\.(json|sig)|reference\.parquet|extractor\.safetensors|examples/[0-9]{1,4}\.npz"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's own zero, so that equal content gives equal bytes


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory. `hash` is the SHA-256 of its manifest, which holds the hash of all else."""

    path: Path
    manifest: Manifest
    hash: str
    members: Mapping[str, bytes]
    signed: bool

    @property
    def detector(self) -> bytes:
        return self.members[DETECTOR]


def write_bundle(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> str:
    """Write a bundle atomically, signed where ANOMALY_SIGNING_KEY is set; returns its hash.

    Raises BundleError for a member name that is not allowed, and for a key that cannot be read.
    """
    for name in members:
        _check_name(name, path)
    described = {n: Member(size=len(b), sha256=hashlib.sha256(b).hexdigest()) for n, b in sorted(members.items())}
    raw = manifest.model_copy(update={"members": described}).to_bytes()
    _write(path, raw, signing_key(), {name: members[name] for name in described})
    return hashlib.sha256(raw).hexdigest()


def read_bundle(path: Path, key: Path | None = None) -> Bundle:
    """Read and verify a bundle: names, sizes, hashes, and the signature when a key is set (argument or environment).

    Raises BundleError, naming the file and what is wrong, before anything of it is used. Nothing is unpacked to disk.
    """
    key = key or _named(TRUSTED_KEY)
    raw, signature, members = _parts(path)
    if key is not None:
        _verify_signature(path, raw, signature, key)
    manifest = parse_manifest(raw, str(path))
    _verify_members(path, manifest, members)
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest(), members, signature is not None)


def zone_told(path: Path) -> str:
    """The zone of the line that a bundle's manifest names, nothing verified: for the clock of a log before it is opened. "" for none."""
    with (
        contextlib.suppress(BundleError, OSError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile),
        zipfile.ZipFile(path) as archive,
    ):
        if archive.getinfo(MANIFEST).file_size <= MAX_MANIFEST:
            return parse_manifest(archive.read(MANIFEST), str(path)).input.zone
    return ""


def judged_variants(bundle: Bundle) -> dict[str, bool]:
    """The variants that were made for a bundle, by name, and whether each was good enough to be in it. {} where none was made."""
    judged = {name: found for name, found in bundle.manifest.parity.items() if name.partition("_")[0] in VARIANTS}
    return {name: bool(found.get("accepted")) for name, found in judged.items()}


def sign_bundle(path: Path, private_key: Path) -> None:
    """Add `manifest.sig` (Ed25519 over the manifest's bytes) in place. Raises BundleError for a bad key, and a bundle that is not whole."""
    _sign(path, _read_key(private_key))


def signing_key() -> Ed25519PrivateKey | None:
    """The key that ANOMALY_SIGNING_KEY names; None where it is not set. Raises BundleError for one that cannot be read."""
    named = _named(SIGNING_KEY)
    return None if named is None else _read_key(named)


def sign_where_set(path: Path) -> None:
    """Sign a bundle that was made before ANOMALY_SIGNING_KEY was set, or another key; nothing where it is not set. Raises BundleError."""
    key = signing_key()
    if key is None:
        return
    raw, signature, _ = _parts(path)
    if signature != key.sign(raw):
        _sign(path, key)


def _sign(path: Path, key: Ed25519PrivateKey) -> None:
    raw, _, members = _parts(path)
    _verify_members(path, parse_manifest(raw, str(path)), members)
    _write(path, raw, key, members)


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{path}: not a readable PEM private key without password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path}: not an Ed25519 key; make one with: openssl genpkey -algorithm ed25519 -out key.pem")
    return key


def _named(variable: str) -> Path | None:
    return Path(os.environ[variable]) if os.environ.get(variable) else None


def _write(path: Path, raw: bytes, key: Ed25519PrivateKey | None, members: Mapping[str, bytes]) -> None:
    signature = {} if key is None else {SIGNATURE: key.sign(raw)}
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: raw, **signature, **members}.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def _parts(path: Path) -> tuple[bytes, bytes | None, dict[str, bytes]]:
    """The manifest's bytes, the signature and the members, nothing verified yet."""
    members = _read(path)
    if MANIFEST not in members:
        raise BundleError(f"{path}: no {MANIFEST} in it; this is not a bundle")
    return members.pop(MANIFEST), members.pop(SIGNATURE, None), members


def _check_name(name: str, path: Path) -> None:
    if not _ALLOWED.fullmatch(name):
        raise BundleError(f"{path}: member {name!r} has no place in a bundle; refused")


def _read(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        raise BundleError(f"{path}: this is a folder; a bundle is the .anomaly file that `anomaly fit` writes")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            if len(set(names)) != len(names) or len(names) > 200:
                raise BundleError(f"{path}: member names occur twice or are too many; refused")
            for info in infos:
                _check_name(info.filename, path)
                if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                    raise BundleError(f"{path}: member {info.filename!r} is compressed; bundles are stored as they are; refused")
            if sum(info.file_size for info in infos) > min(MAX_BYTES, path.stat().st_size):
                raise BundleError(f"{path}: members are larger than the file or than 2 GB; refused")
            if any(i.filename == MANIFEST and i.file_size > MAX_MANIFEST for i in infos):
                raise BundleError(f"{path}: the manifest is larger than 4 MB; refused")
            return {info.filename: archive.read(info) for info in infos}
    except FileNotFoundError as error:
        raise BundleError(f"{path}: no such bundle") from error
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleError(f"{path}: not a whole bundle ({error}); copy it again") from error


def _verify_members(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> None:
    listed, found = set(manifest.members), set(members)
    if listed != found:
        raise BundleError(f"{path}: manifest and content differ: missing {sorted(listed - found)}, unlisted {sorted(found - listed)}")
    if DETECTOR not in members:
        raise BundleError(f"{path}: no {DETECTOR} in it")
    for name, member in manifest.members.items():
        if len(members[name]) != member.size or hashlib.sha256(members[name]).hexdigest() != member.sha256:
            raise BundleError(f"{path}: {name} does not match its hash in the manifest; the bundle is damaged or was altered")


def _verify_signature(path: Path, raw: bytes, signature: bytes | None, key: Path) -> None:
    try:
        public = load_pem_public_key(key.read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"{key}: not a readable PEM public key: {error}") from error
    if not isinstance(public, Ed25519PublicKey):
        raise BundleError(f"{key}: not an Ed25519 public key")
    if signature is None:
        raise BundleError(f"{path}: not signed, but a trusted key is set ({key}); sign it with: anomaly bundle sign")
    try:
        public.verify(signature, raw)
    except InvalidSignature as error:
        raise BundleError(f"{path}: the signature is not by the trusted key {key}; refused") from error
