"""What is kept of one record of an alarm, small enough to keep thousands: a picture of at most 1,024 pixels, or 32 sensors' readings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly.alarms.book import Alarm, Label
from anomaly.alarms.events import iso
from anomaly.data.clock import when
from anomaly.data.records import Record
from anomaly.errors import DataError
from anomaly.schema import DAY_S, InputSchema

EVIDENCE_BYTES = 500_000_000  # of all alarms of a store, when nothing else is said
LONGEST_SIDE = 1024  # pixels
QUALITY = 92  # of a JPEG
LARGEST_MAP = 256  # cells a side
MOST_SENSORS = 32  # those that speak most
LONGER_THAN_ALARM = 10  # times, and a day: a fault may go on where an alarm closes, and begin a day before it opens
HISTORY_ROWS = 2000  # rows before the window, at most

Role = Literal["opened", "worst"]
Kind = Literal["picture", "window"]
# What sensors have read of late: times (n,), values (n, C), names, units, and each one's share of the newest score (C,), None before one.
Recent = tuple[NDArray[np.float64], NDArray[np.float64], list[str], list[str], NDArray[np.float64] | None]
Scale = tuple[float, float]  # a usual normal score, and that from which on a record is flagged: what a heat-map is drawn by
Rows = tuple[NDArray[np.float64], NDArray[np.float32]]  # times (n,), readings (n, C)


@dataclass(frozen=True)
class Evidence:
    """One record of an alarm: that which opened it, or the most unusual one since.

    time: seconds since 1970
    meta: of a picture `size` (wide, high) of the original, `kept` (wide, high) of what is kept, and where the detector says it the scores
    `usual` and `threshold`, by which its map is drawn; of a window `sensors`, `units` and
    `shares`, the largest share first, and `window_rows`, how many of the last rows are the window
    picture: a JPEG, empty for a window
    packed: `arrays` as an .npz
    """

    alarm: str
    role: Role
    kind: Kind
    record: str
    time: float
    p_value: float
    meta: dict[str, Any] = field(default_factory=dict)
    picture: bytes = b""
    packed: bytes = b""

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Of a picture `map` (h, w) float32; of a window `times` (n,) float64, and `values` (n, S) float32 in the sensors' units."""
        with np.load(io.BytesIO(self.packed), allow_pickle=False) as file:
            return {name: file[name].astype(np.float32) if name == "map" else file[name] for name in file.files}

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.picture) + len(self.packed)

    def as_dict(self) -> dict[str, Any]:
        """All but the picture and the arrays, for JSON."""
        said = {"alarm": self.alarm, "role": self.role, "kind": self.kind, "record": self.record, "time": iso(self.time)}
        return said | {"p_value": self.p_value, "bytes": self.size} | self.meta


def check_marks(label: Label, alarm: Alarm, found: Sequence[Evidence]) -> None:
    """Raises DataError for a box on an alarm of readings, and for a stretch of time on one of pictures. `found`: what is kept of it.

    A stretch that is not of the alarm is refused, too: the next fit learns nothing of the rows in it. So is any label of an alarm of
    delivery: it is of a sink, and tells nothing of the line.
    """
    if alarm.alarm_class == "delivery":
        raise DataError(f"alarm {alarm.id[:8]} is of a sink that could not be reached, not of the line: comment on it instead")
    kinds = {each.kind for each in found}
    if label.boxes and ("window" in kinds or alarm.data.get("top") or alarm.data.get("sensors") or alarm.condition.startswith("sensor")):
        raise DataError(f"alarm {alarm.id[:8]} is of readings, which have no boxes: say from when to when the fault lasted (--from, --to)")
    if label.stretches and ("picture" in kinds or "where" in alarm.data):
        raise DataError(f"alarm {alarm.id[:8]} is of pictures: say where in the picture the fault is (--box), not how long it lasted")
    end = max(alarm.opened, label.time) if alarm.closed is None else alarm.closed
    longest = LONGER_THAN_ALARM * (end - alarm.began) + DAY_S
    for since, until in label.stretches:
        near = until >= alarm.began - DAY_S and since <= end
        if not near or until - since > longest:
            lasted = f"from {when(alarm.began, alarm.zone)} to {'now' if alarm.closed is None else when(end, alarm.zone)}"
            why = f"is longer than the {longest / 3600:,.0f} hours that it may be" if near else "does not touch it, nor the day before"
            raise DataError(f"alarm {alarm.id[:8]} lasted {lasted}; stretch {iso(since)} to {iso(until)} {why}: say when this fault lasted")


def meant(label: Label, found: Sequence[Evidence]) -> list[str]:
    """The pictures that a label is of which names none: the one that is kept, or with boxes the one that opened the alarm."""
    pictures = [each for each in found if each.kind == "picture"]
    if len(pictures) > 1:
        pictures = [each for each in pictures if each.role == "opened" and label.boxes]
    return [each.record for each in pictures]


def check_boxes(label: Label, found: Sequence[Evidence]) -> None:
    """Raises DataError for a box that lies beyond its picture, where that is kept."""
    sizes = {each.record: each.meta["size"] for each in found if each.kind == "picture"}
    for picture in label.pictures:
        if picture.record not in sizes:
            continue
        across, down = sizes[picture.record]
        for x, y, wide, high in picture.boxes:
            if x >= across or y >= down or x + wide > across + 1 or y + high > down + 1:
                raise DataError(f"box {x:g},{y:g},{wide:g},{high:g} lies beyond the picture, which is {across} by {down} pixels")


def make_evidence(
    alarm: str,
    role: Role,
    record: Record[NDArray[Any]],
    p_value: float,
    detail: NDArray[np.float32],
    schema: InputSchema,
    history: Rows,
    scale: Scale | None = None,
) -> Evidence | None:
    """What is kept of a record; None of a kind of input that this does not know. `detail`: map (h, w) or contribution (C,)."""
    if schema.name == "image":
        meta, picture, arrays = _of_picture(record.payload, detail)
        if scale is not None:
            meta |= {"usual": scale[0], "threshold": scale[1]}
        kind: Kind = "picture"
    elif schema.name == "window":
        meta, picture, arrays = _of_window(record, detail, schema, history)
        kind = "window"
    else:
        return None
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    return Evidence(alarm, role, kind, record.id, record.time, p_value, meta, picture, packed.getvalue())


Made = tuple[dict[str, Any], bytes, dict[str, NDArray[Any]]]


def _of_picture(pixels: NDArray[Any], anomaly_map: NDArray[np.float32]) -> Made:
    """A picture (H, W, C) of 8 or 16 bits, and its map."""
    shown = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    image = Image.fromarray(shown[:, :, 0] if shown.shape[2] == 1 else shown)
    original = image.size
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    step = -(-max(anomaly_map.shape) // LARGEST_MAP)
    return {"size": list(original), "kept": list(image.size)}, file.getvalue(), {"map": _coarser(anomaly_map, step).astype(np.float16)}


def _coarser(anomaly_map: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """The highest of every `step` by `step` cells: what stands out is still there."""
    if step == 1:
        return np.clip(anomaly_map, -65_000, 65_000)
    high, wide = (-(-side // step) for side in anomaly_map.shape)
    padded = np.full((high * step, wide * step), -65_000, np.float32)
    padded[: anomaly_map.shape[0], : anomaly_map.shape[1]] = np.clip(anomaly_map, -65_000, 65_000)
    found: NDArray[np.float32] = padded.reshape(high, step, wide, step).max(axis=(1, 3))
    return found


def _of_window(record: Record[NDArray[Any]], contribution: NDArray[np.float32], schema: InputSchema, history: Rows) -> Made:
    """A window (T, C) with the rows before it, of the sensors that add most."""
    total = max(float(contribution.sum()), 1e-12)
    top = np.argsort(-contribution, kind="stable")[:MOST_SENSORS]
    rows, cut = record.payload, record.cut
    if cut is not None:
        times = cut.times[cut.end - len(rows) : cut.end]
    else:
        times = record.time - (schema.period_s or 1.0) * np.arange(len(rows) - 1, -1, -1, dtype=np.float64)
    before = history[0] < times[0]
    all_times = np.concatenate([history[0][before][-HISTORY_ROWS:], times])
    values = np.concatenate([history[1][before][-HISTORY_ROWS:], rows])
    values = values.astype(np.float64) + np.array([sensor.offset for sensor in schema.sensors])
    sensors = [schema.sensors[i] for i in top]
    meta = {
        "sensors": [sensor.name for sensor in sensors],
        "units": [sensor.unit or "" for sensor in sensors],
        "shares": [round(float(contribution[i]) / total, 4) for i in top],
        "window_rows": len(times),
    }
    return meta, b"", {"times": all_times, "values": values[:, top].astype(np.float32)}
