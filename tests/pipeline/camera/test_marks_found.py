"""What the finished detector finds of made-up marks by their size, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly.data.pictures.marks import draw_marks
from anomaly.data.samples.synthetic import part_picture
from anomaly.evaluation.marks_found import marks_found
from anomaly.features.preprocess import ImagePreprocess
from anomaly.pipeline.camera.judging import Judging
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.pictures import PictureFolder, to_8_bit
from anomaly.pipeline.steps import Steps
from anomaly.scorers.build import fit_camera_scorer
from anomaly.scorers.pictures.memory_bank import leave_one_out
from anomaly.spec import Bank, Budget, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec, Pretrain, Rectangle
from tests.pipeline.test_camera_line import extractor

SPEC = CameraSpec(
    kind="camera",
    input=CameraInput(size=(128, 128)),
    extractor=CameraExtractor(stages=("blocks.2",)),
    scorer=MemoryBankSpec(banks=(Bank(stage="blocks.2", metric="raw", size=300),)),
    pretrain=Pretrain(method="none"),
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures of a plain surface with a little noise."""
    root = tmp_path_factory.mktemp("plain")
    for i in range(30):
        rng = np.random.default_rng(i)
        Image.fromarray(rng.normal(rng.uniform(126, 130), 2, (128, 128)).astype(np.uint8)).save(root / f"{i:02}.png")
    return root


def test_one_mark_alone_scores_as_the_whole_detector_scores_it(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly.pipeline.camera.judging.MARKS", 1)
    spec = SPEC.model_copy(update={"input": CameraInput(size=(128, 128), smallest_mark=32)})  # one size only, so one mark on a picture
    pictures = PictureFolder(plain, spec.input)
    judging, network = Judging(spec, pictures), extractor()
    preprocess = ImagePreprocess((128, 128), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    features = pictures.features_of(network, preprocess, pictures.readable)
    fitted = fit_camera_scorer(spec, features, torch.Generator().manual_seed(0))
    found = judging.mark_scores(fitted, network, preprocess, features, torch.ones(30, dtype=torch.bool))
    assert set(found.sizes) == {32.0}
    assert len(set(found.at.tolist())) == len(found.at) == 12
    at = int(found.at[0])
    raw = pictures.read(pictures.readable[at])
    assert raw is not None
    marked, _ = draw_marks(to_8_bit(raw, deep=False), [32.0], np.random.default_rng([spec.seed, 9, at]))
    with torch.inference_mode():
        seen = network(preprocess(torch.from_numpy(marked[None])))
        score, _ = leave_one_out(fitted.scorer, [at], [maps[at : at + 1] for maps in features])(seen)
    assert found.scores[0] == pytest.approx(float(score[0]), rel=1e-4)


def test_marks_are_counted_at_the_threshold_that_the_budget_gives(plain: Path, tmp_path: Path) -> None:
    shares = {}
    for rate in (0.4, 0.01):  # the second is fitted by the first: only the threshold is another
        spec = SPEC.model_copy(update={"budget": Budget(false_alarm_rate=rate)})
        steps = Steps(CameraLine(spec, plain), tmp_path, quick=True)
        marks = steps.fit_report()["marks"]
        assert marks["rate"] == rate
        shares[rate] = marks["found"]
    assert "fit" not in steps.trained
    assert list(shares[0.4]) == list(shares[0.01]) == ["2", "4", "8", "16", "32"]
    assert all(shares[0.01][size] <= share for size, share in shares[0.4].items())
    assert shares[0.01]["32"] > 0.7
    assert shares[0.01]["2"] < shares[0.01]["32"]
    assert f"32 px {100 * shares[0.01]['32']:.0f} %" in marks["words"]


def test_a_named_mark_that_is_not_found_is_a_warning() -> None:
    scores = {"3": [0.0, 0.0, 2.0], "6": [2.0, 2.0, 2.0]}
    warning = marks_found(scores, 3.0, 1.0, 0.01)["warning"]
    assert "3 pixels" in warning
    assert "33 times in 100" in warning
    assert "max_ms" not in warning  # nothing larger is to be had
    assert "No larger size" in warning
    assert "larger max_ms" in marks_found(scores, 3.0, 1.0, 0.01, "max_ms")["warning"]
    assert '"auto"' in marks_found(scores, 3.0, 1.0, 0.01, "size")["warning"]
    assert marks_found(scores, 6.0, 1.0, 0.01)["warning"] is None
    assert marks_found(scores, None, 1.0, 0.01)["warning"] is None
    assert marks_found(scores, None, 1.0, 0.01)["smallest"] == 6.0
    assert marks_found({"3": [2.0], "6": [0.0]}, None, 1.0, 0.01)["smallest"] is None  # by chance, not from that size on


def test_marks_lie_on_the_part_where_it_shows_and_in_the_roi_where_one_is_named(tmp_path: Path) -> None:
    for i in range(20):
        Image.fromarray(part_picture(np.random.default_rng(i))[0]).save(tmp_path / f"{i:02}.png")
    judging = Judging(SPEC, PictureFolder(tmp_path, SPEC.input))
    assert judging.marks_lie == "part"
    picture = judging.pictures.smaller(judging.pictures.readable[0])
    assert picture is not None
    marks = [mark for position in range(5) for mark in judging.with_marks(picture, 0, position)[1]]
    assert len(marks) > 5
    assert all(np.hypot(mark.x - 80, mark.y - 80) < 72 for mark in marks)
    named = SPEC.model_copy(update={"input": CameraInput(size=(128, 128), roi=(Rectangle(right=0.5, bottom=0.5),))})
    judging = Judging(named, PictureFolder(tmp_path, named.input))
    assert judging.marks_lie == "roi"
    assert all(max(mark.x, mark.y) <= 81 for position in range(5) for mark in judging.with_marks(picture, 0, position)[1])
