"""A spec by a look at the data and by what a person has answered: every setting with why it is so, and those left out with what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from anomaly.data.clock import span_words
from anomaly.errors import SpecError
from anomaly.names import one_line
from anomaly.pipeline.propose.budget import budget_words, read_budget
from anomaly.pipeline.propose.look import Look, look
from anomaly.schema import LONGEST_NAME, Channel, check_name
from anomaly.spec import SPECS, Budget, CameraInput, SensorInput

if TYPE_CHECKING:
    from anomaly.spec import CameraSpec, SensorSpec

# Names of folders and files that say nothing of the line: the name of the folder above is taken.
NAMELESS = (
    *("good", "ok", "okay", "io", "gut", "gutteile", "normal", "normals", "normale", "train", "training", "test", "input", "tmp", "data"),
    *("images", "image", "img", "imgs", "picture", "pictures", "bilder", "foto", "fotos", "photo", "photos", "daten"),
    *("reading", "readings", "messwerte", "export", "exports"),
)
STEP = 32  # pixels, that sides of an input of the default backbone are a multiple of
LEVEL_ROWS = 30  # of the default window, see anomaly.scorers.sensors.choice
LISTED = 40  # sensors that are written into the spec for editing, at most
USUAL = 0.01  # share of normal records that may be flagged, where nobody says


class Entry(NamedTuple):
    """One line of the spec: a setting, or with `active` False one that is left to the fit and stands there as a comment."""

    section: str
    key: str
    value: Any
    comment: str = ""
    active: bool = True


@dataclass(frozen=True)
class Answers:
    """What no look at the data tells; None takes the default.

    `budget` is a share of normal records, a text such as "1 in 100" or "2 a day", or a Budget. `smallest_mark` is a number of pixels, or
    "3 mm" with `px_per_mm`. `train_rows` is how many first rows of each table are normal running. `reading` are settings of a sensor spec's
    [input] that say how tables are written, such as `time_format`. `most_ms` is what a picture may cost (`max_ms`).
    """

    name: str | None = None
    budget: str | float | Budget | None = None
    smallest_mark: str | float | None = None
    px_per_mm: float | None = None
    train_rows: int | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    most_ms: float | None = None

    def __post_init__(self) -> None:
        """Raise SpecError for a name or a budget that cannot be, before anything is read."""
        if self.budget is not None and not isinstance(self.budget, Budget):
            read_budget(self.budget)
        try:
            _ = self.name is None or check_name(self.name)
        except ValueError as error:
            raise SpecError(f"name {self.name!r}: {error}") from None


@dataclass(frozen=True)
class Proposal:
    """A spec that fits `data` as it is.

    `words` tell a person what was found and assumed, a line each; `times` are those of them that are of times. `entries` are the lines of
    the spec with their comments; `to_toml` writes them, and reading that gives `spec` again.
    """

    spec: CameraSpec | SensorSpec
    data: Path
    words: tuple[str, ...]
    entries: tuple[Entry, ...] = field(repr=False)
    times: tuple[str, ...] = ()


def propose(path: Path, answers: Answers | None = None, seen: Look | None = None) -> Proposal:
    """A spec for the data at a path: a folder of pictures, a list of pictures, a table, or a folder of tables.

    `seen` is a look that was taken already. Raises DataError for data that no detector can be fitted to, SpecError for a bad answer.
    """
    answers = answers or Answers()
    seen = seen or look(path, asked=SensorInput.model_validate(dict(answers.reading)))
    budget = answers.budget if isinstance(answers.budget, Budget) else read_budget(USUAL if answers.budget is None else answers.budget)
    if seen.kind == "camera" and budget.false_alarms_per_day is not None and budget.records_per_day is None:
        raise SpecError(
            "budget: for pictures a number a day says nothing without the pictures a day; write it as a share, such as 1 in 100"
        )
    name = answers.name if answers.name is not None else name_of(path, seen.kind)
    entries = [
        Entry("", "kind", seen.kind, "camera: pictures; sensor: readings"),
        Entry("", "name", name, "shown in alarms and reports"),
        *(_camera(seen, answers) if seen.kind == "camera" else _sensor(seen, answers)),
        *_budget(budget, seen.kind),
        *_alarm(seen),
    ]
    spec = cast("CameraSpec | SensorSpec", _validated(seen.kind, entries))
    return Proposal(spec, seen.data, (*seen.words, *_assumed(spec, seen)), tuple(entries), _of_times(seen))


def name_of(path: Path, kind: str = "line") -> str:
    """A line's name by the path of its data: the last part of it that says something.

    >>> name_of(Path("/plant/line3/train/good")), name_of(Path("/plant/Presse 7/train.csv"))
    ('line3', 'Presse 7')
    """
    full = path.resolve()
    for part in (full.stem if full.suffix and not full.is_dir() else full.name, *(parent.name for parent in full.parents)):
        if part and part.lower() not in NAMELESS:
            return one_line(part)[:LONGEST_NAME].strip()
    return kind


def _camera(seen: Look, answers: Answers) -> list[Entry]:
    mark = answers.smallest_mark
    return [
        Entry("input", "size", "auto", f"pixels looked at, or [high, wide]{_tried(seen, answers.most_ms)}"),
        Entry(
            "input",
            "max_ms",
            answers.most_ms or CameraInput().max_ms,
            "what a picture may cost: ms on two usual cores; bounds the size",
            answers.most_ms is not None,
        ),
        Entry("input", "smallest_mark", 5 if mark is None else mark, 'to be found: pixels of the picture, or "3 mm"', mark is not None),
        Entry("input", "px_per_mm", answers.px_per_mm or 12.0, "pixels that one millimetre takes", answers.px_per_mm is not None),
        Entry("input", "color", "auto", "gray or rgb", active=False),
    ]


def _tried(seen: Look, most_ms: float | None = None) -> str:
    """The sizes of input that a fit chooses among, in words."""
    if not seen.sizes:
        return ""
    from anomaly.pipeline.camera.plan.sizes import in_words, sizes_to_try, usual_size  # brings PyTorch

    sizes = [in_words(size) for size in sizes_to_try(usual_size(seen.sizes), STEP, most_ms or CameraInput().max_ms)]
    return (
        f"; here {sizes[0]}" if len(sizes) == 1 else f"; here {', '.join(sizes[:-1])} or {sizes[-1]}, as large as finding small marks pays"
    )


def _sensor(seen: Look, answers: Answers) -> list[Entry]:
    entries = [Entry("input", "window", "auto", "rows looked at together"), *_written_so(seen)]
    if seen.tables:
        first = seen.tables[0]
        entries[0] = entries[0]._replace(comment=f"rows looked at together: {_window_words(first.period_s)}")
        rows = answers.train_rows or max(len(first.times) // 2, 1)
        entries += [
            Entry("input", "period_s", round_number(first.period_s), "found: seconds between rows", active=False),
            Entry("input", "train_rows", rows, "so many first rows are normal, the others may not be", answers.train_rows is not None),
            *_columns(first.channels),
        ]
    told = {key: list(value) if isinstance(value, tuple) else value for key, value in answers.reading.items()}
    known = [
        entry._replace(value=_alone(told.pop(entry.key)), comment="told, not found", active=True) if entry.key in told else entry
        for entry in entries
    ]
    return [*known[:1], *(Entry("input", key, _alone(value), "told, not found") for key, value in told.items()), *known[1:]]


def _written_so(seen: Look) -> list[Entry]:
    """How the tables are written, as it was found; where it was not, as it may be."""
    if not seen.tables:
        return [
            Entry("input", "time", "time", "the time column", active=False),
            Entry("input", "time_format", "%d.%m.%Y %H:%M:%S", "how times are written", active=False),
            Entry("input", "zone", "Europe/Berlin", "of times that name none; UTC when not given", active=False),
            Entry("input", "decimal", ",", "decimal mark", active=False),
        ]
    dialect, found = seen.tables[0].dialect, "found; set it where that is not right"
    return [
        Entry("input", "time", _alone(list(dialect.time)), found, active=False),
        *([Entry("input", "time_format", _alone(list(dialect.time_format)), found, active=False)] if dialect.time_format else []),
        Entry("input", "zone", dialect.zone or "Europe/Berlin", "of times that name none; UTC when not given", active=False),
    ]


def _alone(value: Any) -> Any:
    """The one item of a list of one; anything else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _columns(channels: Sequence[Channel]) -> list[Entry]:
    if len(channels) > LISTED:
        return []
    sensors = [{"name": c.name} | ({"unit": c.unit} if c.unit else {}) for c in channels]
    return [Entry("input", "sensors", sensors, "found; with low and high what is beyond counts as missing", active=False)]


def _window_words(period_s: float) -> str:
    return f"{LEVEL_ROWS} rows are {span_words(LEVEL_ROWS * period_s)} here; more where readings repeat a shape"


def round_number(value: float) -> float:
    """A found number without the noise of its last digits.

    >>> round_number(0.20000004768371582)
    0.2
    """
    return float(f"{value:.6g}")


def _budget(budget: Budget, kind: str) -> list[Entry]:
    words = budget_words(budget, kind)
    rate = Entry("budget", "false_alarm_rate", budget.false_alarm_rate, words)
    if budget.false_alarms_per_day is not None:
        entries = [Entry("budget", "false_alarms_per_day", budget.false_alarms_per_day, words)]
        return [*entries, Entry("budget", "records_per_day", budget.records_per_day)] if budget.records_per_day is not None else entries
    other = [] if kind == "camera" else [Entry("budget", "false_alarms_per_day", 1.0, "instead of a share", active=False)]
    return [rate, *other]


def _alarm(seen: Look) -> list[Entry]:
    if seen.kind == "camera":
        on, off = 0.0, 30.0
        told = ("one bad part is an alarm", "an alarm is over after so long without a flagged part")
        more = [Entry("alarm", "off_records", 10, "and after so many parts in a row that are not flagged", active=False)]
    else:
        period = seen.tables[0].period_s if seen.tables else 1.0
        on, off = round_number((LEVEL_ROWS // 6 - 1) * period), round_number(3 * LEVEL_ROWS * period)
        known = "" if seen.tables else " (of a row a second; the times could not be read yet)"
        told = (f"flagged for so long before an alarm opens{known}", f"an alarm is over after so long without a flagged row{known}")
        more = []
    return [
        Entry("alarm", "on_delay_s", on, f"chosen by the fit: {told[0]}", active=False),
        Entry("alarm", "off_delay_s", off, f"chosen by the fit: {told[1]}", active=False),
        *more,
    ]


def _validated(kind: str, entries: list[Entry]) -> Any:
    """The spec of the active entries. Raises SpecError naming the key."""
    from pydantic import ValidationError

    raw: dict[str, Any] = {}
    for entry in entries:
        if entry.active:
            (raw.setdefault(entry.section, {}) if entry.section else raw)[entry.key] = entry.value
    try:
        return SPECS[kind].model_validate(raw)
    except ValidationError as error:
        raise SpecError(
            *(f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors())
        ) from error


def _assumed(spec: CameraSpec | SensorSpec, seen: Look) -> list[str]:
    """What was assumed, in words."""
    size = f"size of input: auto{_tried(seen, spec.input.max_ms)}" if spec.kind == "camera" else "window: auto"
    if spec.kind == "sensor" and seen.tables:
        size = f"window: auto; {_window_words(seen.tables[0].period_s)}"
    return [*_of_times(seen), f"name: {spec.name}", f"budget: {budget_words(spec.budget, spec.kind)}", size]


def _of_times(seen: Look) -> tuple[str, ...]:
    from anomaly.data.tables.profile import assumed_of_times

    return tuple(map(one_line, assumed_of_times(seen.tables))) if seen.tables else ()
