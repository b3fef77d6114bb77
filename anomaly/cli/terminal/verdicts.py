"""What was tried beside a plain fit, whether it is taken, and why."""

from __future__ import annotations

from typing import Any

from anomaly.cli.terminal.console import err, out


def print_transfer(found: dict[str, Any]) -> None:
    """What the guard found, a line a way."""
    if found.get("ways"):
        out.print(f"  target only              AUROC on made-up faults {found['target_only_auroc']:.4f}")
    for way, figures in found.get("ways", {}).items():
        low, high = figures["gain_ci95"]
        out.print(f"  {way:24} {figures['auroc']:.4f}  {figures['gain']:+.4f} ({low:+.4f} to {high:+.4f})  {figures['verdict']}")
    if found.get("negative_transfer"):
        err.print(f"negative transfer: {', '.join(found['negative_transfer'])} made it worse than the target alone", style="bold")
    if "method" in found:
        out.print(f"taken: {found['method']}; {found['why']}")
    print_few_labels(found)


def print_few_labels(found: dict[str, Any]) -> None:
    """Whether labelled faults make a vote, and what it gains."""
    if "few_labels" not in found:
        return
    labels = found["few_labels"]
    told = labels.get("why")
    if told is None:
        over = labels["over_normal_only"]
        told = "{:+.4f} ({:+.4f} to {:+.4f}) over the normal-only score".format(over["gain"], *over["gain_ci95"])
    vote = "not kept" if labels["vote"] == "none" else f"kept ({labels['vote']})"
    out.print(f"  labelled faults ({labels['faults']}): their vote is {vote}; {told}")
