"""What mkdocs.yml needs beside its plugins: links from a page to a file of the project (a spec, a script) lead to a copy in the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
KEPT = "project"  # the site's folder of such copies
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)]*)?\)")


def leads_out(page: str, link: str) -> str | None:
    """The file of the project (its path from the root) that a link of a page (its path in docs/) leads to; None for links in docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") or path.startswith("..") else path


def on_files(files: Any, config: Any) -> Any:
    """Add a copy of each file of the project that a page points to."""
    wanted = set()
    for page in [file for file in files if file.src_uri.endswith(".md")]:
        text = Path(page.abs_src_path).read_text(encoding="utf-8")
        wanted |= {path for _, link, _ in LINK.findall(text) if (path := leads_out(page.src_uri, link)) is not None}
    for path in sorted(wanted):
        if (ROOT / path).is_file():
            files.append(File.generated(config, f"{KEPT}/{path}.txt", content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point to those copies."""
    here = page.file.src_uri

    def own(match: re.Match[str]) -> str:
        path = leads_out(here, match.group(2))
        if path is None or not (ROOT / path).is_file():
            return match.group(0)
        return f"{match.group(1)}{posixpath.relpath(f'{KEPT}/{path}.txt', posixpath.dirname(here) or '.')})"

    return LINK.sub(own, markdown)
