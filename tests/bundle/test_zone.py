"""The zone that a bundle names is known before it is opened; a file that is none tells nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.bundle.archive import zone_told
from anomaly.schema import Dialect
from tests.edge.tiny import WINDOW, tiny_bundle


@pytest.mark.parametrize("zone", ["", "Asia/Tokyo"])
def test_the_zone_of_a_bundle(tmp_path: Path, zone: str) -> None:
    tiny_bundle(tmp_path / "b.anomaly", WINDOW.model_copy(update={"dialect": Dialect(zone=zone)}))
    assert zone_told(tmp_path / "b.anomaly") == zone


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 broken"])
def test_what_is_no_bundle_tells_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "b.anomaly").write_bytes(content)
    assert zone_told(tmp_path / "b.anomaly") == ""
