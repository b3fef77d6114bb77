"""Buses of a plant, for what is read from them and told on them: MQTT, Sparkplug B, and how long a lost connection waits."""
