"""deploy/airgap.py with packages that hold nothing: what it collects, how it is checked, and that it installs without the network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.integration.servers import program

ROOT = Path(__file__).parents[2]


def canonical(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def empty_wheel(folder: Path, name: str, version: str) -> None:
    """A package of that name with nothing in it."""
    told = f"{name.replace('-', '_')}-{version}.dist-info"
    members = {
        f"{told}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{told}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    hashes = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=") for path, text in members.items()}
    record = "".join(f"{path},sha256={hashes[path]},{len(text)}\n" for path, text in members.items()) + f"{told}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**members, f"{told}/RECORD": record}.items():
            wheel.writestr(path, text)


@pytest.fixture
def index(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose only packages are empty ones of the right names."""
    folder = tmp_path / "index"
    folder.mkdir()
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {canonical(name): version for name, version in pinned.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in [*project["dependencies"], *project["optional-dependencies"]["mqtt"]]:
        name = re.match(r"[\w.-]+", wanted)[0]  # type: ignore[index]
        empty_wheel(folder, name, pinned.get(canonical(name), "99.0"))
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "ANOMALY_", "PYTHONPATH"))},
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull,
    }  # fmt: skip


@pytest.mark.timeout(900)
def test_what_is_carried_over_is_whole_signed_and_installs_without_the_network(index: dict[str, str], tmp_path: Path) -> None:
    openssl = program("openssl")
    key, trusted = tmp_path / "key.pem", tmp_path / "trusted.pem"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run([openssl, "pkey", "-in", key, "-pubout", "-out", trusted], check=True, capture_output=True)

    def airgap(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "deploy" / "airgap.py"), *map(str, words)]
        return subprocess.run(command, env=index | {"ANOMALY_SIGNING_KEY": str(key)}, capture_output=True, text=True, timeout=400)

    out = tmp_path / "usb"
    made = airgap("edge", out, "--extras", "mqtt")
    assert made.returncode == 0, made.stderr
    assert "signed" in made.stdout
    wheels = {path.name.split("-")[0] for path in (out / "wheels").iterdir()}
    assert {"anomaly_pipeline", "numpy", "paho_mqtt", "pydantic"} <= wheels
    parts = json.loads((out / "sbom.cdx.json").read_text())["components"]
    assert {part["name"].replace("-", "_") for part in parts} == wheels
    assert (out / "deploy" / "systemd" / "anomaly-box.service").exists()
    assert airgap("edge", out).returncode == 1  # never into a folder that is there

    def install(to: Path, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in index.items() if not key.startswith("PIP_")} | {"PYTHON": sys.executable} | more
        return subprocess.run(["sh", str(out / "install.sh"), str(to)], env=environment, capture_output=True, text=True, timeout=400)

    other = tmp_path / "other.pem"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "o.pem"], check=True, capture_output=True)
    subprocess.run([openssl, "pkey", "-in", tmp_path / "o.pem", "-pubout", "-out", other], check=True, capture_output=True)
    assert install(tmp_path / "no", ANOMALY_TRUSTED_KEY=str(other)).returncode != 0
    victim = out / "deploy" / "box.toml"
    whole = victim.read_bytes()
    victim.write_bytes(whole + b"#")
    altered = install(tmp_path / "no", ANOMALY_TRUSTED_KEY=str(trusted))
    assert altered.returncode != 0
    assert "box.toml" in altered.stdout + altered.stderr
    assert not (tmp_path / "no").exists()
    victim.write_bytes(whole)
    done = install(tmp_path / "opt", ANOMALY_TRUSTED_KEY=str(trusted))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "opt" / "bin" / "anomaly").exists()


def test_secrets_of_the_stack_stay_at_home() -> None:
    sys.path.insert(0, str(ROOT / "deploy"))
    try:
        import airgap  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    assert set(airgap.LEFT("deploy/compose", [".env", ".env.part", "keys", "compose.yaml"])) == {".env", ".env.part", "keys"}


def test_what_cannot_be_done_is_said_before_any_work(tmp_path: Path) -> None:
    bare = {**os.environ, "PATH": str(tmp_path)}
    command = [sys.executable, str(ROOT / "deploy" / "airgap.py"), "edge", str(tmp_path / "usb"), "--images"]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "needs Docker" in done.stderr
    assert not list(tmp_path.iterdir())
    assert shutil.which("docker", path=str(tmp_path)) is None
