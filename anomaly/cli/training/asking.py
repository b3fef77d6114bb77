"""What a person is asked on a terminal, each with a default. In a pipe nothing is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import typer

from anomaly.cli.terminal.console import err
from anomaly.errors import SpecError
from anomaly.schema import check_name

if TYPE_CHECKING:
    from anomaly.pipeline.propose import Answers, Look

Read = TypeVar("Read")


def asked() -> bool:
    """Whether someone is there to answer: standard input and error are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def choose(question: str, choices: Sequence[str]) -> str:
    """One of several, by its number; the first when nothing is typed."""
    err.print(question)
    for number, choice in enumerate(choices, 1):
        err.print(f"  {number}  {choice}")
    return choices[_ask("Which is meant", "1", lambda text: _number(text, 1, len(choices))) - 1]


def ask_all(seen: Look, answers: Answers, name: str) -> Answers:
    """The answers with those that a person gives, of what the data does not tell. What is answered already is not asked."""
    from anomaly.pipeline.propose import read_budget

    if answers.name is None:
        answers = replace(answers, name=_ask("Name of the line", name, lambda text: check_name(text.strip())))
    if answers.budget is None:
        what = "good parts" if seen.kind == "camera" else "normal rows"
        how = "1 in 100, 0.5 %" if seen.kind == "camera" else "1 in 100, or 2 a day"
        answers = replace(answers, budget=_ask(f"How many {what} may be flagged by mistake ({how})", "1 in 100", read_budget))
    return _ask_mark(answers) if seen.kind == "camera" else _ask_rows(seen, answers)


def _ask_mark(answers: Answers) -> Answers:
    if answers.smallest_mark is not None:
        return answers
    mark = _ask('Smallest mark worth finding, in pixels (5) or millimetres ("3 mm"); "any" to find what can be found', "any", _mark)
    if mark is None or "mm" not in str(mark) or answers.px_per_mm is not None:
        return replace(answers, smallest_mark=mark)
    return replace(answers, smallest_mark=mark, px_per_mm=_ask("How many pixels of a picture are one millimetre", None, _positive))


def _ask_rows(seen: Look, answers: Answers) -> Answers:
    most = max(len(table.times) for table in seen.tables)
    if answers.train_rows is not None or len(seen.tables) > 1:
        return answers
    question = f'How many of the {most:,} rows, from the first on, are normal running ("all" or a number)'
    rows = _ask(question, "all", lambda text: None if text.strip().lower() == "all" else _number(text, 1, most))
    return replace(answers, train_rows=rows)


def _ask(question: str, default: str | None, read: Callable[[str], Read]) -> Read:
    """The answer as `read` takes it; asked again, with the reason, where it raises."""
    while True:
        text = str(typer.prompt(question, default=default, err=True))
        try:
            return read(text)
        except (ValueError, SpecError) as error:
            err.print(f"  {error}")


def _number(text: str, low: int, high: int) -> int:
    plain = text.strip().replace(",", "").replace(".", "")
    if not plain.isdecimal() or not low <= int(plain) <= high:
        raise ValueError(f"{text!r}: write a whole number from {low} to {high:,}")
    return int(plain)


def _positive(text: str) -> float:
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{text!r}: write a number above 0, such as 12")
    return value


def _mark(text: str) -> str | float | None:
    plain = text.strip().lower().replace(",", ".")
    if plain in ("any", "-", ""):
        return None
    if plain.endswith(("mm", "px")):
        _positive(plain[:-2])
        return plain
    return _positive(plain)
