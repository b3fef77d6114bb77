"""Events as messages of MQTT."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from anomaly.alarms.sinks.base import Sink
from anomaly.alarms.sinks.bus.kept_link import BrokerSettings, BrokerUrl, KeptLink
from anomaly.alarms.sinks.parsed import ParsedEvent, as_level, parse_event
from anomaly.buses.mqtt import Broker, MqttLink
from anomaly.errors import SinkError

PLACES = ("line", "class", "condition", "alarm", "kind")
OPEN_S = 10.0


def _checked_topic(topic: str) -> str:
    if not topic or any(sign in topic for sign in "+#\x00") or topic.startswith("$") or len(topic) > 200:
        raise ValueError("a topic to publish to has no + and no #, does not begin with $, and has at most 200 letters")
    try:
        parts = [part for part in string.Formatter().parse(topic) if part[1] is not None]
        plain = not any(how or conversion for _, _, how, conversion in parts)
        if plain:  # else a width of 99,999,999 letters, say
            topic.format(**dict.fromkeys(PLACES, "x"))
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"in braces may stand {', '.join(PLACES)}; what stands there is not one of them ({error})") from error
    if not plain or any(place not in PLACES for _, place, _, _ in parts):
        raise ValueError(f"in braces may stand {', '.join(PLACES)}")
    return topic


class MqttSettings(BrokerSettings):
    kind: Literal["mqtt"]
    url: Annotated[str, BrokerUrl]
    topic: Annotated[str, AfterValidator(_checked_topic)] = Field(
        "anomaly/{line}/{class}", description="where to publish; {line}, {class}, {condition}, {alarm}, {kind} stand for the event's own"
    )
    retain: bool = Field(False, description="the broker keeps the last event of each topic for those who subscribe later")

    def open(self, where: Path) -> Sink:
        broker = self.broker(where)
        return self.made(where, lambda: MqttSink(self.name, broker, self.topic, self.retain, self.timeout_s))


class MqttSink:
    """The CloudEvents JSON, with QoS 1: an event counts as delivered when the broker has confirmed it."""

    def __init__(self, name: str, broker: Broker, topic: str, retain: bool = False, timeout_s: float = OPEN_S) -> None:
        self.name = name
        self._topic, self._retain = topic, retain
        self._kept = KeptLink(name, lambda: MqttLink(broker), lambda _link, _timeout_s: None, timeout_s, stay=False)

    def send(self, body: str, event_id: str) -> None:
        topic = topic_of(self._topic, parse_event(body))
        with self._kept.use() as (link, left_s):
            try:
                link.publish(topic, body.encode(), qos=1, retain=self._retain, timeout_s=left_s())
            except ValueError as error:
                raise SinkError(f"{self.name}: MQTT cannot carry it: {error}", permanent=True) from error

    def close(self) -> None:
        self._kept.close()


def topic_of(template: str, event: ParsedEvent) -> str:
    """The topic of an event. Names from outside are one level each, whatever they hold; what is no alarm has its subject as its class.

    >>> topic_of("a/{line}/{class}", ParsedEvent("1", "record.rejected", "x/+", "", 0.0, {}))
    'a/x%2F%2B/record'
    """
    kind = event.kind.partition(".")[0]
    places = {"line": event.line, "class": event.text("class") or kind, "condition": event.text("condition") or kind}
    places |= {"alarm": event.alarm, "kind": event.kind}
    return template.format(**{name: as_level(value) for name, value in places.items()})
