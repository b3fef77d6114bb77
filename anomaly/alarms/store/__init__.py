"""The store: scores, conditions, alarms, events with their outbox rows, and where each source was read to, in one SQLite file.

What belongs together is committed together: after a crash either a batch of records is in with all its events and the
source's new position, or none of it is and the records are read again. WAL mode; every commit with an event reaches the disk.
"""

from anomaly.alarms.store.batch import THRESHOLD, ZONE, Batch, Scored
from anomaly.alarms.store.outbox import Waiting
from anomaly.alarms.store.retention import LIMIT_BYTES
from anomaly.alarms.store.store import Store

__all__ = ["LIMIT_BYTES", "THRESHOLD", "ZONE", "Batch", "Scored", "Store", "Waiting"]
