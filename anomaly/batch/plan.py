"""The plan of a run: which files, and how they are cut into parts. It is made once, kept in OUT/plan.json, and followed by every run after.

OUT/plan.json                 the files with size and time of change, the parts
OUT/plan/00003.npy            of table 3: line and time of each row, in time order; before which an hour is left out
OUT/query/rows.parquet        the rows of a query, where a database is scored
OUT/scores/part-00017.parquet
OUT/rejected/part-00017.parquet, file-00003.parquet    what could not be read, with why
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from anomaly.atomic import replacing, write_text
from anomaly.batch.blocks import Block
from anomaly.batch.store import fetched, is_stored, kept, listed
from anomaly.batch.survey import Surveyed, survey
from anomaly.bundle.archive import Bundle
from anomaly.data.tables.files import table_schema
from anomaly.edge.kinds import kind_of
from anomaly.edge.runtime.files import files_in
from anomaly.errors import DataError
from anomaly.names import record_name
from anomaly.progress import Progress, counted, silent
from anomaly.schema import Dialect

PLAN, KEPT, SCORES, REJECTED, LOCK = "plan.json", "plan", "scores", "rejected", ".lock"
QUERY = "query"
ROWS, PICTURES = 200_000, 200  # of one part
FORMAT = 3
SET_ASIDE = pa.schema([("record", pa.string()), ("reason", pa.string())])
Segment = tuple[int, int, int]  # file, first row, row after the last
Stamp = tuple[str, int, int]  # path or address, bytes, when it was changed in ns since 1970: by which a change is known


@dataclass(frozen=True)
class File:
    """A file as it was when the plan was made; `rows` are those of a table that are kept. `refused` says why none of it can be used.

    `path` is the address of one in an object store, which is fetched to be read.
    """

    path: str
    size: int
    changed_ns: int
    rows: int = 1
    aside: int = 0
    refused: str = ""
    period_s: float = 0.0
    max_gap_s: float = 0.0
    dialect: dict[str, Any] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    @property
    def stamp(self) -> Stamp:
        """By which it is known whether it has changed."""
        return self.path, self.size, self.changed_ns

    @contextmanager
    def local(self, out: Path, long: bool = False) -> Iterator[Path]:
        """The file on this disk, as long as the block runs; a `long` one may stay for the next block.

        Raises DataError where it is gone, or another than when the plan was made; of a file on a disk also at the end of the block.
        """
        if is_stored(self.path):
            with (kept if long else fetched)(*self.stamp, out) as copy:
                yield copy
            return
        self._check()
        yield Path(self.path)
        self._check()

    def _check(self) -> None:
        path = Path(self.path)
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}; it was there when the run began") from error
        if (state.st_size, state.st_mtime_ns) != (self.size, self.changed_ns):
            raise DataError(f"{path}: was changed while the run went on; score what does not change any more, into another folder")


@dataclass(frozen=True)
class Asked:
    """What a run is asked for. Another run in the same folder must be asked for the same.

    `sources`: files, folders, addresses in an object store; or a database's address (without its password) and the query.
    """

    bundle: str
    sources: list[str]
    shares: bool
    arithmetic: str


@dataclass(frozen=True)
class Plan:
    """Files and parts. A part is some segments; one of pictures counts a picture as one row.

    `made_of`: the files of a data set, whose rows were written into the one file that is scored.
    """

    asked: Asked
    files: list[File]
    parts: list[list[Segment]]
    notes: list[str]
    made_of: list[Stamp] = field(default_factory=list)

    @cached_property
    def id(self) -> str:
        """SHA-256 of the plan as it is kept; each part carries it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def text(self) -> str:
        """The plan as JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"), ensure_ascii=True)

    def surveyed(self, out: Path, number: int) -> Surveyed:
        """What is known of a table."""
        file = self.files[number]
        rows = np.load(_rows_path(out, number), mmap_mode="r")
        return Surveyed(rows, file.blocks, Dialect(**file.dialect), file.period_s, file.max_gap_s, [], [])


@dataclass(frozen=True)
class Taken:
    """The rows of a database or a data set: what writes them into a file, and the files they are in, where there are any."""

    write: Callable[[Path], object]
    files: Callable[[], list[Stamp]] = list


def plan_in(
    out: Path,
    bundle: Bundle,
    asked: Asked,
    kind: str,
    sizes: tuple[int, int],
    progress: Progress = silent,
    taken: Taken | None = None,
) -> Plan:
    """The plan that is kept in a folder, or a new one. Raises DataError where the run in the folder is another than the one asked for.

    `sizes`: rows, and pictures, of one part of a new plan. `taken` writes the rows of a database or a data set into a file, which is then
    all there is to score; it is written once, so that a run that goes on scores what it began with. Files of a data set must stay as they
    were, as others must.
    """
    made_of = taken.files() if taken is not None else []
    if taken is not None:
        rows = out / QUERY / "rows.parquet"
        if not (out / PLAN).is_file():
            _check_ours(out)
            shutil.rmtree(out / QUERY, ignore_errors=True)
            taken.write(rows)
            _check_files(out, made_of, taken.files())
        files = _on_disk([rows], kind, None)
    else:
        files = _listed(asked.sources, kind, out)
    if (out / PLAN).is_file():
        plan = read_plan(out)
        _check_same(out, plan, asked)
        _check_files(out, [*(file.stamp for file in plan.files), *plan.made_of], [*(file.stamp for file in files), *made_of])
        return plan
    _check_ours(out)
    for folder in (KEPT, REJECTED):
        shutil.rmtree(out / folder, ignore_errors=True)  # of a plan that was not made to its end
    notes: list[str] = []
    if kind_of(kind).by_sensor:
        files = [
            _surveyed(out, number, file, bundle, notes) for number, file in enumerate(counted(files, progress, "tables looked through"))
        ]
    if all(file.refused for file in files):
        raise DataError("nothing can be scored:", *(file.refused for file in files[:5]))
    plan = Plan(asked, files, _cut(files, sizes[0] if kind_of(kind).by_sensor else sizes[1]), notes[:100], made_of)
    write_text(out / PLAN, plan.text)
    return plan


def read_plan(out: Path) -> Plan:
    """The plan of a folder. Raises DataError for one that this version did not write."""
    path = out / PLAN
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop("format") != FORMAT:
            raise DataError(f"{path}: written by another version; score into another folder, or delete {out}")
        files = [File(**{**file, "blocks": [Block(*block) for block in file["blocks"]]}) for file in kept["files"]]
        parts: list[list[Segment]] = [[(file, begin, end) for file, begin, end in part] for part in kept["parts"]]
        made_of: list[Stamp] = [(path, size, changed_ns) for path, size, changed_ns in kept["made_of"]]
        return Plan(Asked(**kept["asked"]), files, parts, kept["notes"], made_of)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a plan ({error}); score into another folder, or delete {out}") from error


def _listed(sources: Sequence[str], kind: str, out: Path) -> list[File]:
    """The files of the sources, each once, in order; without what lies in `out`, which may be a folder in a source."""
    suffixes = kind_of(kind).suffixes
    stored = {found[0]: File(*found) for source in sources if is_stored(source) for found in listed(source, suffixes)}
    paths = [Path(source) for source in sources if not is_stored(source)]
    return [*(_on_disk(paths, kind, out.resolve()) if paths else ()), *stored.values()]


def _on_disk(paths: Sequence[Path], kind: str, ours: Path | None) -> list[File]:
    files: dict[Path, File] = {}
    for path in files_in(paths, kind_of(kind).suffixes):
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}; correct what is to be scored") from error
        one = path.resolve()  # whatever it is called: `data` and `data/../data` hold the same files
        if ours not in one.parents:
            files.setdefault(one, File(str(path), state.st_size, state.st_mtime_ns))
    return list(files.values())


def _check_ours(out: Path) -> None:
    """Raise DataError for a folder that something else lies in."""
    if out.exists() and (
        others := [path.name for path in out.iterdir() if path.name not in (KEPT, QUERY, REJECTED, LOCK) and path.name[0] != "."]
    ):
        raise DataError(f"{out}: holds other files ({', '.join(sorted(others)[:3])}) and no {PLAN}; name a folder that is new or empty")


def _check_same(out: Path, plan: Plan, asked: Asked) -> None:
    """Raise DataError where the folder's run was asked for something else."""
    other, then = _begun(out)
    if plan.asked.bundle != asked.bundle:
        raise DataError(f"{other}with another bundle (hash {plan.asked.bundle[:12]}, now {asked.bundle[:12]}){then}")
    if plan.asked.sources != asked.sources:
        raise DataError(f"{other}on other sources ({', '.join(plan.asked.sources[:3])}){then}")
    if plan.asked.shares != asked.shares:
        raise DataError(f"{other}{'with' if plan.asked.shares else 'without'} --shares{then}")
    if plan.asked.arithmetic != asked.arithmetic:
        raise DataError(f"{other}in other arithmetic ({plan.asked.arithmetic}, now {asked.arithmetic}), which would round otherwise{then}")


def _check_files(out: Path, begun_with: Sequence[Stamp], found_now: Sequence[Stamp]) -> None:
    """Raise DataError where files are new, gone or changed since the folder's run began."""
    before, now = {stamp[0]: stamp for stamp in begun_with}, {stamp[0]: stamp for stamp in found_now}
    words = {
        "new": sorted(now.keys() - before.keys()),
        "gone": sorted(before.keys() - now.keys()),
        "changed": sorted(path for path in before.keys() & now.keys() if before[path] != now[path]),
    }
    found = [f"{len(paths)} {word} ({paths[0]})" for word, paths in words.items() if paths]
    if found:
        other, then = _begun(out)
        raise DataError(f"{other}on other files: {', '.join(found)} since{then}")


def _begun(out: Path) -> tuple[str, str]:
    """How a refusal to go on begins, and how it ends."""
    return f"{out}: was begun ", f"; score into another folder, or delete {out} to begin anew"


def _surveyed(out: Path, number: int, file: File, bundle: Bundle, notes: list[str]) -> File:
    """A table's entry, once it has been gone through; what of it is set aside is left in the folder."""
    name = record_name(file.path)
    try:
        with file.local(out) as path:
            found = survey(path, table_schema(bundle.manifest.input))
    except DataError as error:
        write_rejected(out / REJECTED / f"file-{number:05}.parquet", [(name, str(error))])
        return replace(file, rows=0, aside=0, refused=str(error))
    notes += [note.replace(str(path), file.path) for note in found.notes]
    if found.aside:
        write_rejected(out / REJECTED / f"file-{number:05}.parquet", ((f"{name}:{line}", reason) for line, reason in found.aside))
    with replacing(_rows_path(out, number)) as part, part.open("wb") as stream:
        np.save(stream, found.rows, allow_pickle=False)
    return replace(
        file, rows=len(found.rows), aside=len(found.aside), period_s=found.period_s, max_gap_s=found.max_gap_s,
        dialect=found.dialect.model_dump(), blocks=found.blocks,
    )  # fmt: skip


def _rows_path(out: Path, number: int) -> Path:
    return out / KEPT / f"{number:05}.npy"


def _cut(files: Sequence[File], size: int) -> list[list[Segment]]:
    """Parts of `size` rows, the last of fewer. Small files share a part, large ones are cut.

    >>> _cut([File("a", 0, 0, rows=5), File("b", 0, 0, rows=0), File("c", 0, 0, rows=2)], 3)
    [[(0, 0, 3)], [(0, 3, 5), (2, 0, 1)], [(2, 1, 2)]]
    """
    parts: list[list[Segment]] = []
    room = 0
    for number, file in enumerate(files):
        begin = 0
        while begin < file.rows:
            if not room:
                parts.append([])
                room = size
            end = min(file.rows, begin + room)
            parts[-1].append((number, begin, end))
            room -= end - begin
            begin = end
    return parts


def write_rejected(path: Path, found: Iterable[tuple[str, str]]) -> None:
    """Leave what is set aside, with the reasons."""
    table = pa.Table.from_pylist([{"record": record, "reason": reason} for record, reason in found], SET_ASIDE)
    with replacing(path) as part:
        pyarrow.parquet.write_table(table, part)
