"""Units of measure are shown to people and never converted, so any text is taken; a unit that pint does not know is pointed out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_PLAIN = (
    r"%|‰|°|°C|°F|℃|degC|degF|ppm|ppb|rpm|Upm|[Uu]mdr|U|psi[ag]?|bar[ag]|[mµ]bara?|mmHg|inHg|mmWS|Nm3|Nm³|dB|dBA|pH|NTU|FNU|cP|cSt"
    r"|deg|rad|ft|gal|gpm|cfm|lb|lbs|h|d|min|Std|Stk|St|pcs|Imp|1"
)
_SCALED = r"[kKMGTmcdhnpuµμ]?(?:m|g|s|A|K|V|W|N|J|Hz|Pa|bar|l|L|t|Wh|VA|var|eV|mol|S|F|H|T|Ω|ohm|Ohm|lx|lm|cd|C|rad|Nm)"
_UNIT = rf"(?:{_PLAIN}|{_SCALED})(?:\^?-?[23]|²|³)?"
_UNITS = rf"{_UNIT}(?: ?[/·*] ?{_UNIT}){{0,3}}"
_IN_NAME = re.compile(rf"(?:\[ ?({_UNITS}) ?\]|\( ?({_UNITS}) ?\)|(?<=\s)in ({_UNITS}))\s*$")


def unit_in(name: str) -> str:
    """The unit that a column's name ends with, as people write it: in brackets or after "in"; "" for none.

    >>> [unit_in(name) for name in ("Temperatur [°C]", "Druck (bar)", "Motorstrom in A", "Durchfluss [m³/h]", "Drehzahl (1/min)")]
    ['°C', 'bar', 'A', 'm³/h', '1/min']
    >>> [unit_in(name) for name in ("Druck [2]", "Ventil (links)", "Soll [ist]", "Tank in use", "flow")]
    ['', '', '', '', '']
    """
    found = _IN_NAME.search(name)
    return next((unit for unit in found.groups() if unit), "") if found else ""


def with_unit(name: str, unit: str) -> str:
    """A sensor's name with its unit, once: a name that ends with it stays as it is.

    >>> with_unit("flow", "m3/h"), with_unit("Druck (bar)", "bar")
    ('flow m3/h', 'Druck (bar)')
    >>> with_unit("flow", "(m3/h)"), with_unit("Strom in A", "(A)")
    ('flow (m3/h)', 'Strom in A')
    """
    return name if not unit or unit_in(name) == unit.removeprefix("in ").strip("()") else f"{name} {unit}"


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
