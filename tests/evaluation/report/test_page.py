"""A report's page: what comes from outside cannot act in it, it follows dark mode, and its words are those of the glossary page."""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from anomaly.evaluation.report.drawing import NORMAL, as_plot, hover_of, on_axis, styled, svg_of, thinned, time_axis
from anomaly.evaluation.report.evaluated import verdict
from anomaly.evaluation.report.glossary import GLOSSARY, glossary_page, linked
from anomaly.evaluation.report.page import Card, Cell, Gallery, Listing, Page, Section, Source, Table, Words, render
from anomaly.evaluation.report.pictures import card, colored, overlaid
from anomaly.evaluation.report.scores import scores_figure

HOSTILE = "<img src=x onerror=alert(1)>'\"&{{7*7}}\u202egnp.\x1b[31m$x$"
WORDS = ["champion", "parity", "coreset", "deadband", "AUPRO", "VUS-PR", "AUROC", "p-values", "budget", "held out"]
ROOT = Path(__file__).parents[3]


class _Tags(HTMLParser):
    """Every tag with its attributes, and whether each that opens is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "wbr", "path", "use", "rect", "link", "image"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


def _parsed(text: str) -> _Tags:
    found = _Tags()
    found.feed(text)
    assert found.open == []
    return found


def _hostile_page() -> Page:
    times = np.arange(50.0) + 1.7e9
    with styled():
        figure = Figure()
        axes = figure.subplots()
        axes.plot(on_axis(times), np.sin(times), color=NORMAL, label=HOSTILE)
        axes.set_title(HOSTILE)
        axes.legend()
        time_axis(axes, times)
        hover = hover_of(axes, times, [(HOSTILE, HOSTILE, np.sin(times))], "")
        plot = as_plot(HOSTILE, HOSTILE, figure, hover=hover)
    picture = card(np.zeros((8, 8, 1), np.uint8), (HOSTILE, HOSTILE), np.ones((2, 2), np.float32), mask=np.eye(8) > 0)
    blocks = (
        Words((HOSTILE,)),
        Listing((HOSTILE,), HOSTILE),
        Table(((Cell(HOSTILE), Cell(HOSTILE, "bad", 0.5)),), (HOSTILE, HOSTILE), HOSTILE, words_first=True),
        plot,
        Gallery(HOSTILE, (picture,), HOSTILE),
        Source(f"{HOSTILE}\n{HOSTILE}"),
    )
    return Page(HOSTILE, HOSTILE, (HOSTILE,), (Section(HOSTILE, blocks), Section(HOSTILE, blocks[:1], folded=True)), ((HOSTILE, HOSTILE),))


def test_what_comes_from_outside_cannot_act() -> None:
    text = render(_hostile_page())
    tags = _parsed(text)
    assert [name for name, _ in tags.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in tags.tags for name in attributes)
    assert not any(attributes.get("src") == "x" for _, attributes in tags.tags)
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "49" not in re.findall(r"&amp;(.{0,8})", text)[0]  # a template in a name stays text


def test_nothing_is_loaded_and_only_our_script_runs() -> None:
    text = render(_hostile_page())
    tags = _parsed(text)
    links = [value for _, attributes in tags.tags for name, value in attributes.items() if name in ("src", "href") and value]
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert "http" not in re.sub(r"http-equiv", "", text)
    policy = next(a["content"] for name, a in tags.tags if name == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:")


def test_plots_take_their_colors_from_the_page() -> None:
    text = render(_hostile_page())
    drawing = text[text.index("<svg") : text.index("</svg>")]
    assert "var(--normal)" in drawing
    assert "var(--ink)" in drawing
    assert NORMAL not in drawing
    for name in ("normal", "ink", "fault", "flag"):
        assert text.count(f"--{name}:") == 2, "one for a light page, one for a dark one"


def test_two_plots_share_no_name() -> None:
    def named(salt: str) -> set[str]:
        figure = Figure()
        figure.subplots().plot([0, 1], [0, 1], "o-")
        return set(re.findall(r'id="([^"]+)"', svg_of(figure, salt)))

    assert named("a")
    assert not named("a") & named("b")


def test_every_link_to_a_word_has_its_meaning() -> None:
    tags = _parsed(render(Page("t", "s", tuple(term.text for term in GLOSSARY))))
    ids = {attributes.get("id") for _, attributes in tags.tags}
    links = {str(a["href"])[1:] for name, a in tags.tags if name == "a" and a.get("class") == "term"}
    assert len(links) > 15
    assert links <= ids


@pytest.mark.parametrize(
    "word", ["champion", "parity", "coreset", "deadband", "AUPRO", "VUS-PR", "AUROC", "p-values", "budget", "held out"]
)
def test_words_that_plants_asked_about_are_explained(word: str) -> None:
    assert f'">{word}</a>' in linked(f"the {word} of it")


def test_the_glossary_page_is_the_same() -> None:
    assert (ROOT / "docs" / "reference" / "glossary.md").read_text() == glossary_page()


def test_long_lines_keep_their_peaks() -> None:
    x, y = np.arange(100_000.0), np.zeros(100_000)
    y[54_321], y[10] = 7.0, -3.0
    short_x, short_y = thinned(x, y)
    assert len(short_x) <= 1200
    assert short_y.max() == 7.0
    assert short_x[short_y.argmax()] == 54_321
    assert short_y.min() == -3.0


def test_a_heat_map_lies_where_the_map_is_high() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 2.0
    shown = np.asarray(overlaid(np.full((40, 40, 1), 100, np.uint8), heat, (0.5, 2.0))).astype(int)
    assert abs(shown[30, 5] - 100).max() <= 1
    assert abs(shown[2, 37] - 100).max() > 50
    assert colored(heat, (0.5, 2.0))[3, 0, 3] == 0


def test_the_outline_of_a_mask_surrounds_it() -> None:
    mask = np.zeros((400, 800), bool)
    mask[100:200, 400:600] = True
    found: Card = card(np.zeros((400, 800, 3), np.uint8), ("a",), mask=mask)
    points = np.array([[float(v) for v in pair.split()] for pair in re.split("[ML]", found.outline) if pair])
    scale = 800 / found.wide
    assert points.min(axis=0) * scale == pytest.approx([400, 100], abs=6)
    assert points.max(axis=0) * scale == pytest.approx([600, 200], abs=6)


def test_the_verdict_names_what_is_missed_entirely() -> None:
    kinds = {"dent": {"n": 4, "found": 0.0, "image_auroc": 0.6}, "stain": {"n": 4, "found": 1.0, "image_auroc": 1.0}}
    said, warn = verdict({"n": 28, "n_defect": 8, "recall": 0.5, "false_alarm_rate": 0.0, "per_defect": kinds})
    assert said[0] == "Faulty parts flagged: 4 of 8 (50 %; 95 % interval 16 % to 84 %)."
    assert "0 of 20 (0 %; 95 % interval 0 % to 17 %)" in said[1]
    assert said[2].startswith("Missed entirely: dent.")
    assert warn


def test_the_verdict_of_training_data_says_so_first() -> None:
    said, warn = verdict({"n": 20, "n_defect": 0, "false_alarm_rate": 0.0, "learnt_from": {"records": 20, "of": 20, "words": "all 20"}})
    assert said[0].startswith("This is training data: all 20, so the figures below flatter.")
    assert warn


def test_a_suspect_links_to_the_first_of_its_places_that_the_page_holds() -> None:
    pictured = card(np.zeros((8, 8, 1), np.uint8), ("a",))
    shown = Gallery("", (replace(pictured, anchor="record-here"),))
    rows = tuple((Cell(name, links=links),) for name, links in {"one": ("record-gone", "record-here"), "two": ("record-gone",)}.items())
    text = render(Page("t", "", ("said",), (Section("s", (Table(rows), shown)),), (("Made", "today"),), False))
    assert '<a href="#record-here">one</a>' in text
    assert "record-gone" not in text
    assert ">two<" in text


def test_marks_of_logarithmic_axes_are_numbers_not_tex() -> None:
    with styled():
        svg = as_plot("t", "t", scores_figure(np.random.default_rng(0).normal(size=6000), np.zeros(0), 1.0)).svg
    assert "mathdefault" not in svg
    assert "100" in svg


@pytest.mark.parametrize("span_s", [250, 4.2 * 3600, 4.5 * 86_400, 55 * 30 * 86_400])
def test_a_plot_of_any_span_is_drawn_without_a_warning(span_s: float) -> None:
    axes = (figure := Figure()).subplots()
    axes.plot(on_axis(times := 1.7e9 + np.linspace(0, span_s, 50)), times)
    time_axis(axes, times)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    assert 4 <= len(axes.get_xticks()) <= 9
