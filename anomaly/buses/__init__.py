"""What sources and sinks of a plant's buses share: an MQTT connection, and the Sparkplug B payload."""
