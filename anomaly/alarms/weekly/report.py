"""The report of a week from a store to files: what the command and the flow both do."""

from __future__ import annotations

from pathlib import Path

from anomaly.alarms.store import Store
from anomaly.alarms.weekly.figures import figures_of, week_of
from anomaly.alarms.weekly.page import render, verdict, write_pdf
from anomaly.atomic import write_text
from anomaly.errors import DataError
from anomaly.schema import DAY_S, WEEK_S


def write_report(store: Store, page: Path, end: float, line: str | None = None, pdf: bool = False, whole_days: bool = True) -> list[str]:
    """Write the week before `end` (seconds since 1970; with `whole_days` up to the midnight before it). Returns a sentence a line.

    Raises DataError for a page that is not named .html, or a PDF that cannot be printed: the page is there then.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"{page}: the report is a web page; name it .html")
    begin, until = week_of(end) if whole_days else (end - WEEK_S, end)
    weeks = figures_of(store, begin, until, line)
    if whole_days and weeks and all(not any(each.days) and each.kept is not None and each.kept[0] >= until for each in weeks):
        weeks = figures_of(store, begin + DAY_S, end, line)  # the first day of all: it is not over, and all there is
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, render(weeks))
    said = [f"{week.line}: {verdict(week)}" for week in weeks] + [str(page)]
    if pdf:
        write_pdf(page, page.with_suffix(".pdf"))
        said.append(str(page.with_suffix(".pdf")))
    return said
