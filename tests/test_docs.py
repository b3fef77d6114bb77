"""The docs point at what is there: every link and its heading, every page in the site's list, every station of the architecture page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
STATIONS = sorted(set(re.findall(r"`(anomaly/[\w/]+\.py):([\w.]+)`", (DOCS / "architecture.md").read_text())))
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?)(?: *\{#([\w-]+)\})?$", re.MULTILINE)


def prose(page: Path) -> str:
    """A page without what stands in fences."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and git hosts make them."""
    found: set[str] = set()
    for words, own in HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words)
        found.add(own or re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    astray = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if link.startswith(("http://", "https://")):
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            astray.append(link)
    assert astray == []


def test_the_site_lists_every_page_once_and_no_other() -> None:
    listed = re.findall(r"([\w/.-]+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    there = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.suffix in (".md", ".ipynb")]
    assert sorted(listed) == sorted(there)


def test_nothing_in_a_page_is_fetched_from_outside() -> None:
    assert [page.name for page in PAGES if re.search(r"!\[[^\]]*\]\(https?:|<(?:script|img|iframe|link)\b[^>]*https?:", prose(page))] == []


@pytest.mark.parametrize(("file", "name"), STATIONS, ids=lambda part: part)
def test_stations_of_the_walks_exist(file: str, name: str) -> None:
    inside: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
    for part in name.split("."):
        found = [node for node in inside if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == part]
        assert found, f"{file} has no {name}"
        inside = found[0].body


def test_both_walks_are_there() -> None:
    assert len(STATIONS) > 30
