"""What mkdocs.yml needs for notebooks: each becomes a page with its text, code and stored outputs. Nothing is run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

LINK = re.compile(r"(\]\([^)\s#:]+)\.ipynb((?:#[^)]*)?\))")


def as_markdown(notebook: dict[str, Any]) -> str:
    """A notebook as a page: cells in order, code and printed text in fences, tables and plots as they were stored."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [shown for output in cell["outputs"] if (shown := _output(output.get("data", {})))]
    return "\n\n".join(parts) + "\n"


def _output(data: dict[str, Any]) -> str:
    if "image/png" in data:
        return f'<img alt="plot of the cell above" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    if "text/html" in data:
        html = re.sub(r"<style scoped>.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return "".join(line.strip() for line in html.split("\n"))
    return f"```text\n{''.join(data['text/plain'])}\n```" if "text/plain" in data else ""


def on_config(config: Any) -> Any:
    """The pages of notebooks in the navigation."""
    config.nav = _renamed(config.nav)
    return config


def _renamed(nav: Any) -> Any:
    if isinstance(nav, str):
        return nav.removesuffix(".ipynb") + ".md" if nav.endswith(".ipynb") else nav
    return {key: _renamed(value) for key, value in nav.items()} if isinstance(nav, dict) else [_renamed(one) for one in nav]


def on_files(files: Any, config: Any) -> Any:
    """A page in the place of each notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        text = as_markdown(json.loads(Path(file.abs_src_path).read_text(encoding="utf-8")))
        files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks lead to their pages."""
    return LINK.sub(r"\1.md\2", markdown)
