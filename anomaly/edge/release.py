"""A release folder or URL: which bundle is the champion, which the challenger; verified and tested before either is used.

A bundle that cannot be verified, or fails its self-test, is refused for good. One that cannot be fetched is reported once and tried
again. Either way the bundle in use stays in use. The last good one is kept on this machine, for a start without the network.
"""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anomaly.atomic import replacing, write_text
from anomaly.bundle.archive import MAX_BYTES, Bundle, read_bundle
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import Session
from anomaly.errors import AnomalyError, BundleError, UnreachableError
from anomaly.schema import InputSchema

Role = Literal["champion", "challenger"]
POLL_S = 5.0
TIMEOUT_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.anomaly")
# Of the input, for a swap while running.
_SAME = ("name", "dtype", "channels", "significant_bits", "window", "context", "period_s", "mode_column")


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
        self._current: dict[Role, str] = {}
        self._schema: InputSchema | None = None
        self._refused = set(_read_list(keep / "refused.json"))
        self._missed = ""  # the hash that could not be fetched at the last look
        self._changes: queue.Queue[Change] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="release", daemon=True)

    @property
    def remote(self) -> bool:
        return self.where.startswith(("http://", "https://"))

    def first(self) -> tuple[Loaded, str]:
        """The champion, or the last good bundle where the champion cannot be used, with the reason why not ("" for the champion).

        Raises BundleError when there is neither.
        """
        try:
            loaded, why = self._load(self._pointer("champion")), ""
        except AnomalyError as error:
            loaded, why = self._last_good(error), str(error)
        self._current["champion"] = loaded.bundle.hash
        self._schema = loaded.bundle.manifest.input
        self._keep_good(loaded.bundle)
        self._thread.start()
        return loaded, why

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
        self._keep_good(bundle)

    def refuse(self, bundle_hash: str, back_to: str) -> None:
        """A champion failed in use: its hash is never loaded again, and the one before is current."""
        self._refused.add(bundle_hash)
        write_text(self._keep / "refused.json", json.dumps(sorted(self._refused)))
        self._current["champion"] = back_to

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def look(self) -> None:
        """One look at the pointers. Never raises: what is wrong becomes a refusal, reported once."""
        roles: tuple[Role, ...] = ("champion", "challenger")
        for role in roles:
            try:
                pointer = self._pointer(role)
            except AnomalyError:
                continue  # unreachable or half-written: the next look will show
            if pointer is None:
                if role == "challenger" and self._current.pop(role, ""):
                    self._changes.put(Change(role, None))
                continue
            wanted = str(pointer["hash"])
            if wanted == self._current.get(role) or wanted in self._refused:
                continue
            try:
                loaded = self._load(pointer)
                self._current[role] = wanted
                self._changes.put(Change(role, loaded, wanted))
            except (UnreachableError, OSError) as error:  # a network that drops, a full disk: no fault of the bundle
                if self._missed != wanted:
                    self._changes.put(Change(role, None, wanted, f"{error}; tried again"))
                self._missed = wanted
            except Exception as error:  # whatever a bad bundle causes must not end the watch
                self._refused.add(wanted)
                self._changes.put(Change(role, None, wanted, str(error)))

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()

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
        bundle = read_bundle(path, self._key)
        if bundle.hash != pointer["hash"]:
            raise BundleError(f"{path}: its hash is {bundle.hash[:12]}, the pointer says {pointer['hash'][:12]}; publish it again")
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

    def _last_good(self, why: AnomalyError) -> Loaded:
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

    `keep`: a folder for the last good bundle of a release. The reason is "" but where the last good bundle has to do.

    Raises BundleError when the bundle cannot be verified, or fails its self-test here.
    """
    if where.startswith(("http://", "https://")) or Path(where).is_dir():
        release = Release(where, keep, open_)
        loaded, why = release.first()
        return loaded, release, why
    bundle = read_bundle(Path(where))
    session = open_(bundle)
    self_test(bundle, session)
    return Loaded(bundle, session), None, ""


def name_of(bundle: Bundle) -> str:
    """NAME-VERSION."""
    return f"{bundle.manifest.name}-{bundle.manifest.version}"


def check_same_input(schema: InputSchema, bundle: Bundle) -> None:
    """Raise BundleError unless a bundle takes the same records that a running line reads."""
    theirs = bundle.manifest.input
    differ = [name for name in _SAME if getattr(schema, name) != getattr(theirs, name)]
    if [s.name for s in schema.sensors] != [s.name for s in theirs.sensors]:
        differ.append("sensors")
    if differ:
        raise BundleError(
            f"{bundle.path}: takes another input ({', '.join(differ)} differ); stop the monitor and start it with this bundle"
        )


def _read_list(path: Path) -> list[str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(item) for item in found] if isinstance(found, list) else []
