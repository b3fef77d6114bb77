"""Alarms as alerts of Prometheus' Alertmanager, by version 2 of its API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from anomaly.alarms.events import iso
from anomaly.alarms.sinks.base import Sink, SinkSettings, read_secret
from anomaly.alarms.sinks.http import HttpPoster, HttpUrl
from anomaly.alarms.sinks.parsed import ParsedEvent, parse_event, seconds
from anomaly.alarms.wording import describe_message
from anomaly.errors import SinkError
from anomaly.names import one_line

ALERTS = "/api/v2/alerts"
NAMES = {"process": "ProcessAlarm", "data quality": "DataQualityAlarm", "delivery": "DeliveryAlarm"}  # the alertname of each class
AT_ONCE = 100  # alerts in one call
TEST_S = 300.0  # that the alert of a test goes on
AGAIN_TIMEOUT_S = 2.0  # for sending again: an event that comes meanwhile waits no longer than that


class AlertmanagerSettings(SinkSettings):
    kind: Literal["alertmanager"]
    url: HttpUrl = Field(description="such as http://alertmanager:9093")
    token_env: str | None = Field(None, description="environment variable that holds a bearer token")
    labels: dict[str, str] = Field({}, description="labels that every alert gets, such as the site")
    again_s: float = Field(60.0, ge=1, description="seconds between two sendings of an alert that goes on")
    keep_s: float = Field(86400.0, ge=60, description="seconds that an alert goes on when nothing more is heard from here")

    @field_validator("labels")
    @classmethod
    def _proper_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for name in labels:
            if not name.isascii() or not name.isidentifier() or name.startswith("__"):
                raise ValueError(f"{name!r} is no name of a label: letters, digits and _, not beginning with a digit or __")
        return labels

    def open(self, where: Path) -> Sink:
        return Alertmanager(self, None if self.token_env is None else read_secret(where, self.token_env))


class Alertmanager:
    """Each alarm is one alert from `opened` to `closed`; events that are no alarms are none of Alertmanager's business.

    An alert is sent with an end far ahead, so that it goes on when this machine falls silent. While it is on it is sent again every
    `again_s`, as Prometheus does, since Alertmanager forgets its alerts when it is restarted. The priority is a label, and an alert
    with other labels is another alert: when a label changes, the one before is ended.
    """

    def __init__(self, settings: AlertmanagerSettings, token: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self.name = settings.name
        self._settings, self._clock = settings, clock
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        url = settings.url.rstrip("/").removesuffix(ALERTS) + ALERTS
        self._http = HttpPoster(self.name, url, settings.timeout_s)
        self._again_http = HttpPoster(self.name, url, min(AGAIN_TIMEOUT_S, settings.timeout_s))
        self._on: dict[str, dict[str, Any]] = {}  # alerts that are on, by alarm
        self._lock = threading.Lock()  # an end is never overtaken by a sending again from before
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self, body: str, event_id: str) -> None:
        event = parse_event(body)
        if event.on is None:
            return
        with self._lock:
            alerts, before = [self._alert(event, body)], self._on.get(event.alarm)
            if before is not None and before["labels"] != alerts[0]["labels"]:
                alerts.append(before | {"endsAt": iso(self._clock())})
            self._http.post(json.dumps(alerts).encode(), self._headers)
            if event.on and not event.test:
                self._on[event.alarm] = alerts[0]
            else:
                self._on.pop(event.alarm, None)
        self._watch()

    def recall(self, told: Sequence[str]) -> None:
        """What was on before is sent again as well."""
        with self._lock:
            for body in told:
                event = parse_event(body)
                if event.on and not event.test:
                    self._on.setdefault(event.alarm, self._alert(event, body))
        self._watch()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(AGAIN_TIMEOUT_S + 1)
        self._http.close()
        self._again_http.close()

    def _watch(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._send_again, name=f"alerts {self.name}", daemon=True)
            self._thread.start()

    def _alert(self, event: ParsedEvent, body: str) -> dict[str, Any]:
        now = self._clock()
        end = now + (TEST_S if event.test else self._settings.keep_s) if event.on else min(event.time, now)
        try:
            start = min(seconds(str(event.data["began"])), end)
        except (KeyError, ValueError):
            start = min(event.time, end)
        title, text = describe_message(json.loads(body), self._settings.link)
        class_ = event.text("class")
        labels = {"alertname": NAMES.get(class_, "Alarm"), "line": one_line(event.line), "class": class_, "alarm": one_line(event.alarm)}
        labels |= {key: event.text(key) for key in ("condition", "priority")}
        annotations = {"summary": title, "description": text, "state": event.text("state"), "reason": event.text("reason")}
        alert = {
            "labels": {key: value for key, value in {**labels, **self._settings.labels}.items() if value},
            "annotations": {key: value for key, value in annotations.items() if value},
            "startsAt": iso(start),
            "endsAt": iso(end),
        }
        return alert | ({"generatorURL": self._settings.link} if self._settings.link else {})

    def _send_again(self) -> None:
        while not self._stop.wait(self._settings.again_s):
            with self._lock:
                end = iso(self._clock() + self._settings.keep_s)
                alerts = [alert | {"endsAt": end} for alert in self._on.values()]
                for first in range(0, len(alerts), AT_ONCE):
                    try:
                        self._again_http.post(json.dumps(alerts[first : first + AT_ONCE]).encode(), self._headers)
                    except SinkError:  # it is away: the next event tells that, and all are sent again in a while
                        break
