"""The book of a line's alarms as its monitor keeps it: what people do in other processes is seen at the next turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from anomaly.alarms.book import Changes
from anomaly.alarms.events import Event
from anomaly.alarms.flood import FloodControl, Rejections
from anomaly.alarms.health.log import LineLog
from anomaly.alarms.store import Batch, Store
from anomaly.errors import StoreError
from anomaly.schema import AlarmSettings, InputSchema


class LineBook:
    """Stands between what detection says of a line and what is stored and sent."""

    def __init__(self, store: Store, line: str) -> None:
        self._store, self._line = store, line
        self._settings = AlarmSettings()
        self._version = store.data_version()
        self._acted: int | None = store.acted()  # how much of what people did the book knows; None: all that is in a new store
        self._book = store.book(line, self._settings)
        self._pending = Changes()  # what a store that was begun anew does not know
        self._flood = FloodControl(line, store.kept(line, "flood"))
        self._rejections = Rejections(line, store.kept(line, "rejections"))
        self._log = LineLog(line)
        self.zone = ""  # in which people at the line read the clock
        self.last = False  # the source has nothing more, and this turn is the last

    @property
    def kept(self) -> dict[str, str]:
        """What is to be stored beside the book (`Batch.kept`)."""
        return {"flood": self._flood.kept, "rejections": self._rejections.kept}

    def use(self, settings: AlarmSettings, zone: str = "") -> None:
        """Go on by the settings of another bundle, and in its zone."""
        self._settings, self.zone = settings, zone
        self._book.settings = settings

    def due(self, now: float, suppressed: str | None = None) -> bool:
        """Whether something is to be told or stored without an event of detection: a reminder is due, or shelving is over. Cheap."""
        try:
            version = self._store.data_version()
            if version != self._version:
                self._see_what_people_did()
            self._version = version
        except StoreError:
            return False  # whatever is due is told when the store can be used again
        counted = self._flood.due(now) or self._rejections.due(now, self.last)
        return bool(self._pending) or counted or self._book.due(now, suppressed=suppressed)

    def apply(
        self,
        batch: Batch,
        events: Sequence[Event],
        now: float,
        worst: Mapping[str, float] | None = None,
        suppressed: str | None = None,
        reached: Mapping[str, float] | None = None,
        so_far: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[Event]:
        """Take in a turn, inside of the transaction that commits it (`Batch.prepare`); returns all of its events, in order.

        Records set aside and floods of alarms are summed up. What changes becomes part of the batch, as do the ids of events that no sink
        is sent.
        """
        self._see_what_people_did()
        self._book = self._book.copy()
        events = [*events, *self._rejections.take(batch.rejected, now, self.last)]
        if self.zone:
            events = [replace(event, data=event.data | {"zone": self.zone}) for event in events]
        told = self._book.apply(events, now, worst, suppressed, reached, so_far)
        batch.changes = self._book.changes
        batch.changes.alarms = self._pending.alarms | batch.changes.alarms
        batch.changes.began = [*self._pending.began, *batch.changes.began]
        self._pending = Changes()
        sifted = self._flood.sift(told, now, batch.changes.quiet)
        batch.changes.quiet |= sifted.quiet
        batch.kept = {**batch.kept, **self.kept}
        for note in sifted.notes:
            self._log.warning("%s", note)
        return sifted.events

    def prepare(self, now: float) -> Callable[[Batch], None]:
        """For `Batch.prepare`: takes the batch's events in."""

        def take(batch: Batch) -> None:
            batch.events = self.apply(batch, batch.events, now)

        return take

    def begun_anew(self) -> None:
        """The store was lost, and a new one begun: all that is known goes into it with the next batch."""
        self._acted = None
        self._pending = Changes(dict(self._book.alarms), list(self._book.holds.values()))

    def _see_what_people_did(self) -> None:
        acted = self._store.acted()
        if self._acted not in (None, acted):
            self._book = self._store.book(self._line, self._settings)
        self._acted = acted


def suppressed_by(mode: str | None, schema: InputSchema, settings: AlarmSettings) -> str | None:
    """Why the mode of a machine holds alarms back, "" when it does not, None where no mode is known.

    >>> from anomaly.schema import Channel
    >>> flow = (Channel(name="flow"),)
    >>> pump = InputSchema(name="window", dtype="float32", channels=1, sensors=flow, mode_column="mode", modes=("run",))
    >>> suppressed_by("stop", pump, AlarmSettings()), suppressed_by("run", pump, AlarmSettings())
    ("the machine is in mode 'stop'", '')
    """
    if mode is None or schema.mode_column is None:
        return None
    by_design = mode not in schema.modes if settings.suppress_in_modes is None else mode in settings.suppress_in_modes
    return f"the machine is in mode {mode!r}" if by_design else ""
