"""What is told of a fit once it is done."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly.cli.terminal.console import err, out
from anomaly.cli.terminal.verdicts import print_few_labels
from anomaly.errors import AnomalyError
from anomaly.progress import finished

if TYPE_CHECKING:
    from anomaly.bundle.archive import Bundle
    from anomaly.pipeline.steps import Steps

NOT_ASKED = "not asked for"  # why there is no adaptation where the spec wants none


def print_adaptation(found: dict[str, Any]) -> None:
    """Whether the extractor is one adapted to the normals, and why, with what was gained."""
    if found.get("why", NOT_ASKED) != NOT_ASKED:
        out.print(f"  adaptation to the normals {'kept' if found['kept'] else 'not kept'}: {found['why']}")


def _print_made_up(fit_report: dict[str, Any]) -> None:
    """How well made-up faults are told from held-out normals."""
    from anomaly.evaluation.injected import hardly_any

    out.print(f"  made-up faults on held-out normals: AUROC {fit_report['injected_auroc']:.3f}")
    marks = fit_report.get("marks")
    if marks and marks["words"]:  # none where no mark found a place
        out.print(f"  {marks['words']}", soft_wrap=True)
        if marks["warning"]:
            out.print(f"  warning: {marks['warning']}", soft_wrap=True)
    if found := fit_report.get("injected_found"):
        best = sorted(found.items(), key=lambda item: -item[1])
        out.print("    found, at the threshold: " + ", ".join(f"{kind.replace('_', ' ')} {share:.0%}" for kind, share in best))
        if hardly_any(found):
            out.print(
                "  warning: hardly any made-up fault is found. Either the normals vary that much, or faults among them set the threshold:"
            )
            out.print("    look at what stands out below; where it is a fault, label it (--faults) or take it out, and fit again")


def leave_report(steps: Steps, bundle: Bundle, asked: Path | None) -> Path | None:
    """Write the fit's report, beside the bundle when it is not asked for elsewhere. None, and a note, where it cannot be written.

    A report that is there of the same bundle stays when nothing was fitted anew, and so does a file that is no report.
    """
    from anomaly.evaluation.report.page import is_report
    from anomaly.pipeline.assess import report_on_fit

    path = asked or bundle.path.with_suffix(".html")
    there = is_report(path) if path.is_file() else None
    if asked is None and there is False:
        err.print(f"note: {path} is there and is no report, so none was written; name another file: --report FILE")
        return None
    if not steps.trained and there and bundle.hash in path.read_text(encoding="utf-8", errors="replace"):
        return path
    say = steps.told["report"]
    say("report")
    try:
        report_on_fit(steps, bundle, path)
        finished(say)
    except (AnomalyError, OSError) as error:
        err.print(f"note: no report: {error}")
        return None
    return path


def _print_promise(bundle: Bundle, steps: Steps) -> None:
    """What to expect of the threshold, and what it rests on."""
    from anomaly.alarms.wording import rules_words
    from anomaly.evaluation.report.detector import threshold_words
    from anomaly.pipeline.report.fitted import held_out_words

    manifest, fitted = bundle.manifest.model_dump(mode="json"), steps.fitted
    expect, seen = held_out_words(manifest, fitted.held_out, fitted.effective)
    out.print(f"  {expect}", style="bold")
    for text in (seen, *threshold_words(manifest), rules_words(bundle.manifest.alarm)):
        out.print(f"  {text}")
    for note in filter(None, (manifest["calibration"]["too_short"], manifest["calibration"]["too_coarse"])):
        out.print(f"  note: {note}")


def _print_suspects(bundle: Bundle, steps: Steps) -> None:
    """The normals that stand out so far that a person should look at them."""
    from anomaly.evaluation.report.detector import standing_out

    found = bundle.manifest.provenance["fit"].get("suspects", {})
    suspects = list(standing_out(found, bundle.manifest.threshold.score, float(np.median(steps.fitted.held_out))).items())
    if suspects:
        reached = suspects[0][1] >= (bundle.manifest.threshold.score or -np.inf)
        none = "" if reached else "none is flagged; "
        out.print(
            f"  {len(suspects)} among the normals stand out, for a person to look at ({none}all are in the report); the worst, by score:"
        )
    for where, value in suspects[:5]:
        out.print(f"    {where}: {value:.4g}")


def _print_cost(fit_report: dict[str, Any]) -> None:
    """About what a picture costs at the size that was chosen, and what bounds it; nothing of readings, which cost next to nothing."""
    size = fit_report["extractor"].get("plan", {}).get("input", {}).get("size")
    if size is None:
        return
    from anomaly.pipeline.camera.plan.sizes import in_words, milliseconds

    chosen = (int(size[0]), int(size[1]))
    cost = f"a picture is looked at with {in_words(chosen)} pixels: about {milliseconds(chosen):.2g} ms on two usual cores in int8"
    out.print(f"  {cost}; `[input] max_ms` bounds it, `anomaly bench` measures it", soft_wrap=True)


def print_fit(bundle: Bundle, steps: Steps, data: Path, unknown: Sequence[str]) -> None:
    """The bundle that was made, how it judges, what stood out among the normals and what was set aside."""
    from anomaly.pipeline.kinds import KINDS

    path, manifest = bundle.path, bundle.manifest
    fit_report = manifest.provenance["fit"]
    if not steps.trained:
        out.print("nothing has changed since the last fit: taken from the work folder")
    out.print(f"bundle: {path}  ({path.stat().st_size / 1e6:.1f} MB, hash {bundle.hash[:12]})")
    for text in fit_report.get("tables", ()):
        out.print(f"  {text}")
    _print_promise(bundle, steps)
    _print_cost(fit_report)
    for text in fit_report.get("views", {}).get("why", ()):
        out.print(f"  looked at: {text}")
    _print_made_up(fit_report)
    print_adaptation(fit_report["extractor"].get("adaptation", {}))
    print_few_labels(fit_report["extractor"].get("transfer", {}))
    if steps.quick and KINDS[manifest.kind].has_variants:
        extractor = [] if steps.extractor is None else ["--extractor", str(steps.extractor)]
        later = shlex.join(["anomaly", "bundle", "variants", str(path), "--data", str(data), *extractor, "--work", str(steps.work)])
        out.print(f"  without the fp16 and int8 variants; to add them: {later}")
    if unknown:
        out.print(f"  note: units that pint does not know, shown as they are written: {', '.join(unknown)}")
    _print_suspects(bundle, steps)
    for reason in list(fit_report.get("rejected", {}).values())[:10]:
        err.print(f"  set aside: {reason}")
    for name, care in fit_report.get("care", {}).items():
        if set(care) - {"rows"}:
            out.print(f"  {name}: " + ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in care.items()))
    for note in steps.line.notes() if steps.trained else []:
        err.print(f"  {note}")
