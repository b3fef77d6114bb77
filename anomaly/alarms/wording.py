"""What is said of an event: the cause as data for the event, and the event in words for people."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import AlarmKind, Event, iso
from anomaly.data.clock import in_zone, span_words
from anomaly.names import masked, one_line
from anomaly.rarity import p_words, rarity, shares_of
from anomaly.schema import AlarmSettings

_STAMP = re.compile(r"@\d{12,20}$")
MOST_SENSORS = 3  # named as the cause of an alarm
LEAST_SHARE = 0.01  # of a score, for a sensor to be named beside another
SHORT = 8  # characters of an alarm's id that people are shown


def condition_words(condition: str) -> str:
    """A condition as it is told; of a hold on everything, the line."""
    return "the whole line" if condition == "*" else condition  # book.WHOLE_LINE


def explain_map(anomaly_map: NDArray[np.float32]) -> dict[str, Any]:
    """Where the map (h, w) is highest, as shares of the picture's width and height.

    >>> explain_map(np.array([[0, 1], [0, 0]], np.float32))
    {'where': {'x': 0.75, 'y': 0.25}}
    """
    y, x = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    return {"where": {"x": (float(x) + 0.5) / anomaly_map.shape[1], "y": (float(y) + 0.5) / anomaly_map.shape[0]}}


def explain_contribution(contribution: NDArray[np.float32], sensors: Sequence[str]) -> dict[str, Any]:
    """The sensors that contribute most, each with its share of the sum over all (C,); `sensors` are their names in that order.

    >>> explain_contribution(np.array([1, 3], np.float32), ["flow", "pressure"])
    {'top': [{'sensor': 'pressure', 'share': 0.75}, {'sensor': 'flow', 'share': 0.25}]}
    """
    shares = shares_of(contribution)
    top = np.argsort(-shares)[:MOST_SENSORS]
    return {"top": [{"sensor": sensors[i], "share": round(float(shares[i]), 4)} for i in top]}


def beyond_alone(top: Sequence[Mapping[str, Any]], score: float, limit: float, outside: Collection[str]) -> list[dict[str, Any]]:
    """Sensors with their shares of a score, and `beyond` for those whose own part would be flagged, were it alone.

    A share is of squares where the shape of the readings stands out, and of fourth powers where their level does, so that a sensor far
    beyond its normals has next to no share beside one that is further. By the squares it is certain; by the fourth powers where the
    sensor is also `outside` of what its normals read.

    >>> top = [{"sensor": "flow", "share": 0.995}, {"sensor": "heat", "share": 0.004}, {"sensor": "level", "share": 0.001}]
    >>> [each["sensor"] for each in beyond_alone(top, score=9.0, limit=1.5, outside={"heat"}) if "beyond" in each]
    ['flow', 'heat']
    """
    most = max((float(each["share"]) for each in top), default=0.0) or 1.0

    def beyond(each: Mapping[str, Any]) -> bool:
        share = max(float(each["share"]), 0.0)
        alone = float(score * (share / most) ** 0.25 if each["sensor"] in outside else score * share**0.5)
        return alone >= limit

    return [dict(each) | ({"beyond": True} if beyond(each) else {}) for each in top]


def record_words(record: object) -> str:
    """A record as people look for it: a picture of a folder by its file, without the time in ms that tells two of one name apart.

    >>> record_words("shift 2/a.jpg@1795766687346"), record_words("t.csv:17")
    ('shift 2/a.jpg', 't.csv:17')
    """
    return _STAMP.sub("", str(record))


def rules_words(alarm: AlarmSettings) -> str:
    """The alarm rules in words.

    >>> rules_words(AlarmSettings(off_delay_s=30, off_records=10))
    'An alarm opens with the first flagged record; it is over after 30 s and 10 records without a flag.'
    """
    begins = f"when records have been flagged for {span_words(alarm.on_delay_s)}" if alarm.on_delay_s else "with the first flagged record"
    calm = f"{span_words(alarm.off_delay_s)} and " if alarm.off_delay_s else ""
    record = "record" if alarm.off_records == 1 else "records"
    held = "; and someone has acknowledged it" if alarm.latched else ""
    return f"An alarm opens {begins}; it is over after {calm}{alarm.off_records:,} {record} without a flag{held}."


def about(data: Mapping[str, Any]) -> str:
    """What is wrong, in a few words, from what an alarm's events say: of a picture its file, and where in it.

    What its most unusual record was like, once it is known: not how it began or ended; and how many records it has flagged.
    """
    worst = data.get("worst", {})
    said = dict(data) | dict(worst) | ({"reason": ""} if worst else {})
    many = flagged_words(data)
    name = record_words(said.get("record", ""))
    where = f"{said['where']['x']:.0%} from the left, {said['where']['y']:.0%} from the top" if said.get("where") else ""
    if said.get("reason") or where:
        return ", ".join(part for part in (str(said.get("reason") or ""), name if where else "", where, many) if part)
    if said.get("top"):
        return ", ".join([*shares(said["top"]), *([many] if many else [])])
    return str(said.get("cause", ""))


def flagged_words(data: Mapping[str, Any]) -> str:
    """How many records of an alarm were flagged, from what its events say; "" where that is one, or not known.

    >>> flagged_words({"flagged": 6, "where": {"x": 0.5, "y": 0.5}}), flagged_words({"flagged": 302}), flagged_words({"flagged": 1})
    ('6 pictures flagged', '302 records flagged', '')
    """
    many = data.get("flagged", 1)
    return f"{many:,} {'pictures' if 'where' in data else 'records'} flagged" if isinstance(many, int) and many > 1 else ""


def shares(top: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sensors with their shares of the score. After the first, those that add next to nothing are left out, unless they are `beyond`.

    >>> shares([{"sensor": "flow", "share": 0.99}, {"sensor": "heat", "share": 0.004}])
    ['flow 99%']
    >>> shares([{"sensor": "flow", "share": 0.99}, {"sensor": "heat", "share": 0.004, "beyond": True}])
    ['flow 99%', 'heat under 1%']
    """
    told = [each for place, each in enumerate(top) if place == 0 or each["share"] >= LEAST_SHARE or each.get("beyond")]
    return [f"{each['sensor']} {_share_words(each['share'])}" for each in told]


def _share_words(share: float) -> str:
    return f"{share:.0%}" if share >= LEAST_SHARE else "under 1%"


def worst_record(data: Mapping[str, Any]) -> str:
    """The record that an alarm is best known by: its most unusual one, where that is known, else the one that opened it."""
    return record_words(data.get("worst", {}).get("record") or data.get("record", ""))


def describe_event(event: Event) -> str:
    """One line on an event, for a log or a terminal; its time in whole seconds, on the clock of its line.

    What, about what, how sure, where, why, by whom: as much of it as the event tells.
    """
    data, kind = event.data, event.kind
    parts = [iso(event.time // 1), _VERBS[kind][0]]
    if kind in ("swapped", "refused", "rolled_back"):
        parts.append(str(data.get("bundle_hash", ""))[:12])
    elif kind == "heartbeat":
        parts.append(str(data.get("status", "")))
    elif _is_alarm(kind):
        parts += [_about(data), *_measures(kind, data)]
    text = "  ".join(one_line(masked(part)) for part in [*parts, *_reasons(data)] if part).rstrip()
    return in_zone(text, zone_in(data))


def zone_in(data: Mapping[str, Any]) -> str:
    """The zone of the line that an event's data names, "" where it names none."""
    return str(data.get("zone", ""))


def describe_message(body: dict[str, Any], link: str = "") -> tuple[str, str]:
    """(title, text) of a CloudEvents body, for e-mail, chat and pagers. `link`: the page that shows more, if there is one."""
    data, kind = body.get("data") or {}, str(body["type"]).rpartition(".")[2]
    line = str(body["source"]).removeprefix("/anomaly/")
    verb = _VERBS.get(kind, ("", kind.replace("_", " ")))[1]
    priority = f"{data['priority']}-priority " if kind == "opened" and data.get("priority") else ""
    title = f"{'TEST, ' if data.get('test') else ''}{line}: {priority}{verb}"
    since = data.get("began", body.get("time", ""))
    parts = [*_reasons(data), f"{_about(data, words=True)}Line {line}, since {since}{_lasted(data)}."]
    if "p_value" in data:
        bound, many = rarity(data["p_value"], data.get("least_p", 0.0))
        begin = f"{'At its worst ' if kind == 'closed' else ''}{'rarer than' if bound else 'as unusual as'} 1 normal record in {many}"
        parts.append(f"{begin[0].upper()}{begin[1:]} ({p_words(data['p_value'], data.get('least_p', 0.0))}).")
    if flagged_words(data):
        parts.append(f"{flagged_words(data)}{'' if kind == 'closed' else ' so far'}.")
    if data.get("top"):
        parts.append("Most involved: " + ", ".join(f"{t['sensor']} ({_share_words(t['share'])})" for t in data["top"]))
    if data.get("where"):
        parts.append(f"Where: {data['where']['x']:.0%} from the left, {data['where']['y']:.0%} from the top.")
    parts += _readings(data)
    if data.get("cause"):
        parts.append(f"Cause: {data['cause']}")
    if data.get("worst", {}).get("record"):
        parts.append(f"Most unusual record: {worst_record(data)}")
    if data.get("record"):
        parts.append(f"{'Record that ended it' if kind == 'closed' else 'Record'}: {record_words(data['record'])}")
    if data.get("bundle"):
        parts.append(f"Bundle: {data['bundle']}")
    parts += _listed(data)
    if link:
        parts.append(link)
    return one_line(masked(title)), _read("\n".join(one_line(masked(part)) for part in parts), zone_in(data))


def _readings(data: dict[str, Any]) -> list[str]:
    """What the alarm's sensors read at its worst and when it was over, by name."""
    worst, last = (data.get(key, {}).get("values", {}) for key in ("worst", "last"))
    units = data.get("units", {})
    said = []
    for name in list(worst)[:MOST_SENSORS]:
        then, now = ("no reading" if side.get(name) is None else f"{side[name]:g} {units.get(name, '')}".rstrip() for side in (worst, last))
        said.append(f"{name} {then}, at the end {now}")
    return [f"At its worst: {'; '.join(said)}."] if said else []


# Of each kind of event: how a log says it, and how a message to people says it.
_VERBS: dict[str, tuple[str, str]] = {
    "opened": ("ALARM     ", "alarm"),
    "closed": ("alarm over", "alarm over"),
    "reminded": ("STILL ON  ", "alarm is still on"),
    "escalated": ("ESCALATED ", "alarm has become more serious"),
    "acknowledged": ("acknowledged", "alarm acknowledged"),
    "shelved": ("shelved", "alarm shelved"),
    "unshelved": ("unshelved", "alarm no longer shelved"),
    "out_of_service": ("out of service", "alarm out of service"),
    "in_service": ("in service", "alarm in service again"),
    "suppressed": ("suppressed by design", "alarms suppressed by design"),
    "unsuppressed": ("no longer suppressed", "alarms no longer suppressed"),
    "flood": ("FLOOD     ", "flood of alarms"),
    "rejected": ("set aside", "record set aside"),
    "swapped": ("bundle now", "another bundle in use"),
    "refused": ("bundle refused", "bundle refused"),
    "rolled_back": ("bundle taken back", "bundle taken back"),
    "heartbeat": ("alive", "alive"),
    "drifted": ("drift", "drift"),
    "summary": ("summary", "summary of alarms"),
}


def _is_alarm(kind: str) -> bool:
    return kind in get_args(AlarmKind)


def _about(data: dict[str, Any], words: bool = False) -> str:
    """Class and condition, where they say more than that it is an alarm of the process; with `words` as the begin of a sentence."""
    class_, condition = str(data.get("class", "")), str(data.get("condition", ""))
    sensor = str(data.get("sensor", ""))
    if condition and sensor and sensor not in condition:
        condition = f"{condition} {sensor}"
        others = len(data.get("sensors", [])) - 1
        condition += f" and {others} more" if others > 0 else ""
    if words:
        name = {"process": "Process alarm", "delivery": "Delivery alarm"}.get(class_, class_.capitalize())
        own = f" ({condition})" if condition and condition != class_ else ""
        return f"{name}{own}. " if class_ else ""
    if class_ in ("", "process"):
        return worst_record(data)
    return class_


def _measures(kind: str, data: dict[str, Any]) -> list[str]:
    found = []
    if "p_value" in data:
        found.append(f"{'worst ' if kind == 'closed' else ''}{p_words(data['p_value'], data.get('least_p', 0.0))}")
    return [*found, _cause(dict(data) | data.get("worst", {})), _lasted(data).removeprefix(", "), flagged_words(data)]


def _reasons(data: dict[str, Any]) -> list[str]:
    """The reason, and who did it and why, where that is told."""
    found = [str(data["reason"])] if data.get("reason") else []
    if data.get("who"):
        found.append(f"by {data['who']}" + (f": {data['why']}" if data.get("why") else ""))
    if data.get("until"):
        found.append(f"until {data['until']}")
    return found


def _listed(data: dict[str, Any]) -> list[str]:
    """What a summary or a flood sums up, the most urgent first."""
    entries: list[dict[str, Any]] = next((data[key] for key in ("list", "alarms") if isinstance(data.get(key), list)), [])
    found = []
    for entry in entries:
        on = {True: "still on", False: "over"}.get(entry.get("open", ""), "")
        about = ": ".join(str(entry[key]) for key in ("class", "condition", "reason") if entry.get(key))
        words = [
            str(entry.get("line", "")),
            about,
            str(entry.get("priority", "")),
            f"since {entry['began']}" if "began" in entry else "",
            on,
        ]
        found.append("- " + ", ".join(word for word in words if word))
    return found


def _cause(data: dict[str, Any]) -> str:
    """The cause in an event's data, in a few words; a kind of input that has its own words for it gives them as `cause`."""
    if "where" in data:
        return f"at {data['where']['x']:.0%} across, {data['where']['y']:.0%} down"
    if "top" in data:
        return ", ".join(shares(data["top"]))
    return str(data.get("cause", ""))


def _lasted(data: dict[str, Any]) -> str:
    return f", lasted {_duration(float(data['lasted_s']))}" if "lasted_s" in data else ""


def _duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> _duration(12.3), _duration(200), _duration(7500), _duration(100_800)
    ('12 s', '3 min', '2 h 5 min', '1 d 4 h')
    """
    whole = round(seconds)
    for big, big_s, small, small_s in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= big_s:
            rest = whole % big_s // small_s
            return f"{whole // big_s} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s" if whole < 120 else f"{whole // 60} min"


def _read(text: str, zone: str) -> str:
    """A text for people with the times in it, RFC 3339 in UTC, as they read them on the clock of their zone.

    >>> _read("since 2026-01-01T00:00:00.25Z", ""), _read("since 2026-01-01T00:00:00Z", "Europe/Berlin")
    ('since 2026-01-01 00:00:00Z', 'since 2026-01-01 01:00:00+01:00')
    """
    return re.sub(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?=Z|[+-]\d\d:)", r"\1 \2", in_zone(text, zone))
