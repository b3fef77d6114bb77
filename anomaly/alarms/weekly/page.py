"""The weekly report as one HTML file without scripts and without anything from the network; as PDF by Chromium where that is there."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from anomaly.alarms.events import iso
from anomaly.alarms.weekly.figures import Week
from anomaly.atomic import replacing
from anomaly.data.clock import span_words
from anomaly.errors import DataError
from anomaly.names import masked, one_line
from anomaly.schema import DAY_S

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PDF_WITHIN_S = 120
STYLE = """
:root{color-scheme:light dark;--line:#8886}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:1rem;overflow-wrap:anywhere}
.verdict{font-weight:600}table{border-collapse:collapse;margin:1rem 0}
th,td{text-align:left;padding:.25rem 1rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
tr>th:not([scope]){overflow-wrap:normal}.day{white-space:nowrap}svg{max-width:38vw}
td.n{text-align:right;font-variant-numeric:tabular-nums}@media print{h2{break-after:avoid}table{break-inside:avoid}}
"""


def _text(words: object) -> str:
    return escape(one_line(masked(str(words))))


def _day(seconds: float) -> str:
    return iso(seconds)[:10]


def _minute(seconds: float) -> str:
    return iso(seconds)[:16].replace("T", " ")


def _part_of_day(week: Week, place: int) -> str:
    """The name of a day of the week; of one that does not lie in it as a whole also from or until when it does."""
    day = week.begin // DAY_S * DAY_S + place * DAY_S
    since, until = max(day, week.begin), min(day + DAY_S, week.end)
    part = (f" from {_minute(since)[-5:]}" if since > day else "") + (f" until {_minute(until)[-5:]}" if until < day + DAY_S else "")
    return _day(day) + part


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _share(share: float) -> str:
    """A share of the time.

    >>> _share(0.0), _share(0.00042), _share(0.25)
    ('none', '0.042%', '25%')
    """
    return f"{100 * share:.2g}%" if share else "none"


def verdict(week: Week) -> str:
    """One sentence on a line's week: what a person should do first."""
    count = week.opened + week.other
    alarms = _count(count, "alarm")
    if not week.records and not count:
        if week.kept is not None:
            first, last = map(_day, week.kept)
            span = first if first == last else f"{first} to {last}"
            kept = f"the records that are kept are of {span}. Give the time up to which: --until."
            return f"No record and no alarm is known of this week; {kept}"
        return "No record and no alarm is known of this week: see whether the line was watched."
    looked_at = week.precision is not None and week.nuisance > 1 and week.precision < 0.5
    cares = [
        (week.flood_share > 0, f"more than anyone can follow at times: up to {week.peak} in 10 minutes"),
        (looked_at, "most of those that were looked at were a nuisance. Label them and fit again"),
        (week.chattering > 0, "some came again and again within a minute. A longer delay cures that"),
        (bool(week.drifts), "the normal data has drifted. Fit again with newer normals"),
        (bool(week.over_budget), _too_many(week)),
        (week.stale > 0, f"{week.stale} stood for more than a day. Someone should look, or put them aside"),
        (week.real > 0, "labelled as real faults: " + str(week.real)),
        (count == 0, "nothing that needs anyone"),
    ]
    return f"{alarms}: {next((words for is_so, words in cares if is_so), 'nothing out of the ordinary')}."


def _too_many(week: Week) -> str:
    flagged = f"{week.flagged:,} of {_count(week.records, 'record')} flagged, more than the budget allows"
    real = "was a real fault" if week.real == 1 else f"were real faults ({week.real})"
    return f"{flagged}. What was labelled {real}; look at the others" if week.real else f"{flagged}: faults, or normals that changed"


def _acknowledged(week: Week) -> str:
    if not week.opened + week.other:
        return "no alarm"
    if not week.acknowledged:
        return "nobody acknowledged one"
    took = ""
    if week.acknowledge_s is not None:
        took = f", {'after' if week.acknowledged == 1 else 'half of them within'} {span_words(week.acknowledge_s)}"
    return f"{week.acknowledged} acknowledged{took}; {week.unacknowledged} not acknowledged"


def _rows(week: Week) -> list[tuple[str, str]]:
    """The figures in words."""
    rows = [
        ("Alarms of the detector", f"{week.opened:,}"),
        ("Other alarms (data quality, delivery)", f"{week.other:,}"),
        ("Labelled", f"{week.real} real, {week.nuisance} a nuisance" + ("" if week.precision is None else f": {week.precision:.0%} real")),
    ]
    if week.expected is not None and week.records:
        rows.append(
            (
                "Records flagged",
                f"{week.flagged:,} of {week.records:,}; the threshold allows about {max(1.0, week.expected):,.0f} by chance alone",
            )
        )
    elif week.records:
        rows.append(("Records", f"{week.records:,}"))
    rows += [
        ("Records set aside, since they could not be read", f"{week.rejected:,}"),
        ("Time to acknowledge", _acknowledged(week)),
        ("On at the end of the week", f"{week.still_on:,}"),
        ("On for more than a day", f"{week.stale:,}"),
        ("Chattering (3 of a kind in a minute)", _count(week.chattering, "time")),
        ("In a flood (more than 10 in 10 minutes)", f"{_share(week.flood_share)} of the time; the most in 10 minutes: {week.peak}"),
        ("Watched", "not known: no record is kept" if week.watched is None else f"{week.watched:.1%} of the time"),
        ("Drift", "; ".join(f"{_day(time)}: {why}" for time, why in week.drifts) or "none told"),
    ]
    if week.priorities:
        order = ("critical", "high", "medium", "low")
        rows.append(("By priority", ", ".join(f"{week.priorities[name]} {name}" for name in order if name in week.priorities)))
    return rows


def _section(week: Week) -> str:
    most = max(week.days, default=0) or 1
    days = "".join(
        f"<tr><td class=day>{_part_of_day(week, place)}</td><td class=n>{count}</td>"
        '<td><svg viewBox="0 0 200 12" preserveAspectRatio="none" width="200" height="12" aria-hidden="true">'
        f'<rect width="{200 * count / most:.0f}" height="12" fill="#2f6fab"/></svg></td></tr>'
        for place, count in enumerate(week.days)
    )
    rows = "".join(f"<tr><th scope=row>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in _rows(week))
    frequent = "".join(f"<tr><td>{_text(name)}</td><td class=n>{count}</td></tr>" for name, count in week.frequent)
    often = f"<h3>Most frequent</h3><table><tr><th>condition</th><th>alarms</th></tr>{frequent}</table>" if frequent else ""
    return (
        f"<section><h2>{_text(week.line)}</h2><p class=verdict>{_text(verdict(week))}</p><table>{rows}</table>"
        f"<h3>Alarms by day</h3><table><tr><th>day (UTC)</th><th>alarms</th><th></th></tr>{days}</table>{often}</section>"
    )


def render(weeks: Sequence[Week]) -> str:
    """All lines as one page. Raises DataError without a line."""
    if not weeks:
        raise DataError("the store has no line yet: nothing to report")
    begin, end = weeks[0].begin, weeks[0].end
    whole = begin % DAY_S == end % DAY_S == 0
    title = f"Alarms from {_day(begin)} to {_day(end - 1)}" if whole else f"Alarms from {_minute(begin)} to {_minute(end)} UTC"
    count = sum(week.opened + week.other for week in weeks)
    head = f"{_count(len(weeks), 'line')}, {_count(count, 'alarm')}."
    rate = count / len(weeks) / max((end - begin) / DAY_S, 1e-9)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p>{head} {rate:.1f} a day and line. ISA-18.2 takes 150 a day and operator for what can be handled, and 300 for the most.</p>"
        f"{''.join(map(_section, weeks))}<p>Days are of UTC. Of records older than a week only the worst of each minute is kept.</p>"
        "</main></body></html>\n"
    )


def write_pdf(page: Path, pdf: Path) -> None:
    """Print a page by Chromium, which must be on this machine. Raises DataError when it is not, or fails."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise DataError(f"{pdf}: no Chromium on this machine prints it; install chromium, or open {page} and print it")
    with replacing(pdf) as beside, tempfile.TemporaryDirectory() as profile:
        command = [
            browser, "--headless", "--disable-gpu", "--no-sandbox", "--no-pdf-header-footer", f"--user-data-dir={profile}",
            f"--print-to-pdf={beside}", page.resolve().as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PDF_WITHIN_S, check=False)  # noqa: S603 - ours
        except subprocess.TimeoutExpired as error:
            raise DataError(f"{pdf}: Chromium did not answer within {PDF_WITHIN_S} s; open {page} and print it") from error
        if done.returncode or not beside.read_bytes().startswith(b"%PDF"):
            last = one_line((done.stderr.strip().splitlines() or ["no word of why"])[-1])[:300]
            raise DataError(f"{pdf}: Chromium could not print it ({last}); open {page} and print it")
