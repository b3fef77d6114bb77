"""Delivery, champion and challenger, the audit log, the week, labels as files."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from anomaly.alarms.labels import export_labels
from anomaly.alarms.store import Store
from anomaly.alarms.weekly.figures import figures_of, week_of
from anomaly.alarms.weekly.page import render
from anomaly.page import models, queries, release
from anomaly.page.alarms import deed, event_words
from anomaly.page.auth.guard import Admin, Viewer
from anomaly.page.lines import names_of
from anomaly.page.routes.shared import LONGEST_NAME, Limit, LineName, Offset, OfSite, said
from anomaly.page.site import NotThereError, Site

router = APIRouter(tags=["operations"])
MOST_DEAD = 200
# The report is one file with its styles inside, and without scripts; nothing else may be in it.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; sandbox"


@router.get("/delivery")
def delivery(site: OfSite) -> models.Delivery:
    """How delivery to each sink stands, and what no sink takes."""
    with site.reading() as store:
        counts, dead = store.outbox_counts(), store.dead_letters()
        health = {each.sink: each for each in (site.board.sinks() if site.board is not None else ())}
        lanes = [
            models.Lane(
                sink=name, state=health[name].state if name in health else "not running",
                error=health[name].error if name in health else "",
                last_success_age_s=health[name].last_success_age_s if name in health else None, waiting=counts.get((name, "waiting"), 0),
                dead=counts.get((name, "dead"), 0),
            )
            for name in sorted({*health, *(name for name, _ in counts)})
        ]  # fmt: skip
        letters = []
        for each in dead[-MOST_DEAD:][::-1]:
            id_, time, what, line = event_words(each.body)
            letters.append(
                models.DeadLetter(sink=each.sink, id=id_, time=time, what=what, line=line, attempts=each.attempts, error=each.error)
            )
        return models.Delivery(lanes=lanes, dead=letters)


@router.post("/delivery/replay")
def replay(site: OfSite, asked: models.Replay, person: Admin) -> models.Done:
    """Send dead letters again."""
    with site.writing() as store:
        count = store.replay(asked.sink, asked.ids, who=person.name)
    return models.Done(done=f"{count} events wait again")


@router.get("/shadow")
def shadow(site: OfSite, name: LineName) -> models.Shadow:
    """Champion and challenger on the same records."""
    return release.compare(site, _known(site, name))


@router.post("/shadow/promote")
def promote(site: OfSite, name: LineName, asked: models.Release, person: Admin) -> models.Done:
    """Make the challenger the champion. The line swaps to it between two records. 409 when it is another by now."""
    return models.Done(done=release.promote(site, _known(site, name), asked.hash, person.name, said(asked.why)))


@router.post("/shadow/rollback")
def rollback(site: OfSite, name: LineName, asked: models.Release, person: Admin) -> models.Done:
    """Make the champion before the champion again. 409 when the champion is another by now."""
    return models.Done(done=release.rollback(site, _known(site, name), asked.hash, person.name, said(asked.why)))


@router.get("/audit")
def audit(
    site: OfSite, line: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None, limit: Limit = 100, offset: Offset = 0
) -> list[models.Deed]:
    """What people did, the newest first."""
    with queries.reading(site.store) as db:
        return [deed(each) for each in queries.actions(db, line, last=limit, offset=offset)]


@router.get("/weekly", response_class=HTMLResponse)
def weekly(site: OfSite, line: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None) -> HTMLResponse:
    """The report of the last seven whole days, as a page of its own."""
    with site.reading() as store:
        if line is not None and line not in store.lines():
            raise NotThereError(f"no line {line!r}")
        weeks = figures_of(store, *week_of(site.clock()), line)
        return HTMLResponse(render(weeks), headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/labels.zip", response_class=Response, responses={200: {"content": {"application/zip": {}}}})
def labels(site: OfSite, person: Viewer) -> Response:
    """All labels as files for the next fit: CSV, pictures, boxes in COCO."""
    with site.reading() as store:
        return Response(_zipped(store), media_type="application/zip", headers={"Content-Disposition": 'attachment; filename="labels.zip"'})


def _zipped(store: Store) -> bytes:
    file = io.BytesIO()
    with tempfile.TemporaryDirectory() as made, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        folder = Path(made) / "labels"
        export_labels(store, folder)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder))
    return file.getvalue()


def _known(site: Site, name: str) -> str:
    with queries.reading(site.store) as db:
        if name not in names_of(db, site):
            raise NotThereError(f"no line {name!r}")
    return name
