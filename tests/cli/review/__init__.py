"""Commands that look back at alarms."""
