"""When flagged records become an alarm (life), alarms on the data itself (quality), the event store, and delivery to sinks."""
