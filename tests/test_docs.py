"""The docs point at what is there: every link, and every station of the walks on the architecture page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STATIONS = sorted(set(re.findall(r"`(anomaly/[\w/]+\.py):([\w.]+)`", (ROOT / "docs" / "architecture.md").read_text())))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if not link.startswith("http")]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize(("file", "name"), STATIONS, ids=lambda part: part)
def test_stations_of_the_walks_exist(file: str, name: str) -> None:
    inside: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
    for part in name.split("."):
        found = [node for node in inside if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == part]
        assert found, f"{file} has no {name}"
        inside = found[0].body


def test_both_walks_are_there() -> None:
    assert len(STATIONS) > 30
