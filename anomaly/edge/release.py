"""A release folder or URL: which bundle is the champion, which the challenger; verified and tested before either is used.

A bundle that is whole but fails its self-test, or takes another input, is refused for good. One that cannot be had whole (the network, a
copy that is still under way) is reported once and tried again. So is one that was taken back in use: it stays refused over a restart.
Either way the bundle in use stays in use. The last good one is kept on this machine, for a start without the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anomaly.atomic import replacing, write_text
from anomaly.bundle.archive import MAX_BYTES, Bundle, read_bundle
from anomaly.buses.backoff import backoff_s
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import Session
from anomaly.errors import AnomalyError, BundleError, UnreachableError, in_words
from anomaly.schema import InputSchema

Role = Literal["champion", "challenger"]
POLL_S = 5.0
TIMEOUT_S = 30.0
LONGEST_RETRY_S = 600.0  # of a bundle by network: it is fetched whole each time
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.anomaly")


@dataclass(frozen=True)
class Loaded:
    """A bundle that passed everything, in a session of its own."""

    bundle: Bundle
    session: Session


@dataclass(frozen=True)
class Change:
    """What a role's pointer now names: a loaded bundle, nothing (a challenger that was withdrawn), or a refusal with its reason."""

    role: Role
    loaded: Loaded | None
    hash: str = ""
    refused: str = ""


class _NotWholeError(UnreachableError):
    """A bundle is there, but not what the pointer names: perhaps a copy that is still under way."""


@dataclass
class _Missed:
    """A bundle that could not be had whole: the file as it was then, when to try again, and what was said of it."""

    stamp: tuple[int, int, int] | None = None
    tries: int = 0
    not_before: float = 0.0
    told: str = ""


Open = Callable[[Bundle], Session]


class Release:
    """Watches `champion.json` and `challenger.json` in a thread; the monitor takes what changed between two records, by `take`."""

    def __init__(self, where: str, keep: Path, open_: Open, key: Path | None = None, every_s: float = POLL_S) -> None:
        """`keep`: a folder for the last good bundle and what was refused. `open_`: how a session is opened on this machine."""
        self.where = where.rstrip("/")
        self._keep = keep
        self._open = open_
        self._key = key
        self._every_s = every_s
        self._clock: Callable[[], float] = time.monotonic
        self._current: dict[Role, str] = {}
        self._schema: InputSchema | None = None
        self._refused = _read_refused(keep / "refused.json")
        self._missed: dict[str, _Missed] = {}  # bundles that could not be had whole, by the hash that was asked for
        self._taken_back = dict(self._refused)  # of the refused, those that failed in use
        self.challenger: Loaded | None = None
        self.before: Loaded | None = None  # the last good bundle, while the champion has not proved itself
        self.trouble = ""  # why the release itself cannot be read at the moment
        self._changes: queue.Queue[Change] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="release", daemon=True)

    @property
    def remote(self) -> bool:
        return _is_url(self.where)

    def first(self) -> tuple[Loaded, str]:
        """The champion, or the last good bundle where the champion cannot be used, with the reason why not ("" for the champion).

        Raises BundleError when there is neither.
        """
        try:
            pointer = self._pointer("champion")
            self._check_not_refused(pointer)
            loaded, why = self._load(pointer), ""
        except (AnomalyError, OSError) as error:
            loaded, why = self._last_good(error), in_words(error)
        self._current["champion"] = loaded.bundle.hash
        self._schema = loaded.bundle.manifest.input
        self.before = None if why else self._unproven(loaded)
        if self.before is None:
            self._keep_good(loaded.bundle)
        self._thread.start()
        return loaded, why

    def _check_not_refused(self, pointer: dict[str, Any] | None) -> None:
        """Raise BundleError for a champion that this machine took back."""
        wanted = str((pointer or {}).get("hash", ""))
        if wanted in self._refused:
            raise BundleError(
                f"{self.where}: its champion {wanted[:12]} was taken back here ({self._refused[wanted]}); publish another, "
                f"or delete {self._keep / 'refused.json'} to try it again"
            )

    def _unproven(self, champion: Loaded) -> Loaded | None:
        """The last good bundle, where the champion is another that takes the same input: it is on probation still, or again."""
        try:
            good = self._last_good(BundleError("none is kept"))
            check_same_input(champion.bundle.manifest.input, good.bundle)
        except AnomalyError:
            return None
        return None if good.bundle.hash == champion.bundle.hash else good

    def take(self) -> list[Change]:
        """What has changed since, ready to be used."""
        found = []
        while True:
            try:
                found.append(self._changes.get_nowait())
            except queue.Empty:
                return found

    def confirm(self, bundle: Bundle) -> None:
        """A champion has proved itself: it is the last good one now."""
        self.before = None
        self._keep_good(bundle)

    def refuse(self, bundle_hash: str, back_to: str, why: str = "") -> None:
        """A champion failed in use: its hash is never loaded again, and the one before is current."""
        self._refused[bundle_hash] = why or "it failed in use"
        self._taken_back[bundle_hash] = self._refused[bundle_hash]
        self.before = None
        write_text(self._keep / "refused.json", json.dumps(self._taken_back, sort_keys=True))
        self._current["champion"] = back_to

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def look(self) -> None:
        """One look at the pointers. Never raises: what is wrong becomes a refusal, reported once, or `trouble` of the release itself."""
        roles: tuple[Role, ...] = ("champion", "challenger")
        trouble = ""
        for role in roles:
            try:
                pointer = self._pointer(role)
            except Exception as error:  # unreachable or half-written: the next look will show
                trouble = trouble or in_words(error)
                continue
            if pointer is not None:
                self._take_up(role, pointer)
            elif role == "challenger" and self._current.pop(role, ""):
                self.challenger = None
                self._changes.put(Change(role, None))
        self.trouble = trouble

    def _take_up(self, role: Role, pointer: dict[str, Any]) -> None:
        """Load what a pointer names, where that is new."""
        wanted = str(pointer["hash"])
        missed = self._missed.get(wanted)
        if wanted == self._current.get(role) or wanted in self._refused or (missed is not None and not self._try_again(pointer, missed)):
            return
        try:
            loaded = self._load(pointer)
            self._current[role] = wanted
            self._missed.pop(wanted, None)
            if role == "challenger":
                self.challenger = loaded
            self._changes.put(Change(role, loaded, wanted))
        except (UnreachableError, OSError) as error:  # a network that drops, a full disk, half a copy: no fault of the bundle
            missed = missed or _Missed()
            missed.stamp, missed.tries = self._stamp(pointer), missed.tries + 1
            wait_s = backoff_s(missed.tries, 1.0, self._every_s, LONGEST_RETRY_S) if isinstance(error, _NotWholeError) else 0.0
            missed.not_before = self._clock() + wait_s
            why = self._told(error)
            if missed.told != why:
                self._changes.put(Change(role, None, wanted, f"{why}; tried again"))
            missed.told = why
            self._missed[wanted] = missed
        except Exception as error:  # whatever a bad bundle causes must not end the watch
            self._refused[wanted] = self._told(error)
            self._changes.put(Change(role, None, wanted, self._refused[wanted]))

    def _told(self, error: Exception) -> str:
        """An error as events and the page have it: a file of the release by its name, for the place is nobody's business there."""
        return in_words(error).replace(f"{self.where}{os.sep}", "").replace(f"{self._keep / 'fetched'}{os.sep}", "")

    def _try_again(self, pointer: dict[str, Any], missed: _Missed) -> bool:
        """Whether a bundle that could not be had may be there now: a file that has changed; by network, after a while."""
        return self._clock() >= missed.not_before if self.remote else self._stamp(pointer) != missed.stamp

    def _stamp(self, pointer: dict[str, Any]) -> tuple[int, int, int] | None:
        """By what a file is known to have changed, None where none is there."""
        try:
            found = (Path(self.where) / pointer["bundle"]).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.look()
            except Exception as error:  # the watch goes on whatever a look stumbled over
                self.trouble = in_words(error)

    def _pointer(self, role: Role) -> dict[str, Any] | None:
        """A role's pointer, None when the release has none. Raises BundleError when it cannot be read."""
        raw = self._get(f"{role}.json", 1 << 16)
        if raw is None:
            if role == "champion":
                raise BundleError(f"{self.where}: no champion.json in it; publish a bundle there first")
            return None
        try:
            pointer = json.loads(raw)
            if not _NAME.fullmatch(pointer["bundle"]) or not re.fullmatch(r"[0-9a-f]{64}", pointer["hash"]):
                raise ValueError("its bundle is not a file name, or its hash not a SHA-256")
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{self.where}/{role}.json: not a pointer to a bundle ({error})") from error
        return dict(pointer)

    def _load(self, pointer: dict[str, Any] | None) -> Loaded:
        assert pointer is not None
        path = self._fetch(pointer["bundle"]) if self.remote else Path(self.where) / pointer["bundle"]
        if not path.is_file():
            raise UnreachableError(f"{path}: not there, though the pointer names it")
        try:
            bundle = read_bundle(path, self._key)
        except BundleError as error:  # a copy that is still under way, perhaps
            raise _NotWholeError(*error.args) from error
        if bundle.hash != pointer["hash"]:
            raise _NotWholeError(f"{path}: its hash is {bundle.hash[:12]}, the pointer says {pointer['hash'][:12]}; publish it again")
        if self._schema is not None:
            check_same_input(self._schema, bundle)
        session = self._open(bundle)
        self_test(bundle, session)
        return Loaded(bundle, session)

    def _get(self, name: str, most: int) -> bytes | None:
        """A file of the release, None when it is not there. Raises BundleError when it cannot be had or is too large."""
        if not self.remote:
            path = Path(self.where) / name
            try:
                if path.stat().st_size > most:
                    raise BundleError(f"{path}: larger than {most} bytes; refused")
                return path.read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise UnreachableError(f"{path}: cannot be read ({error})") from error
        import httpx

        try:
            with httpx.stream("GET", f"{self.where}/{name}", timeout=TIMEOUT_S, follow_redirects=False) as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    return None
                answer.raise_for_status()
                parts, size = [], 0
                for part in answer.iter_bytes():
                    size += len(part)
                    if size > most:
                        raise BundleError(f"{self.where}/{name}: larger than {most} bytes; refused")
                    parts.append(part)
                return b"".join(parts)
        except httpx.HTTPError as error:
            raise UnreachableError(f"{self.where}/{name}: cannot be fetched ({error or type(error).__name__})") from error

    def _fetch(self, name: str) -> Path:
        raw = self._get(name, MAX_BYTES)
        if raw is None:
            raise UnreachableError(f"{self.where}/{name}: not there, though the pointer names it")
        path = self._keep / "fetched" / name
        with replacing(path) as part:
            part.write_bytes(raw)
        return path

    def _keep_good(self, bundle: Bundle) -> None:
        """Keep a copy of a good bundle, and no other file of the release. Where it cannot be copied, the copy before stays."""
        target = self._keep / f"good-{bundle.hash[:16]}.anomaly"
        if not target.exists():
            try:
                content = bundle.path.read_bytes()
            except OSError:  # taken away since it was loaded
                return
            with replacing(target) as part:
                part.write_bytes(content)
        for fetched in (self._keep / "fetched").glob("*"):
            if fetched != bundle.path:
                fetched.unlink(missing_ok=True)
        write_text(self._keep / "last-good.json", json.dumps({"bundle": target.name, "hash": bundle.hash}))
        for old in self._keep.glob("good-*.anomaly"):
            if old != target:
                old.unlink(missing_ok=True)

    def _last_good(self, why: Exception) -> Loaded:
        try:
            pointer = json.loads((self._keep / "last-good.json").read_text(encoding="utf-8"))
            bundle = read_bundle(self._keep / pointer["bundle"], self._key)
        except (OSError, ValueError, KeyError, BundleError):
            raise why from None
        if bundle.hash != pointer["hash"]:
            raise why
        session = self._open(bundle)
        self_test(bundle, session)
        return Loaded(bundle, session)


def open_detector(where: str, keep: Path, open_: Open) -> tuple[Loaded, Release | None, str]:
    """(detector, release that is followed, why it is not the release's champion) from a bundle's path, or a release folder or URL.

    `keep`: a folder for the last good bundles of releases. The reason is "" but where the last good bundle has to do, also for a release
    folder that is gone.

    Raises BundleError when the bundle cannot be verified, or fails its self-test here.
    """
    own = keep / short_name(where if _is_url(where) else str(Path(where).resolve()))  # what one release leaves is no use to another
    if _is_url(where) or Path(where).is_dir() or (own.is_dir() and not Path(where).exists()):
        release = Release(where, own, open_)
        loaded, why = release.first()
        return loaded, release, why
    bundle = read_bundle(Path(where))
    session = open_(bundle)
    self_test(bundle, session)
    return Loaded(bundle, session), None, ""


def short_name(text: str) -> str:
    """A name for a folder, the same for the same text.

    >>> short_name("press 3/left")
    'bb900d5a3d67cca5'
    """
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _is_url(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def name_of(bundle: Bundle) -> str:
    """NAME-VERSION."""
    return f"{bundle.manifest.name}-{bundle.manifest.version}"


def check_same_input(schema: InputSchema, bundle: Bundle) -> None:
    """Raise BundleError unless a bundle takes the same records that a running line reads."""
    theirs = bundle.manifest.input
    differ = schema.differs_from(theirs)
    if differ:
        found = f"window of {theirs.window} rows in place of {schema.window}: [input] window = {schema.window} in its spec keeps it; "
        raise BundleError(
            f"{bundle.path}: takes another input ({', '.join(differ)} differ); {found if differ == ['window'] else ''}"
            "stop the monitor and start it with this bundle"
        )


def _read_refused(path: Path) -> dict[str, str]:
    """Hash -> why it was taken back. Version 0.8.0 kept the hashes alone."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = found if isinstance(found, dict) else dict.fromkeys(found, "it failed in use") if isinstance(found, list) else {}
    return {str(key): str(why) for key, why in known.items()}
