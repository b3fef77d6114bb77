"""Sparkplug B payloads."""

from __future__ import annotations

import pytest

from anomaly.edge.sources.live.sparkplug import Births, decode
from anomaly.errors import RecordError

BIRTH = bytes.fromhex(
    "08fbd095ffbc31121e0a087072657373757265100118f4d395ffbc31200a69000000000000f43f12160a04666c6f77100218f4d395ffbc31200965000000bf12180a05"
    "76616c7665100318f4d395ffbc31200350f9ffffff0f12110a026f6e100418f4d395ffbc31200b700112190a05636f756e74100518f4d395ffbc312008588080808080"
    "2012140a0474657874100618f4d395ffbc31200c7a017812130a04676f6e65100718f4d395ffbc31200a38011800"
)


DATA = bytes.fromhex("08d0df95ffbc31120b10016900000000000004401209100228016500004040")


def test_sparkplug_births_and_data() -> None:
    births = Births()
    with pytest.raises(RecordError, match="alias 1 of g/n is not known yet"):
        list(births.readings("g/n", False, decode(DATA), 0.0))
    ((moment, readings),) = births.readings("g/n", True, decode(BIRTH), 0.0)
    assert moment == 1_700_000_000.5
    assert readings == {"pressure": 1.25, "flow": -0.5, "valve": -7.0, "on": 1.0, "count": float(1 << 40)}
    assert list(births.readings("g/n", False, decode(DATA), 0.0)) == [(1_700_000_002.0, {"pressure": 2.5})]  # the historical one is left
    for cut in range(1, len(BIRTH) - 2):
        try:
            decode(BIRTH[:cut])
        except RecordError:
            continue
    with pytest.raises(RecordError, match="cut short"):
        decode(BIRTH[:-5])
