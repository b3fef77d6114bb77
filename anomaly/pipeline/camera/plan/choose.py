"""Chooses how a line's pictures are looked at: each size of input is tried, and the smallest taken beyond which finding more does not pay.

The trial is on made-up marks of falling size (`data.pictures.marks`) on normals that the banks have not seen. The same pictures and spec
give the same plan: no clock has a say in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.marks import Mark, draw_marks, mark_sizes
from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError, SpecError
from anomaly.export.onnx_stages import onnx_stages
from anomaly.features.backbones import load_backbone
from anomaly.features.backbones.defaults import default_stages, stage_channels
from anomaly.features.preprocess import ImagePreprocess, inside_roi
from anomaly.features.stages import Stages, size_step
from anomaly.features.threads import one_thread
from anomaly.parallel import on_all_cores
from anomaly.pipeline.camera.few_labels import read_faults
from anomaly.pipeline.camera.pictures import PictureFolder, from_8_bit, to_8_bit
from anomaly.pipeline.camera.plan.cost import trial_s, trials_s
from anomaly.pipeline.camera.plan.labelled import COST, LabelledFaults, Ranked, RankedPools, labelled_report, size_by_faults
from anomaly.pipeline.camera.plan.sizes import Size, in_words, marks_to_try, milliseconds, sizes_of, sizes_to_try, usual_size
from anomaly.pipeline.camera.plan.trial import FALSE, Half, Trial, judged_at, pool_scores
from anomaly.pipeline.camera.plan.views import SHARES, as_spec, choose_pools, mean_told, offered_banks, pools_offered
from anomaly.pipeline.camera.plan.wording import plan_words
from anomaly.progress import Progress, counted, finished, part, parts, skipped
from anomaly.scorers.build import bank_plans, pools_of, region
from anomaly.scorers.pictures.memory_bank import fit_memory_bank
from anomaly.scorers.pictures.views import Pool
from anomaly.spec import ORIENTED_FILTERS, Bank, CameraSpec

BANK, BANK_SIDE = 1000, 256  # patches of a bank in a trial, of pictures of 256 x 256; as many more as there are more pixels
TWICE = 2  # marks of each size on a picture
PAYS = 0.03  # share of made-up marks, mean over their sizes, that a larger size must find more
NAMED = 0.9  # share of what the best size finds of the marks a user named, from which a smaller one is as good
AT_ONCE = 4


@dataclass(frozen=True)
class Plan:
    """How pictures are looked at: the spec with nothing left open, and what was found on the way, for the report."""

    spec: CameraSpec
    report: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As an extractor file keeps it, and `planned` reads it."""
        spec = self.spec.model_dump(mode="json", include={"input": {"size"}, "extractor": {"stages"}, "scorer": {"banks", "pools"}})
        return {**spec, "report": self.report}

    def words(self) -> list[str]:
        """What was chosen and why, a line of text each; nothing where the spec left nothing open."""
        return plan_words(self.report) if self.report else []


def planned(spec: CameraSpec, kept: Mapping[str, Any]) -> CameraSpec:
    """The spec as a plan that was kept leaves it: nothing open.

    Raises SpecError where the plan was made for another size, or other banks or pools, than the spec asks for.
    """
    made = CameraSpec.model_validate({"kind": "camera", **{group: kept[group] for group in ("input", "extractor", "scorer")}})
    asked: list[tuple[str, Sequence[Any] | None, Sequence[Any] | None]] = [
        ("input.size", spec.input.size, made.input.size),
        ("scorer.banks", spec.scorer.banks, made.scorer.banks),
        ("scorer.pools", spec.scorer.pools, made.scorer.pools),
    ]
    for key, wanted, found in asked:
        if wanted and wanted != found:
            raise SpecError(f"the extractor was made with another {key} than the spec's; pretrain again, or leave {key} out of the spec")
    spec = _with(_with(spec, "input", size=made.input.size), "extractor", stages=made.extractor.stages)
    return _with(spec, "scorer", banks=made.scorer.banks, pools=made.scorer.pools)


def choose_plan(spec: CameraSpec, pictures: PictureFolder, progress: Progress) -> Plan:
    """Settle what the spec leaves open. Nothing is tried where it leaves nothing open."""
    stages = spec.extractor.stages or default_stages(spec.extractor.backbone)
    spec = _with(spec, "extractor", stages=stages)
    if spec.extractor.backbone == ORIENTED_FILTERS and spec.input.size is None:
        spec = _with(spec, "input", size=(256, 256))  # its cells are a sixteenth of the picture, whatever the size
    for bank in spec.scorer.banks:
        if bank.stage not in stages:
            raise SpecError(f"scorer.banks names stage {bank.stage!r}, which {spec.extractor.backbone} is not looked at by: {list(stages)}")
    if spec.input.size is not None and spec.scorer.banks:
        return Plan(_used_stages(spec))
    return _Search(spec, pictures).run(progress)


def _used_stages(spec: CameraSpec) -> CameraSpec:
    """The spec with those of its stages alone that a bank looks at: no others are computed, adapted or compared."""
    used = {bank.stage for bank in spec.scorer.banks}
    return _with(spec, "extractor", stages=tuple(stage for stage in spec.extractor.stages if stage in used))


def _with(spec: CameraSpec, group: str, **values: Any) -> CameraSpec:
    return spec.model_copy(update={group: getattr(spec, group).model_copy(update=values)})


@dataclass(frozen=True)
class _Found:
    """A size of input with the pools that are best at it, and by size how well marks are told by these, and how many are found."""

    size: Size
    pools: Sequence[Pool]
    adds: Sequence[tuple[Pool, float]]
    told: Mapping[float, float]
    found: Mapping[float, float]
    ranked: Ranked | None = None  # labelled faults, where there are any
    by_faults: Sequence[tuple[Pool, float]] = ()  # pools that these added, and what to their AUROC

    def smallest(self, least: float = 0.5) -> float | None:
        """The size of marks from which on at least half are found, None where no size is."""
        sizes = sorted(self.found)
        return next((size for size in sizes if all(self.found[other] >= least for other in sizes if other >= size)), None)


@dataclass(frozen=True)
class _Seen:
    """Features of pictures as they are and with marks, one (n, C_s, h_s, w_s) a stage; the marks and the size (high, wide) of each."""

    clean: list[Tensor]
    marked: list[Tensor]
    marks: list[list[Mark]]
    sides: list[Size]


class _Search:
    """The trials of one line."""

    def __init__(self, spec: CameraSpec, pictures: PictureFolder) -> None:
        self.spec, self.pictures = spec, pictures
        self.network, self.source = load_backbone(spec.extractor.backbone, spec.extractor.stages, spec.extractor.weights)
        self.usual = usual_size(pictures.survey.sizes)
        if (spec.input.mark_px or 0) > min(self.usual):
            raise SpecError(
                f"input.smallest_mark is {spec.input.mark_px:g} pixels, and the pictures' shorter side has {min(self.usual):.0f}; give the "
                "size of the smallest fault worth finding in pixels of the camera's picture, or in mm with px_per_mm"
            )
        shown = pictures.parts
        self.order = [shown[i] for i in np.random.default_rng(spec.seed).permutation(len(shown))]
        given = spec.transfer.faults
        self.labelled = None if given is None else LabelledFaults(read_faults(given), pictures, boxes_of=given)
        self.marks = marks_to_try(self.usual, spec.input.mark_px)
        if self.labelled and not spec.input.mark_px:
            self.marks = mark_sizes(self.labelled.smallest_marks(self.marks[0], self.marks[-1]), self.marks[-1])

    def run(self, progress: Progress) -> Plan:
        asked = self.spec.input.size
        sizes = sizes_to_try(self.usual, size_step(self.network), self.spec.input.max_ms) if asked is None else [asked]
        told = parts(progress, {in_words(size): seconds for size, seconds in trials_s(sizes, len(self.order), self.usual).items()})
        tried: list[_Found] = []
        for note in self.labelled.notes if self.labelled else []:
            progress(note)
        for size in sizes:
            tried.append(self._try(size, told[in_words(size)]))
            if not self.spec.input.mark_px and len(tried) > 2 and not any(self._further(tried[-3], one) for one in tried[-2:]):
                break  # two steps up found no more
        skipped(progress)  # larger sizes
        by_marks = self._taken(tried)
        taken = self._by_faults(by_marks, tried)
        banks = tuple(bank for bank in self._banks() if bank.view in {pool.view for pool in taken.pools})
        spec = _with(_with(self.spec, "input", size=taken.size), "scorer", banks=banks, pools=as_spec(_by_view(taken.pools)))
        report = self._report(taken, tried)
        if self.labelled:
            report["faults"] = {**self.labelled.report(), "size_without": list(by_marks.size)}
        return Plan(_used_stages(spec), report)

    def _taken(self, tried: Sequence[_Found]) -> _Found:
        """The smallest size that finds as much as pays."""
        if self.spec.input.mark_px:
            smallest = min(self.marks)
            best = max(one.told[smallest] for one in tried)
            return next(one for one in tried if one.told[smallest] >= NAMED * best)
        taken = tried[0]
        for one in tried[1:]:
            if _pays(taken, one):
                taken = one
        return taken

    def _further(self, before: _Found, one: _Found) -> bool:
        """Whether a larger size shows more, of made-up marks or of labelled faults."""
        return _pays(before, one) or bool(before.ranked and one.ranked and one.ranked.clearly_better(before.ranked, self.spec.seed))

    def _by_faults(self, taken: _Found, tried: Sequence[_Found]) -> _Found:
        """Another size than made-up marks took, where labelled faults say so and hardly any mark is lost."""
        ranked = [one.ranked for one in tried if one.ranked is not None]
        if not ranked:
            return taken
        least = mean_told(taken.told) - COST
        allowed = [mean_told(one.told) >= least for one in tried]
        if self.spec.input.mark_px:
            smallest = min(self.marks)
            allowed = [one.told[smallest] >= NAMED * taken.told[smallest] for one in tried]
        return tried[size_by_faults(ranked, tried.index(taken), allowed, self.spec.seed)]

    def _views(self) -> list[str]:
        return list(dict.fromkeys(bank.view for bank in self._banks()))

    def _banks(self) -> tuple[Bank, ...]:
        """All banks that may be taken."""
        if self.spec.scorer.banks:
            return self.spec.scorer.banks
        widths = stage_channels(self.spec.extractor.backbone, self.spec.extractor.stages)
        return tuple(bank for banks in offered_banks(self.spec.extractor.stages, widths).values() for bank in banks)

    def _try(self, size: Size, progress: Progress) -> _Found:
        """Judge marks at one size of input by small banks, and choose the pools."""
        count = judged_at(size, len(self.order))
        looking, judging = trial_s(size, len(self.order), self.usual)
        looked = looking / (looking + judging)
        folder = self.pictures.at_size(size)
        preprocess, extractor = folder.preprocess(self.source), onnx_stages(self.network)
        seen = self._seen(folder, extractor, preprocess, self.order[: 2 * count], part(progress, 0.0, looked))
        faults = self.labelled.features(folder, extractor, preprocess) if self.labelled else None
        half = len(seen.sides) // 2
        ways = [(slice(half, None), slice(half)), (slice(half), slice(half, None))]  # judged, learnt
        told = counted(range(2 * len(self._views())), part(progress, looked, 1.0), "stages on trial")
        folds = [self._fold(seen, judged, learnt, size, faults, told) for judged, learnt in ways]
        finished(progress)
        trial = Trial([judged for judged, _ in folds])
        if self.spec.scorer.banks:  # the pools are given with the banks
            pools, adds = list(pools_of(self.spec)), list[tuple[Pool, float]]()
        else:
            pools, adds = choose_pools(pools_offered(self._views()), trial.told)
        if not self.labelled:
            return _Found(size, pools, adds, trial.told(pools), trial.found(pools))
        ranked = RankedPools([(judged.clean, of_faults) for judged, of_faults in folds])
        more = [] if self.spec.scorer.banks else ranked.further(pools, trial.told, self.spec.seed)
        pools += [pool for pool, _ in more]
        return _Found(size, pools, adds, trial.told(pools), trial.found(pools), ranked.by(pools), more)

    def _fold(
        self, seen: _Seen, judged: slice, learnt: slice, size: Size, faults: list[Tensor] | None, told: Iterator[int]
    ) -> tuple[Half, dict[Pool, NDArray[np.float64]]]:
        """Scores by pool of the pictures `judged`, by small banks of those `learnt`; and of labelled faults, where there are any."""
        most = BANK * size[0] * size[1] // BANK_SIDE**2  # the same share of the patches that there are at each size
        asked = [[maps[judged] for maps in seen.clean], [maps[judged] for maps in seen.marked], *([faults] if faults else [])]
        shares = sorted({*SHARES, *(pool.share for pool in self.spec.scorer.pools)})
        found: tuple[dict[Pool, NDArray[np.float64]], ...] = ({}, {}, {})
        for view, _ in zip(self._views(), told, strict=False):  # the same count goes on in the other fold
            banks = [bank for bank in self._banks() if bank.view == view]
            clean, drawn, *labelled = self._maps(banks, most, [maps[learnt] for maps in seen.clean], asked)
            ours = list(pool_scores(clean, list(drawn), seen.marks[judged], seen.sides[judged], shares))
            if self.labelled and labelled:
                ours.append(self.labelled.scores(clean, labelled[0], shares))
            for scores, own in zip(found, ours, strict=False):
                scores |= {Pool(view, share): some for share, some in own.items()}
        return Half(found[0], found[1], np.array([mark.size for some in seen.marks[judged] for mark in some])), found[2]

    def _seen(
        self, folder: PictureFolder, extractor: Stages, preprocess: ImagePreprocess, pictures: Sequence[Picture], progress: Progress
    ) -> _Seen:
        """Pictures as the network sees them, as they are and with marks."""
        deep, roi = folder.format.deep, region(self.spec)

        def look(at: int) -> tuple[list[Tensor], list[Tensor], list[Mark], Size] | None:
            small = folder.smaller(pictures[at])
            if small is None:
                return None
            own = to_8_bit(small.pixels, deep)
            looked_at = inside_roi(roi, own.shape[0], own.shape[1]).numpy() if roi else None
            rng = np.random.default_rng([self.spec.seed, 7, at])
            drawn, marks = draw_marks(own, sizes_of(self.marks, TWICE, at), rng, looked_at, small.size)
            # At the depth at which marks are drawn: else the rounding of deeper pictures would be taken for one.
            plain = from_8_bit(own, deep)
            with torch.inference_mode():
                clean, marked = (extractor(preprocess(torch.from_numpy(x[None].copy()))) for x in (plain, from_8_bit(drawn, deep)))
            return clean, marked, marks, small.size

        places = range(len(pictures))
        told = counted(places, progress, "made-up marks on pictures of good parts")
        with one_thread():
            found = [one for _, one in zip(told, on_all_cores(look, places), strict=True) if one is not None]
        if not any(marks for _, _, marks, _ in found):
            raise DataError(
                f"{self.pictures.root}: no made-up mark finds a place on the pictures, by which [input] size and [[scorer.banks]] are "
                "chosen; make [[input.roi]] larger, or give both"
            )
        clean, marked = ([torch.cat(maps) for maps in zip(*(one[side] for one in found), strict=True)] for side in (0, 1))
        return _Seen(clean, marked, [one[2] for one in found], [one[3] for one in found])

    def _maps(self, banks: Sequence[Bank], most: int, learnt: list[Tensor], asked: Sequence[list[Tensor]]) -> tuple[Tensor, ...]:
        """The view of these banks, of `most` patches, fitted on features `learnt`: its maps (n, h, w) of each of the pictures asked for."""
        small = tuple(bank.model_copy(update={"size": min(bank.size, most)}) for bank in banks)
        plans = bank_plans(_with(self.spec, "scorer", banks=small))
        generator = torch.Generator().manual_seed(self.spec.seed)
        pools = [Pool(banks[0].view)]
        scorer = fit_memory_bank(learnt, plans, self.spec.scorer.coreset_share, generator, roi=region(self.spec), pools=pools).scorer
        with torch.inference_mode():
            answers = [[scorer([maps[i : i + AT_ONCE] for maps in some])[1] for i in range(0, len(some[0]), AT_ONCE)] for some in asked]
        return tuple(torch.cat(maps) for maps in answers)

    def _report(self, taken: _Found, tried: Sequence[_Found]) -> dict[str, Any]:
        return {
            "size": list(taken.size),
            "pictures": [round(side) for side in self.usual],
            "sizes": len(set(self.pictures.survey.sizes)),
            "milliseconds": round(milliseconds(taken.size), 1),
            "false_alarms": FALSE,
            "smallest_mark_found": taken.smallest(),
            "tried": [
                {
                    "size": list(one.size),
                    "found": {f"{size:g}": round(share, 3) for size, share in one.found.items()},
                    "mean": round(mean_told(one.told), 3),
                    "pools": [[pool.view, pool.share] for pool in one.pools],
                    "adds": [[pool.view, pool.share, round(gain, 3)] for pool, gain in one.adds],
                    **({"faults": labelled_report(one.ranked, one.by_faults)} if one.ranked else {}),
                }
                for one in tried
            ],
        }


def _pays(before: _Found, one: _Found) -> bool:
    """Whether a larger size finds so much more."""
    return mean_told(one.told) - mean_told(before.told) >= PAYS


def _by_view(pools: Sequence[Pool]) -> list[Pool]:
    """Pools with those of a view next to each other, views in the order in which they were taken."""
    views = list(dict.fromkeys(pool.view for pool in pools))
    return [pool for view in views for pool in pools if pool.view == view]
