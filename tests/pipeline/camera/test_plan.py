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
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.pictures import PictureFolder
from anomaly.pipeline.camera.plan import choose_plan, planned
from anomaly.pipeline.camera.plan.sizes import milliseconds, sizes_to_try, usual_size
from anomaly.pipeline.camera.plan.trial import Trial, pool_scores
from anomaly.pipeline.camera.plan.views import ADDS, choose_pools, offered_banks, pools_offered
from anomaly.pipeline.camera.plan.wording import plan_words
from anomaly.pipeline.steps import Steps
from anomaly.scorers.pictures.views import Pool
from anomaly.spec import Bank, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec, Pretrain


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
    taken, adds = choose_pools([main, blind, sees], Trial(clean, marked, sizes).told)
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


def test_a_named_mark_decides_the_size(boards: Path) -> None:
    named = SMALL.model_copy(update={"input": CameraInput(smallest_mark="0.5 mm", px_per_mm=12)})
    plan = choose_plan(named, PictureFolder(boards, named.input), lambda *_: None)
    shares = {tuple(one["size"]): one["found"]["6"] for one in plan.report["tried"]}
    assert plan.spec.input.size == next(size for size, share in shares.items() if share >= 0.9 * max(shares.values()))


def test_what_the_spec_says_is_not_tried(boards: Path) -> None:
    fixed = SMALL.model_copy(update={"input": CameraInput(size=(128, 128))})
    plan = choose_plan(fixed, PictureFolder(boards, fixed.input), lambda *_: None)
    assert (plan.spec, plan.report) == (fixed, {})
