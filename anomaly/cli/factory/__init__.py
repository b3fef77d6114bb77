"""Commands for those who look after many lines."""
