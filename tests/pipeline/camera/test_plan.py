"""How a camera line's pictures are looked at: sizes to try, made-up marks on trial, and what is chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anomaly.data.pictures.marks import Mark
from anomaly.errors import DataError, SpecError
from anomaly.features.tensors import load_tensors, save_tensors
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.pictures import PictureFolder
from anomaly.pipeline.camera.plan import choose, choose_plan, planned
from anomaly.pipeline.camera.plan.cost import trial_s
from anomaly.pipeline.camera.plan.sizes import milliseconds, sizes_to_try, usual_size
from anomaly.pipeline.camera.plan.trial import Half, Trial, judged_at, pool_scores
from anomaly.pipeline.camera.plan.views import ADDS, choose_pools, offered_banks, pools_offered
from anomaly.pipeline.camera.plan.wording import plan_words
from anomaly.pipeline.steps import Steps
from anomaly.progress import Course, Part
from anomaly.scorers.pictures.views import Pool
from anomaly.spec import Bank, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec, Pretrain, Rectangle


@settings(max_examples=60, deadline=None)
@given(st.integers(64, 5000), st.integers(64, 5000), st.sampled_from([14, 16, 32]), st.floats(1, 200))
def test_sizes_keep_proportions_and_bounds(high: int, wide: int, step: int, most_ms: float) -> None:
    sizes = sizes_to_try((float(high), float(wide)), step, most_ms)
    areas = [tall * broad for tall, broad in sizes]
    assert areas == sorted(set(areas))
    for at, (tall, broad) in enumerate(sizes):
        assert tall % step == broad % step == 0 or min(tall, broad) == 64
        assert at == 0 or milliseconds((tall, broad)) <= 1.1 * most_ms
        assert at == 0 or tall * broad <= 1.1**2 * 1.3 * high * wide or min(tall, broad) <= 2 * step


def test_long_pictures_keep_their_proportions_and_varying_ones_are_square() -> None:
    assert sizes_to_try(usual_size([(1250, 500)] * 5), 32, 60.0)[0] == (416, 160)
    assert sizes_to_try(usual_size([(1250, 500), (500, 1250), (800, 800)]), 32, 60.0)[0] == (256, 256)


def test_a_mark_is_judged_on_its_own_picture_with_only_its_own_places_changed() -> None:
    clean = torch.zeros(2, 10, 10)
    clean[1, 9, 9] = 2.0  # this picture is unusual somewhere else
    marked = [torch.zeros(10, 10), torch.zeros(10, 10)]
    marked[0][5, 5], marked[0][0, 0] = 7.0, 50.0  # the second belongs to a mark elsewhere
    marked[1][5, 5] = 1.0
    marks = [[Mark(10.0, "spot", 55.0, 55.0)], [Mark(10.0, "spot", 55.0, 55.0)]]
    own, with_marks = pool_scores(clean, marked, marks, [(100, 100), (100, 100)], [0.0, 0.02])
    assert own[0.0].tolist() == [0.0, 2.0]
    assert with_marks[0.0].tolist() == [7.0, 2.0]
    assert with_marks[0.02].tolist() == [3.5, 1.5]


def test_a_pool_that_sees_nothing_is_left_out_and_one_that_sees_is_taken() -> None:
    rng = np.random.default_rng(0)
    blind, sees, sizes = Pool("blind"), Pool("sees", 0.0), np.repeat([2.0, 4.0], 100)
    main = Pool("main")
    clean = {pool: rng.normal(size=200) for pool in (main, blind, sees)}
    marked = {main: rng.normal(size=200) + 6 * (sizes == 4), blind: rng.normal(size=200), sees: rng.normal(size=200) + 6 * (sizes == 2)}
    taken, adds = choose_pools([main, blind, sees], Trial([Half(clean, marked, sizes)]).told)
    assert taken == [main, sees]
    assert adds[0][1] > 0.3 > ADDS


def test_every_stage_is_offered_and_covariances_of_wide_ones_are_not() -> None:
    offered = offered_banks(["layer2", "layer3", "layer4"], [512, 1024, 2048])
    assert {bank.stage for banks in offered.values() for bank in banks} == {"layer2", "layer3", "layer4"}
    assert not [bank for banks in offered.values() for bank in banks if bank.model == "gaussian"]
    assert pools_offered(list(offered))[0] == Pool("main", 0.02)
    assert [bank.stage for bank in offered_banks(["only"], [64])["main"]] == ["only"] * 3


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures, 384 x 384, of fine lines on which small marks can be seen in full size only."""
    root = tmp_path_factory.mktemp("boards")
    for i in range(40):
        rng = np.random.default_rng(i)
        lines = 128 + 80 * np.sign(np.sin((np.arange(384)[:, None] + np.arange(384)[None, :] + rng.integers(12)) * 2 * np.pi / 12))
        Image.fromarray((lines + rng.normal(0, 2, (384, 384))).clip(0, 255).astype(np.uint8)).save(root / f"{i:02}.png")
    return root


SMALL = CameraSpec(
    kind="camera",
    extractor=CameraExtractor(stages=("blocks.2",)),
    scorer=MemoryBankSpec(banks=(Bank(stage="blocks.2", metric="unit", size=100),)),
    pretrain=Pretrain(method="none"),
)


def test_a_larger_size_is_taken_where_it_finds_more_and_the_plan_is_kept(boards: Path, tmp_path: Path) -> None:
    line = CameraLine(SMALL, boards)
    plan = choose_plan(SMALL, line.pictures, lambda *_: None)
    again = choose_plan(SMALL, PictureFolder(boards, SMALL.input), lambda *_: None)
    assert plan.as_dict() == again.as_dict()
    found = {tuple(one["size"]): one["mean"] for one in plan.report["tried"]}
    assert set(found) == {(256, 256), (384, 384)}
    assert plan.spec.input.size == ((384, 384) if found[384, 384] >= found[256, 256] + 0.03 else (256, 256))
    assert any("384 x 384" in words for words in plan_words(plan.report))
    assert planned(SMALL, plan.as_dict()) == plan.spec

    steps = Steps(line, tmp_path)
    extractor = steps.pretrain()
    other = CameraLine(SMALL, boards)  # another process: it has only the file
    assert other.settled(extractor) == plan.spec


def test_a_plan_that_no_extractor_file_keeps_is_told_all_the_same(boards: Path, tmp_path: Path) -> None:
    tensors, about = load_tensors(Steps(CameraLine(SMALL, boards), tmp_path).pretrain())
    plan = about.pop("plan")
    save_tensors(tmp_path / "elsewhere.safetensors", tensors, about)
    line = CameraLine(SMALL, boards)
    report = line.fit(tmp_path / "elsewhere.safetensors", lambda *_: None).report
    assert (report["plan"], report["extractor"].get("plan")) == (plan["report"], None)
    assert list(line.settled().input.size or ()) == plan["input"]["size"]


def test_a_named_mark_decides_the_size(boards: Path) -> None:
    named = SMALL.model_copy(update={"input": CameraInput(smallest_mark="0.5 mm", px_per_mm=12)})
    plan = choose_plan(named, PictureFolder(boards, named.input), lambda *_: None)
    shares = {tuple(one["size"]): one["found"]["6"] for one in plan.report["tried"]}
    assert plan.spec.input.size == next(size for size, share in shares.items() if share >= 0.9 * max(shares.values()))


def test_what_the_spec_says_is_not_tried(boards: Path) -> None:
    fixed = SMALL.model_copy(update={"input": CameraInput(size=(128, 128))})
    plan = choose_plan(fixed, PictureFolder(boards, fixed.input), lambda *_: None)
    assert (plan.spec, plan.report) == (fixed, {})


def test_an_extractor_made_for_another_spec_is_refused(boards: Path) -> None:
    fixed = SMALL.model_copy(update={"input": CameraInput(size=(128, 128))})
    kept = choose_plan(fixed, PictureFolder(boards, fixed.input), lambda *_: None).as_dict()
    assert planned(SMALL, kept).input.size == (128, 128)
    for other in (
        SMALL.model_copy(update={"input": CameraInput(size=(256, 256))}),
        SMALL.model_copy(update={"scorer": MemoryBankSpec(banks=(Bank(stage="blocks.2", metric="raw", size=100),))}),
    ):
        with pytest.raises(SpecError, match=r"made with another (input\.size|scorer\.banks) than the spec's; pretrain again"):
            planned(other, kept)


def test_no_side_is_longer_than_a_spec_may_ask_for() -> None:
    for usual in ((64.0, 4000.0), (300.0, 2600.0), (2.0, 500.0), (3000.0, 4000.0)):
        assert all(max(size) <= 2048 for size in sizes_to_try(usual, 32, 1000.0))


def test_what_no_plan_can_be_made_of_is_told(boards: Path) -> None:
    for changes, why in (
        ({"input": CameraInput(smallest_mark=700.0)}, "smallest_mark is 700 pixels, and the pictures' shorter side has 384"),
        ({"scorer": MemoryBankSpec(banks=(Bank(stage="nope", metric="raw"),)), "extractor": CameraExtractor()}, "names stage 'nope'"),
    ):
        asked = SMALL.model_copy(update=changes)
        with pytest.raises(SpecError, match=why):
            choose_plan(asked, PictureFolder(boards, asked.input), lambda *_: None)
    corner = SMALL.model_copy(update={"input": CameraInput(roi=(Rectangle(left=0.5, right=0.501, top=0.5, bottom=0.501),))})
    with pytest.raises(DataError, match="no made-up mark finds a place"):
        choose_plan(corner, PictureFolder(boards, corner.input), lambda *_: None)


def test_the_rounding_of_deep_pictures_is_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing drawn as many "marks" are found as good parts are flagged, though 16 bits are rounded to 8 on the way."""
    for i in range(24):
        rng = np.random.default_rng(i)
        wave = 30_000 + 700 * np.sin(np.arange(128) / 9.0 + rng.uniform(0, 0.3))
        Image.fromarray((wave[None, :] + rng.normal(0, 100, (128, 128))).astype(np.uint16)).save(tmp_path / f"{i:02}.png")
    draw = choose.draw_marks
    monkeypatch.setattr(choose, "draw_marks", lambda image, *rest: (image, draw(image, *rest)[1]))
    tried = choose_plan(SMALL, PictureFolder(tmp_path, SMALL.input), lambda *_: None).report["tried"][0]
    assert np.mean(list(tried["found"].values())) <= 0.15  # those of the one picture in twelve that is above the threshold by itself


def test_what_a_trial_counts_goes_forward_and_sizes_not_tried_jump_ahead(boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "PAYS", 2.0)  # no size finds so much more: the fourth is not tried
    monkeypatch.setattr(choose, "sizes_to_try", lambda *_: [(64, 64), (96, 96), (128, 128), (384, 384)])
    told: list[tuple[str, float, float]] = []

    class Heard(Course):
        def tell(self, text: str, done: float | None, total: float | None, share: float, step: str = "") -> None:
            super().tell(text, done, total, share, step)
            told.append((f"{step}: {text}", done or 0.0, share))

    course = Heard()
    spec = SMALL.model_copy(update={"extractor": CameraExtractor(stages=("blocks.2", "blocks.5")), "scorer": MemoryBankSpec()})
    choose_plan(spec, PictureFolder(boards, spec.input), Part(course))
    assert {text.split(":")[0] for text, _, _ in told} >= {"64 x 64", "96 x 96", "128 x 128"}
    assert not [text for text, _, _ in told if text.startswith("384")]
    for text in {text for text, _, _ in told}:
        counts = [done for name, done, _ in told if name == text]
        assert counts == sorted(counts)  # none runs backwards, not in the second half either
    shares = [share for _, _, share in told]
    assert shares == sorted(shares)
    assert course.share == 1.0  # nothing of the plan is left
    assert max(shares) < 0.5  # the size that was not tried would have cost more than the others


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(4, 40), st.integers(4, 200))
def test_larger_sizes_are_expected_to_take_longer(high: int, wide: int, pictures: int) -> None:
    size, larger = (32 * high, 32 * wide), (32 * high + 32, 32 * wide)
    each, other = (sum(trial_s(one, pictures, (300.0, 400.0))) / judged_at(one, pictures) for one in (size, larger))
    assert 0 < each < other
