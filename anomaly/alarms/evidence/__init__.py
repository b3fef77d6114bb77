"""Evidence of alarms: the picture with its map, or the readings of the sensors that speak; of the opening and of the worst record."""

from anomaly.alarms.evidence.keeper import Keeper, going_on
from anomaly.alarms.evidence.made import EVIDENCE_BYTES, Evidence, Role, check_boxes, check_marks, meant

__all__ = ["EVIDENCE_BYTES", "Evidence", "Keeper", "Role", "check_boxes", "check_marks", "going_on", "meant"]
