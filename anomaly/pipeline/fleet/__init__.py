"""Many lines at once: a table of lines, and the work of one of them, whose failure is a row of the summary."""

from anomaly.pipeline.fleet.lines import Fleet, FleetLine, read_fleet
from anomaly.pipeline.fleet.work import Outcome, fit_line, report_on_line, summary

__all__ = ["Fleet", "FleetLine", "Outcome", "fit_line", "read_fleet", "report_on_line", "summary"]
