"""Commands that look back at alarms: labels, what is kept of alarms, the weekly report. Plant side: no PyTorch."""
