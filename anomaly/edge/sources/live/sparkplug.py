"""The readings in Sparkplug B messages: births that name the metrics, data that may name them by number, deaths that end them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from anomaly.buses.sparkplug import BOOLEAN, Metric, Payload, encode, told
from anomaly.errors import RecordError

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
LATEST_S = 253_402_300_800.0  # the year 10000: no later time can be written as a date

Who = tuple[str, str, str]  # group, edge node, device ("" for the node itself)


@dataclass
class Told:
    """What a message gave.

    readings: by moment (seconds since 1970), in order; NaN where a metric has no value now
    problems: what could not be taken, in words; the rest of the message was
    rebirth: the edge node must be asked for its births, since something is named that none of those seen has named
    """

    readings: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    rebirth: bool = False


@dataclass
class _Device:
    """What one node or device said at its birth, and when it last said something (seconds since 1970)."""

    names: dict[int, str] = field(default_factory=dict)  # by alias
    datatypes: dict[str, int] = field(default_factory=dict)
    sensors: set[str] = field(default_factory=set)  # of ours, that it gave readings of
    no_numbers: set[str] = field(default_factory=set)  # metrics of which it was said that they are none
    last: float | None = None
    session: float | None = None  # a node's bdSeq, which its death repeats


def parse_topic(topic: str) -> tuple[str, Who] | None:
    """(type, who) of a topic that carries readings, births or deaths; None for commands and states, which do not.

    Raises RecordError for a topic that is none of Sparkplug's.

    >>> parse_topic("spBv1.0/plant/DDATA/node/press")
    ('DDATA', ('plant', 'node', 'press'))
    """
    parts = topic.split("/")
    if len(parts) == 3 and parts[1] == "STATE":
        return None
    if not 4 <= len(parts) <= 5 or not all(parts):
        raise RecordError("not a topic of Sparkplug B: spBv1.0/GROUP/TYPE/NODE[/DEVICE]")
    _, group, kind, node, *device = parts
    if kind in ("NCMD", "DCMD", "STATE"):
        return None
    if kind not in ("NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH") or (kind[0] == "D") != bool(device):
        raise RecordError(f"no such message in Sparkplug B: {kind} with {'a' if device else 'no'} device")
    return kind, (group, node, device[0] if device else "")


def rebirth_request(who: Who, now: float) -> tuple[str, bytes]:
    """(topic, payload) of the command that makes an edge node tell its births again."""
    return f"{NAMESPACE}/{who[0]}/NCMD/{who[1]}", encode(Payload(now, (told(REBIRTH, BOOLEAN, True, now),)))


class SparkplugReader:
    """Messages in, readings of the sensors we know out.

    A sensor is a metric of its own name, or DEVICE/METRIC where that is what a bundle calls it. The same metric of two devices that
    live is not mixed up: the first has it, the second is a problem that is told.
    """

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._devices: dict[Who, _Device] = {}
        self._owner: dict[str, Who] = {}

    def forget(self) -> None:
        """Births may have been missed: none counts any more."""
        self._devices.clear()
        self._owner.clear()

    def take(self, kind: str, who: Who, payload: Payload, now: float) -> Told:
        """One message, `now` being its arrival. `kind` and `who` are those of its topic."""
        if kind.endswith("DEATH"):
            return self._death(who, payload, now)
        if kind.endswith("BIRTH"):
            self._birth(who, payload)
        device = self._devices.setdefault(who, _Device())
        found, moments, historical = Told(), dict[float, dict[str, float]](), 0
        for metric in payload.metrics:
            name = metric.name or device.names.get(-1 if metric.alias is None else metric.alias, "")
            if not name:
                found.problems.append(f"{_words(who)}: a metric with the alias {metric.alias}, which no birth has named")
                found.rebirth = True
                continue
            sensor = self._sensor(who, name)
            if sensor is None:
                continue
            if metric.historical:
                historical += 1
                continue
            try:
                moment, value = self._reading(device, name, metric, payload, now)
                self._claim(sensor, who)
            except RecordError as error:
                if name not in device.no_numbers:
                    found.problems.append(f"{_words(who)}: metric {name!r} {error}")
                device.no_numbers.add(name)
                found.rebirth |= not metric.datatype and name not in device.datatypes
                continue
            device.sensors.add(sensor)
            device.last = max(moment, device.last or 0.0)
            moments.setdefault(moment, {})[sensor] = value
        if historical:
            found.problems.append(f"{_words(who)}: {historical} readings of an earlier time (is_historical) came late and are not scored")
        found.readings = sorted(moments.items())
        return found

    def _birth(self, who: Who, payload: Payload) -> None:
        if not who[2]:  # a node that is born anew has lost its devices: each is born after it
            for each in [each for each in self._devices if each[:2] == who[:2]]:
                del self._devices[each]
        device = self._devices[who] = _Device()
        for metric in payload.metrics:
            if metric.alias is not None and metric.name:
                device.names[metric.alias] = metric.name
            if metric.name == "bdSeq":
                device.session = _plain_number(metric)
            device.datatypes[metric.name] = metric.datatype

    def _death(self, who: Who, payload: Payload, now: float) -> Told:
        """All sensors of the device, or of the node with its devices, have no value from its last moment on."""
        node = self._devices.get((who[0], who[1], ""))
        session = next((_plain_number(each) for each in payload.metrics if each.name == "bdSeq"), None)
        if not who[2] and node is not None and None not in (session, node.session) and session != node.session:
            return Told()  # the farewell of a session before the one that is born now
        gone = [each for each in self._devices if each == who or (not who[2] and each[:2] == who[:2])]
        moments: dict[float, dict[str, float]] = {}
        for each in gone:
            device = self._devices.pop(each)
            if device.sensors:
                moments.setdefault(device.last or now, {}).update(dict.fromkeys(device.sensors, math.nan))
            self._owner = {sensor: owner for sensor, owner in self._owner.items() if owner != each}
        return Told(sorted(moments.items()))

    def _sensor(self, who: Who, name: str) -> str | None:
        """What the bundle calls a metric, None when it looks at none of that name."""
        full = f"{who[2]}/{name}" if who[2] else name
        return next((each for each in (full, name) if self._known(each)), None)

    def _claim(self, sensor: str, who: Who) -> None:
        owner = self._owner.setdefault(sensor, who)
        if owner != who and owner in self._devices:
            raise RecordError(f"is told by {_words(owner)} as well; subscribe to one of them, or call the sensor DEVICE/METRIC")
        self._owner[sensor] = who

    @staticmethod
    def _reading(device: _Device, name: str, metric: Metric, payload: Payload, now: float) -> tuple[float, float]:
        value = metric.number(device.datatypes.get(name, 0))
        moment = metric.time or payload.time or now
        if moment >= LATEST_S:
            raise RecordError(f"has an impossible time ({moment:.0f} s)")
        return moment, value


def _plain_number(metric: Metric) -> float | None:
    try:
        return metric.number()
    except RecordError:
        return None


def _words(who: Who) -> str:
    return "/".join(each for each in who if each)
