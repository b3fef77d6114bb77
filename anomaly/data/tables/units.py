"""Units of measure are shown to people and never converted, so any text is taken; a unit that pint does not know is pointed out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


def unknown_units(units: Iterable[str]) -> list[str]:
    """Those of the units that pint does not know, each once: a misspelling, or one that plants use all the same.

    >>> unknown_units(["m3/h", "degC", "barg", "", "NTU", "barg"])
    ['barg', 'NTU']
    """
    asked = list(dict.fromkeys(unit for unit in units if unit))
    if not asked:
        return []
    import pint  # slow to import, and of the training side alone

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry()
    unknown = []
    for unit in asked:
        written = re.sub(r"(?<=[A-Za-z])([23])\b", r"**\1", unit)  # m3/h is how plants write m**3/h
        try:
            registry.parse_units(written)
        except Exception:  # pint raises its own, tokenizer and attribute errors alike
            unknown.append(unit)
    return unknown
