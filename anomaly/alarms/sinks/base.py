"""What a sink is, and what the settings of all sinks share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import Field

from anomaly.alarms.routing import Routing
from anomaly.errors import SpecError

TIMEOUT_S = 10.0  # of one try, in all


class Sink(Protocol):
    """Something that takes events. One thread at a time calls it."""

    name: str

    def send(self, body: str, event_id: str) -> None:
        """Deliver one CloudEvents JSON text; `event_id` is the idempotency key.

        Returns when the event is safely there, within the time limit of its settings. Raises SinkError when it is not there: `permanent`
        when it never will be, `retry_after_s` when the receiver says when. Any other exception counts as a failed try, too. A call that
        does not return in time is left alone, and the sink is opened anew.
        """
        ...

    def close(self) -> None:
        """End connections. No `send` follows."""
        ...


@runtime_checkable
class RecallingSink(Sink, Protocol):
    """A sink that shows which alarms are on, beside taking events."""

    def recall(self, told: Sequence[str]) -> None:
        """The last event that it took of each alarm, from before it was opened. Comes before the first `send`, and does not wait."""
        ...


class SinkSettings(Routing, ABC):
    """One `[[sink]]` of alerts.toml. Each kind of sink subclasses it with `kind: Literal[...]` and its own keys.

    `for_people = True` is for kinds whose messages interrupt a person: they get the newest state only, and only what asks for attention.
    """

    timeout_s: float = Field(TIMEOUT_S, ge=1, le=300, description="seconds that one try may take in all")

    @abstractmethod
    def open(self, where: Path) -> Sink:
        """The sink. `where` is the settings' file, for errors. Raises SpecError when it cannot be used."""


@dataclass
class Route:
    """A sink that is open, what it is to be sent, and how to open it anew when a call of it has not come back."""

    routing: Routing
    sink: Sink
    open: Callable[[], Sink]
    timeout_s: float = TIMEOUT_S

    @property
    def name(self) -> str:
        return self.routing.name


def read_secret(where: Path, variable: str) -> str:
    """The value of an environment variable. Raises SpecError when it is not set."""
    value = os.environ.get(variable)
    if not value:
        raise SpecError(f"{where}: the environment variable {variable} is not set; set it to the secret it stands for")
    return value
