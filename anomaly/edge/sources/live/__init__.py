"""Live sources: a thread that connects again and again, for cameras, MQTT, Kafka and OPC UA."""
