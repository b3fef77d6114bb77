"""The weekly report of a store's lines: figures of alarms by ISA-18.2, labels, drift and uptime, as one HTML page."""

from anomaly.alarms.weekly.figures import Week, figures_of, week_of
from anomaly.alarms.weekly.page import render, write_pdf

__all__ = ["Week", "figures_of", "render", "week_of", "write_pdf"]
