"""Events in words by Apprise: e-mail, chat, pagers and some hundred more services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from anomaly.alarms.sinks.base import Sink, SinkSettings, read_secret
from anomaly.alarms.wording import describe_message
from anomaly.errors import SinkError, SpecError


class AppriseSettings(SinkSettings):
    for_people = True
    kind: Literal["apprise"]
    url_env: str = Field(description="environment variable that holds the Apprise URL, which carries credentials")

    def open(self, where: Path) -> Sink:
        return AppriseSink(self.name, read_secret(where, self.url_env), self.link)


class AppriseSink:
    """One service, named by an Apprise URL. `link`: the page that messages point to."""

    def __init__(self, name: str, url: str, link: str = "") -> None:
        try:
            import apprise
        except ImportError as error:
            raise SpecError(f"sink {name!r} needs Apprise; run: pip install 'anomaly-pipeline[alerts]'") from error
        self.name = name
        self._link = link
        self._apprise = apprise.Apprise()
        if not self._apprise.add(url):
            raise SpecError(f"sink {name!r}: not a URL that Apprise understands; see its list of services")

    def send(self, body: str, event_id: str) -> None:
        title, text = describe_message(json.loads(body), self._link)
        if not self._apprise.notify(title=title, body=text):
            raise SinkError(f"{self.name}: the service did not take the message")

    def close(self) -> None:
        """Apprise holds no connection between two messages."""
