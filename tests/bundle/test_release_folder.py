"""A release folder over its life: publish, promote, roll back; who did it, and what cannot be lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from anomaly.bundle.archive import read_bundle, write_bundle
from anomaly.bundle.release_folder import HISTORY, ReleaseFolder
from anomaly.errors import BundleError
from tests.conftest import Fitted, run


@pytest.fixture(scope="module")
def bundles(sensor: Fitted, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three bundles that differ in their version."""
    opened = read_bundle(sensor.bundle)
    made = {}
    for version in ("1", "2", "3"):
        made[version] = tmp_path_factory.mktemp("bundles") / f"{version}.anomaly"
        write_bundle(made[version], opened.manifest.model_copy(update={"version": version}), dict(opened.members))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> ReleaseFolder:
    return ReleaseFolder(tmp_path / "release", clock=lambda: 1_800_000_000.0)


def champion(folder: ReleaseFolder) -> str:
    return str(json.loads((folder.where / "champion.json").read_text())["version"])


def test_a_challenger_is_promoted_by_one_rename_that_says_by_whom(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    folder.publish(bundles["1"], by="the schedule")
    folder.publish(bundles["2"], role="challenger", by="the schedule")
    assert champion(folder) == "1"
    hashed = read_bundle(bundles["2"]).hash
    with pytest.raises(BundleError, match="nothing was promoted"):
        folder.promote("A. Meier", expected="0" * 64)
    folder.promote("A. Meier\n", "two weeks beside the line", expected=hashed)
    pointer = json.loads((folder.where / "champion.json").read_text())
    assert (pointer["version"], pointer["hash"], pointer["by"]) == ("2", hashed, "A. Meier\\x0a")
    assert pointer["at"] == "2027-01-15T08:00:00Z"
    assert not (folder.where / "challenger.json").exists()
    assert [entry.action for entry in folder.history()] == ["published", "challenger", "promoted"]
    with pytest.raises(BundleError, match="no challenger"):
        folder.promote("A. Meier")


def test_what_was_rolled_back_comes_back_by_no_schedule_and_by_a_person(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    for version in "123":
        folder.publish(bundles[version])
    folder.rollback("B. Kaya", "it flags every second part")
    assert champion(folder) == "2"
    for role in ("champion", "challenger"):
        with pytest.raises(BundleError, match=r"was rolled back here .* by B\. Kaya \(it flags every second part\)"):
            folder.publish(bundles["3"], role=role)  # type: ignore[arg-type]
    folder.publish(bundles["2"])
    folder.rollback("B. Kaya")
    assert champion(folder) == "1"
    with pytest.raises(BundleError, match="none to go back to"):
        folder.rollback("B. Kaya")
    third = next(path.name for path in folder.where.glob("pump-3-*"))
    folder.promote("B. Kaya", bundle=third)
    assert champion(folder) == "3"
    folder.publish(bundles["3"])  # it is taken again
    folder.rollback("B. Kaya")
    assert champion(folder) == "1"


def test_a_rollback_of_another_than_is_meant_does_nothing(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    folder.publish(bundles["1"])
    folder.publish(bundles["2"])
    with pytest.raises(BundleError, match="nothing was rolled back"):
        folder.rollback("the edge", of=read_bundle(bundles["1"]).hash)
    folder.rollback("the edge", of=read_bundle(bundles["2"]).hash)
    assert champion(folder) == "1"


def test_a_champion_is_never_its_own_challenger(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    folder.publish(bundles["1"])
    folder.publish(bundles["2"])
    folder.publish(bundles["1"], role="challenger")
    folder.rollback("B. Kaya")
    assert (champion(folder), folder.pointed("challenger")) == ("1", None)
    folder.publish(bundles["3"], role="challenger")
    folder.publish(bundles["3"])
    assert (champion(folder), folder.pointed("challenger")) == ("3", None)
    folder.publish(bundles["1"], role="challenger")
    folder.rollback("B. Kaya", of=read_bundle(bundles["3"]).hash)
    assert (champion(folder), folder.pointed("challenger")) == ("1", None)


def test_one_that_is_broken_since_is_not_gone_back_to(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    first = folder.publish(bundles["1"])
    folder.publish(bundles["2"])
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(BundleError):
        folder.rollback("B. Kaya")
    assert champion(folder) == "2"


def test_the_log_catches_up_after_a_kill_and_with_an_older_version(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    first = folder.publish(bundles["1"])
    (folder.where / HISTORY).unlink()
    opened = read_bundle(first)
    pointer = {"bundle": first.name, "hash": opened.hash, "name": "pump", "version": "1"}
    (folder.where / "champion.json").write_text(json.dumps(pointer))  # as version 0.8.0 left it
    folder.publish(bundles["2"])
    kept = (folder.where / HISTORY).read_text()
    folder.publish(bundles["3"], by="killed")
    (folder.where / HISTORY).write_text(kept)  # killed after the rename, before the log
    assert [(entry.version, entry.by) for entry in folder.history()][2] == ("3", "killed")
    folder.rollback("B. Kaya")
    folder.rollback("B. Kaya")
    assert champion(folder) == "1"


def test_unchanged_data_leaves_the_champion_with_the_word_it_was_put_by(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    folder.publish(bundles["1"], by="A. Meier")
    before = (folder.where / "champion.json").read_bytes()
    folder.publish(bundles["1"], by="the schedule")
    folder.publish(bundles["1"], role="challenger", by="the schedule")
    assert (folder.where / "champion.json").read_bytes() == before
    assert folder.pointed("challenger") is None


def test_a_schedule_does_not_undo_a_promotion(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    folder.publish(bundles["1"], by="the schedule")
    folder.publish(bundles["2"], role="challenger")
    folder.promote("A. Meier", "better on the night shift")
    before = (folder.where / "champion.json").read_bytes()
    folder.publish(bundles["1"], by="the schedule")  # on unchanged data, as every night
    assert (folder.where / "champion.json").read_bytes() == before
    folder.publish(bundles["3"], by="the schedule")  # on new data
    assert champion(folder) == "3"
    folder.publish(bundles["1"], by="the schedule")  # on data that was taken back
    assert champion(folder) == "1"


def test_a_schedule_does_not_bring_back_a_challenger_that_was_withdrawn(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    first = folder.publish(bundles["1"])
    made = folder.publish(bundles["2"], role="challenger")
    assert folder.pointed("challenger") == made
    folder.withdraw("A. Meier", "too slow")
    folder.publish(bundles["2"], role="challenger")
    assert (folder.pointed("champion"), folder.pointed("challenger")) == (first, None)
    folder.promote("A. Meier", bundle=made.name)
    assert folder.pointed("champion") == made
    folder.publish(bundles["1"], role="challenger")  # it was never withdrawn
    assert folder.pointed("challenger") == first


def test_a_detector_of_other_records_is_not_promoted(folder: ReleaseFolder, bundles: dict[str, Path], camera: Fitted) -> None:
    folder.publish(bundles["1"])
    shutil.copy(camera.bundle, folder.where / "camera.anomaly")
    with pytest.raises(BundleError, match=r"a camera detector .* and the champion of .* is a sensor detector"):
        folder.promote("A. Meier", bundle="camera.anomaly")
    assert champion(folder) == "1"


def test_a_challenger_of_another_line_is_not_published(
    folder: ReleaseFolder, bundles: dict[str, Path], camera: Fitted, tmp_path: Path
) -> None:
    folder.publish(camera.bundle, role="challenger")  # there is no champion to compare it with yet
    folder.withdraw("A. Meier")
    folder.publish(bundles["1"])
    opened = read_bundle(bundles["2"])
    sensors = tuple(each.model_copy(update={"name": f"{each.name} of the press"}) for each in opened.manifest.input.sensors)
    other = opened.manifest.model_copy(update={"input": opened.manifest.input.model_copy(update={"sensors": sensors}), "members": {}})
    write_bundle(tmp_path / "press.anomaly", other, dict(opened.members))
    before = sorted(path.name for path in folder.where.iterdir())
    for path, differ in ((tmp_path / "press.anomaly", r"sensors"), (camera.bundle, r"name, dtype, .*")):
        words = rf"^\S+\.anomaly: takes other records than the champion pump-1 \({differ} differ\), and cannot be compared with it; publish"
        with pytest.raises(BundleError, match=words):
            folder.publish(path, role="challenger")
    assert folder.pointed("challenger") is None
    assert sorted(path.name for path in folder.where.iterdir()) == before
    folder.publish(bundles["2"], role="challenger")


@pytest.mark.parametrize(
    "line",
    [
        b"\xff",
        b'{"action": "x", "bundle": "b", "hash": "h", "name": "n", "version": "1"}',
        b'{"action": "published", "bundle": "b", "hash": 5, "name": "n", "version": "1"}',
        b'{"act',
    ],
)
def test_a_broken_history_is_named_by_its_line(folder: ReleaseFolder, bundles: dict[str, Path], line: bytes) -> None:
    folder.publish(bundles["1"])
    with (folder.where / HISTORY).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(BundleError, match=r"history\.jsonl, line 2: not an entry of a release's history"):
        folder.history()


def test_the_commands_say_what_was_done(folder: ReleaseFolder, bundles: dict[str, Path]) -> None:
    folder.publish(bundles["1"])
    folder.publish(bundles["2"], role="challenger")
    assert "pump-2" in run("release", "promote", folder.where, "--by", "A. Meier")
    assert "is the champion again, by a rollback" in run("release", "rollback", folder.where, "--why", "too many")
    told = run("release", "history", folder.where)
    assert "was promoted to champion, by A. Meier" in told
    assert "no challenger" in run("release", "withdraw", folder.where)
    page = run("bundle", "inspect", next(folder.where.glob("pump-2-*")))
    assert "from data:   SHA-256" in page
    assert "was promoted to champion, by A. Meier" in " ".join(page.split())
    assert "is the champion again, by a rollback from" in " ".join(page.split())
    assert "in use:" not in run("bundle", "inspect", bundles["2"])
