"""A camera line: pictures of good parts in, the parts of a detector out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from anomaly.atomic import sha256_file
from anomaly.calibration.conformal import Calibrator
from anomaly.data.pictures.defects import inject
from anomaly.data.pictures.repeats import near_duplicates
from anomaly.data.records import content_number, fingerprint
from anomaly.data.tables.windows import Run
from anomaly.evaluation.figures import Evaluation, evaluate_pictures, without_duplicates
from anomaly.export.detector import PICTURES, Detector
from anomaly.export.onnx_stages import onnx_stages
from anomaly.features.build import load_borrowed, load_camera_extractor, load_plan, load_vote
from anomaly.features.maps import fewer_of_large, pictures_at_once
from anomaly.features.preprocess import merge_gray_channels
from anomaly.features.stages import fold_batch_norm, size_step
from anomaly.pipeline.camera import adaptation
from anomaly.pipeline.camera.judging import Judging
from anomaly.pipeline.camera.pictures import PictureFolder, batches, from_8_bit, to_8_bit
from anomaly.pipeline.camera.plan import choose_plan, planned
from anomaly.pipeline.camera.plan.cost import pretrain_s, steps_s
from anomaly.pipeline.camera.plan.sizes import larger_by, sizes_to_try, usual_size
from anomaly.pipeline.camera.plan.wording import plan_words
from anomaly.pipeline.camera.transfer import CameraTransfer
from anomaly.pipeline.camera.variants import make_variants
from anomaly.pipeline.data_key import transfer_files, with_transfer
from anomaly.pipeline.fitted import Fitted
from anomaly.pipeline.line import Delays, Examples, Exported, Graphs
from anomaly.progress import Progress, part, parts, silent
from anomaly.schema import InputSchema
from anomaly.scorers.boosted import add_vote, with_vote
from anomaly.scorers.build import fit_camera_scorer, load_camera_scorer
from anomaly.scorers.pictures.memory_bank import FittedBanks
from anomaly.scorers.pictures.repeats import leave_parts_out
from anomaly.scorers.suspects import fit_trimmed
from anomaly.spec import CameraSpec

USUAL_STEP = 32  # pixels by which a size of input grows, with most backbones
SHOWN = 12  # normals with the highest scores that the fit's report shows, with the maps of when they were left out
FEWEST_EXAMPLES = 32  # pictures, and as many of noise, that graph and PyTorch are compared on where they are large
WHOLE = 1  # of these pictures has all its pixels, also where they are far more than matter; the bundle keeps it, and `bench` times it
PARITY_BATCH = 8  # pictures at once, at most, when graph and PyTorch are compared


class CameraLine:
    """The pictures under one folder with their spec."""

    def __init__(self, spec: CameraSpec, data: Path) -> None:
        """Find the pictures. Raises DataError for a folder that is not there or holds none."""
        self.spec: CameraSpec = spec
        self.pictures = PictureFolder(data, spec.input)
        self._settled: CameraSpec | None = None
        self._chosen: dict[str, Any] = {}  # the report of a plan that no extractor file keeps

    def settled(self, extractor: Path | None = None, progress: Progress = silent) -> CameraSpec:
        """The spec with nothing left open: by the plan that the extractor file of the pretrain step keeps, or chosen now."""
        if self._settled is None:
            kept = load_plan(extractor) if extractor is not None else None
            if kept:
                self._settle(planned(self.spec, kept))
            else:  # an extractor from elsewhere, made without a plan
                plan = choose_plan(self.spec, self.pictures, progress)
                self._settle(plan.spec)
                self._chosen = plan.report
        assert self._settled is not None
        return self._settled

    def _settle(self, spec: CameraSpec) -> None:
        self._settled = spec
        self.pictures.settings = spec.input

    @cached_property
    def judging(self) -> Judging:
        """What ranks extractors on this line, by synthetic defects."""
        return Judging(self.settled(), self.pictures)

    def files(self) -> list[Path]:
        return [*(p.path for p in self.pictures.train), *self._test_files(), *transfer_files(self.spec.transfer), *self._weights()]

    def fingerprint(self) -> str:
        own = with_transfer(fingerprint((p.path for p in self.pictures.train), self.pictures.root), self.spec.transfer)
        digests = [sha256_file(path) for path in self._weights()]
        return hashlib.sha256(" ".join([own, *digests]).encode()).hexdigest() if digests else own

    def test_fingerprint(self) -> str:
        files = self._test_files()
        return fingerprint(files, self.pictures.root) if files else ""

    def _weights(self) -> list[Path]:
        """The backbone's weights, where the spec names a file of them; one that is not there is an error when it is opened."""
        path = self.spec.extractor.weights
        return [path] if path is not None and path.is_file() else []

    def _test_files(self) -> list[Path]:
        return [p for q in self.pictures.test for p in (q.path, q.mask) if p is not None]

    def notes(self) -> list[str]:
        return [*self.pictures.survey.notes, *self.pictures.notes]

    def expected_s(self, extractor: Path | None = None) -> dict[str, float]:
        """Seconds that each step to a bundle, and the fit's report, are expected to take.

        With the extractor file of the pretrain step it is known how pictures are looked at. Before that the largest size that may be
        tried counts: a guess that errs goes down, and not up.
        """
        plan = load_plan(extractor) if extractor is not None else None
        sizes = [tuple(plan["input"]["size"])] if plan else self._sizes()
        own, count = usual_size(self.pictures.some_sizes()), len(self.pictures.train)
        first = sum(pretrain_s(self.spec, sizes, count, own).values())
        return {"pretrain": first, **steps_s(sizes[-1], count, len(self.pictures.test), own)}

    def _sizes(self) -> list[tuple[int, int]]:
        """The sizes of input that may be tried, about, or the one that is settled."""
        size = self.pictures.settings.size
        return [size] if size is not None else sizes_to_try(usual_size(self.pictures.some_sizes()), USUAL_STEP, self.spec.input.max_ms)

    # --- pretrain, fit ---

    def pretrain(self, out: Path, progress: Progress, *, full: bool = False) -> dict[str, Any]:
        told = parts(progress, pretrain_s(self.spec, self._sizes(), len(self.pictures.train), usual_size(self.pictures.some_sizes())))
        self.pictures.look_through(told["pictures"])
        for note in self.notes():
            progress(note)
        plan = choose_plan(self.spec, self.pictures, told["plan"])
        self._settle(plan.spec)
        for line in plan.words():
            progress(line)
        left = told["adaptation"]
        if self.spec.transfer.given:
            return CameraTransfer(plan.spec, self.pictures, self.judging, left).run(out, plan.as_dict())
        return adaptation.pretrain(plan.spec, self.pictures, self.judging, out, left, plan.as_dict(), full=full)

    def fit(self, extractor: Path, progress: Progress) -> Fitted:
        spec = self.settled(extractor, part(progress, 0.0, 0.02))
        loaded, source, about = load_camera_extractor(spec, extractor)
        network = onnx_stages(loaded)
        borrowed = load_borrowed(extractor)
        readable = self.pictures.look_through(part(progress, 0.0, 0.02))
        preprocess = self.pictures.preprocess(source)
        features = self.pictures.features_of(network, preprocess, readable, part(progress, 0.02, 0.4))
        generator = torch.Generator().manual_seed(spec.seed)
        leave_out = spec.scorer.suspects == "leave_out"
        told = part(progress, 0.4, 0.8)
        parts = torch.from_numpy(self.pictures.survey.groups)

        def fit_held_out(maps: list[Tensor], which: Tensor) -> FittedBanks:
            fitted = fit_camera_scorer(spec, maps, generator, told, borrowed=borrowed)
            return leave_parts_out(fitted, maps, parts[which])

        trimmed = fit_trimmed(fit_held_out, features, leave_out)
        held_out = trimmed.held_out.double().numpy()
        scorer: torch.nn.Module = trimmed.fitted.scorer
        vote = load_vote(extractor)
        if vote:
            boosted = with_vote(scorer, vote, float(held_out.std()))
            held_out = add_vote(held_out, vote["held_out"].numpy(), float(boosted.step))
            scorer = boosted
        suspects = {readable[i].id: round(float(held_out[i]), 3) for i in trimmed.suspect.nonzero()[:, 0].tolist()}
        if suspects:
            progress(f"{len(suspects)} pictures of good parts stand out from the others: look at them, {next(iter(suspects))} is one")
        numbers = [content_number(picture.path) for picture in readable]
        reference = pd.DataFrame({"score": held_out, "map_mean": trimmed.maps.mean(dim=(1, 2)).double().numpy(), "record": numbers})
        learnt = ~trimmed.suspect if leave_out else torch.ones_like(trimmed.suspect)
        marks = self.judging.mark_scores(trimmed.fitted, network, preprocess, features, learnt, part(progress, 0.92, 1.0))
        if vote:  # of the picture without the mark
            marks = replace(marks, scores=add_vote(marks.scores, vote["held_out"].numpy()[marks.at], float(boosted.step)))
        plan = about.get("plan", {}).get("report") or self._chosen
        report = {
            "normals": len(held_out),
            "pictures": self.notes(),
            "parts": self.pictures.survey.parts,
            "block": -(-len(held_out) // self.pictures.survey.parts),
            "held_out_by": "leave one picture out" if self.pictures.survey.parts == len(held_out) else "leave one part out",
            "suspects_left_out": leave_out,
            "suspects": suspects,
            "rejected": dict(self.pictures.rejected),
            "injected_auroc": self.judging.injected_auroc(
                trimmed.fitted.scorer, network, preprocess, features, learnt, part(progress, 0.8, 0.92)
            ),
            "marks": {
                "scores": marks.by_size(),
                "named": spec.input.mark_px,
                "larger": self._larger(spec, size_step(loaded)),
                "lie": self.judging.marks_lie,
            },
            "extractor": about,
        }
        if plan:
            report |= {"plan": plan, "views": {"why": plan_words(plan)}}
        if "plan" in about:
            report["extractor"] = about | {"plan": {key: value for key, value in about["plan"].items() if key != "report"}}
        highest = torch.from_numpy(held_out).argsort(descending=True, stable=True)[:SHOWN]
        shown = {"highest": highest, "maps": trimmed.maps[highest].contiguous(), **marks.shown()}
        return Fitted("memory_bank", scorer.state_dict(), held_out, float(self.pictures.survey.parts), reference, report, shown=shown)

    def _larger(self, settled: CameraSpec, step: int) -> str:
        """The key of [input] by which pictures may be looked at in more detail, "" where there is none."""
        assert settled.input.size is not None
        most_ms = self.spec.input.max_ms if self.spec.input.size is None else None
        return larger_by(usual_size(self.pictures.survey.sizes), settled.input.size, step, most_ms)

    # --- compose, describe, evaluate ---

    def detector(self, extractor: Path, fitted: Fitted, calibrator: Calibrator) -> Detector:
        spec = self.settled(extractor)
        network, source, _ = load_camera_extractor(spec, extractor)
        preprocess = self.pictures.preprocess(source)
        if self.pictures.format.color == "gray":
            merge_gray_channels(preprocess, network)
        scorer = load_camera_scorer(spec, fitted.method, fitted.tensors)
        return Detector(PICTURES, preprocess, fold_batch_norm(network), scorer, calibrator).eval()

    def input_schema(self) -> InputSchema:
        color, deep, bits = self.pictures.format
        used = bits if bits < 16 else None
        return InputSchema(name="image", dtype="uint16" if deep else "uint8", channels=1 if color == "gray" else 3, significant_bits=used)

    def evaluate(self, run: Run, schema: InputSchema, p: float, progress: Progress) -> Evaluation | None:
        if not self.pictures.test:
            return None
        found = evaluate_pictures(run, self.pictures.test, self.pictures.format, p, progress=progress)
        near = near_duplicates(list(self.pictures.train), list(self.pictures.test))
        found.figures |= without_duplicates(found.records, near)
        return found

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> Examples:
        deep = schema.dtype == "uint16"
        top, dtype = (65536, np.uint16) if deep else (256, np.uint8)
        self.settled()
        count = fewer_of_large(count, self.pictures.size, FEWEST_EXAMPLES, side=256)
        noise = [
            rng.integers(top, size=(4, int(rng.integers(64, 400)), int(rng.integers(64, 400)), schema.channels)).astype(dtype)
            for _ in range(-(-count // 4))
        ]
        few = pictures_at_once(4, self.pictures.size)
        noise = [some[start : start + few] for some in noise for start in range(0, 4, few)]
        readable = self.pictures.readable
        count = self.pictures.at_hand(count)
        drawn = rng.choice(len(readable), size=min(count, len(readable)), replace=False)
        chosen = [readable[i] for i in sorted(drawn.tolist())]
        whole = self.pictures.read_all(chosen[:WHOLE])  # as the camera takes it, and the others with no more pixels than matter
        small = [one for one in map(self.pictures.smaller, chosen) if one is not None]
        real = [*whole, *(one.pixels for one in small[WHOLE:])]
        drawn = rng.integers(len(small), size=max(0, count - len(real)))
        marked = [from_8_bit(inject(to_8_bit(small[int(i)].pixels, deep), rng, scale=small[int(i)].scale)[0], deep) for i in drawn]
        names = [picture.id for picture in chosen] + [f"{chosen[int(i)].id} with a synthetic defect" for i in drawn]
        return Examples(noise, batches([*real, *marked], pictures_at_once(PARITY_BATCH, self.pictures.size)), names)

    def graphs(self, exported: Exported, rng: np.random.Generator, progress: Progress, *, quick: bool = False) -> Graphs:
        if quick:
            return Graphs()
        borrowed = load_borrowed(exported.extractor)
        found, parity = make_variants(
            self.settled(exported.extractor),
            self.pictures,
            exported.detector,
            exported.model,
            exported.held_out,
            borrowed,
            exported.p,
            progress,
        )
        return Graphs(variants=found, parity=parity)

    def decisions_per_day(self, report: dict[str, Any]) -> float | None:
        return self.spec.budget.records_per_day

    def delays(self) -> Delays:
        """A single bad part is an alarm. It is over after ten good ones in a row: while bad parts keep coming, it is one fault."""
        return Delays(off_delay_s=30.0, off_records=10)
