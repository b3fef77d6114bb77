"""What the API answers and takes, version 1. Times are RFC 3339 in UTC; p-values and shares are numbers from 0 to 1."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from anomaly.alarms.book import Verdict
from anomaly.alarms.book.label import LONGEST_KIND, LONGEST_REASON
from anomaly.alarms.routing import Priority

MOST_SENSORS = 16  # of a running line that are shown, those that speak most
LineState = Literal["ok", "held", "attention", "alarm", "down"]


class Answer(BaseModel):
    """Of the API. What is not known is null."""

    model_config = ConfigDict(extra="forbid")


class Asked(BaseModel):
    """What someone sends. A key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


# --- lines ---


class Cause(Answer):
    """Why something is as it is: `code` and `values`, for whoever words it in another language, and `words` in English."""

    code: str
    values: dict[str, str | float]
    words: str


class Line(Answer):
    """A line at a glance.

    state: `down` it is not watched; `alarm` a process alarm is on or waits for someone; `attention` another alarm, or drift; `ok`. What is
    held back needs nobody
    why: what is missing, or wrong with its data; `causes` says the same with codes
    flagged_share: of the records since the start; `budget_share`: what the threshold allows by chance
    sparkline: the newest p-values, the oldest first
    """

    name: str
    state: LineState
    why: list[str]
    causes: list[Cause] = Field(default_factory=list)
    held: list[Held] = Field(default_factory=list, description="what holds alarms of it back")
    waiting: int = Field(description="alarms that nobody has acknowledged")
    open: int = Field(description="alarms that are on or wait for someone")
    worst_priority: Priority | None
    records: int | None
    flagged: int | None
    flagged_share: float | None
    budget_share: float | None
    least_p: float | None = Field(description="the smallest p-value that the detector's normals can tell")
    last_record: str | None
    last_record_age_s: float | None
    provider: str
    bundle: str
    bundle_hash: str
    drift: float | None = Field(description="1 while there is drift, else the evidence for it as a share of what is needed")
    kind: Literal["pictures", "readings", "unknown"]
    sparkline: list[float]


class Lines(Answer):
    """All lines, those that need a person first. `live`: a monitor serves them; else they are read from a store."""

    time: str
    live: bool
    lines: list[Line]


class Point(Answer):
    """The lowest p-value of the records in a stretch of time, and which record that is."""

    time: str
    p_value: float
    record: str


class Span(Answer):
    """An alarm as a stretch of time; `to` is null while it is on."""

    id: str
    condition: str
    priority: Priority
    state: str
    begin: str
    to: str | None


class Readings(Answer):
    """Raw readings of sensors, rows of one time each. A reading that is missing is null. `shares`: of the newest score, by sensor."""

    times: list[str]
    sensors: list[str]
    units: list[str]
    values: list[list[float | None]] = Field(description="(sensor, row)")
    shares: list[float | None]


class LineDetail(Answer):
    """One line over a stretch of time."""

    line: Line
    begin: str
    end: str
    threshold_p: float | None
    points: list[Point]
    alarms: list[Span]
    readings: Readings | None
    held: list[Held]


class Picture(Answer):
    """A picture that is kept of an alarm."""

    alarm: str
    role: Literal["opened", "worst"]
    record: str
    time: str
    p_value: float


# --- alarms ---


class Alarm(Answer):
    """One row of the list."""

    id: str
    line: str
    alarm_class: str
    condition: str
    priority: Priority
    state: str
    opened: str
    closed: str | None
    acknowledged: str | None
    acknowledged_by: str
    about: str
    cause: Cause | None = Field(None, description="the same as `about`, with a code")
    p_value: float | None
    least_p: float | None = Field(description="the smallest p-value that the detector's normals could tell")
    label: Verdict | None
    kept: int = Field(description="pictures or windows of readings that are kept")


class Alarms(Answer):
    """Some alarms of all that were asked for. `total` counts all of them."""

    total: int
    offset: int
    alarms: list[Alarm]
    lines: list[str] = Field(description="all lines that have alarms, whatever was asked for; also those that nobody monitors now")


class Kept(Answer):
    """What is kept of a record of an alarm: a picture with its map, or a window of readings."""

    role: Literal["opened", "worst"]
    kind: Literal["picture", "window"]
    record: str
    time: str
    p_value: float
    bytes: int
    size: list[int] | None = Field(default=None, description="wide, high of the original picture")
    kept: list[int] | None = Field(default=None, description="wide, high of the picture that is kept")
    sensors: list[str] = []
    shares: list[float] = []


class PictureLabel(Answer):
    """What was last said of one picture of an alarm."""

    record: str
    verdict: Verdict
    kind: str
    boxes: list[tuple[float, float, float, float]]


class Flagged(Answer):
    """A flagged picture of an alarm. `role`: as which it is kept; null where its name and score are all that is left."""

    time: str
    record: str
    score: float | None
    p_value: float
    role: Literal["opened", "worst"] | None
    label: PictureLabel | None


class Deed(Answer):
    """A row of the audit log."""

    time: str
    who: str
    action: str
    line: str
    alarm: str
    why: str


class Label(Answer):
    """What was last said of an alarm."""

    verdict: Verdict
    time: str
    who: str
    reason: str
    kind: str
    boxes: list[tuple[float, float, float, float]]
    stretches: list[tuple[str, str]]
    pictures: list[PictureLabel] = Field(description="what was said of single pictures; the alarm is real when one of them is")


class Similar(Answer):
    """An earlier alarm of the same line and condition, and what was done then."""

    alarm: Alarm
    deeds: list[Deed]


class Happened(Answer):
    """One event of an alarm."""

    time: str
    kind: str
    priority: str
    state: str
    by: str
    why: str
    cause: Cause | None = Field(None, description="what the line says of it, with a code; null where a person did it")


class AlarmDetail(Answer):
    """All that is known of one alarm."""

    alarm: Alarm
    facts: dict[str, Any] = Field(description="what its events say: top sensors, where in the picture, reason, threshold")
    conditions: list[str]
    history: list[Happened]
    deeds: list[Deed]
    kept: list[Kept]
    flagged: list[Flagged] = Field(description="of pictures: those that the alarm covers, by time; the most unusual where there are many")
    flagged_total: int
    label: Label | None
    similar: list[Similar]
    held: list[Held]
    normal: bool = Field(description="whether /normal has a normal record to look at beside it")


class Levels(Answer):
    """A map of cells as whole numbers 0 to 255, row by row, in base64. 0 is `lowest` and all below, 255 `highest` and all above."""

    wide: int
    high: int
    lowest: float
    highest: float
    threshold: float | None = Field(description="the score from which on a record is flagged; null where it was not kept")
    levels: str


class Window(Answer):
    """The hours before an alarm, and its window: the last `window_rows` rows. `bands`: (lowest, highest) of normals, by sensor."""

    readings: Readings
    window_rows: int
    bands: list[tuple[float, float] | None]


# --- what holds alarms back, what someone does ---


class Held(Answer):
    """What holds alarms of a line back. `condition` is "*" for all of the line."""

    line: str
    kind: Literal["shelved", "out of service", "suppressed"]
    condition: str
    since: str
    until: str | None
    who: str
    why: str


class Reason(Asked):
    """Why someone does it."""

    why: str = Field(default="", max_length=500)


class Release(Reason):
    """`hash`: of the challenger that is to be promoted, of the champion that is to be taken back. With another by now nothing is done."""

    hash: str = Field(pattern=r"^[0-9a-f]{64}$")


class Shelve(Reason):
    """For how long alarms are put aside: a minute to seven days."""

    seconds: float = Field(ge=60, le=7 * 86400)


class HoldLine(Reason):
    """Hold back alarms of a line; `condition` "*" is all of it. `seconds` null: until someone ends it (out of service)."""

    kind: Literal["shelved", "out of service"]
    condition: str = Field(default="*", max_length=200)
    seconds: float | None = Field(default=None, ge=60, le=7 * 86400)


class ReleaseLine(Reason):
    """End a hold."""

    kind: Literal["shelved", "out of service", "suppressed"]
    condition: str = Field(default="*", max_length=200)


class GiveLabel(Asked):
    """Whether an alarm was real. Boxes are x, y, width, height in pixels of the original picture; stretches are from, to.

    pictures: the times of the pictures, of those in `kept`, of which it is said; none for the alarm as a whole
    """

    verdict: Verdict
    reason: str = Field(default="", max_length=LONGEST_REASON)
    kind: str = Field(default="", max_length=LONGEST_KIND)
    boxes: list[tuple[float, float, float, float]] = Field(default=[], max_length=1000)
    stretches: list[tuple[str, str]] = Field(default=[], max_length=1000)
    pictures: list[str] = Field(default=[], max_length=10)


class Done(Answer):
    """What came of it, in words."""

    done: str


# --- the rest ---


class Lane(Answer):
    """Delivery to one sink."""

    sink: str
    state: str
    error: str
    last_success_age_s: float | None
    waiting: int
    dead: int


class DeadLetter(Answer):
    """An event that a sink did not take."""

    sink: str
    id: str
    time: str
    what: str
    line: str
    attempts: int
    error: str


class Delivery(Answer):
    """All sinks. `dead`: the newest 200 that no sink takes."""

    lanes: list[Lane]
    dead: list[DeadLetter]


class Replay(Asked):
    """Dead letters to send again: all, those of a sink, or those events."""

    sink: str | None = Field(default=None, max_length=200)
    ids: list[str] = Field(default=[], max_length=1000)


class Drift(Answer):
    """Data quality and drift of a line."""

    line: str
    level: float | None
    events: list[Happened]
    quality: list[Alarm]
    rejected: list[Rejected]


class Rejected(Answer):
    """A record that was set aside."""

    record: str
    time: str | None
    reason: str


class Both(Answer):
    """The same records judged by champion and challenger."""

    records: int
    both: int
    champion_only: int
    challenger_only: int
    neither: int
    p_value: float | None = Field(description="exact McNemar test of the two rates, two-sided")
    clear: bool = Field(description="whether the two flag at clearly different rates")


class Shadow(Answer):
    """Champion and challenger of a line. `release` is false where the line runs one file and follows no release folder on this machine.

    `champion_hash`, `challenger_hash`: what promote and rollback are asked with, "" for none
    """

    line: str
    release: bool
    champion: str
    challenger: str
    champion_hash: str
    challenger_hash: str
    compared: Both | None
    words: str
    history: list[Deed]


for _model in (LineDetail, AlarmDetail, Drift):
    _model.model_rebuild()
