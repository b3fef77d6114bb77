"""Whether all is well with the lines of a plant: one short look at each box, a verdict in words, and what has changed since the last look.

Nothing runs on: what is to be remembered from one look to the next is one small file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, model_validator

from anomaly.atomic import write_text
from anomaly.bundle.archive import read_bundle
from anomaly.errors import AnomalyError, DataError, in_words
from anomaly.names import one_line
from anomaly.operations.looks import ANSWERS_S, Look, ask_box, read_store
from anomaly.schema import DAY_S

What = Literal["silent", "data", "budget", "drift"]
STUCK_S = 120.0  # a loop that has not gone on for so long hangs
STEP_S, KEPT_S = 6 * 3600.0, 28 * DAY_S  # counts are remembered every six hours, for four weeks: 112 a line at most
CHANCE = 1e-3  # so many alarms or more came by chance no oftener than this: then the budget does not hold
AT_ONCE = 16  # boxes that are asked at the same time


class Box(BaseModel):
    """A monitor or box to watch: the address that it listens on (`--listen`), or its store's file.

    `release`: its release folder, by which the budget of a line is known. `false_alarms_per_week` says it in place of the bundle.
    """

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, description="as it is told of")
    url: str | None = Field(None, pattern=r"^https?://", description="such as http://10.0.0.7:9464")
    store: Path | None = Field(None, description="file of its store, read only; where it does not listen")
    release: Path | None = Field(None, description="its release folder")
    false_alarms_per_week: float | None = Field(None, gt=0, description="of each line; else the bundle's budget")
    quiet_after_h: float = Field(24.0, gt=0, description="hours without a record after which that is told")

    @model_validator(mode="after")
    def _has_one_address(self) -> Box:
        if (self.url is None) == (self.store is None):
            raise ValueError(f"box {self.name}: give its url or its store, one of them")
        return self


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a line: what sort of thing, and a sentence."""

    what: What
    says: str


@dataclass(frozen=True)
class Verdict:
    """How a line stands. `line` is "" for a box that was never heard of; `asked`: whether its box answered."""

    box: str
    line: str
    findings: tuple[Finding, ...] = ()
    asked: bool = True

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def says(self) -> str:
        return " ".join(one.says for one in self.findings) or "All is well."


@dataclass(frozen=True)
class Change:
    """A finding that is new, or `ok` where a line has none any more."""

    verdict: Verdict
    what: str
    says: str


@dataclass(frozen=True)
class Watched:
    """One look at all boxes: a verdict a line, and what has changed since the look before."""

    verdicts: list[Verdict]
    changes: list[Change]
    kept: dict[str, Any]

    @property
    def says(self) -> str:
        wrong = [verdict for verdict in self.verdicts if not verdict.ok]
        if not wrong:
            return f"All is well with {_count(len(self.verdicts), 'line')}."
        return f"{len(wrong)} of {_count(len(self.verdicts), 'line')} {'needs' if len(wrong) == 1 else 'need'} a look."


def watch(boxes: Sequence[Box], state: Path, now: float) -> Watched:
    """Look at all boxes at once. `state`: the file of the look before. It is not written here: see `remember`.

    A box that does not answer is a finding of its own, and the lines that it had at the look before are silent with it.
    Raises DataError when a name stands for two boxes, or the file is not one of ours.
    """
    names = [box.name for box in boxes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"two boxes are called {twice[0]!r}; give each a name of its own")
    before = _read(state)
    with httpx.Client(timeout=ANSWERS_S, follow_redirects=False) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda box: _ask(client, box, now), boxes))
    kept: dict[str, Any] = {}
    verdicts: list[Verdict] = []
    for box, answer in zip(boxes, answers, strict=True):
        known = before.get(box.name, {})
        found, kept[box.name] = _silent(box, answer, known) if isinstance(answer, str) else _judged(box, answer, known, now)
        verdicts += found
    return Watched(verdicts, _changes(verdicts, before), kept)


def remember(watched: Watched, state: Path) -> None:
    """Keep a look for the next one, after its changes were told: one that was killed between tells them again, never not at all."""
    kept = watched.kept
    for verdict in watched.verdicts:
        line = kept[verdict.box].setdefault(verdict.line, {})
        wrong = {one.what for one in verdict.findings}
        line["wrong"] = sorted(wrong if verdict.asked else wrong | set(line.get("wrong", [])))  # what was wrong before may be so still
    state.parent.mkdir(parents=True, exist_ok=True)
    write_text(state, json.dumps({"version": 1, "boxes": kept}, sort_keys=True))


def _read(state: Path) -> dict[str, Any]:
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
        return dict(found["boxes"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{state}: not what a watch left ({in_words(error)}); name another file, or delete it to begin anew") from error


def _ask(client: httpx.Client, box: Box, now: float) -> list[Look] | str:
    """What a box says of its lines, or why it cannot be asked. Never raises: one box does not end the look at the rest."""
    try:
        if box.url is not None:
            return ask_box(client, box.url)
        assert box.store is not None
        return read_store(box.store, now)
    except AnomalyError as error:
        return in_words(error)
    except Exception as error:  # whatever a strange answer does to a parser
        return f"{box.url or box.store}: {in_words(error)}"


def _silent(box: Box, why: str, known: dict[str, Any]) -> tuple[list[Verdict], dict[str, Any]]:
    lines = sorted(known) or [""]
    found = Finding("silent", f"The box {box.name} cannot be asked: {one_line(why)}.")
    return [Verdict(box.name, line, (found,), asked=False) for line in lines], {name: dict(line) for name, line in known.items()}


def _judged(box: Box, looks: Sequence[Look], known: dict[str, Any], now: float) -> tuple[list[Verdict], dict[str, Any]]:
    verdicts, kept = [], {}
    for look in looks:
        before = known.get(look.line, {})
        counts = _counted(look, before.get("counts", []), now)
        budget = before["budget"] if look.bundle and before.get("bundle") == look.bundle else _budget(box, look)
        kept[look.line] = {"counts": counts, "bundle": look.bundle, "budget": budget}
        verdicts.append(Verdict(box.name, look.line, tuple(_findings(box, look, counts, budget))))
    gone = sorted(set(known) - {look.line for look in looks} - {""})
    for line in gone:
        verdicts.append(Verdict(box.name, line, (Finding("silent", f"The box {box.name} has no line {line} any more."),)))
        kept[line] = dict(known[line])
    if not verdicts:
        verdicts.append(Verdict(box.name, "", (Finding("silent", f"The box {box.name} answers, and has no line."),)))
    return verdicts, kept


def _counted(look: Look, before: list[list[float]], now: float) -> list[list[float]]:
    """(moment, alarms, records, flagged) of past looks, the last one being this; alarms and so on counted on over restarts."""
    here = [float(look.opened), float(look.scored), float(look.flagged)]
    if not before:
        return [[now, *([0.0] * 3), *here]]
    last = before[-1]
    # Each row: moment, three sums, three counters as the box said them. A counter that fell began anew at 0.
    anew = any(ours < theirs for ours, theirs in zip(here, last[4:], strict=True))
    grown = [ours - (0.0 if anew else theirs) for ours, theirs in zip(here, last[4:], strict=True)]
    row = [now, *(total + more for total, more in zip(last[1:4], grown, strict=True)), *here]
    older = [one for one in before if now - one[0] <= KEPT_S] or [last]
    if len(older) > 1 and older[-1][0] - older[-2][0] < STEP_S:
        older = older[:-1]
    return [*older, row]


def _findings(box: Box, look: Look, counts: list[list[float]], budget: dict[str, float]) -> Iterable[Finding]:
    if look.silent_s is not None and look.silent_s > STUCK_S:
        yield Finding("silent", f"Its loop has not gone on for {_time(look.silent_s)}.")
    if look.wrong:
        yield Finding("data", f"It cannot work: {one_line('; '.join(look.wrong))}.")
    if look.quality:
        yield Finding("data", f"{_count(look.quality, 'alarm')} on the quality of its data {'is' if look.quality == 1 else 'are'} open.")
    if look.record_s is not None and look.record_s > 3600 * box.quiet_after_h and not look.wrong:
        yield Finding("data", f"No record came for {_time(look.record_s)}.")
    asked = {"false_alarms_per_day": box.false_alarms_per_week / 7} if box.false_alarms_per_week is not None else budget
    yield from _over_budget(asked, counts)
    if look.drift is not None and look.drift >= 1:
        more = f": {one_line(look.drift_words)}" if look.drift_words else ""
        yield Finding("drift", f"Its normal records are no longer those that it learnt from{more}.")


def _over_budget(budget: dict[str, float], counts: list[list[float]]) -> Iterable[Finding]:
    (began, *first), (ended, *last) = counts[0], counts[-1]
    days = (ended - began) / DAY_S
    alarms, records, flagged = (last[at] - first[at] for at in range(3))
    a_day, rate = budget.get("false_alarms_per_day"), budget.get("false_alarm_rate")
    if a_day is not None and alarms > 1 and chance_of(int(alarms), a_day * days) < CHANCE:
        yield Finding(
            "budget",
            f"{_count(int(alarms), 'alarm')} in {_time(days * DAY_S)}, where its budget is {7 * a_day:.3g} false alarms a week: "
            "either there are faults, or it has to be fitted again.",
        )
    elif a_day is None and rate is not None and records >= 100 and flagged > 2 * rate * records:
        yield Finding(
            "budget",
            f"{flagged / records:.2%} of {int(records)} records are flagged, where its budget is {rate:.2%}: "
            "either there are faults, or it has to be fitted again.",
        )


def _budget(box: Box, look: Look) -> dict[str, float]:
    """What the bundle in use was asked to keep; {} where the release folder does not hold it."""
    if box.release is None or not look.bundle:
        return {}
    for path in box.release.rglob(f"*-{look.bundle[:12]}.anomaly"):
        try:
            return read_bundle(path).manifest.threshold.budget
        except (AnomalyError, OSError):  # a copy that is under way
            continue
    return {}


def chance_of(seen: int, expected: float) -> float:
    """How likely `seen` or more are by chance, where `expected` come on average (Poisson).

    >>> round(chance_of(1, 1.0), 3), round(chance_of(9, 2.0), 5), chance_of(0, 3.0)
    (0.632, 0.00024, 1.0)
    """
    if seen <= 0:
        return 1.0
    if expected <= 0:
        return 0.0
    below = sum(math.exp(k * math.log(expected) - expected - math.lgamma(k + 1)) for k in range(seen))
    return max(0.0, 1.0 - below)


def _changes(verdicts: Sequence[Verdict], before: dict[str, Any]) -> list[Change]:
    found = []
    for verdict in verdicts:
        was = set(before.get(verdict.box, {}).get(verdict.line, {}).get("wrong", []))
        for what in sorted({one.what for one in verdict.findings} - was):
            says = " ".join(one.says for one in verdict.findings if one.what == what)
            found.append(Change(verdict, what, says))
        if verdict.ok and was:
            found.append(Change(verdict, "ok", "All is well again."))
    there = {(verdict.box, verdict.line) for verdict in verdicts}
    heard = {verdict.box for verdict in verdicts if verdict.line}
    for box in sorted(heard):
        if "" in before.get(box, {}) and (box, "") not in there:
            found.append(Change(Verdict(box, ""), "ok", f"The box {box} answers."))
    return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _time(seconds: float) -> str:
    for unit, size in (("day", DAY_S), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}s"
    return f"{seconds:.0f} seconds"
