"""The scorer of sensor windows: `deviation`; `windows` has features by sensor and by position."""
