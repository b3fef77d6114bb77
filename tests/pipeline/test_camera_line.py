"""The pictures of a camera line, and extractors ranked on them by synthetic defects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from anomaly.data.pictures.reading import format_of
from anomaly.errors import DataError
from anomaly.evaluation.injected import joined
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import Stages
from anomaly.pipeline.camera.judging import Judging
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.pictures import PictureFolder, from_8_bit, to_8_bit
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import Bank, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec

SPEC = CameraSpec(
    kind="camera",
    input=CameraInput(size=(128, 128)),
    extractor=CameraExtractor(stages=("blocks.4",)),
    scorer=MemoryBankSpec(banks=(Bank(stage="blocks.4", metric="raw", size=200),)),
)


class Means(Stages):
    """An extractor of one stage: the mean gray value of each square of 8 pixels, times `gain`."""

    def __init__(self, gain: float) -> None:
        super().__init__(["means"])
        self.gain = gain

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.gain * nn.functional.avg_pool2d(x, 8)]


def extractor(gain: float = 1.0) -> Stages:
    return Means(gain).eval()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of a plain surface, each lit a little differently."""
    root = tmp_path_factory.mktemp("parts")
    for i in range(20):
        rng = np.random.default_rng(i)
        surface = rng.normal(rng.uniform(120, 136), 4, size=(128, 128, 1)).repeat(3, axis=2)
        Image.fromarray(surface.astype(np.uint8)).save(root / f"{i:02}.png")
    return root


@pytest.fixture
def pictures(parts: Path) -> PictureFolder:
    return PictureFolder(parts, SPEC.input)


@pytest.fixture
def preprocess() -> ImagePreprocess:
    return ImagePreprocess((128, 128), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


# --- pictures ---


def test_weights_in_a_file_count_as_data(parts: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    spec = SPEC.model_copy(update={"extractor": CameraExtractor(stages=("blocks.4",), weights=weights)})
    without = CameraLine(spec, parts).fingerprint()
    assert without == CameraLine(SPEC, parts).fingerprint()  # a file that is not there: an error when it is opened
    weights.write_bytes(b"one")
    first = CameraLine(spec, parts).fingerprint()
    weights.write_bytes(b"two")
    assert len({without, first, CameraLine(spec, parts).fingerprint()}) == 3
    assert weights in CameraLine(spec, parts).files()


def test_a_broken_picture_is_noted_and_left_out(parts: Path, tmp_path: Path, preprocess: ImagePreprocess) -> None:
    for path in parts.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "03.png").write_bytes(b"")
    pictures = PictureFolder(tmp_path, SPEC.input)
    assert len(pictures.train) == 20
    assert [p.id for p in pictures.readable] == [f"{i:02}.png" for i in range(20) if i != 3]
    assert list(pictures.rejected) == ["03.png"]
    assert "0 bytes" in pictures.rejected["03.png"]
    assert len(pictures.features_of(extractor(), preprocess, pictures.train)[0]) == 19


def test_too_few_readable_pictures_are_refused_with_the_reasons(parts: Path, tmp_path: Path) -> None:
    for i, path in enumerate(sorted(parts.iterdir())):
        (tmp_path / path.name).write_bytes(b"not a picture" if i % 2 else path.read_bytes())
    with pytest.raises(DataError, match=r"10 readable pictures of good parts; at least 16 are needed\n.*01\.png"):
        _ = PictureFolder(tmp_path, SPEC.input).readable


def test_the_spec_decides_on_color_and_the_files_on_depth(parts: Path, tmp_path: Path) -> None:
    assert PictureFolder(parts, CameraInput(color="gray")).format == ("gray", False, 16)
    deep = np.random.default_rng(0).integers(65536, size=(40, 40)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    pictures = PictureFolder(tmp_path, CameraInput())
    assert pictures.format == ("gray", True, 16)
    raw = pictures.read(pictures.train[0])
    assert raw is not None
    assert raw.dtype == np.uint16
    assert np.array_equal(raw[:, :, 0], deep)


def test_features_are_those_of_each_picture_alone(pictures: PictureFolder, preprocess: ImagePreprocess) -> None:
    """Pictures go through the extractor a few at a time: their order must not change, nor one be lost at the end."""
    seven = list(pictures.train[:7])
    together = pictures.features_of(extractor(), preprocess, seven)[0]
    alone = torch.cat([pictures.features_of(extractor(), preprocess, [one])[0] for one in seven])
    assert torch.equal(together, alone)
    assert together.shape == (7, 3, 16, 16)


def test_large_frames_are_in_memory_a_few_at_a_time(pictures: PictureFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pictures.at_hand(200) == 200
    (first,) = pictures.read_all(pictures.readable[:1])
    for bytes_, expected in ((50 * first.nbytes, 50), (3 * first.nbytes, 16)):
        monkeypatch.setattr("anomaly.pipeline.camera.pictures.AT_HAND_BYTES", bytes_)
        assert pictures.at_hand(200) == expected


def test_smaller_pictures_are_read_once_for_a_size_and_kept_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (300, 400)).astype(np.uint8)).save(tmp_path / f"{i}.png")
    pictures = PictureFolder(tmp_path, CameraInput(size=(64, 64)))
    some = pictures.survey.readable
    first = pictures.smaller(some[0])
    assert first is not None
    assert (first.pixels.shape, first.size, first.scale) == ((128, 171, 1), (300, 400), 300 / 128)
    monkeypatch.setattr("anomaly.pipeline.camera.pictures.KEPT_BYTES", 2 * first.pixels.nbytes)
    again = [[pictures.smaller(picture) for picture in some] for _ in range(2)]
    assert [one is two for one, two in zip(*again, strict=True)] == [True, True, False, False]
    other = pictures.at_size((128, 128)).smaller(some[0])
    assert other is not None
    assert other.whole  # 300 is hardly more than twice 128
    assert pictures.smaller(some[0]) is not first
    (tmp_path / "3.png").unlink()
    assert pictures.smaller(some[3]) is None
    assert "not there" in pictures.rejected["3.png"]


def test_crops_are_cut_from_the_whole_pictures(pictures: PictureFolder, preprocess: ImagePreprocess) -> None:
    some = list(pictures.train[:3])
    crops = pictures.crops(some, preprocess, torch.Generator().manual_seed(0))
    again = pictures.crops(some, preprocess, torch.Generator().manual_seed(0))
    other = pictures.crops(some, preprocess, torch.Generator().manual_seed(1))
    assert crops.shape == (3, 3, 64, 64)
    assert torch.equal(crops, again)
    assert not torch.equal(crops, other)
    for crop, whole in zip(crops, pictures.whole(some, preprocess), strict=True):
        windows = whole.unfold(1, 64, 1).unfold(2, 64, 1)  # (3, 65, 65, 64, 64)
        assert (windows == crop[:, None, None]).all(dim=(0, 3, 4)).any()


@pytest.mark.parametrize("deep", [False, True])
def test_every_8_bit_value_survives_the_way_to_the_cameras_depth_and_back(deep: bool) -> None:
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_8_bit(from_8_bit(values, deep), deep), values)


def test_bits_in_use_travel_in_the_input_schema_and_come_before_any_work(tmp_path: Path) -> None:
    for i in range(20):
        values = np.random.default_rng(i).integers(4096, size=(64, 64)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{i:02}.png")
    line = CameraLine(SPEC, tmp_path)
    assert format_of(line.input_schema()) == line.pictures.format == ("gray", True, 12)
    assert "12 of 16 bits in use" in line.notes()[0]
    assert line.pictures.read(line.pictures.train[0]).max() == 65535
    assert CameraLine(SPEC.model_copy(update={"input": CameraInput(size=(128, 128), bits=14)}), tmp_path).pictures.format.bits == 14


# --- judging ---


def test_halves_share_no_picture_and_are_the_same_again(pictures: PictureFolder) -> None:
    judging = Judging(SPEC, pictures)
    first, second = judging.halves()
    assert len(first) == len(second) == 10
    assert {p.id for p in first}.isdisjoint(p.id for p in second)
    assert judging.halves() == (first, second)
    assert Judging(SPEC.model_copy(update={"seed": 1}), pictures).halves() != (first, second)


def test_an_extractor_that_sees_nothing_ranks_at_chance(pictures: PictureFolder, preprocess: ImagePreprocess) -> None:
    judging = Judging(SPEC, pictures)
    first, second = judging.halves()
    seeing = judging.rank(extractor(), preprocess, first, second, seed=1)
    assert seeing.clean.shape == (10,)
    assert seeing.faulty.shape == (10, 2)
    assert seeing.auroc() > 0.6
    assert judging.rank(extractor(0.0), preprocess, first, second, seed=1).auroc() == 0.5
    again = judging.rank(extractor(), preprocess, first, second, seed=1)
    assert np.array_equal(seeing.faulty, again.faulty)


def test_borrowed_pictures_join_the_bank(pictures: PictureFolder, preprocess: ImagePreprocess) -> None:
    """The judged pictures themselves lent to the bank: they then lie nearer to it than without."""
    judging = Judging(SPEC, pictures)
    first, second = judging.halves()
    lent = pictures.features_of(extractor(), preprocess, second)
    without = judging.rank(extractor(), preprocess, first, second, seed=1)
    joined = judging.rank(extractor(), preprocess, first, second, seed=1, borrowed=lent)
    assert joined.clean.mean() < without.clean.mean()


def test_injected_auroc_scores_each_picture_by_banks_that_were_fitted_without_it(
    pictures: PictureFolder, preprocess: ImagePreprocess
) -> None:
    spec = SPEC.model_copy(update={"scorer": MemoryBankSpec(banks=(Bank(stage="blocks.4", metric="raw", size=10000),), coreset_share=1.0)})
    judging, readable = Judging(spec, pictures), pictures.readable
    features = pictures.features_of(extractor(), preprocess, readable)
    scorer = fit_camera_scorer(spec, features, torch.Generator().manual_seed(0)).scorer
    area = judging.injected_auroc(scorer, extractor(), preprocess, features, torch.ones(20, dtype=torch.bool))
    judged = torch.randperm(20, generator=torch.Generator().manual_seed(spec.seed))[:4].tolist()
    refitted, learnt = [], []
    for i in judged:
        others = [maps[torch.arange(20) != i] for maps in features]
        fresh = fit_camera_scorer(spec, others, torch.Generator().manual_seed(0)).scorer
        fresh.banks[0].usual.copy_(scorer.banks[0].usual)  # the unit of distances is the whole fit's
        refitted.append(judging.rank_scorer(fresh, extractor(), preprocess, [readable[i]], seed=3 + i))
        learnt.append(judging.rank_scorer(scorer, extractor(), preprocess, [readable[i]], seed=3 + i))
    assert area == pytest.approx(joined(refitted).auroc(), abs=0.05)
    assert area < joined(learnt).auroc()


def test_as_many_places_are_marked_as_not(pictures: PictureFolder, preprocess: ImagePreprocess) -> None:
    rows, labels = Judging(SPEC, pictures).marked_places(extractor(), preprocess, pictures.train[:6])
    assert rows.shape == (len(labels), 3)
    assert 0 < labels.sum() <= len(labels) / 2 + 6  # at least one place without a defect is taken of each picture
    assert np.isfinite(rows).all()
