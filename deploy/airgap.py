#!/usr/bin/env python3
"""All that a machine without the network needs, in one folder to carry over: packages, images, units, parts, checksums, a signature.

    .venv/bin/python deploy/airgap.py edge /media/usb/edge                  # packages for machines like this one, with the same Python
    .venv/bin/python deploy/airgap.py trainer /media/usb/trainer --images   # and the images of deploy/compose (needs Docker)
    .venv/bin/python deploy/airgap.py edge /media/usb/arm -- --platform manylinux_2_28_aarch64 --python-version 3.11

There: check the signature (README.txt in the folder says how), then `sh install.sh /opt/anomaly`. Nothing of it asks the network.
What stands after -- goes to `pip download`. With ANOMALY_SIGNING_KEY set, the checksums are signed. Run it with the Python of a checkout's
environment (.venv/bin/python): the list of parts needs cyclonedx-bom.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WATCHING = ["deploy/prometheus", "deploy/grafana", "deploy/backup.py"]
CARRIED = {
    "edge": [*WATCHING, "deploy/systemd", "deploy/upgrade.sh", "deploy/box.toml", "deploy/alerts.toml"],
    "trainer": [*WATCHING, "deploy/compose", "deploy/prefect.yaml", "data_samples"],
}
LEFT = shutil.ignore_patterns(".env*", "keys", "__pycache__")  # secrets never leave

INSTALL = """#!/bin/sh
# sh install.sh FOLDER: what is beside this file becomes a Python {python} environment in FOLDER, once every checksum is right.
set -eu
target="${{1:?say where to: sh install.sh /opt/anomaly}}"
case "$target" in /*) ;; *) target="$PWD/$target" ;; esac
cd "$(dirname "$0")"
if [ -n "${{ANOMALY_TRUSTED_KEY:-}}" ]; then
  openssl pkeyutl -verify -pubin -inkey "$ANOMALY_TRUSTED_KEY" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
fi
sha256sum --check --quiet SHA256SUMS
"${{PYTHON:-python3}}" -c 'import sys; sys.exit(None if "%d.%d" % sys.version_info[:2] == "{python}" else "Python {python} is needed")'
"${{PYTHON:-python3}}" -m venv "$target"
set -- --disable-pip-version-check --quiet --no-index --find-links wheels --require-hashes --requirement requirements.txt
"$target/bin/python" -m pip install "$@"
echo "installed in $target; next: $target/bin/anomaly doctor"
"""

README = """{name} {version}, for a machine without the network

1. Is it ours, and whole? With the public key that you trust, from elsewhere than this folder:
     openssl pkeyutl -verify -pubin -inkey trusted.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
     sha256sum --check --quiet SHA256SUMS
   {signed}
2. Install (Python {python}):    sh install.sh /opt/anomaly
3. Images, where there are:      docker load --input images.tar
4. What is in it:                sbom.cdx.json (CycloneDX)

Settings to start from are in deploy/.
"""


class AirgapError(Exception):
    """What is missing, and what to do."""


def main() -> int:
    """The command. Returns the exit code."""
    words = sys.argv[1:]
    further = words[words.index("--") + 1 :] if "--" in words else []
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=sorted(CARRIED))
    parser.add_argument("out", type=Path, help="a folder that is not there yet")
    parser.add_argument("--extras", help="in place of those of the role's Dockerfile, with commas")
    parser.add_argument("--images", action="store_true", help="the images as well")
    asked = parser.parse_args(words[: len(words) - len(further) - 1] if "--" in words else words)
    try:
        _make(asked.role, asked.out, asked.extras, asked.images, further)
    except (AirgapError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _make(role: str, out: Path, extras: str | None, images: bool, further: list[str]) -> None:
    if out.exists():
        raise AirgapError(f"{out}: there already; name a folder that is not there yet")
    if images and shutil.which("docker") is None:
        raise AirgapError("--images needs Docker on this machine; leave it out to take the packages alone")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    version = _version()
    extras = extras or re.search(r"ARG EXTRAS=(\S+)", (ROOT / "deploy" / f"{role}.Dockerfile").read_text())[1]  # type: ignore[index]
    wheels = _wheels(part / "wheels", f"anomaly-pipeline[{extras}]=={version}", further)
    (part / "requirements.txt").write_text("".join(f"{name}=={of} --hash=sha256:{digest}\n" for name, of, digest in wheels))
    _parts_list(part)
    if images:
        _images(role, version, part / "images.tar")
    for each in CARRIED[role]:
        source = ROOT / each
        if source.is_dir():
            shutil.copytree(source, part / each, ignore=LEFT)
        else:
            (part / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, part / each)
    python = _python(further)
    key = os.environ.get("ANOMALY_SIGNING_KEY")
    signed = (
        "It is signed." if key else "It is NOT signed: ANOMALY_SIGNING_KEY was not set where it was made; the checksums tell damage alone."
    )
    (part / "install.sh").write_text(INSTALL.format(python=python))
    (part / "README.txt").write_text(README.format(name=f"anomaly-pipeline ({role})", version=version, python=python, signed=signed))
    _seal(part, key)
    part.replace(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {len(wheels)} packages, {size / 1e6:.0f} MB, Python {python}, {'signed' if key else 'not signed'}")


def _version() -> str:
    found = re.search(r'__version__ = "(.+)"', (ROOT / "anomaly" / "__init__.py").read_text())
    assert found is not None
    return found[1]


def _python(further: list[str]) -> str:
    """The version of Python that the packages are for."""
    named = [word for at, word in enumerate(further) if at and further[at - 1] == "--python-version"]
    return named[-1] if named else f"{sys.version_info[0]}.{sys.version_info[1]}"


def _wheels(into: Path, wanted: str, further: list[str]) -> list[tuple[str, str, str]]:
    """Our own wheel and all that it needs: name, version and SHA-256 of each."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as clean:  # a checkout may hold what an earlier build left
        for each in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy2(ROOT / each, clean)
        for each in ("anomaly", "flows"):
            shutil.copytree(ROOT / each, Path(clean) / each, ignore=LEFT)
        _run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", into, clean])
    binary = ["--only-binary", ":all:"] if further else ["--prefer-binary"]
    _run(
        [
            *pip,
            "download",
            "--quiet",
            "--dest",
            into,
            "--find-links",
            into,
            "--constraint",
            ROOT / "constraints.txt",
            *binary,
            *further,
            wanted,
        ]
    )
    for source in [path for path in into.iterdir() if path.suffix != ".whl"]:  # a package that is published as source alone
        _run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", into, source])
        source.unlink()
    found = []
    for path in sorted(into.glob("*.whl")):
        name, version = path.name.split("-")[:2]
        found.append((name, version, hashlib.sha256(path.read_bytes()).hexdigest()))
    return found


def _parts_list(part: Path) -> None:
    tool = Path(sys.executable).with_name("cyclonedx-py")
    if not tool.exists():
        raise AirgapError(f"{tool}: not there; run: {sys.executable} -m pip install cyclonedx-bom")
    told = ["requirements", "--output-reproducible", "--no-validate", "--output-file", part / "sbom.cdx.json", part / "requirements.txt"]
    _run([tool, *told])


def _images(role: str, version: str, to: Path) -> None:
    """Images built or fetched, then saved into one file."""
    compose = (ROOT / "deploy" / "compose" / "compose.yaml").read_text() if role == "trainer" else f"image: anomaly-{role}:{version}"
    names = sorted({re.sub(r"\$\{.*\}", version, name) for name in re.findall(r"image: (\S+)", compose)})
    for name in names:
        own = re.fullmatch(r"anomaly-(\w+):.+", name)
        _run(
            ["docker", "build", "--file", ROOT / "deploy" / f"{own[1]}.Dockerfile", "--tag", name, ROOT]
            if own
            else ["docker", "pull", name]
        )
    _run(["docker", "image", "save", "--output", to, *names])


def _seal(part: Path, key: str | None) -> None:
    """Checksums of everything, and their signature."""
    files = sorted(path for path in part.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(part).as_posix()}\n" for path in files]
    (part / "SHA256SUMS").write_text("".join(lines))
    if key:
        sums = part / "SHA256SUMS"
        _run(["openssl", "pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", sums, "-out", part / "SHA256SUMS.sig"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(command: list[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise AirgapError(f"{' '.join(str(word) for word in command[:4])} … ended with {done.returncode}:\n{said}")


if __name__ == "__main__":
    sys.exit(main())
