"""What becomes of labels: files that the next fit learns from, and how many alarms were real."""

from anomaly.alarms.labels.export import Exported, export_labels

__all__ = ["Exported", "export_labels"]
