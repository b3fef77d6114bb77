"""What mkdocs.yml needs beside its plugins: links to a file of the project lead to a copy in the site, and notebooks become pages."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
KEPT = "project"  # the site's folder of such copies
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)]*)?\)")


def leads_out(page: str, link: str) -> str | None:
    """The file of the project (its path from the root) that a link of a page (its path in docs/) leads to; None for links in docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") or path.startswith("..") else path


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook, and a copy of each file of the project that a page points to."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        content = page_of(Path(file.abs_src_path))
        files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=content))
    wanted = set()
    for page in [file for file in files if file.src_uri.endswith(".md") and file.abs_src_path]:
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


# --- notebooks: each becomes a page of its own, as it was run ---


def on_config(config: Any) -> Any:
    """Let the list of pages name the pages that notebooks become."""
    config.nav = json.loads(json.dumps(config.nav).replace('.ipynb"', '.md"'))
    return config


def page_of(notebook: Path) -> str:
    """A notebook as Markdown: its text, its code, and what came out of it (pictures in the page itself, tables as they are)."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(piece for cell in cells for piece in _pieces(cell)) + "\n"


def _pieces(cell: dict[str, Any]) -> list[str]:
    if cell["cell_type"] != "code":
        return ["".join(cell["source"])]
    found = [f"```python\n{''.join(cell['source']).rstrip()}\n```"]
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            found.append(f'<img alt="what the code above draws" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">')
        elif "text/html" in data:
            found.append("<div>" + re.sub(r"\n\s*", " ", "".join(data["text/html"])) + "</div>")
        elif "text/plain" in data or output["output_type"] == "stream":
            found.append(f"```text\n{''.join(data.get('text/plain', output.get('text', ''))).rstrip()}\n```")
    return found
