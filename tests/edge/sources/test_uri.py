"""Which source a URI names."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.edge.sources.csv_file import CsvSource
from anomaly.edge.sources.picture_folder import PictureFolder
from anomaly.edge.sources.table_folder import TableFolder
from anomaly.edge.sources.uri import open_source
from anomaly.errors import DataError, SourceError, SpecError
from tests.edge.sources.conftest import IMAGE, SCHEMA


def test_wrong_sources_are_named(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    with pytest.raises(SourceError, match="cannot be read"):
        CsvSource(tmp_path / "none.csv", SCHEMA, {})
    feed.write_text("time,a,c\n")
    with pytest.raises(DataError, match=r"columns \['b'\] are missing, which the bundle needs"):
        CsvSource(feed, SCHEMA, {})
    with pytest.raises(SpecError, match="this bundle takes pictures: give a folder"):
        open_source(str(feed), IMAGE, lambda _: False, {})
    with pytest.raises(SourceError, match="no such folder to watch"):
        open_source(f"folder:{tmp_path / 'none'}", IMAGE, lambda _: False, {})


def test_sources_that_do_not_fit_are_named() -> None:
    with pytest.raises(SpecError, match="this bundle takes sensor rows"):
        open_source("rtsp://127.0.0.1/x", SCHEMA, lambda _: False, {})
    with pytest.raises(DataError, match="write it as mqtt://HOST/TOPIC"):
        open_source("mqtt://127.0.0.1", SCHEMA, lambda _: False, {})
    with pytest.raises(DataError, match="16-bit pictures"):
        open_source("camera:0", IMAGE.model_copy(update={"dtype": "uint16"}), lambda _: False, {})


def test_a_plain_path_is_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "feed.csv").write_text("time,a,b\n0,1,2\n")
    for path, schema, kind in (
        (tmp_path, IMAGE, PictureFolder),
        (tmp_path, SCHEMA, TableFolder),
        (tmp_path / "feed.csv", SCHEMA, CsvSource),
    ):
        assert type(open_source(str(path), schema, lambda _: False, {})) is kind


@pytest.mark.parametrize("uri", ["banana://x", "banana:x", "flder:/data", "RTSP://cam/1"])
def test_an_unknown_scheme_is_said_to_be_one(uri: str) -> None:
    with pytest.raises(SpecError, match=f"no scheme '{uri.partition(':')[0]}' is known; known are folder, rtsp"):
        open_source(uri, SCHEMA, lambda _: False, {})


def test_a_folder_of_pictures_is_refused_by_a_bundle_of_sensors_instead_of_watched_in_vain(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("x")
    with pytest.raises(SpecError, match="a folder of pictures, and this bundle takes sensor rows"):
        open_source(str(tmp_path), SCHEMA, lambda _: False, {})


@pytest.mark.parametrize("uri", ["kafka://plant:port/topic", "opc.tcp://[::1", "mqtt://plant:port/x"])
def test_an_address_that_cannot_be_one_is_an_error_at_once(uri: str) -> None:
    with pytest.raises((SpecError, DataError), match="--source"):
        open_source(uri, SCHEMA, lambda _: False, {})
