"""Delivery of events from the store's outbox to the sinks: a lane a sink, at least once, in order per alarm."""

from anomaly.alarms.delivery.supervisor import Delivery, delivering

__all__ = ["Delivery", "delivering"]
