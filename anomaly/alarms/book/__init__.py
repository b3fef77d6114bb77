"""The alarms of a line as people know them: states and priorities by ISA-18.2 / IEC 62682, and what holds alarms back."""

from anomaly.alarms.book.book import BY_MODE, AlarmBook, Changes
from anomaly.alarms.book.isa import PROCESS, WHOLE_LINE, Alarm, Hold, HoldKind, State, condition_of
from anomaly.alarms.book.label import Box, Label, PictureLabel, Stretch, Verdict

__all__ = [
    "BY_MODE", "PROCESS", "WHOLE_LINE", "Alarm", "AlarmBook", "Box", "Changes", "Hold", "HoldKind", "Label", "PictureLabel", "State",
    "Stretch", "Verdict", "condition_of",
]  # fmt: skip
