"""Where this machine keeps what it has measured and built, between starts. Everything there can be deleted at any time."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = "ANOMALY_CACHE"  # names another folder


def cache_folder() -> Path:
    """The folder that the environment variable ANOMALY_CACHE names, or `anomaly` in the user's cache folder."""
    named = os.environ.get(CACHE)
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anomaly"
