"""`anomaly.load`, and what a detector says of records however they are given: always what the shell says of the same files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import anomaly
from anomaly.data.pictures.reading import read_image
from tests.conftest import Fitted, run

ABSENT = ("torch", "torchvision", "sklearn", "scipy", "matplotlib", "jinja2", "timm", "onnx", "prefect", "pint")
PLANT = ("pump_speed", "motor_current", "flow", "pressure", "bearing_temp", "vibration", "tank_level", "valve_position")


@pytest.fixture(scope="module")
def plant(sensor: Fitted) -> anomaly.Detector:
    return anomaly.load(sensor.bundle)


@pytest.fixture(scope="module")
def part(camera: Fitted) -> anomaly.Detector:
    return anomaly.load(camera.bundle)


@pytest.fixture(scope="module")
def frame(samples: Path) -> pd.DataFrame:
    return pd.read_csv(samples / "plant" / "test.csv", parse_dates=["time"]).head(300).set_index("time")


def test_load_and_score_need_the_base_install_alone(sensor: Fitted, camera: Fitted, samples: Path) -> None:
    """What the base install lacks cannot be imported, and all is scored the same."""
    program = f"""
import sys
sys.modules |= dict.fromkeys({ABSENT})
import anomaly
for bundle, data in zip(sys.argv[1::2], sys.argv[2::2]):
    scores = anomaly.load(bundle).score(data)
    print(len(scores), float(scores["score"].sum()))
print([name for name in {ABSENT} if sys.modules.get(name) is not None])
for call in (lambda: anomaly.fit(sys.argv[2]), lambda: anomaly.SensorDetector):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    given = (sensor.bundle, samples / "plant" / "test.csv", camera.bundle, samples / "camera" / "test" / "good")
    done = subprocess.run([sys.executable, "-c", program, *map(str, given)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *told, imported, fit, estimator = done.stdout.splitlines()
    for line, bundle, data in zip(told, given[::2], given[1::2], strict=True):
        scores = anomaly.load(bundle).score(data)
        assert line == f"{len(scores)} {float(scores['score'].sum())}"
    assert imported == "[]"
    assert fit == "anomaly.fit needs torch and sklearn and scipy and onnx; run: pip install 'anomaly-pipeline[train]'"
    assert estimator.startswith("anomaly.SensorDetector needs ")


def test_import_is_light_and_names_are_found() -> None:
    program = "import sys, anomaly; print([n for n in ('numpy', 'pandas', 'torch', 'pydantic') if n in sys.modules], sorted(dir(anomaly)))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stdout
    assert told.startswith("[] ")
    assert all(f"'{name}'" in told for name in anomaly.__all__)
    assert all(getattr(anomaly, name) is not None for name in anomaly.__all__)
    with pytest.raises(AttributeError, match="no attribute 'score'"):
        _ = anomaly.score


def test_a_file_is_scored_as_the_shell_scores_it(plant: anomaly.Detector, sensor: Fitted, samples: Path, tmp_path: Path) -> None:
    table = samples / "plant" / "test.csv"
    run("score", sensor.bundle, table, "--json", tmp_path / "scores.json")
    told = pd.DataFrame(json.loads((tmp_path / "scores.json").read_text()))
    scores = plant.score(str(table))
    assert scores.index.tolist() == told["record"].tolist()
    np.testing.assert_allclose(scores["p_value"], told["p_value"], rtol=1e-6)
    assert scores["flagged"].tolist() == told["flagged"].tolist()
    assert scores["top_sensor"].tolist() == told["top_sensor"].tolist()


def test_a_frame_is_scored_as_its_file(plant: anomaly.Detector, frame: pd.DataFrame, tmp_path: Path) -> None:
    """By an index of times or a column, in any order of columns; labelled by its own index, so that both can be joined."""
    frame.to_csv(tmp_path / "new.csv")
    of_file, of_frame = plant.score(tmp_path / "new.csv"), plant.score(frame)
    for other in (frame[frame.columns[::-1]], frame.tz_localize(None), frame.reset_index(), frame.reset_index().astype({"time": str})):
        np.testing.assert_array_equal(plant.score(other)["score"].dropna(), of_file["score"])
    np.testing.assert_array_equal(of_frame["score"].dropna(), of_file["score"])
    texts = frame.set_axis(frame.index.astype(str).rename("time")).assign(remark=["late", 3] * 150)  # read without parse_dates
    for other in (texts, frame.tz_localize(None).to_period("s"), frame[plant.sensors].astype("Float64")):
        np.testing.assert_array_equal(plant.score(other)["score"].dropna(), of_file["score"])
    window = plant.manifest.input.window
    assert of_frame.index.equals(frame.index.rename("record"))
    assert (of_frame["time"].to_numpy() == of_frame.index.to_numpy()).all()
    assert of_frame["score"].isna().tolist() == [True] * (window - 1) + [False] * (300 - window + 1)
    shares = of_frame.filter(like="share:")
    assert [name.removeprefix("share:") for name in shares] == plant.sensors
    np.testing.assert_allclose(shares.dropna().sum(axis=1), 1, rtol=1e-5)
    assert of_frame.attrs["notes"] == [f"{window - 1} of 300 rows end no window of {window} rows and have no score"]
    flagged = frame.join(of_frame, rsuffix="_scored")
    flagged = flagged[flagged["flagged"]]  # version 0.8.0: rows without a score made no mask of it
    assert len(flagged) == of_frame["flagged"].sum() == len(frame[of_frame["flagged"]])
    assert of_frame["flagged"].dtype == bool


def test_rows_out_of_order_keep_their_labels(plant: anomaly.Detector, frame: pd.DataFrame) -> None:
    swapped = frame.iloc[[1, 0, *range(2, 100), 101, 100, *range(102, 300)]]
    for other in (swapped, frame[::-1]):  # the newest row first, as some historians export
        scores = plant.score(other)["score"]
        assert scores.index.equals(other.index)
        pd.testing.assert_series_equal(scores.sort_index(), plant.score(frame)["score"], check_index_type=False, check_freq=False)


def test_arrays_are_scored_as_their_files(part: anomaly.Detector, samples: Path) -> None:
    files = sorted((samples / "camera" / "test" / "good").iterdir())[:3]
    pictures = [np.asarray(Image.open(file)) for file in files]
    scores = part.score([str(file) for file in files])
    assert scores.index.tolist() == [str(file) for file in files]
    assert scores["map"].iloc[0].shape == scores["map"].iloc[1].shape
    assert scores["time"].iloc[0].timestamp() == pytest.approx(files[0].stat().st_mtime, abs=1e-3)
    for given in (pictures, np.stack(pictures)):
        of_arrays = part.score(given)
        np.testing.assert_array_equal(of_arrays["score"], scores["score"])
        assert of_arrays.index.tolist() == [0, 1, 2]
        assert of_arrays["time"].isna().all()
    alone = part.score(pictures[1])
    assert alone["score"].iloc[0] == scores["score"].iloc[1]


def test_what_cannot_be_read_is_told_and_the_rest_scored(part: anomaly.Detector, samples: Path, tmp_path: Path) -> None:
    shutil.copytree(samples / "camera" / "test" / "good", tmp_path / "new")
    (tmp_path / "new" / "bad.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"1 could not be read .*bad\.png"):
        scores = part.score(tmp_path / "new")
    assert len(scores.attrs["rejected"]) == 1
    assert not any("bad.png" in name for name in scores.index)
    with pytest.warns(UserWarning, match="picture 1: an array"):
        assert part.score([np.zeros((50, 50), np.uint8), np.zeros((50, 50, 7), np.uint8)]).index.tolist() == [0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((5, 8)), "a detector of readings; give a table, or a DataFrame"),
        (np.zeros((1, 5, 8)), "a detector of readings; give a table, or a DataFrame"),
        (pd.DataFrame({"flow": [1j, 2.0]}, index=pd.date_range("2026", periods=2)), "hold complex numbers"),
        (np.zeros((4, 4), np.uint8), "a detector of readings"),
        (pd.DataFrame({"flow": []}), "no rows"),
        (pd.DataFrame({"flow": [1.0, 2.0]}), r"no time column .* pd\.date_range"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "occur twice"),
        (pd.DataFrame({"time": [1.0, 2.0, 3.0], "flow": [1.0, 2.0, 3.0]}), "the DataFrame: columns .* missing"),
        ("nowhere.csv", "nowhere.csv: no such file or folder"),
        ([], "an empty list"),
        (["a.csv", 3], "a int in a list: give a path or several, a DataFrame of readings, or pictures"),
        (["a.csv", np.zeros((4, 4), np.uint8)], "files and arrays together"),
        (None, "nothing was given; give a path or several"),
        ([None], "a NoneType in a list: give a path or several"),
        ({"flow": [1.0]}, "a dict was given"),
        (pd.DataFrame({"time": pd.date_range("2026", periods=300, freq="5s"), **dict.fromkeys(PLANT, np.nan)}), "no sensor has a reading"),
    ],
)
def test_what_is_no_readings_is_refused_in_words(plant: anomaly.Detector, given: object, words: str) -> None:
    with pytest.raises(anomaly.AnomalyError, match=words):
        plant.score(given)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 50, 60), r"channels come last, array\.transpose\(1, 2, 0\); 3 gray pictures are given as a list"),
        ((4, 3, 50, 60), r"channels come last, array\.transpose\(0, 2, 3, 1\)"),
        ((160, 160, 2), "1, 3 or 4 channels, and they come last; this has 2"),
        ((2, 160, 160, 5), "1, 3 or 4 channels, and they come last; this has 5"),
    ],
)
def test_arrays_that_may_be_meant_otherwise_are_refused(part: anomaly.Detector, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(anomaly.AnomalyError, match=words):
        part.score(np.zeros(shape, np.uint8))


def test_pictures_of_pillow_and_whatever_can_be_gone_through(part: anomaly.Detector, samples: Path, tmp_path: Path) -> None:
    files = sorted((samples / "camera" / "test" / "good").iterdir())[:2]
    scores = part.score(files)["score"].to_numpy()
    images = [Image.open(file) for file in files]
    for given in (images, (image for image in images), set(files), (str(file) for file in files)):
        np.testing.assert_array_equal(part.score(given)["score"].to_numpy(), scores)
    turned = images[0].transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter when shown
    turned.save(tmp_path / "turned.png", exif=exif)
    assert (
        part.score(Image.open(tmp_path / "turned.png"))["score"].iloc[0]
        == part.score(tmp_path / "turned.png")["score"].iloc[0]
        == scores[0]
    )
    palette = images[1].convert("P")
    palette.save(tmp_path / "palette.png")
    assert part.score(palette)["score"].iloc[0] == part.score(tmp_path / "palette.png")["score"].iloc[0]
    assert part.explain(images[0]).get_suptitle()
    for paths in (np.array([str(file) for file in files]), pd.Series(files)):
        np.testing.assert_array_equal(part.score(paths)["score"].to_numpy(), scores)
    gray = images[0].convert("L")
    assert part.score(gray.convert("I"))["score"].iloc[0] == part.score(gray)["score"].iloc[0]  # as 0 to 255
    with pytest.raises(anomaly.AnomalyError, match="mode F: floating-point pixels have no known range"):
        part.score(gray.convert("F"))


def test_an_error_leaves_what_was_scored_before(plant: anomaly.Detector, frame: pd.DataFrame) -> None:
    worst = plant.score(frame)["score"].idxmax()
    with pytest.raises(anomaly.AnomalyError):
        plant.score("nowhere.csv")
    assert str(worst) in plant.explain(worst).get_suptitle()


def test_files_of_one_name_are_told_apart(plant: anomaly.Detector, samples: Path, tmp_path: Path) -> None:
    for name in ("monday", "tuesday"):
        (tmp_path / name).mkdir()
        shutil.copy(samples / "plant" / "test.csv", tmp_path / name / "test.csv")
    plant.score(tmp_path)
    with pytest.raises(anomaly.AnomalyError, match=r"2 files are called so .*monday.*tuesday.*explain\(record, FILE\)"):
        plant.explain("test.csv:200")
    assert "test.csv:200" in plant.explain("test.csv:200", tmp_path / "monday").get_suptitle()


def test_a_record_is_explained(plant: anomaly.Detector, part: anomaly.Detector, frame: pd.DataFrame, samples: Path) -> None:
    """By its label in what was scored last, or in data that is named; a picture by itself too."""
    scores = plant.score(frame)
    worst = scores["score"].idxmax()
    figure = plant.explain(worst)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].startswith(f"{scores.loc[worst, 'top_sensor']}: ")
    assert str(worst) in figure.get_suptitle()
    assert plant.explain(scores.loc[worst]).get_suptitle() == figure.get_suptitle()  # a row as well as its label
    with pytest.raises(anomaly.AnomalyError, match="a DataFrame was given: explain takes one record"):
        plant.explain(scores)
    with pytest.raises(anomaly.AnomalyError, match="no whole window"):
        plant.explain(frame.index[0])
    with pytest.raises(anomaly.AnomalyError, match="no such record"):
        plant.explain("yesterday")
    table = samples / "plant" / "test.csv"
    assert "test.csv:200" in plant.explain("test.csv:200", table).get_suptitle()

    folder = samples / "camera" / "test" / "good"
    label = part.score(folder).index[2]
    by_label = part.explain(label)
    pixels = read_image(Path(label), "rgb")
    assert np.array_equal(by_label.axes[1].images[1].get_array(), part.explain(pixels).axes[1].images[1].get_array())
    assert by_label._repr_png_().startswith(b"\x89PNG")
    part.score([pixels, pixels])
    assert "picture 1" in part.explain(1).get_suptitle()
    with pytest.raises(anomaly.AnomalyError, match="no such picture"):
        part.explain(2)


def test_saved_is_the_same_bundle(plant: anomaly.Detector, sensor: Fitted, tmp_path: Path) -> None:
    path = plant.save(tmp_path / "new" / "pump.anomaly")
    assert path.read_bytes() == sensor.bundle.read_bytes()
    again = anomaly.load(path)
    assert again.save(path) == path  # onto itself
    assert again.hash == plant.hash
    path.write_bytes(b"gone")
    with pytest.raises(anomaly.AnomalyError):
        again.save(tmp_path / "other.anomaly")


def test_it_says_what_it_is(plant: anomaly.Detector, part: anomaly.Detector) -> None:
    assert repr(plant).startswith(f"Detector('pump' 1, {len(plant.sensors)} sensors, 1 in 50 normal records, ")
    assert "pictures, 1 in 20 normal records" in repr(part)
    assert plant.budget == {"false_alarm_rate": 0.02}
    assert plant.threshold.p_value == 0.02
    assert plant.manifest.kind == "sensor"
    assert "<td>pictures</td>" in part._repr_html_()
