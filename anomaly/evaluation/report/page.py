"""A report as one self-contained HTML page: a verdict, sections of blocks, a glossary, and at the foot where it comes from.

Nothing is loaded from outside, and everything that comes from outside (names of files, sensors and kinds) is escaped. The page follows
dark mode: its plots are SVG whose colors are those of the page.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import jinja2
from markupsafe import Markup

from anomaly.atomic import write_text
from anomaly.evaluation.report.glossary import GLOSSARY, linked, typed
from anomaly.names import one_line

GENERATOR = "anomaly-pipeline report"  # by which a page is known as one of ours
_LOOK = Path(__file__).with_name("look")

Tone = Literal["", "bad", "note", "n"]


@dataclass(frozen=True)
class Words:
    """Paragraphs of ours: words of the glossary in them become links."""

    paragraphs: tuple[str, ...]
    tone: Tone = ""
    form: ClassVar[str] = "words"


@dataclass(frozen=True)
class Listing:
    """A list of texts, from outside or ours."""

    items: tuple[str, ...]
    title: str = ""
    form: ClassVar[str] = "listing"


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `share` (0 to 1) is shown as a bar, `links` are anchors of what shows more: the first the page holds is taken."""

    text: str
    tone: Tone = ""
    share: float | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows of cells; `words_first`: the first column is ours and may be linked to the glossary. `facts`: a name and a long value a row."""

    rows: tuple[tuple[Cell, ...], ...]
    head: tuple[str, ...] = ()
    title: str = ""
    words_first: bool = False
    first_is_number: bool = False
    facts: bool = False
    form: ClassVar[str] = "table"


@dataclass(frozen=True)
class Legend:
    """What the colors mean: (name of the color, text)."""

    items: tuple[tuple[str, str], ...] = (("normal", "normal"), ("fault", "labelled fault"), ("flag", "flagged"))
    form: ClassVar[str] = "legend"


@dataclass(frozen=True)
class Plot:
    """A drawing with its caption and text alternative. `hover` is JSON of what it shows under the pointer, see look/page.js."""

    title: str
    svg: str
    alt: str
    wide: bool = False
    hover: str = ""
    anchor: str = ""
    form: ClassVar[str] = "plot"


@dataclass(frozen=True)
class Card:
    """A picture (a data URI) of `wide` x `high` pixels, its heat-map over it, the outline of its mask (an SVG path), and lines of text."""

    lines: tuple[str, ...]
    picture: str
    wide: int
    high: int
    heat: str = ""
    outline: str = ""
    tone: Tone = ""
    anchor: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side."""

    title: str
    cards: tuple[Card, ...]
    words: str = ""
    form: ClassVar[str] = "gallery"

    @property
    def has_heat(self) -> bool:
        """Whether there is a heat-map to switch off."""
        return any(card.heat for card in self.cards)


@dataclass(frozen=True)
class Source:
    """Text as it is written, such as a spec."""

    text: str
    form: ClassVar[str] = "source"


Block = Words | Listing | Table | Legend | Plot | Gallery | Source


@dataclass(frozen=True)
class Section:
    """A part of the page; `folded` ones are opened by the reader."""

    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A report. `verdict`: sentences, the first of which says it all; `warn` when it is no good news. `foot`: (name, value)."""

    title: str
    subtitle: str
    verdict: tuple[str, ...]
    sections: tuple[Section, ...] = ()
    foot: tuple[tuple[str, str], ...] = field(default=())
    warn: bool = False

    @property
    def filled(self) -> tuple[Section, ...]:
        """Sections that hold something."""
        return tuple(section for section in self.sections if section.blocks)

    @property
    def anchors(self) -> set[str]:
        """What cells may link to."""
        blocks = [block for section in self.sections for block in section.blocks]
        cards = {card.anchor for block in blocks if isinstance(block, Gallery) for card in block.cards}
        return (cards | {block.anchor for block in blocks if isinstance(block, Plot)}) - {""}


def anchor_of(name: str) -> str:
    """The anchor of what shows a record.

    >>> anchor_of("good/001.png")
    'record-709d8a2e'
    """
    return f"record-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


@cache
def _look(name: str) -> str:
    return (_LOOK / name).read_text(encoding="utf-8")


def _seen(value: object) -> object:
    """Text with what cannot be seen, or moves what is seen, made visible (`names.one_line`)."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(text: str) -> Markup:
    """A name that may go on in the next line after a point, a slash, an underscore or a hyphen.

    >>> print(_breakable("press_7/force <N>"))
    press_<wbr>7/<wbr>force &lt;N&gt;
    """
    return Markup("").join(
        part if at % 2 == 0 else Markup("{}<wbr>").format(part) for at, part in enumerate(re.split(r"([._/\-])", one_line(text)))
    )


def render(page: Page) -> str:
    """The page as HTML. Its script runs by its hash alone, so nothing that slipped into the page could."""
    script = _look("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_seen)
    environment.filters |= {"linked": lambda text: linked(one_line(text)), "trusted": Markup}
    environment.filters["typed"] = lambda text: typed(one_line(text))
    environment.filters["breakable"] = _breakable
    environment.filters["lines"] = lambda text: Markup("\n").join(one_line(line) for line in text.splitlines())
    return environment.from_string(_look("page.html.j2")).render(
        page=page,
        anchors=page.anchors,
        generator=GENERATOR,
        css=_look("page.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        terms=GLOSSARY,
    )


def write_page(page: Page, path: Path) -> None:
    """Write the page atomically."""
    write_text(path, render(page))


def is_report(path: Path) -> bool:
    """Whether a file is a page of ours."""
    with path.open("rb") as stream:
        return GENERATOR.encode() in stream.read(1000)


def table_of(pairs: Sequence[tuple[str, str]], title: str = "") -> Table:
    """Names of ours with their values, a row each."""
    return Table(tuple((Cell(name), Cell(value)) for name, value in pairs), title=title, words_first=True, facts=True)
