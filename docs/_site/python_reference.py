"""Writes docs/reference/python.md from the docstrings of the Python interface: python docs/_site/python_reference.py"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anomaly

PAGE = Path(__file__).parents[1] / "reference" / "python.md"
MEMBERS = {
    "Detector": ("score", "explain", "save", "threshold", "budget", "sensors", "manifest", "hash"),
    "SensorDetector": ("fit", "predict", "decision_function", "score_samples"),
}
HEAD = """# Python

From a folder of good parts, or a DataFrame of normal readings, to flagged records:

```python
import anomaly

detector = anomaly.fit("good/", budget=0.01)  # or a DataFrame, a table, arrays of pictures
scores = detector.score("new/")  # a DataFrame, one row a record
scores[scores["flagged"]]
detector.explain(scores["score"].idxmax())  # a Matplotlib figure
detector.save("line.anomaly")  # what `anomaly monitor` runs beside the line
```

`anomaly.load` and everything that a loaded detector does need the base install alone. `anomaly.fit` and `anomaly.SensorDetector` need
`pip install 'anomaly-pipeline[train]'`, figures need Matplotlib, which comes with it. The names are imported when they are first used, and
they are typed. Two notebooks show them at work: [readings](../tutorials/sensors.ipynb) and [pictures](../tutorials/pictures.ipynb).

All errors that are raised on purpose are `anomaly.AnomalyError`s: `SpecError`, `DataError`, `RecordError`, `BundleError` and others in
`anomaly.errors`. Each says what happened, where, and what to do. `SensorDetector` raises `ValueError`, as scikit-learn does.

The texts below are those of `help(anomaly.fit)`. `Where` is a path, as text or as a `pathlib.Path`;
`Given` is whatever holds records, as the text says.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name in ("fit", "load", "Detector", "SensorDetector"):
        found = getattr(anomaly, name)
        parts += _entry(f"anomaly.{name}", found, 2)
        for member in MEMBERS.get(name, ()):
            parts += _entry(f"{name}.{member}", inspect.getattr_static(found, member), 3)
    return "\n".join(parts).rstrip() + "\n"


def _entry(name: str, found: Any, depth: int) -> Iterator[str]:
    plain = found.fget if isinstance(found, property) else found
    yield f"{'#' * depth} {name}\n"
    if not isinstance(found, property) and not (inspect.isclass(found) and name.endswith(".Detector")):
        yield f"```python\n{_signature(name, plain)}\n```\n"
    yield markdown(inspect.getdoc(plain) or "")


def _signature(name: str, found: Any) -> str:
    """How it is called, a setting a line where it does not fit one."""
    given = inspect.signature(found)
    given = given.replace(parameters=[one for one in given.parameters.values() if one.name != "self"])
    text = name.rpartition(".")[2] if depth_of(name) else name
    line = _plain(f"{text}{given}")
    if len(line) <= 100:
        return line
    inside = [_plain(str(one)) for one in given.parameters.values()]
    star = next((at for at, one in enumerate(given.parameters.values()) if one.kind is one.KEYWORD_ONLY), None)
    if star is not None:
        inside.insert(star, "*")
    returns = "" if given.return_annotation is given.empty else f" -> {_plain(str(given.return_annotation))}"
    return f"{text}(\n" + "".join(f"    {one},\n" for one in inside) + f"){returns}"


def depth_of(name: str) -> bool:
    """Whether a name is that of a method."""
    return not name.startswith("anomaly.")


def _plain(text: str) -> str:
    return re.sub(r"'([A-Za-z][^']*)'(?=[,)\s]|$)", lambda m: m[0] if f"= {m[0]}" in text else m[1], text)


def markdown(doc: str) -> str:
    """A docstring as Markdown: examples and aligned lists in fences, NumPy's sections as lists."""
    out: list[str] = []
    section = ""
    for block in re.split(r"\n\s*\n", doc.strip()):
        lines = block.split("\n")
        if len(lines) > 1 and re.fullmatch(r"-+", lines[1]):
            section, lines = lines[0], lines[2:]
            out.append(f"**{section}**\n")
        if lines and lines[0].startswith(">>> "):
            out.append("```python\n" + "\n".join(lines) + "\n```\n")
        elif section in ("Parameters", "Attributes") and lines:
            out.append(_items(lines))
        elif lines and all(re.match(r"\w+ {2,}\S", line) for line in lines):
            out.append("".join(f"- `{key}`: {text}\n" for key, text in (re.split(r" {2,}", line, maxsplit=1) for line in lines)))
        elif lines:
            out.append("\n".join(lines) + "\n")
    return "\n".join(out)


def _items(lines: list[str]) -> str:
    """`name : type` and what is indented under it -> a list."""
    items: list[list[str]] = []
    for line in lines:
        if line.startswith(" "):
            items[-1].append(line.strip())
        else:
            names, _, kind = line.partition(" : ")
            items.append([f"- {', '.join(f'`{one}`' for one in names.split(', '))} ({kind}):"])
    return "".join(
        " ".join(item).replace(" (as everywhere in scikit-learn.):", ": as everywhere in scikit-learn.") + "\n" for item in items
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
