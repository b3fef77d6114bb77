"""All parts of a plan, on as many processes as asked for. What was done before is passed over; a run may be killed at any moment."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from anomaly.batch.part import Counts, arithmetic_of, counts_of, score_part
from anomaly.batch.plan import LOCK, PICTURES, ROWS, SCORES, Asked, Plan, Taken, plan_in
from anomaly.batch.store import sweep
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.data.tables.files import table_schema
from anomaly.edge.kinds import EdgeKind, kind_of
from anomaly.edge.runtime.files import file_scorer
from anomaly.edge.runtime.session import Provider, open_session
from anomaly.errors import DataError
from anomaly.names import masked
from anomaly.parallel import cores
from anomaly.progress import Progress, part, silent

LOOKED = 0.1  # of the whole, that looking through the sources takes
Scored = Callable[[Sequence[int]], Iterator[Counts]]  # numbers of parts -> what each holds, as they are done


@dataclass(frozen=True)
class Outcome:
    """What a run has come to: over all parts, those of earlier runs included.

    `rows`: records read; `counts`: those scored, flagged and set aside; `refused`: files that could not be used at all, with why.
    """

    scores: Path
    rows: int
    counts: Counts
    parts: int
    done_before: int
    refused: list[str]
    notes: list[str]
    by_sensor: bool

    @property
    def without_window(self) -> int:
        """Rows that no full window ends at, so that they have no score."""
        return self.rows - self.counts.records - self.counts.rejected if self.by_sensor else 0


def run_batch(
    bundle: Path,
    sources: Sequence[Path | str],
    out: Path,
    workers: int | None = None,
    provider: Provider = "auto",
    progress: Progress = silent,
    *,
    shares: bool = False,
    query: str = "",
    one_table: bool = False,
    rows: int = ROWS,
    pictures: int = PICTURES,
    scored: Callable[[partial[Counts]], Scored] | None = None,
) -> Outcome:
    """Score files and folders into `out`, going on where an earlier run was stopped. Raises DataError where that was another run.

    `sources`: files, folders, and addresses in an object store (`s3://bucket/folder`); with `query` (SQL) the one address of a database.
    With `one_table` all Parquet files of the one source are one table, a data set; else each file stands for itself.
    `workers`: processes; as many as cores when None, one where a GPU scores. `rows`, `pictures`: of one part. `scored` is given what scores
    a part by its number, and says where that is done (on a cluster, say); on this machine's processes when None.
    """
    held = read_bundle(bundle)
    session = open_session(held, provider, threads=1)
    kind = kind_of(session.input_name)
    file_scorer(held, kind)  # one that scores no files is told before any work
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        named = [*sources, *filter(None, [query, "as one table" if one_table else ""])]
        asked = Asked(held.hash, [masked(str(source)) for source in named], shares, arithmetic_of(session))
        taken = _taken(sources, query, out, held, kind) if query or one_table else None
        sweep(out)
        for left_over in (out / SCORES).glob(".*.part"):  # half a part of a run that was killed
            left_over.unlink(missing_ok=True)
        plan = plan_in(out, held, asked, session.input_name, (rows, pictures), part(progress, 0.0, LOOKED), taken)
        done = [counts_of(out, plan, number) for number in range(len(plan.parts))]
        left = [number for number, counts in enumerate(done) if counts is None]
        workers = workers or (cores() if session.provider == "cpu" else 1)
        del session
        work = partial(score_part, bundle, out, plan.id, provider)
        how = scored(work) if scored is not None else partial(_here, work, min(workers, len(left)))
        counts = sum((each for each in done if each is not None), Counts())
        say = part(progress, LOOKED, 1.0)
        say(
            f"parts scored, {len(plan.parts) - len(left)} were done before" if len(left) < len(plan.parts) else "parts scored", 0, len(left)
        )
        for number, each in enumerate(how(left), start=1):
            counts += each
            say("parts scored", number, len(left))
        sweep(out)
    return _outcome(out, plan, counts, len(left), kind.by_sensor)


def _taken(sources: Sequence[Path | str], query: str, out: Path, held: Bundle, kind: EdgeKind) -> Taken:
    """What writes the rows of a query, or of a data set, into one file. Raises DataError where they cannot be what the detector takes."""
    from anomaly.batch.data_set import data_set_files, write_data_set
    from anomaly.data.database import write_query

    if len(sources) != 1:
        what = "--query: name one database, by its address or env:NAME" if query else "--one-table: name one folder or s3://BUCKET/FOLDER"
        raise DataError(f"{what}, and nothing else")
    if not kind.by_sensor:
        raise DataError(f"{masked(str(sources[0]))}: this is to give readings, and the detector is for pictures")
    if query:
        return Taken(partial(write_query, str(sources[0]), query))
    schema = table_schema(held.manifest.input)
    sensors = [channel.name for channel in schema.channels]
    columns = [*schema.asked.time, *sensors, *filter(None, [schema.mode_column])] if schema.asked.time else []
    source = str(sources[0])
    return Taken(partial(write_data_set, source, columns, out), partial(data_set_files, source, out))


def _outcome(out: Path, plan: Plan, counts: Counts, worked: int, by_sensor: bool) -> Outcome:
    refused = [file.refused for file in plan.files if file.refused]
    aside = sum(file.aside for file in plan.files)
    total = sum(file.rows + file.aside for file in plan.files)
    counts += Counts(rejected=aside)
    return Outcome(out / SCORES, total, counts, len(plan.parts), len(plan.parts) - worked, refused, plan.notes, by_sensor)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder while the block runs. Raises DataError where another run holds it."""
    try:
        with FileLock(out / LOCK, timeout=0):
            yield
    except Timeout:
        raise DataError(f"{out}: another run scores into this folder; wait until it ends, or name another folder") from None


def _here(work: Callable[[int], Counts], workers: int, numbers: Sequence[int]) -> Iterator[Counts]:
    """The parts on processes of this machine, or in this one where one is enough."""
    if workers <= 1:
        yield from map(work, numbers)
        return
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawned, _begin, (os.getpid(),)) as pool:
        try:
            for future in as_completed([pool.submit(work, number) for number in numbers]):
                yield future.result()
        except BrokenProcessPool:
            words = (
                "a worker was ended from outside (out of memory?); give the same command again, with fewer --workers: it goes on from there"
            )
            raise DataError(words) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(parent: int) -> None:
    """A worker leaves Ctrl-C to the process that started it, and ends when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    with contextlib.suppress(RuntimeError):
        threading.Thread(target=watch, name="parent", daemon=True).start()
