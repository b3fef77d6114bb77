"""Evidence and labels of alarms in the store."""
