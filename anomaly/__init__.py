"""Industrial anomaly detection: from normal records to an alarm that can be trusted."""

__version__ = "0.8.0"
