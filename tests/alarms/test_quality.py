"""Alarms on the data itself."""

from __future__ import annotations

from anomaly.alarms.quality import Quality, Seen


def test_quality_alarms_open_and_close() -> None:
    quality = Quality("l", {}, 60.0, 0.0)
    look = lambda now, **seen: [(e.kind, e.data["condition"]) for e in quality.look(Seen(**seen), now)]  # noqa: E731
    assert look(0, records=1, frozen="") == []
    assert look(30, trouble="gone") == []
    assert look(41, trouble="gone") == [("opened", "source")]
    assert look(61) == [("closed", "source"), ("opened", "silent")]
    assert look(62, records=1, frozen="the same") == [("closed", "silent"), ("opened", "frozen")]
    assert look(63) == []  # no record tells nothing of frozen
    assert look(64, records=1, frozen="") == [("closed", "frozen")]
    assert look(65, rejected=10) == []
    assert look(66, records=5, rejected=5, frozen="") == [("opened", "rubbish")]
    assert look(67, records=20, frozen="") == [("closed", "rubbish")]
    assert look(68, provider="moved to the CPU") == [("opened", "provider")]
    assert look(10) == [("closed", "provider")]  # the clock was set back: no silence is made of it
    assert look(60) == []
    assert look(71) == [("opened", "silent")]
