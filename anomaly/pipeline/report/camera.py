"""What the report of a camera's fit shows: pictures of the highest normals and of made-up marks, the sizes tried, the cost of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from anomaly.bundle.archive import Bundle
from anomaly.data.pictures.reading import format_of
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.report.detector import number, percent
from anomaly.evaluation.report.evaluated import speed_words
from anomaly.evaluation.report.page import Block, Card, Cell, Gallery, Table, Words, anchor_of
from anomaly.evaluation.report.pictures import card
from anomaly.pipeline.camera.bundle import labelled_galleries, speed, with_budget
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.pictures import from_8_bit, to_8_bit
from anomaly.pipeline.camera.plan.trial import with_each_mark
from anomaly.pipeline.camera.plan.wording import layer_words, pool_words, view_words
from anomaly.pipeline.fitted import Fitted
from anomaly.pipeline.report.fitted import FitBlocks
from anomaly.rarity import Shades, least_p, one_in, shades_of

MARKS = 6  # made-up marks found, and as many missed, that are shown
TIMED = 8  # pictures that the cost of one is taken from
COMPARED = {
    "patches": "the most alike patch of a good part",
    "gaussian": "what is usual at that place",
    "place": "the most alike patch of good parts at that place",
}
MEASURED = {"unit": "by direction alone", "raw": "by direction and strength"}  # of features
MISSED = " A place may be bright and the picture still lie below the threshold: a score counts the worst places together."
CROP, LEAST_CROP = 8.0, 96  # times a mark's size, and pixels at least, of the part of the picture that is shown of it

Scores = NDArray[np.float64]


def fit_blocks(line: CameraLine, fitted: Fitted, bundle: Bundle, session: Session, p_of: Any, evaluation: Evaluation | None) -> FitBlocks:
    """What there is to show. `p_of` gives the p-values of scores (n,)."""
    threshold, held_out = bundle.manifest.threshold.score, fitted.held_out
    if evaluation is not None:
        with_budget(evaluation, bundle)
    shades = shades_of(float(np.median(held_out)), threshold, float(held_out.max()))
    report = bundle.manifest.provenance["fit"]
    try:
        highest, made_up = _highest(line, fitted, bundle, shades, p_of), _marks(line, fitted, session, threshold, shades)
        timed = speed(session, line.pictures.readable, format_of(bundle.manifest.input), TIMED)
        cost = speed_words(timed) + " `anomaly bench` measures it in full."
    except DataError:  # the pictures are gone since
        highest, made_up, cost = (), (), ""
    return FitBlocks(
        read=tuple(report.get("pictures", ())),
        highest=highest,
        made_up=made_up,
        plan=_plan(report),
        speaks=_speaks(report, fitted, threshold),
        labelled=_labelled(line, bundle, evaluation),
        cost=cost,
    )


def _highest(line: CameraLine, fitted: Fitted, bundle: Bundle, shades: Shades, p_of: Any) -> tuple[Block, ...]:
    """The normals with the highest held-out scores, with the heat-maps of when they were left out."""
    if "highest" not in fitted.shown:
        return ()
    at, maps = fitted.shown["highest"].tolist(), fitted.shown["maps"].numpy()
    suspects = bundle.manifest.provenance["fit"].get("suspects", {})
    scores = fitted.held_out[at]
    cards = []
    for i, heat, score, p in zip(at, maps, scores, p_of(scores), strict=True):
        picture = line.pictures.readable[i]
        small = line.pictures.smaller(picture)
        if small is None:
            continue
        threshold = bundle.manifest.threshold.score
        flagged = threshold is not None and score >= threshold
        state = ("flagged" if flagged else "not flagged") + (", a suspect" if picture.id in suspects else "")
        lines = (picture.id, state, f"score {score:.3g}, {one_in(float(p), least_p(fitted.effective))}")
        one = card(to_8_bit(small.pixels, line.pictures.format.deep), lines, heat, shades, tone="bad" if flagged else "")
        cards.append(replace(one, anchor=anchor_of(picture.id)))
    words = "Each was judged by a detector that had not learnt from it. Is one of them no good part? Take it out of the data and fit again."
    return (Gallery("The most unusual first", tuple(cards), words),) if cards else ()


def _marks(line: CameraLine, fitted: Fitted, session: Session, threshold: float | None, shades: Shades) -> tuple[Block, ...]:
    """The largest made-up marks that are missed, and the smallest that are found."""
    shown = fitted.shown
    if "mark_sizes" not in shown or threshold is None or not len(shown["mark_sizes"]):
        return ()
    sizes, scores = shown["mark_sizes"].numpy(), shown["mark_scores"].numpy()
    order = np.argsort(sizes, kind="stable")
    found = [int(i) for i in order if scores[i] >= threshold]
    missed = [int(i) for i in order[::-1] if scores[i] < threshold]
    groups = {"Made-up marks that are missed, the largest first": missed, "Made-up marks that are found, the smallest first": found}
    blocks = []
    for title, some in groups.items():
        chosen = _spread(some, shown["mark_at"].numpy())
        cards = [one for i in chosen if (one := _mark_card(line, shown, i, session, shades, bool(scores[i] < threshold))) is not None]
        if cards:
            words = "The circle is around the mark, in red where it is missed; inside it the heat-map is left out."
            words += MISSED if some is missed else ""
            blocks.append(Gallery(f"{title} ({len(some)} of {len(sizes)})", tuple(cards), words))
    return tuple(blocks)


def _spread(some: Sequence[int], pictures: NDArray[np.int64]) -> list[int]:
    """The first few, each on another picture where there are enough."""
    chosen: list[int] = []
    for i in some:
        if pictures[i] not in pictures[chosen]:
            chosen.append(i)
    return (chosen + [i for i in some if i not in chosen])[:MARKS]


def _mark_card(line: CameraLine, shown: Mapping[str, Any], i: int, session: Session, shades: Shades, missed: bool) -> Card | None:
    picture = line.pictures.readable[int(shown["mark_at"][i])]
    small, deep = line.pictures.smaller(picture), line.pictures.format.deep
    if small is None:
        return None
    image, marks = line.judging.with_marks(small, *(int(v) for v in shown["mark_draws"][i]))
    size, (x, y) = float(shown["mark_sizes"][i]), shown["mark_middles"][i].tolist()
    plain = from_8_bit(to_8_bit(small.pixels, deep), deep)
    (clean,), (marked,) = (session.run(some[None])[2] for some in (plain, from_8_bit(image, deep)))
    own = [mark for mark in marks if (mark.x, mark.y) == (x, y)]  # of all the marks on the picture
    if not own:  # another version drew them elsewhere
        return None
    (alone,) = with_each_mark(torch.from_numpy(clean), torch.from_numpy(marked), own[:1], small.size)
    high, wide = image.shape[:2]
    heat = np.asarray(Image.fromarray(alone.numpy()).resize((wide, high), Image.Resampling.BILINEAR))
    x, y, radius = x / small.scale, y / small.scale, size / small.scale / 2 + 5  # in the pixels that are shown
    half = max(LEAST_CROP, CROP * size / small.scale) / 2
    top, left = (int(np.clip(middle - half, 0, max(0, side - 2 * half))) for middle, side in ((y, high), (x, wide)))
    part = (slice(top, top + int(2 * half)), slice(left, left + int(2 * half)))
    rows, columns = np.mgrid[: image[part].shape[0], : image[part].shape[1]]
    circle = np.hypot(rows - (y - top), columns - (x - left)) <= radius
    seen = np.where(circle, min(shades[0], float(heat.min())), heat[part])  # bare inside the circle: a small mark would lie under the color
    lines = (picture.id, f"a mark of {size:g} pixels: {'missed' if missed else 'found'}", f"score {float(shown['mark_scores'][i]):.3g}")
    return card(np.ascontiguousarray(image[part]), lines, seen, shades, circle, "bad" if missed else "")


def _speaks(report: Mapping[str, Any], fitted: Fitted, threshold: float | None) -> tuple[Block, ...]:
    """By which of several ways of looking made-up marks are found."""
    pools = report["extractor"].get("plan", {}).get("scorer", {}).get("pools", ())
    speaks, sizes = fitted.shown.get("mark_speaks"), fitted.shown.get("mark_sizes")
    if len(pools) < 2 or speaks is None or sizes is None or threshold is None:
        return ()
    found = (fitted.shown["mark_scores"] >= threshold).numpy()
    rows = []
    for at, pool in enumerate(pools):
        own = sizes.numpy()[found & (speaks.numpy() == at)]
        usual = f"{np.median(own):g} px" if len(own) else ""
        rows.append(
            (Cell(pool_words(pool["view"], pool["share"])), Cell(percent(len(own) / max(1, int(found.sum()))), "n"), Cell(usual, "n"))
        )
    words = "A picture's score is what the way of looking says that finds it the most unusual."
    return Words((words,)), Table(tuple(rows), ("Looked at", "of made-up marks found", "usual size of these"))


def _plan(report: Mapping[str, Any]) -> tuple[Block, ...]:
    """Which sizes of input were tried, and which banks are kept."""
    blocks: list[Block] = []
    plan = report.get("plan")
    if plan:
        rows = []
        for one in plan["tried"]:
            taken = one["size"] == plan["size"]
            found = ", ".join(
                f"{size} px {percent(share)}" for size, share in sorted(one["found"].items(), key=lambda item: float(item[0]))
            )
            size = f"{one['size'][0]} x {one['size'][1]}" + (" (taken)" if taken else "")
            rows.append((Cell(size), Cell(number(one["mean"]), "n"), Cell(found)))
        rate = f"1 good part in {1 / plan['false_alarms']:.0f} flagged"
        words = (
            f"Counted before there was a threshold, at {rate}, by detectors of fewer pictures and with marks at any place looked at, so "
            "that sizes can be compared. The shares found by the finished detector, at its own threshold, stand under Made-up faults."
        )
        blocks.append(Table(tuple(rows), ("Size of input", "How well marks are told", f"Marks found at {rate}"), "Sizes tried"))
        blocks.append(Words((words,), "note"))
    banks = report["extractor"].get("plan", {}).get("scorer", {}).get("banks", ())
    if banks:
        blocks.append(_bank_table(banks))
    return tuple(blocks)


def _bank_table(banks: Sequence[Mapping[str, Any]]) -> Table:
    """What a picture is compared with, a row a bank; views are named where there are several."""
    several = len({b["view"] for b in banks}) > 1
    rows = []
    for b in banks:
        how = Cell(f"{COMPARED.get(b['model'], b['model'])}, {MEASURED.get(b['metric'], b['metric'])}")
        stage = Cell(layer_words(b["stage"]))
        rows.append(
            (
                *((Cell(view_words(b["view"])),) if several else ()),
                how,
                stage,
                Cell("" if b["model"] == "gaussian" else f"{b['size']:,}", "n"),
            )
        )
    return Table(tuple(rows), (*(("View",) if several else ()), "Compared by", "Layer of the network", "Patches kept at most"), "Banks")


def _labelled(line: CameraLine, bundle: Bundle, evaluation: Evaluation | None) -> tuple[Block, ...]:
    if evaluation is None or not evaluation.maps:
        return ()
    return tuple(labelled_galleries(bundle, evaluation, line.pictures.test))
