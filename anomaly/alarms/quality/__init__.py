"""Alarms of the data-quality class: conditions of a source, and of its sensors, of which those that fail together are one alarm."""

from anomaly.alarms.quality.quality import (
    CONDITIONS,
    FROZEN_PICTURES,
    FROZEN_ROWS,
    KEPT_BESIDE,
    Quality,
    Repeats,
    Seen,
    constant_rows,
    lost_provider,
    mostly_unread,
    repeated_pictures,
)

__all__ = [
    "CONDITIONS", "FROZEN_PICTURES", "FROZEN_ROWS", "KEPT_BESIDE", "Quality", "Repeats", "Seen", "constant_rows", "lost_provider",
    "mostly_unread", "repeated_pictures",
]  # fmt: skip
