"""What a bundle is, in words, for `anomaly bundle inspect`. Needs the plant side alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anomaly.alarms.wording import rules_words
from anomaly.data.clock import rate_words, span_words
from anomaly.data.tables.units import with_unit
from anomaly.errors import BundleError
from anomaly.names import one_line

if TYPE_CHECKING:
    from anomaly.bundle.archive import Bundle
    from anomaly.bundle.manifest import Manifest

SHOWN = 8  # sensors by name
DOTS = {"float": "32 bits (as fitted)", "fp16": "16 bits", "int8": "8 bits"}


def bundle_page(bundle: Bundle) -> list[str]:
    """A page on a bundle: a sentence, then a line a fact, each with its name first."""
    manifest = bundle.manifest
    kind = {"image": "pictures", "window": "readings"}.get(manifest.input.name, manifest.input.name)
    on = bundle.path.stat()
    facts = [
        ("takes", _takes(manifest)),
        ("learnt from", _learnt(manifest.provenance.get("fit", {}))),
        ("budget", _budget(manifest)),
        ("flags", _flags(manifest)),
        ("alarm", rules_words(manifest.alarm)),
        ("judged", _judged(manifest.metrics)),
        ("runs as", _variants(bundle)),
        ("from data", _data(manifest.provenance)),
        ("starts from", _source(manifest.provenance)),
        ("made by", str(manifest.provenance.get("code", ""))),
        ("file", f"{on.st_size / 1e6:.1f} MB, written {datetime.fromtimestamp(on.st_mtime, UTC):%Y-%m-%d %H:%M} UTC"),
        ("hash", bundle.hash),
        ("signed", "yes" if bundle.signed else "no"),
        *(("in use", text) for text in _in_use(bundle)),
    ]
    head = f"{manifest.name}: a detector of {kind}, version {manifest.version}"
    return [one_line(head), *(one_line(f"  {f'{name}:':12} {text}") for name, text in facts if text)]


def _takes(manifest: Manifest) -> str:
    asked = manifest.input
    if asked.name == "image":
        color = {1: "gray", 3: "color"}.get(asked.channels, f"{asked.channels}-channel")
        size = manifest.provenance.get("fit", {}).get("extractor", {}).get("plan", {}).get("input", {}).get("size")
        looked = f", looked at with {size[0]} x {size[1]} pixels (high x wide)" if isinstance(size, list) and len(size) == 2 else ""
        return f"{color} pictures of {8 if asked.dtype == 'uint8' else asked.significant_bits or 16} bits{looked}"
    if asked.name != "window":
        return ""
    names = [with_unit(sensor.name, f"({sensor.unit})" if sensor.unit else "") for sensor in asked.sensors]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    rows = asked.window or 1
    every = f", a row every {span_words(asked.period_s)}" if asked.period_s else ""
    lasts = f" ({span_words(rows * asked.period_s)})" if asked.period_s else ""
    return f"{len(names)} sensors: {', '.join(names[:SHOWN])}{more}{every}; judged in windows of {rows} rows{lasts}"


def _learnt(fit: dict[str, Any]) -> str:
    told = [str(text) for text in fit.get("pictures", ())] or ([f"{fit['learnt']} of readings"] if fit.get("learnt") else [])
    return "; ".join(told) or (f"{fit['normals']} normal records" if fit.get("normals") else "")


def _data(provenance: dict[str, Any]) -> str:
    """By which data can be known again, and what of it was not learnt from."""
    known = str(provenance.get("data_sha256", ""))
    left_out = provenance.get("spec", {}).get("input", {}).get("leave_out") or ()
    what = "stretch" if provenance.get("spec", {}).get("kind") == "sensor" else "picture"
    plural = {"stretch": "stretches", "picture": "pictures"}[what]
    less = f", less {len(left_out)} {what if len(left_out) == 1 else plural} that [input] leave_out names" if left_out else ""
    return f"SHA-256 {known[:16]}{less}" if known else ""


def _source(provenance: dict[str, Any]) -> str:
    """The network or the line that its extractor began with."""
    transfer = provenance.get("spec", {}).get("transfer", {})
    lent = transfer.get("source") or transfer.get("normals")
    source = provenance.get("fit", {}).get("extractor", {}).get("source")
    backbone = source.get("backbone") if isinstance(source, dict) else None
    network = f"{backbone}, SHA-256 {str(source.get('sha256', ''))[:16]}" if backbone and isinstance(source, dict) else ""
    return "; ".join(part for part in (str(lent) if lent else "", network) if part)


def _in_use(bundle: Bundle) -> list[str]:
    """What was done with it in the release folder that it lies in: who put it in use, and why."""
    from anomaly.bundle.release_folder import HISTORY, ReleaseFolder

    folder = bundle.path.parent
    if not any((folder / name).exists() for name in (HISTORY, "champion.json")):
        return []
    try:
        return [entry.in_words() for entry in ReleaseFolder(folder).history() if bundle.hash in (entry.hash, entry.before)]
    except BundleError as error:  # the folder's trouble is not the bundle's
        return [str(error)]


def _budget(manifest: Manifest) -> str:
    """The budget of the threshold, as a person says it."""
    budget = manifest.threshold.budget
    per_day = budget.get("false_alarms_per_day")
    if per_day is not None:
        return rate_words(per_day)
    one = {"camera": "1 good part", "sensor": "1 normal moment"}.get(manifest.kind, "1 normal record")
    return f"{one} in {1 / (budget.get('false_alarm_rate') or manifest.threshold.p_value):,.4g} may be flagged"


def _flags(manifest: Manifest) -> str:
    """The threshold in words."""
    threshold, calibration = manifest.threshold, manifest.calibration
    score = "" if threshold.score is None else f", which is a score of {threshold.score:.4g} or more"
    rests = " (read off a curve beyond the normals that were seen)" if calibration.get("threshold_is_extrapolated") else ""
    return f"what looks as odd as 1 normal record in {1 / threshold.p_value:,.3g}, or odder (p-value {threshold.p_value:.3g}){score}{rests}"


def _judged(metrics: dict[str, Any]) -> str:
    """What labelled faults said of it when it was fitted."""
    if not metrics.get("n") or metrics.get("recall") is None:
        return "by no labelled fault when it was fitted"
    alarms = metrics.get("false_alarm_rate")
    wrong = "" if alarms is None else f"; of normal records {alarms:.2%} were flagged"
    return f"on {metrics['n']:,} labelled records when it was fitted: {metrics['recall']:.0%} of the faulty ones were flagged{wrong}"


def _variants(bundle: Bundle) -> str:
    """The arithmetic that it carries."""
    from anomaly.bundle.archive import VARIANTS

    return ", ".join(DOTS[name] for name, member in VARIANTS.items() if member in bundle.members)
