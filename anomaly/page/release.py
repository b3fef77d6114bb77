"""Champion and challenger of a line, where it follows a release folder of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anomaly.bundle.archive import read_bundle
from anomaly.bundle.release_folder import Entry, ReleaseFolder, Role
from anomaly.errors import BundleError, StoreError
from anomaly.page import models, queries
from anomaly.page.site import Site

CLEAR = 0.01  # by McNemar's test: below it the two flag at different rates


class NoReleaseError(StoreError):
    """The line follows no release folder that can be written from here: 409."""


class ReleaseError(BundleError):
    """What is in the release folder is not as it was shown, or cannot be used: 409."""


def _folder(site: Site, line: str) -> ReleaseFolder:
    """The release folder of a line. Raises NoReleaseError."""
    health = site.health(line)
    if health is None or not health.release or "://" in health.release:
        raise NoReleaseError("the line follows no release folder on this machine; promote where the folder lies: anomaly release promote")
    return ReleaseFolder(Path(health.release))


def compare(site: Site, line: str) -> models.Shadow:
    """What champion and challenger flagged of the same records. Raises ReleaseError for a bundle or pointer that cannot be read."""
    try:
        folder = _folder(site, line)
    except NoReleaseError as error:
        return models.Shadow(
            line=line, release=False, champion="", challenger="", champion_hash="", challenger_hash="", compared=None, words=str(error),
            history=[],
        )  # fmt: skip
    with _told(folder):
        history = [
            models.Deed(time=each.at, who=each.by, action=f"{each.action}: {each.name}-{each.version}", line=line, alarm="", why=each.why)
            for each in folder.history()[::-1][:50]
        ]
        standing = [folder.standing(role) for role in ("champion", "challenger")]
        bundles = [read_bundle(each[0]) for each in standing if each is not None and None not in standing]
    compared, words = None, "no challenger is published: nothing is compared"
    if bundles:
        compared, words = _compared(site, line, *((bundle.hash, bundle.manifest.threshold.p_value) for bundle in bundles))
    (champion, champion_hash), (challenger, challenger_hash) = (("", "") if each is None else (each[0].name, each[1]) for each in standing)
    return models.Shadow(
        line=line, release=True, champion=champion, challenger=challenger, champion_hash=champion_hash, challenger_hash=challenger_hash,
        compared=compared, words=words, history=history,
    )  # fmt: skip


def _compared(site: Site, line: str, champion: tuple[str, float], challenger: tuple[str, float]) -> tuple[models.Both, str]:
    with queries.reading(site.store) as db:
        both, old, new, neither = queries.shadow_counts(db, line, champion, challenger)
    total = both + old + new + neither
    p_value = queries.mcnemar(old, new)
    clear = p_value is not None and p_value <= CLEAR
    found = models.Both(
        records=total, both=both, champion_only=old, challenger_only=new, neither=neither, p_value=p_value, clear=clear
    )  # fmt: skip
    return found, _words(total, both + old, both + new, clear)


def _words(total: int, champion: int, challenger: int, clear: bool) -> str:
    if not total:
        return "the challenger has not judged a record yet"
    rates = f"of {total:,} records the champion flagged {champion:,}, the challenger {challenger:,}"
    if not clear:
        return f"{rates}: no clear difference"
    return f"{rates}: the challenger flags clearly {'more' if challenger > champion else 'fewer'}"


def promote(site: Site, line: str, shown: str, who: str, why: str) -> str:
    """Make the challenger the champion; it is in the audit log, too. `shown`: its hash. Raises ReleaseError when it is another by now."""
    folder = _folder(site, line)
    with _told(folder, "challenger", shown):
        entry = folder.promote(who, why, expected=shown)
    return _noted(site, line, entry, who, why)


def rollback(site: Site, line: str, shown: str, who: str, why: str) -> str:
    """Make the champion before the champion again. `shown`: hash of the one that is taken back. Raises ReleaseError as `promote`."""
    folder = _folder(site, line)
    with _told(folder, "champion", shown):
        entry = folder.rollback(who, why, of=shown)
    return _noted(site, line, entry, who, why)


@contextmanager
def _told(folder: ReleaseFolder, role: Role = "champion", shown: str = "") -> Iterator[None]:
    """What is wrong in the folder, in words without its place on this machine. `shown`: the hash that a person saw of the role."""
    try:
        yield
    except BundleError as error:
        text = str(error).replace(f"{folder.where}{os.sep}", "").replace(f"{folder.where}: ", "")
        with suppress(BundleError):
            standing = folder.standing(role)
            if shown and (standing is None or standing[1] != shown):
                now = f"is {standing[0].name}" if standing is not None else "is none"
                text = f"somebody was quicker: the {role} {now} by now, and nothing was done; look at it first"
        raise ReleaseError(text) from error


def _noted(site: Site, line: str, entry: Entry, who: str, why: str) -> str:
    with site.writing() as store:
        store.note(who, f"{entry.action}: {entry.name}-{entry.version} ({entry.hash[:12]})", line, why=why)
    return entry.in_words()
