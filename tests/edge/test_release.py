"""Bundles that change while a line runs."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle, read_bundle, write_bundle
from anomaly.edge.monitor import Monitor
from anomaly.edge.release import Release, check_same_input, open_detector
from anomaly.edge.runtime.session import Session
from anomaly.edge.sources.uri import open_source
from anomaly.errors import BundleError
from tests.conftest import Fitted
from tests.edge.conftest import other_version


def point(folder: Path, role: str, name: str, digest: str) -> None:
    (folder / f"{role}.json").write_text(json.dumps({"bundle": name, "hash": digest, "name": "pump", "version": "x"}))


@pytest.fixture
def folder(sensor: Fitted, tmp_path: Path) -> Path:
    release = tmp_path / "release"
    release.mkdir()
    point(release, "champion", "one.anomaly", other_version(sensor.bundle, release / "one.anomaly", "1"))
    return release


def open_on_cpu(bundle: Bundle) -> Session:
    return Session(bundle.detector, "cpu")


def line(sensor: Fitted, tmp_path: Path, release: Release, rows: int = 400) -> tuple[Monitor, Path]:
    feed = tmp_path / "feed.csv"
    lines = (sensor.data / "train.csv").read_text().splitlines(keepends=True)
    feed.write_text("".join(lines[: rows + 1]))
    loaded, _ = release.first()
    store = Store(tmp_path / "s.db")
    source = open_source(str(feed), loaded.bundle.manifest.input, lambda _: False, {})
    return Monitor(loaded.bundle, loaded.session, source, store, "l", release=release), feed


def more(sensor: Fitted, feed: Path, start: int, stop: int) -> None:
    lines = (sensor.data / "train.csv").read_text().splitlines(keepends=True)
    with feed.open("a") as stream:
        stream.writelines(lines[start + 1 : stop + 1])


def kinds(store: Store) -> list[str]:
    return [e["type"].rpartition(".")[2] for e in store.events() if ".bundle." in e["type"]]


def test_a_new_champion_is_taken_between_two_records_and_a_challenger_runs_beside(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, feed = line(sensor, tmp_path, release)
    first = loop.bundle.hash
    loop.run(threading.Event(), once=True)
    second = other_version(sensor.bundle, folder / "two.anomaly", "2")
    point(folder, "champion", "two.anomaly", second)
    third = other_version(sensor.bundle, folder / "three.anomaly", "3")
    point(folder, "challenger", "three.anomaly", third)
    release.look()
    more(sensor, feed, 400, 700)
    loop.run(threading.Event(), once=True)
    assert loop.bundle.hash == second
    assert kinds(loop.store) == ["swapped"]
    assert loop.store.scored_by("l") == {first: 371, second: 300}
    shadow = loop.store.shadow("l")
    assert len(shadow) == 300
    assert {row[4] for row in shadow} == {third}
    (folder / "challenger.json").unlink()
    release.look()
    more(sensor, feed, 700, 710)
    loop.run(threading.Event(), once=True)
    assert len(loop.store.shadow("l")) == 300
    assert loop._probation is None  # passed
    release.close()


def test_what_is_damaged_foreign_or_fails_its_self_test_is_refused_once_and_the_line_goes_on(
    sensor: Fitted, camera: Fitted, folder: Path, tmp_path: Path
) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, feed = line(sensor, tmp_path, release)
    before = loop.bundle.hash
    good = read_bundle(sensor.bundle)
    reasons = []
    forged = dict(good.members) | {"detector.onnx": good.detector[: len(good.detector) // 2]}
    cases = {
        "camera.anomaly": read_bundle(camera.bundle).hash,
        "cut.anomaly": other_version(sensor.bundle, folder / "cut.anomaly", "4"),
        "graph.anomaly": write_bundle(folder / "graph.anomaly", good.manifest.model_copy(update={"version": "5", "members": {}}), forged),
        "other.anomaly": other_version(sensor.bundle, folder / "other.anomaly", "6"),
    }
    (folder / "camera.anomaly").write_bytes(camera.bundle.read_bytes())
    whole = (folder / "cut.anomaly").read_bytes()
    (folder / "cut.anomaly").write_bytes(whole[:-100])
    cases["other.anomaly"] = "0" * 64
    for name, digest in cases.items():
        point(folder, "champion", name, digest)
        release.look()
        release.look()  # told once
        more(sensor, feed, 400, 401)
        reasons += [c.refused for c in release.take()]
    assert [next(w for w in ("another input", "not a whole bundle", "cannot be loaded", "pointer says") if w in r) for r in reasons] == [
        "another input", "not a whole bundle", "cannot be loaded", "pointer says",
    ]  # fmt: skip
    assert not [reason for reason in reasons if str(folder) in reason]  # it is told on the page, and to sinks
    (folder / "champion.json").write_text("{half")
    release.look()
    assert release.take() == []
    assert "champion.json: not a pointer to a bundle" in release.trouble
    loop.run(threading.Event(), once=True)
    assert loop.bundle.hash == before
    release.close()


def test_a_champion_that_goes_wild_is_rolled_back_and_never_taken_again(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, feed = line(sensor, tmp_path, release)
    good = loop.bundle.hash
    loop.run(threading.Event(), once=True)
    manifest = read_bundle(sensor.bundle).manifest
    wild = other_version(sensor.bundle, folder / "wild.anomaly", "7", threshold=manifest.threshold.model_copy(update={"p_value": 0.999}))
    point(folder, "champion", "wild.anomaly", wild)
    release.look()
    more(sensor, feed, 400, 460)
    loop.run(threading.Event(), once=True)
    assert loop.bundle.hash == good
    assert kinds(loop.store) == ["swapped", "rolled_back"]
    assert set(loop.store.scored_by("l")) == {good}
    release.look()
    assert release.take() == []
    release.close()
    again = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    assert wild in again._refused
    again.close()


def test_a_release_by_url_and_the_last_good_one_without_the_network(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f"http://127.0.0.1:{server.server_port}"
    release = Release(where, tmp_path / "keep", open_on_cpu, every_s=1e9)
    loaded, why = release.first()
    assert why == ""
    second = other_version(sensor.bundle, tmp_path / "two.anomaly", "2")
    point(folder, "champion", "two.anomaly", second)
    release.look()
    release.look()
    (change,) = release.take()  # told once
    assert change.refused.endswith("two.anomaly: not there, though the pointer names it; tried again")
    (tmp_path / "two.anomaly").rename(folder / "two.anomaly")
    release.look()
    (change,) = release.take()
    assert change.loaded is not None
    assert change.loaded.bundle.hash == second
    third = other_version(sensor.bundle, folder / "three.anomaly", "3")
    point(folder, "challenger", "three.anomaly", third)
    release.look()
    assert release.take()[0].loaded is not None
    kept = tmp_path / "keep"
    assert json.loads((kept / "last-good.json").read_text())["hash"] == loaded.bundle.hash  # the second has not proved itself yet
    release.confirm(change.loaded.bundle)
    assert [path.name for path in (kept / "fetched").iterdir()] == ["two.anomaly"]  # nothing heaps up
    release.close()
    server.shutdown()
    server.server_close()
    off = Release(where, tmp_path / "keep", open_on_cpu, every_s=1e9)
    again, why = off.first()
    assert again.bundle.hash == second  # it proved itself
    assert "cannot be fetched" in why
    off.close()
    with pytest.raises(BundleError, match="cannot be fetched"):
        Release(where, tmp_path / "empty", open_on_cpu).first()


def test_a_champion_that_was_taken_back_stays_taken_back_after_a_restart(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, _ = line(sensor, tmp_path, release)
    good = loop.bundle.hash
    manifest = read_bundle(sensor.bundle).manifest
    wild = other_version(sensor.bundle, folder / "wild.anomaly", "7", threshold=manifest.threshold.model_copy(update={"p_value": 0.999}))
    point(folder, "champion", "wild.anomaly", wild)
    release.look()
    loop.run(threading.Event(), once=True)
    assert loop.bundle.hash == good
    release.close()
    again = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loaded, why = again.first()
    assert loaded.bundle.hash == good
    assert f"its champion {wild[:12]} was taken back here (it flagged" in why
    again.look()
    assert again.take() == []
    again.close()
    (tmp_path / "keep" / "last-good.json").unlink()  # and where nothing else is left, that is said instead of running it
    with pytest.raises(BundleError, match="was taken back here"):
        Release(str(folder), tmp_path / "keep", open_on_cpu).first()


def test_what_version_080_refused_stays_refused(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    champion = json.loads((folder / "champion.json").read_text())["hash"]
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "refused.json").write_text(json.dumps([champion]))
    with pytest.raises(BundleError, match="was taken back here"):
        Release(str(folder), tmp_path / "keep", open_on_cpu).first()


def test_a_restart_does_not_end_the_probation_of_a_new_champion(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, _ = line(sensor, tmp_path, release)
    good = loop.bundle.hash
    release.close()
    manifest = read_bundle(sensor.bundle).manifest
    wild = other_version(sensor.bundle, folder / "wild.anomaly", "7", threshold=manifest.threshold.model_copy(update={"p_value": 0.999}))
    point(folder, "champion", "wild.anomaly", wild)
    again = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, _ = line(sensor, tmp_path, again)
    assert loop.bundle.hash == wild
    loop.run(threading.Event(), once=True)
    assert loop.bundle.hash == good
    assert kinds(loop.store) == ["rolled_back"]
    again.close()


@pytest.mark.parametrize("missing", ["its end", "all but a byte", "the file", "its middle"])
def test_a_bundle_that_is_still_being_copied_is_taken_once_it_is_whole(sensor: Fitted, folder: Path, tmp_path: Path, missing: str) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    release.first()
    second = other_version(sensor.bundle, folder / "two.anomaly", "2")
    whole = (folder / "two.anomaly").read_bytes()
    part = {"its end": whole[:-500], "all but a byte": whole[:1], "its middle": whole[:2000] + bytes(len(whole) - 4000) + whole[-2000:]}
    (folder / "two.anomaly").unlink()
    if missing in part:
        (folder / "two.anomaly").write_bytes(part[missing])
    point(folder, "champion", "two.anomaly", second)
    for _ in range(3):
        release.look()
    (told,) = release.take()  # once
    assert told.refused.endswith("; tried again")
    (folder / "two.anomaly").write_bytes(whole)
    release.look()
    (change,) = release.take()
    assert change.loaded is not None
    assert change.loaded.bundle.hash == second
    release.close()


def test_a_release_that_is_gone_is_told_once_and_when_it_is_back(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, _ = line(sensor, tmp_path, release)
    now = [1000.0]
    loop.clock = lambda: now[0]
    loop.silent_after_s = None

    def turns(count: int) -> list[str]:
        for _ in range(count):
            now[0] += 10
            release.look()
            loop.turn(threading.Event())
        found = [event for event in loop.store.events() if event["data"].get("condition") == "release"]
        return [event["type"].rpartition(".")[2] for event in found]

    assert turns(10) == []
    folder.rename(tmp_path / "away")
    assert turns(3) == []  # a moment is no matter
    assert turns(20) == ["opened"]
    (tmp_path / "away").rename(folder)
    assert turns(10) == ["opened", "closed"]
    release.close()


def test_the_last_good_bundle_of_one_release_is_no_use_to_another(folder: Path, tmp_path: Path) -> None:
    """Two monitors on one store; before, the second ran the bundle of the first one's machine when its own release was away."""
    first, _, why = open_detector(str(folder), tmp_path / "keep", open_on_cpu)
    assert not why
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(BundleError):
        open_detector(str(other), tmp_path / "keep", open_on_cpu)
    folder.rename(tmp_path / "unmounted")
    again, release, why = open_detector(str(folder), tmp_path / "keep", open_on_cpu)
    assert again.bundle.hash == first.bundle.hash
    assert release is not None
    assert "champion.json" in why


def test_a_bundle_with_another_window_says_how_to_keep_the_one_in_use(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    running = bundle.manifest.input.model_copy(update={"window": 66})
    with pytest.raises(
        BundleError, match=r"window of 30 rows in place of 66: \[input\] window = 66 in its spec keeps it; stop the monitor"
    ):
        check_same_input(running, bundle)


def test_a_bundle_that_takes_another_offset_off_its_readings_is_refused(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    schema = bundle.manifest.input
    running = schema.model_copy(update={"sensors": tuple(channel.model_copy(update={"offset": 1e9}) for channel in schema.sensors)})
    check_same_input(schema, bundle)
    with pytest.raises(BundleError, match="`offset` of sensors differ"):
        check_same_input(running, bundle)
