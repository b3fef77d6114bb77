"""`anomaly alarms label|labels|erase`: what people say of alarms, where that goes, and the end of pictures and readings."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.alarms.wording import SHORT
from anomaly.cli.alarms import AsJson, Line, StorePath, Who, find_alarm, name_of, open_store
from anomaly.cli.terminal.alarm_table import print_table
from anomaly.cli.terminal.console import err, out
from anomaly.data.clock import when
from anomaly.errors import DataError
from anomaly.names import masked, one_line

if TYPE_CHECKING:
    from anomaly.alarms.book import Alarm, Box, Label, Verdict
    from anomaly.alarms.store import Store

StoreFile = Annotated[Path | None, typer.Argument(metavar="[STORE]", help="The event store; --store says the same.")]
DAY_S = 86_400.0


class Picture(StrEnum):
    """Pictures that are kept of an alarm."""

    OPENED = "opened"
    WORST = "worst"
    ALL = "all"


def label(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Alarms; the begin of an id is enough.")],
    real: Annotated[bool, typer.Option("--real", help="The fault is there.")] = False,
    nuisance: Annotated[bool, typer.Option("--nuisance", help="All is well: the alarm should not have been.")] = False,
    kind: Annotated[str, typer.Option("--kind", help="Kind of fault, in your own words: scratch, bearing.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")] = "",
    picture: Annotated[
        Picture | None, typer.Option("--picture", help="Of which of the pictures that are kept of it, where there are two.")
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", help="x,y,width,height in pixels of that picture, else of the one that opened it; again for more."),
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="When the fault began, such as 2026-11-27T08:00:00Z.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="When it was over.")] = None,
    store: StorePath = Path("anomaly.db"),
    who: Who = None,
) -> None:
    """Say whether alarms were real or a nuisance: the next fit can learn from it. The newest word counts."""
    if real == nuisance:
        raise typer.BadParameter("say --real or --nuisance")
    if (from_ is None) != (to is None):
        raise typer.BadParameter("a stretch of time has a --from and a --to")
    if len(ids) > 1 and (box or from_):
        raise typer.BadParameter("a box or a stretch of time belongs to one alarm; name one")
    boxes = [_box(text) for text in box or ()]
    stretches = [(moment(from_), moment(to))] if from_ is not None and to is not None else []
    db = open_store(store)
    verdict: Verdict = "real" if real else "nuisance"
    for alarm in [find_alarm(db, each) for each in ids]:
        records = [] if picture is None else _records(db, alarm, picture)
        given = db.label(alarm.id, verdict, name_of(who), one_line(reason), one_line(kind.strip()), boxes, stretches, records)
        out.print(one_line(masked(f"{alarm.id[:SHORT]}: {given.words}; {alarm.line}, {alarm.condition}")))


def _records(db: Store, alarm: Alarm, picture: Picture) -> list[str]:
    kept = [each for each in db.evidence(alarm.id) if each.kind == "picture"]
    found = [each.record for each in kept if picture is Picture.ALL or each.role == picture.value]
    if not found:
        named = ", ".join(each.role for each in kept) or "none"
        raise DataError(f"alarm {alarm.id[:SHORT]}: no such picture is kept of it, for --picture {picture.value}; what is kept: {named}")
    return found


def _box(text: str) -> Box:
    sides = re.split(r"[,\s]+", text.strip())
    try:
        x, y, wide, high = map(float, sides)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write x,y,width,height in pixels, such as 120,40,64,32", param_hint="--box") from None
    return x, y, wide, high


def moment(text: str) -> float:
    """Seconds since 1970 of a time; one without a zone is UTC."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write a time such as 2026-11-27T08:00:00Z or 2026-11-27T08:00:00+01:00") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def labels(
    store_file: StoreFile = None,
    out_: Annotated[
        Path | None, typer.Option("--out", help="A new folder for pictures, boxes (COCO) and stretches that fit reads.")
    ] = None,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    json_: AsJson = False,
) -> None:
    """What people said of alarms, how many were real; with --out as files that `anomaly fit --faults` reads."""
    path = store_file or store
    db = open_store(path, line)
    found = db.labels(line)
    if json_:
        out.print_json(json.dumps([each.as_dict() for each in found]))
    elif not found:
        out.print("no alarm has a label; anomaly alarms label ID --real, or --nuisance, gives one")
    else:
        for words in precision_words(found):
            out.print(one_line(masked(words)))
        if out_ is None:
            rows = [(each.alarm[:SHORT], each.line, each.verdict, each.kind, when(each.time), each.who, each.reason) for each in found]
            print_table(("alarm", "line", "label", "kind", "said", "who", "why"), rows)
    if out_ is not None:
        _export(path, out_, line, json_)


def _export(path: Path, folder: Path, line: str | None, quiet: bool) -> None:
    from anomaly.alarms.labels import export_labels

    written = export_labels(open_store(path), folder, line)
    for note in written.notes:
        err.print(one_line(masked(f"left out: {note}")), style="yellow")
    if quiet:
        return
    out.print(f"{folder}: {written.faults} alarms as faults, {written.good} as good, all {written.labels} labels in labels.csv")
    for each in written.folders:
        if (each / "faults").exists():
            out.print(f"  the next fit learns from it: anomaly fit SPEC --data GOOD --faults {each / 'faults'}")
        if (each / "good").exists():
            out.print(f"  may be added to the good parts: {each / 'good'}")


def precision_words(found: list[Label]) -> list[str]:
    """A sentence a line on how many of its labelled alarms were real."""
    lines = sorted({each.line for each in found})
    said = []
    for name in lines:
        own = [each for each in found if each.line == name]
        real = sum(each.verdict == "real" for each in own)
        said.append(f"{name}: {real} of {len(own)} labelled alarms were real ({real / len(own):.0%})")
    return said


def erase(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Alarms; the begin of an id is enough.")] = None,
    before: Annotated[str | None, typer.Option("--before", help="All that opened so long ago: 30d, or before a time.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Of all alarms; of one line with --line.")] = False,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    who: Who = None,
    why: Annotated[str, typer.Option("--why", help="The reason: it is kept in the audit log.")] = "",
) -> None:
    """Remove the pictures and readings that are kept of alarms. The alarms, their labels and their history stay."""
    if sum([bool(ids), before is not None, all_]) != 1:
        raise typer.BadParameter("name alarms by their ids, or give --before or --all")
    db = open_store(store, line)
    if ids:
        chosen = [find_alarm(db, each) for each in ids]
    else:
        until = time.time() + DAY_S if before is None else _ago(before)
        chosen = [alarm for alarm in db.alarms(line, live=False) if alarm.opened < until]
    count = db.erase(chosen, name_of(who), one_line(why))
    left, size = db.evidence_size()
    out.print(f"erased {count} pictures or stretches of readings; {left} are left, {size / 1e6:,.1f} MB")


def _ago(text: str) -> float:
    days = re.fullmatch(r"(\d{1,5})d", text.strip())
    return time.time() - float(days[1]) * DAY_S if days else moment(text)
