"""Which variant of a bundle's graph is the quickest on this machine, as `anomaly bench --choose` found it; kept for later starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from anomaly.atomic import write_text
from anomaly.cache import cache_folder


def read_variants(bundle_hash: str) -> dict[str, str]:
    """Provider -> the variant that was quickest here for a bundle; {} when none was measured, or the file is damaged."""
    try:
        found = json.loads((cache_folder() / f"{bundle_hash[:16]}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def write_variants(bundle_hash: str, variants: Mapping[str, str]) -> Path:
    """Keep provider -> variant, beside earlier entries for other providers. Returns the file."""
    path = cache_folder() / f"{bundle_hash[:16]}.json"
    write_text(path, json.dumps({**read_variants(bundle_hash), **variants}, indent=1, sort_keys=True) + "\n")
    return path
