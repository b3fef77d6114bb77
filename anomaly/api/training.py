"""`anomaly.fit`: the same steps as `anomaly fit`, from data that is in files or in memory. PyTorch is imported when it is called."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from anomaly.api.detector import Detector
from anomaly.api.given import FRAME, Given, Where, is_path, named_frame, pictures_of, taken, write_frame, write_pictures
from anomaly.atomic import copy_file
from anomaly.bundle.archive import read_bundle
from anomaly.cli.terminal.console import err
from anomaly.cli.terminal.progress import Bar, Lines
from anomaly.cli.training.inputs import check_fits, open_steps, read_inputs, with_faults
from anomaly.edge.runtime.session import open_session
from anomaly.errors import DataError, SpecError, UnclearError
from anomaly.pipeline.propose import Answers, propose, read_budget
from anomaly.progress import Course, Part, Progress, silent
from anomaly.spec import Budget, CameraSpec, SensorSpec

Spec = CameraSpec | SensorSpec
NEEDED = ("torch", "sklearn", "scipy", "onnx")  # of the training side


def fit(
    data: Given,
    *,
    spec: Where | Spec | None = None,
    name: str | None = None,
    budget: float | str | Budget | None = None,
    faults: Where | None = None,
    work: Where | None = None,
    progress: Progress | bool | None = None,
    quick: bool = False,
) -> Detector:
    """Fit a detector on normal records.

    `data`: a folder of pictures of good parts, a list of pictures (CSV) or an array of them; or a table of normal readings, a folder of
    tables, or a DataFrame with an index of times and a column a sensor. As with `anomaly fit`, labelled faults in a `test` folder or file
    are judged by and never learnt from.

    spec      a spec (TOML file, or one from `anomaly.spec`); proposed from the data when None
    name      of the line, as people say it, in place of the spec's
    budget    the share of normal records that may be flagged: 0.01 or "1 in 100"; for readings also "2 a day". In place of the spec's
    faults    a few labelled faults to learn from: pictures in folders by kind, or tables
    work      a folder for intermediate results: the same call again then learns nothing anew. A temporary one when None
    progress  True shows a bar (lines where there is no terminal); or a function to call with what is done now
    quick     leave out the fp16 and int8 variants of a picture detector, which only make it run faster

    What was found wrong in the data is a warning, and in `Detector.notes`, with what was assumed of its times: an index without a zone is
    taken as UTC (`data.tz_localize("Europe/Berlin")` says it otherwise). The same data, spec and version give the same bundle, here and
    in the shell. Raises DataError, SpecError, and whatever else of
    `anomaly.errors` tells what is wrong, before anything slow where it can be told by then.

    >>> rng, seconds = np.random.default_rng(0), pd.date_range("2026-01-01", periods=600, freq="s")
    >>> normal = pd.DataFrame(rng.normal(size=(600, 2)), index=seconds, columns=["flow", "pressure"])
    >>> detector = fit(normal, name="Pump 7", budget="1 in 50")
    >>> detector.sensors, detector.threshold.p_value
    (['flow', 'pressure'], 0.02)
    >>> new = normal.copy()
    >>> new.loc[seconds[300]:seconds[400], "pressure"] += 5  # a fault
    >>> scores = detector.score(new)
    >>> bool(scores["flagged"][seconds[330]:seconds[400]].all()), set(scores["top_sensor"][seconds[330]:seconds[400]])
    (True, {'pressure'})
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(f"anomaly.fit needs {' and '.join(missing)}; run: pip install 'anomaly-pipeline[train]'", name=missing[0])
    data = taken(data)
    with ExitStack() as stack:
        folder = Path(work) if work is not None else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anomaly-")))
        path = Path(data) if is_path(data) else _written(data, folder)  # type: ignore[arg-type]
        if isinstance(data, pd.DataFrame):
            stack.enter_context(named_frame(path))
        elif spec is None:
            stack.enter_context(_how_to_say_it(path))
        budget = None if budget is None else budget if isinstance(budget, Budget) else read_budget(budget)
        say = stack.enter_context(_shown(progress))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="IProgress not found")  # by a library that timm loads, in notebooks without ipywidgets
        assumed: tuple[str, ...] = ()
        if spec is None:
            say("looking at the data")
            proposal = propose(path, Answers(name if name or is_path(data) else _plain_name(path), budget))
            for line in proposal.words:
                say(line)
            asked, path, assumed = proposal.spec, proposal.data, proposal.times
        else:
            asked = _changed(_read(spec, path), name, budget)
        asked = with_faults(asked, None if faults is None else Path(faults))
        steps = open_steps(asked, path, folder, say, quick=quick)
        fitted = steps.export()
        notes = [note.replace(str(path), "the DataFrame") if isinstance(data, pd.DataFrame) else note for note in steps.line.notes()]
        rejected = list(steps.fit_report().get("rejected", {}).values())
        kept = tempfile.TemporaryDirectory(prefix="anomaly-") if work is None else None
        if kept is not None:
            copied = Path(kept.name) / fitted.name
            copy_file(fitted, copied)
            fitted = copied
        bundle = read_bundle(fitted)
    trouble = [*rejected, *(notes if asked.kind == "sensor" else [])]  # of pictures the notes tell how they are read
    if trouble:
        warnings.warn(f"{trouble[0]}{f' (and {len(trouble) - 1} more: detector.notes)' if trouble[1:] else ''}", UserWarning, stacklevel=2)
    return Detector(bundle, open_session(bundle), kept, [*rejected, *notes, *assumed])


@contextmanager
def _how_to_say_it(path: Path) -> Iterator[None]:
    """Where a file can be read in two ways, the error says how to tell which, since no spec was given."""
    try:
        yield
    except UnclearError as error:
        command = shlex.join(["anomaly", "init", str(path)])
        raise DataError(*error.args, f"`{command}` in a shell writes a spec to say it in; then anomaly.fit(..., spec=that file)") from error


def _plain_name(path: Path) -> str:
    """What a detector of data in memory is called."""
    return "readings" if path.name == FRAME else "pictures"


def _written(data: Given, folder: Path) -> Path:
    """Data in memory as files below `folder`, in a place named by their content."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(data, pd.DataFrame):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".data-") as writing:
            path = Path(writing) / FRAME
            write_frame(data, path)
            return _placed(path, folder, hashlib.sha256(path.read_bytes()).hexdigest())
    if not isinstance(data, np.ndarray) and len(data) and all(map(is_path, data)):  # type: ignore[arg-type]
        raise DataError("a list of files was given; give the folder that holds them, or a list of pictures (CSV: image, split, label)")
    pictures, digest = pictures_of(data), hashlib.sha256()  # type: ignore[arg-type]
    for picture in pictures:
        digest.update(f"{picture.shape}{picture.dtype}".encode() + np.ascontiguousarray(picture).tobytes())
    with tempfile.TemporaryDirectory(dir=folder, prefix=".data-") as writing:
        write_pictures(pictures, Path(writing) / "pictures")
        return _placed(Path(writing) / "pictures", folder, digest.hexdigest())


def _placed(path: Path, folder: Path, digest: str) -> Path:
    """What was written, in its own place; there already when the same data was given before."""
    place = folder / f"data-{digest[:16]}" / path.name
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    return place


def _read(spec: Where | Spec, data: Path) -> Spec:
    """The spec that is given, checked against the data."""
    if not isinstance(spec, (CameraSpec, SensorSpec)):
        return read_inputs(Path(spec), data)
    check_fits(data, spec.kind)
    return spec


def _changed(spec: Spec, name: str | None, budget: Budget | None) -> Spec:
    """The spec with this name and budget. Raises SpecError for a name that cannot be."""
    changes = ({} if name is None else {"name": name}) | ({} if budget is None else {"budget": budget.model_dump()})
    try:
        return type(spec).model_validate(spec.model_dump() | changes) if changes else spec
    except ValidationError as error:
        raise SpecError(*(f"{item['loc'][0]}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors())) from error


@contextmanager
def _shown(progress: Progress | bool | None) -> Iterator[Progress]:
    """What the work tells its progress to."""
    if progress is not True:
        yield progress or silent
        return
    course = Course()
    on_terminal = err.is_terminal and not err.is_dumb_terminal
    with Bar("fit", course, err) if on_terminal else Lines("fit", course, err.print):
        yield Part(course)
