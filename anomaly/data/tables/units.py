"""Units of measure are shown to people and never converted, so any text is taken; one that is unknown is pointed out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

USUAL = ("degC", "bar", "kPa", "m3/h", "l/min", "mm/s", "rpm", "A", "V", "kW", "%")


def unknown_units(units: Iterable[str]) -> dict[str, str]:
    """Those of the units that pint does not know, each with the usual unit it is most like, or "" when it is like none.

    >>> unknown_units(["m3/h", "degC", "barr", "NTU"])
    {'barr': 'bar', 'NTU': ''}
    """
    asked = list(dict.fromkeys(unit for unit in units if unit))
    if not asked:
        return {}
    import pint  # slow to import, and of the training side alone

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry()
    unknown = {}
    for unit in asked:
        written = re.sub(r"(?<=[A-Za-z])([23])\b", r"**\1", unit)  # m3/h is how plants write m**3/h
        try:
            registry.parse_units(written)
        except Exception:  # pint raises its own, tokenizer and attribute errors alike
            near = difflib.get_close_matches(unit, USUAL, n=1)
            unknown[unit] = near[0] if near else ""
    return unknown
