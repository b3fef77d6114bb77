"""What people do to alarms. Each is one row of the audit log, in the same transaction; a running monitor takes it up at its next turn."""

from __future__ import annotations

from fastapi import APIRouter

from anomaly.alarms import deeds
from anomaly.alarms.book import Alarm, HoldKind
from anomaly.alarms.events import iso
from anomaly.alarms.store import Store
from anomaly.alarms.wording import condition_words
from anomaly.errors import NotPossibleError
from anomaly.page import models
from anomaly.page.auth.guard import Admin, Operator
from anomaly.page.auth.roles import Person
from anomaly.page.routes.alarms import Id
from anomaly.page.routes.shared import LineName, OfSite, said, seconds_of
from anomaly.page.site import NotThereError, Site

router = APIRouter(tags=["actions"])
COMMENT = "commented"  # in the audit log


def _found(store: Store, id_: str) -> Alarm:
    found = [alarm for alarm in store.find_alarms(id_) if alarm.id == id_]
    if not found:
        raise NotThereError("no alarm has this id")
    return found[0]


@router.post("/alarms/{id}/acknowledge")
def acknowledge(site: OfSite, id: Id, asked: models.Reason, person: Operator) -> models.Done:
    """Someone has seen the alarm."""
    with site.writing() as store:
        alarm = _found(store, id)
        deeds.acknowledge(store, alarm, person.name, said(asked.why))
    return models.Done(done="acknowledged")


@router.post("/alarms/{id}/comment")
def comment(site: OfSite, id: Id, asked: models.Reason, person: Operator) -> models.Done:
    """A word on an alarm, which stands in its history."""
    words = said(asked.why)
    if not words:
        raise NotPossibleError("the comment is empty")
    with site.writing() as store:
        alarm = _found(store, id)
        store.note(person.name, COMMENT, alarm.line, alarm.id, words)
    return models.Done(done="noted")


@router.post("/alarms/{id}/shelve")
def shelve(site: OfSite, id: Id, asked: models.Shelve, person: Operator) -> models.Done:
    """Put the alarm's conditions aside for a time."""
    return _hold(site, id, "shelved", asked.seconds, person, asked.why)


@router.post("/alarms/{id}/unshelve")
def unshelve(site: OfSite, id: Id, asked: models.Reason, person: Operator) -> models.Done:
    """End that before its time."""
    return _release(site, id, "shelved", person, asked.why)


@router.post("/alarms/{id}/out-of-service")
def out_of_service(site: OfSite, id: Id, asked: models.Reason, person: Admin) -> models.Done:
    """Take the alarm's conditions out of service until someone puts them back."""
    return _hold(site, id, "out of service", None, person, asked.why)


@router.post("/alarms/{id}/in-service")
def in_service(site: OfSite, id: Id, asked: models.Reason, person: Admin) -> models.Done:
    """Put back into service."""
    return _release(site, id, "out of service", person, asked.why)


def _hold(site: Site, id_: str, kind: HoldKind, seconds: float | None, person: Person, why: str) -> models.Done:
    with site.writing() as store:
        alarm = _found(store, id_)
        deeds.hold(store, kind, alarm.line, alarm.conditions, seconds, person.name, said(why), alarm.id)
    return models.Done(done=kind)


def _release(site: Site, id_: str, kind: HoldKind, person: Person, why: str) -> models.Done:
    with site.writing() as store:
        alarm = _found(store, id_)
        deeds.release(store, kind, alarm.line, alarm.conditions, person.name, said(why), alarm.id)
    return models.Done(done=f"no longer {kind}")


@router.post("/line/hold")
def hold_line(site: OfSite, name: LineName, asked: models.HoldLine, person: Admin) -> models.Done:
    """Hold back one condition of a line, or all of them."""
    if asked.kind == "shelved" and asked.seconds is None:
        raise NotPossibleError("shelving has an end: give seconds")
    with site.writing() as store:
        condition = _condition(store, name, asked.condition)
        deeds.hold(store, asked.kind, name, [condition], asked.seconds, person.name, said(asked.why))
    return models.Done(done=f"{asked.kind}: {condition_words(condition)}")


@router.post("/line/release")
def release_line(site: OfSite, name: LineName, asked: models.ReleaseLine, person: Admin) -> models.Done:
    """End a hold of a line."""
    with site.writing() as store:
        condition = _condition(store, name, asked.condition)
        deeds.release(store, asked.kind, name, [condition], person.name, said(asked.why))
    return models.Done(done=f"no longer {asked.kind}: {condition_words(condition)}")


def _condition(store: Store, line: str, condition: str) -> str:
    if line not in store.lines():
        raise NotThereError(f"no line {line!r}")
    return deeds.check_condition(store, line, condition)


@router.post("/alarms/{id}/label")
def label(site: OfSite, id: Id, asked: models.GiveLabel, person: Operator) -> models.Done:
    """Say whether the alarm was real, of what kind, and where."""
    stretches = [_stretch(begin, end) for begin, end in asked.stretches]
    with site.writing() as store:
        _found(store, id)
        records = _pictures(store, id, asked.pictures)
        given = store.label(id, asked.verdict, person.name, said(asked.reason), said(asked.kind), asked.boxes, stretches, records)
    return models.Done(done=given.words)


def _pictures(store: Store, id_: str, times: list[str]) -> list[str]:
    """The pictures that somebody saw, by their times. Raises NotPossibleError where one is not kept any more."""
    kept = {iso(each.time): each.record for each in store.evidence(id_) if each.kind == "picture"}
    if any(time not in kept for time in times):
        raise NotPossibleError("that picture is not kept any more: another one was more unusual; look again")
    return [kept[time] for time in times]


def _stretch(begin: str, end: str) -> tuple[float, float]:
    since, until = seconds_of(begin, "stretches: from"), seconds_of(end, "stretches: to")
    assert since is not None
    assert until is not None
    return since, until


@router.post("/alarms/{id}/erase")
def erase(site: OfSite, id: Id, asked: models.Reason, person: Admin) -> models.Done:
    """Remove the pictures and readings that are kept of the alarm. The alarm stays."""
    with site.writing() as store:
        count = store.erase([_found(store, id)], person.name, said(asked.why))
    return models.Done(done=f"{count} records erased")
