"""What was tried beside a plain fit, whether it is taken, and why."""

from __future__ import annotations

from typing import Any

from anomaly.cli.terminal.console import err, out, print_verdict


def print_transfer(found: dict[str, Any]) -> None:
    """The verdict of the guard, then a line a method."""
    from anomaly.evaluation.report.tried import transfer_words

    print_verdict(transfer_words(found), under="  ")
    if found.get("negative_transfer"):
        err.print(f"negative transfer: {', '.join(found['negative_transfer'])} made it worse than this line alone", style="bold")
    print_few_labels(found)


def print_few_labels(found: dict[str, Any]) -> None:
    """Whether labelled faults are used, and what they gain."""
    from anomaly.evaluation.report.tried import few_label_words

    for text in few_label_words(found):
        out.print(f"  {text}", soft_wrap=True)
