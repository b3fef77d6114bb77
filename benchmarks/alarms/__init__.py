"""The life of alarms, their delivery and their store."""
