"""The writing side of a release folder: who is champion, who is challenger, by whose word, and what was before.

A pointer (`champion.json`, `challenger.json`) is written beside and renamed: whoever reads sees the old one or the new one. It carries who
put it there and what it replaced, so that this one rename is all there is to a promotion. `history.jsonl` is the log of it.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from anomaly.atomic import copy_file, write_text
from anomaly.bundle.archive import Bundle, read_bundle, sign_where_set
from anomaly.bundle.manifest import Manifest
from anomaly.errors import BundleError
from anomaly.names import one_line, slug

Role = Literal["champion", "challenger"]
Action = Literal["published", "challenger", "promoted", "rolled back", "withdrawn"]
HISTORY = "history.jsonl"
LOCKED_S = 60.0


@dataclass(frozen=True)
class Entry:
    """One thing that was done to a release folder.

    bundle, hash, name, version: what the pointer names since then; of a withdrawn challenger, what it named
    before: hash of the champion until then, "" for none; of a rollback, the one that was taken back
    by, at, why: who did it, when (UTC), and the reason given
    """

    action: Action
    bundle: str
    hash: str
    name: str
    version: str
    by: str = ""
    at: str = ""
    why: str = ""
    before: str = ""

    def in_words(self) -> str:
        """As a line for people."""
        what = {
            "published": "is the champion",
            "challenger": "is the challenger",
            "promoted": "was promoted to champion",
            "rolled back": "is the champion again, by a rollback",
            "withdrawn": "is the challenger no more",
        }[self.action]
        over = f" from {self.before[:12]}" if self.action == "rolled back" else ""
        why = f": {self.why}" if self.why else ""
        return one_line(f"{self.at}  {self.name}-{self.version} ({self.hash[:12]}) {what}{over}, by {self.by or 'nobody named'}{why}")


@dataclass
class ReleaseFolder:
    """A release folder on a disk. `clock`: seconds since 1970."""

    where: Path
    clock: Callable[[], float] = field(default=time.time, repr=False)

    def publish(self, source: Path, *, role: Role = "champion", by: str = "", why: str = "") -> Path:
        """Copy a bundle into the folder and point at it. The champion that is there already stays as it is, with the word it was put by.

        One that has been champion before stays out of use where another was promoted over it, and so does a challenger that was withdrawn:
        a schedule that fits the same data again must not undo what a person decided. Raises BundleError for one that was rolled back here,
        and for a challenger of other records than the champion's. Promote one by name to have it all the same.
        """
        bundle = read_bundle(source)
        self.where.mkdir(parents=True, exist_ok=True)
        target = self.where / f"{slug(bundle.manifest.name)}-{bundle.manifest.version}-{bundle.hash[:12]}.anomaly"
        with self._locked():
            if role == "challenger":
                self._check_comparable(bundle, target.name)
            taken = self._taken_back().get(bundle.hash)
            if taken is not None:
                raise BundleError(
                    f"{target.name}: was rolled back here {taken.at} by {taken.by or 'nobody named'}"
                    f"{f' ({taken.why})' if taken.why else ''}; fit another, or take it all the same by: "
                    f"anomaly release promote {self.where} --bundle {target.name}"
                )
            if not target.exists():
                copy_file(source, target)
            sign_where_set(target)
            entry = Entry(
                "published" if role == "champion" else "challenger", target.name, bundle.hash, bundle.manifest.name, bundle.manifest.version
            )
            there = bundle.hash in (self._hash(role), self._hash("champion"))
            decided = self._passed_over(bundle.hash) if role == "champion" else self._withdrawn(bundle.hash)
            if not there and not decided:
                self._point(role, entry, by, why)
        return target

    def promote(self, by: str, why: str = "", bundle: str | None = None, expected: str | None = None) -> Entry:
        """The challenger becomes champion, or the bundle of this file name in the folder. Verified first.

        `expected`: the hash that was approved. Raises BundleError when there is none, it is another or broken, or is the champion already.
        """
        with self._locked():
            pointer = self._pointer("challenger") if bundle is None else {"bundle": Path(bundle).name}
            if pointer is None:
                raise BundleError(f"{self.where}: no challenger.json in it; publish a challenger first")
            opened = read_bundle(self.where / pointer["bundle"])
            manifest = opened.manifest
            for wanted in (pointer.get("hash"), expected):
                if wanted is not None and wanted != opened.hash:
                    raise BundleError(
                        f"{opened.path}: its hash is {opened.hash[:12]}, not {wanted[:12]} that was asked for; nothing was promoted"
                    )
            if opened.hash == self._hash("champion"):
                raise BundleError(f"{self.where}: {opened.path.name} is the champion already")
            self._check_same_input(manifest, opened.path)
            return self._point("champion", Entry("promoted", opened.path.name, opened.hash, manifest.name, manifest.version), by, why)

    def rollback(self, by: str, why: str = "", of: str | None = None) -> Entry:
        """The champion before becomes champion again. `of`: hash of the champion that is meant; with another in use nothing is done.

        Raises BundleError when there is none before it, or it is no longer in the folder.
        """
        with self._locked():
            now = self._hash("champion")
            if of is not None and of != now:
                raise BundleError(f"{self.where}: its champion is {now[:12] or 'none'}, not {of[:12]}; nothing was rolled back")
            before = self._before(now)
            if before is None:
                raise BundleError(f"{self.where}: no champion before {now[:12] or 'this'} is known, so there is none to go back to")
            opened = read_bundle(self.where / before.bundle)
            if opened.hash != before.hash:
                raise BundleError(f"{opened.path}: its hash is {opened.hash[:12]}, not {before.hash[:12]}; nothing was rolled back")
            return self._point("champion", Entry("rolled back", before.bundle, before.hash, before.name, before.version), by, why)

    def withdraw(self, by: str, why: str = "") -> Entry | None:
        """No challenger any more; None where there was none."""
        with self._locked():
            pointer = self._pointer("challenger")
            if pointer is None:
                return None
            entry = Entry("withdrawn", *(str(pointer.get(key, "")) for key in ("bundle", "hash", "name", "version")))
            (self.where / "challenger.json").unlink()
            return self._log(self._signed(entry, by, why))

    def pointed(self, role: Role) -> Path | None:
        """The bundle that a role's pointer names, None without one."""
        standing = self.standing(role)
        return None if standing is None else standing[0]

    def standing(self, role: Role) -> tuple[Path, str] | None:
        """(the bundle that a role's pointer names, its hash), None without one."""
        pointer = self._pointer(role)
        return None if pointer is None else (self.where / pointer["bundle"], pointer["hash"])

    def history(self) -> list[Entry]:
        """What was done, the oldest first. A pointer that no log tells of (an older version's, or a run that was killed) is the last."""
        found = []
        self._check_there()
        path = self.where / HISTORY
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        for number, line in enumerate(lines, start=1):
            try:
                entry = Entry(**json.loads(line))
                if entry.action not in get_args(Action) or not all(isinstance(value, str) for value in vars(entry).values()):
                    raise ValueError(f"action {entry.action!r}, hash {entry.hash!r}")
            except (ValueError, TypeError) as error:
                why = f"not an entry of a release's history ({error}); delete this line or correct it, and keep the others"
                raise BundleError(f"{path}, line {number}: {why}") from error
            found.append(entry)
        pointer = self._pointer("champion")
        if pointer is not None and pointer["hash"] != next((one.hash for one in reversed(found) if one.action in _CHAMPION), ""):
            found.append(_entry(pointer))
        return found

    # --- parts ---

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time. Raises BundleError when there is no such folder, or another holds it for long."""
        self._check_there()
        try:
            with FileLock(self.where / ".lock", timeout=LOCKED_S):
                yield
        except Timeout as error:
            raise BundleError(f"{self.where}: another has been writing to it for {LOCKED_S:.0f} s; try again later") from error

    def _check_there(self) -> None:
        if not self.where.is_dir():
            raise BundleError(f"{self.where}: no such folder; name the release folder that bundles are published to, on this machine")

    def _pointer(self, role: Role) -> dict[str, Any] | None:
        path = self.where / f"{role}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {**found, "bundle": Path(str(found["bundle"])).name, "hash": str(found["hash"])}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{path}: not a pointer to a bundle ({error}); delete it, then `anomaly release promote {self.where} --bundle FILE`"
            ) from error

    def _hash(self, role: Role) -> str:
        return str((self._pointer(role) or {}).get("hash", ""))

    def _point(self, role: Role, entry: Entry, by: str, why: str) -> Entry:
        """The one rename, then the log of it. A challenger that is the champion now is let go: it would be compared with itself."""
        past = self.history()  # before the rename: what an older version left is logged, too
        self._catch_up(past)
        done = self._signed(entry, by, why)
        told = asdict(done)
        write_text(self.where / f"{role}.json", json.dumps({key: value for key, value in told.items() if value}, indent=1) + "\n")
        if role == "champion" and self._hash("challenger") == entry.hash:
            (self.where / "challenger.json").unlink()
        return self._log(done)

    def _signed(self, entry: Entry, by: str, why: str) -> Entry:
        at = datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = asdict(entry) | {"by": one_line(by or someone()), "at": at, "why": one_line(why), "before": self._hash("champion")}
        return Entry(**told)

    def _log(self, entry: Entry) -> Entry:
        self._catch_up([*self._logged(), entry])
        return entry

    def _logged(self) -> list[Entry]:
        path = self.where / HISTORY
        return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def _catch_up(self, entries: list[Entry]) -> None:
        if entries != self._logged():
            write_text(self.where / HISTORY, "".join(json.dumps(asdict(one), sort_keys=True) + "\n" for one in entries))

    def _before(self, champion: str) -> Entry | None:
        """What was champion before it first was, and was not itself taken back."""
        taken = self._taken_back()
        stack: list[Entry] = []
        for entry in self.history():
            if entry.action in ("published", "promoted") and entry.hash not in [one.hash for one in stack[-1:]]:
                stack.append(entry)
            elif entry.action == "rolled back":
                while stack and stack[-1].hash != entry.hash:
                    stack.pop()
                stack = stack or [entry]
        return next((one for one in reversed(stack) if one.hash != champion and one.hash not in taken), None)

    def _check_same_input(self, manifest: Manifest, path: Path) -> None:
        """Raise BundleError for a bundle that takes other records than the champion: pictures for readings, or the other way round."""
        now = self.pointed("champion")
        if now is None or not now.is_file():
            return
        champion = read_bundle(now).manifest
        if champion.input.name != manifest.input.name:
            raise BundleError(
                f"{path}: a {manifest.kind} detector ({manifest.name}), and the champion of {self.where} is a {champion.kind} detector "
                f"({champion.name}); a release folder is for one line"
            )

    def _check_comparable(self, bundle: Bundle, name: str) -> None:
        """Raise BundleError for a challenger of other records than the champion's, such as one of another line."""
        champion = self.pointed("champion")
        if champion is None:
            return
        try:
            manifest = read_bundle(champion).manifest
        except BundleError:  # a challenger may be what mends it
            return
        differ = manifest.input.differs_from(bundle.manifest.input)
        if differ:
            raise BundleError(
                f"{name}: takes other records than the champion {manifest.name}-{manifest.version} ({', '.join(differ)} differ), and "
                "cannot be compared with it; publish it to the folder of its own line, or as champion where the line changes"
            )

    def _passed_over(self, digest: str) -> bool:
        """Whether a bundle has been champion here until another was promoted, which is the champion still."""
        reigns = [entry for entry in self.history() if entry.action in _CHAMPION]
        return bool(reigns) and reigns[-1].action == "promoted" and any(entry.hash == digest for entry in reigns[:-1])

    def _withdrawn(self, digest: str) -> bool:
        """Whether a bundle was a challenger here and the last that was done with it was to withdraw it."""
        return next((entry.action == "withdrawn" for entry in reversed(self.history()) if entry.hash == digest), False)

    def _taken_back(self) -> dict[str, Entry]:
        """Hash -> the rollback that took it back, of those that no one has put in use since."""
        found: dict[str, Entry] = {}
        for entry in self.history():
            if entry.action == "rolled back" and entry.before:
                found[entry.before] = entry
            if entry.action in _CHAMPION:
                found.pop(entry.hash, None)
        return found


_CHAMPION = ("published", "promoted", "rolled back")


def _entry(pointer: dict[str, Any]) -> Entry:
    known = {key: str(pointer.get(key, "")) for key in ("bundle", "hash", "name", "version", "by", "at", "why", "before")}
    action = pointer.get("action")
    return Entry(action if action in _CHAMPION else "published", **known)


def someone() -> str:
    """The login name, for what nobody signed by another."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in a container
        return "unknown"
