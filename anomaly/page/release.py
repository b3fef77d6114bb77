"""Champion and challenger of a line, where it follows a release folder of this machine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from anomaly.bundle.archive import read_bundle
from anomaly.bundle.release_folder import Entry, ReleaseFolder
from anomaly.errors import StoreError
from anomaly.page import models, queries
from anomaly.page.site import Site

CLEAR = 0.01  # by McNemar's test: below it the two flag at different rates


class NoReleaseError(StoreError):
    """The line follows no release folder that can be written from here: 409."""


def _folder(site: Site, line: str) -> ReleaseFolder:
    """The release folder of a line. Raises NoReleaseError."""
    health = site.health(line)
    if health is None or not health.release or "://" in health.release:
        raise NoReleaseError("the line follows no release folder on this machine; promote where the folder lies: anomaly release promote")
    return ReleaseFolder(Path(health.release))


def compare(site: Site, line: str) -> models.Shadow:
    """What champion and challenger flagged of the same records."""
    try:
        folder = _folder(site, line)
    except NoReleaseError as error:
        return models.Shadow(line=line, release=False, champion="", challenger="", compared=None, words=str(error), history=[])
    history = [
        models.Deed(time=each.at, who=each.by, action=f"{each.action}: {each.name}-{each.version}", line=line, alarm="", why=each.why)
        for each in folder.history()[::-1][:50]
    ]
    champion, challenger = folder.pointed("champion"), folder.pointed("challenger")
    names = [path.name if path is not None else "" for path in (champion, challenger)]
    if champion is None or challenger is None:
        words = "no challenger is published: nothing is compared"
        return models.Shadow(line=line, release=True, champion=names[0], challenger=names[1], compared=None, words=words, history=history)
    sides = [(bundle.hash, bundle.manifest.threshold.p_value) for bundle in map(read_bundle, (champion, challenger))]
    with queries.reading(site.store) as db:
        both, old, new, neither = queries.shadow_counts(db, line, sides[0], sides[1])
    total = both + old + new + neither
    p_value = queries.mcnemar(old, new)
    clear = p_value is not None and p_value <= CLEAR
    return models.Shadow(
        line=line, release=True, champion=names[0], challenger=names[1],
        compared=models.Both(
            records=total, both=both, champion_only=old, challenger_only=new, neither=neither, p_value=p_value, clear=clear
        ),
        words=_words(total, both + old, both + new, clear), history=history,
    )  # fmt: skip


def _words(total: int, champion: int, challenger: int, clear: bool) -> str:
    if not total:
        return "the challenger has not judged a record yet"
    rates = f"of {total:,} records the champion flagged {champion:,}, the challenger {challenger:,}"
    if not clear:
        return f"{rates}: no clear difference"
    return f"{rates}: the challenger flags clearly {'more' if challenger > champion else 'fewer'}"


def promote(site: Site, line: str, who: str, why: str) -> str:
    """Make the challenger the champion; it is in the audit log, too. Raises NoReleaseError, BundleError."""
    return _noted(site, line, _folder(site, line).promote(who, why), who, why)


def rollback(site: Site, line: str, who: str, why: str) -> str:
    """Make the champion before the champion again. Raises NoReleaseError, BundleError."""
    return _noted(site, line, _folder(site, line).rollback(who, why), who, why)


def _noted(site: Site, line: str, entry: Entry, who: str, why: str) -> str:
    with closing(site.writing()) as store:
        store.note(who, f"{entry.action}: {entry.name}-{entry.version} ({entry.hash[:12]})", line, why=why)
    return entry.in_words()
