"""What a sink is, and what the settings of all sinks share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from anomaly.errors import SpecError


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


class SinkSettings(BaseModel, ABC):
    """One `[[sink]]` of alerts.toml. Each kind of sink subclasses it with `kind: Literal[...]` and its own keys."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")
    timeout_s: float = Field(10.0, ge=1, le=300, description="seconds that one try may take in all")

    @abstractmethod
    def open(self, where: Path) -> Sink:
        """The sink. `where` is the settings' file, for errors. Raises SpecError when it cannot be used."""


def read_secret(where: Path, variable: str) -> str:
    """The value of an environment variable. Raises SpecError when it is not set."""
    value = os.environ.get(variable)
    if not value:
        raise SpecError(f"{where}: the environment variable {variable} is not set; set it to the secret it stands for")
    return value
