"""Sinks on the plant's own buses: MQTT, Sparkplug B, OPC UA."""
