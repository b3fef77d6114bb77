"""The spec: one typed description of a detector, read from TOML. Everything that may be asked for is here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, field_validator, model_validator

from anomaly.errors import SpecError
from anomaly.schema import AlarmSettings, Channel, Dialect, Name, Part, check_time_format
from anomaly.toml_file import explain, read_toml, with_keys

ORIENTED_FILTERS = "oriented_filters"  # the backbone that needs no weights


class Budget(Part):
    """How many false alarms are acceptable: a rate per record, or a number per day (which needs the record rate)."""

    false_alarm_rate: float = Field(0.01, gt=0, lt=0.5, description="share of normal records that may be flagged")
    false_alarms_per_day: float | None = Field(None, gt=0, description="takes precedence over the rate")
    records_per_day: float | None = Field(None, gt=0, description="cameras: pictures a day, to turn a day into a rate")

    @model_validator(mode="before")
    @classmethod
    def _a_week(cls, given: Any) -> Any:
        """`false_alarms_per_week` is another way to write `false_alarms_per_day`."""
        if not isinstance(given, dict) or "false_alarms_per_week" not in given:
            return given
        if given.get("false_alarms_per_day") is not None:
            raise ValueError("false_alarms_per_week and false_alarms_per_day are both set; leave one of them out")
        rest = {key: value for key, value in given.items() if key != "false_alarms_per_week"}
        week = given["false_alarms_per_week"]
        if not isinstance(week, (int, float)) or isinstance(week, bool):
            raise ValueError(f"false_alarms_per_week is {week!r}; write a number, such as 2")
        return rest | {"false_alarms_per_day": week / 7}


class Alarm(AlarmSettings):
    """The alarm settings of `anomaly.schema`, with delays that the line chooses when they are not given."""

    on_delay_s: float | None = Field(None, ge=0, description="flagged for this long before the alarm opens")  # type: ignore[assignment]
    off_delay_s: float | None = Field(None, ge=0, description="calm for this long before the alarm closes")  # type: ignore[assignment]
    off_records: int | None = Field(None, ge=1, description="and for so many records in a row")  # type: ignore[assignment]


class Approval(Part):
    """Who says that a challenger becomes champion, where a schedule made it."""

    approve: Literal["person", "automatic"] = Field("person", description="automatic: by itself, where the comparison finds it better")


class Pretrain(Part):
    """Self-supervised adaptation to the site's own normals; kept only when it ranks injected defects better."""

    method: Literal["auto", "none"] = "auto"
    depth: Annotated[int, Field(ge=1)] | Literal["all"] = Field(2, description="cameras: the last blocks that are trained")
    epochs: int = Field(8, ge=1, le=1000)
    batch: int = Field(16, ge=2, le=4096)
    learning_rate: float = Field(1e-3, gt=0)
    max_minutes: float = Field(4.0, gt=0, description="stop after this long, keeping the best so far")


TransferMethod = Literal["frozen", "finetune", "coral", "batch-norm", "deep-coral", "dann", "tradaboost"]
NEEDS_NORMALS = ("coral", "batch-norm", "deep-coral", "dann")  # methods that look at the source's own normals
EXTRACTORS = (".anomaly", ".safetensors")  # a source with another suffix is normal data


class Transfer(Part):
    """Transfer learning: another line's detector to start from. Every method is compared on this line's own normals with no transfer.

    "auto" tries every method that the given paths allow, except "tradaboost", and takes the best if it is clearly better than no
    transfer. Naming a method makes it mandatory; the manifest then says what it gained or cost.
    """

    source: Path | None = Field(None, description="a bundle, or an extractor from `anomaly pretrain`; the spec's own when not given")
    normals: Path | None = Field(None, description="the source line's normal data")
    faults: Path | None = Field(None, description="labelled faults of this line: pictures in folders by kind, or tables")
    source_faults: Path | None = Field(None, description="tradaboost: the same of the source line")
    method: TransferMethod | Literal["auto"] = "auto"

    @property
    def given(self) -> bool:
        """Whether there is anything to transfer."""
        return any(path is not None for path in (self.source, self.normals, self.faults))

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Transfer:
        if self.method in NEEDS_NORMALS and self.normals is None:
            raise ValueError(f"transfer.method {self.method!r} needs the source line's normal data: give transfer.normals")
        if self.method == "tradaboost" and self.faults is None:
            raise ValueError("transfer.method 'tradaboost' needs labelled faults of this line: give transfer.faults")
        return self


class Rectangle(Part):
    """Part of a picture, in shares of its width and height from the top left corner."""

    left: float = Field(0.0, ge=0, le=1)
    top: float = Field(0.0, ge=0, le=1)
    right: float = Field(1.0, ge=0, le=1)
    bottom: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _has_an_area(self) -> Rectangle:
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError(f"a rectangle from ({self.left}, {self.top}) to ({self.right}, {self.bottom}) is empty; swap or correct them")
        return self


Side = Annotated[int, Field(ge=64, le=2048)]


class CameraInput(Part):
    """How pictures are read and looked at. `size` None, which a spec writes as "auto": chosen by made-up marks on the line's normals."""

    size: tuple[Side, Side] | None = Field(
        None, description='pixels after the resize in the graph, (high, wide); one number is both; "auto": as large as pays'
    )
    smallest_mark: Annotated[float, Field(strict=True, allow_inf_nan=False)] | str | None = Field(
        None, description='of faults worth finding: pixels of the camera\'s picture, or "3 mm" with px_per_mm'
    )
    px_per_mm: float | None = Field(None, gt=0, allow_inf_nan=False, description="pixels of the camera's picture that one millimetre takes")
    max_ms: float = Field(60.0, gt=0, allow_inf_nan=False, description="size auto: what a picture may cost on two usual processor cores")
    color: Literal["auto", "gray", "rgb"] = "auto"
    bits: Annotated[int, Field(ge=8, le=16)] | None = Field(None, description="of a 16-bit file that the camera uses; found when not given")
    roi: tuple[Rectangle, ...] = Field((), description="rectangles to look at, all of the picture when not given")
    leave_out: tuple[str, ...] = Field((), description="file names of good parts that are not learnt from")

    @field_validator("size", mode="before")
    @classmethod
    def _one_number_is_both_sides(cls, value: Any) -> Any:
        if value == "auto":
            return None
        return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _mark_is_a_length(self) -> CameraInput:
        if isinstance(self.smallest_mark, str) and not re.fullmatch(r"\s*\d+(\.\d+)?\s*(mm|px)\s*", self.smallest_mark):
            raise ValueError(f'smallest_mark {self.smallest_mark!r}: write a number of pixels, "3 px" or "3 mm"')
        if isinstance(self.smallest_mark, str) and "mm" in self.smallest_mark and self.px_per_mm is None:
            raise ValueError(f"smallest_mark {self.smallest_mark!r} is in millimetres: say how many pixels one takes, px_per_mm = 12")
        if self.mark_px is not None and self.mark_px < 1:
            raise ValueError(f"smallest_mark {self.smallest_mark!r} is less than one pixel of the picture; no picture shows it")
        return self

    @property
    def mark_px(self) -> float | None:
        """The smallest mark worth finding, in pixels of the camera's picture; None where it is not said."""
        if not isinstance(self.smallest_mark, str):
            return self.smallest_mark
        number, unit = float(self.smallest_mark.strip().rstrip("pxm ")), self.smallest_mark.strip()[-2:]
        return number * (self.px_per_mm or 1.0) if unit == "mm" else number


class CameraExtractor(Part):
    backbone: str = Field("efficientnet_lite0", description="packaged weights, or any timm or torchvision name")
    stages: tuple[str, ...] = Field((), description="names of its modules whose answers are looked at; usual ones when not given")
    weights: Path | None = Field(None, description="a local .safetensors or .pth of the backbone")


class Bank(Part):
    stage: str
    metric: Literal["raw", "unit"]
    size: int = Field(8000, ge=16, description="patches at most; of each place where the model is place")
    model: Literal["patches", "gaussian", "place"] = "patches"
    view: str = Field("main", description="banks of one view are averaged; of several views the one that stands out most speaks")


class PoolSpec(Part):
    """How the map of a view becomes a score: the mean of the worst share of its places."""

    view: str = "main"
    share: float = Field(0.02, ge=0, le=1, description="of the picture's places; 0 is the worst place alone")


class MemoryBankSpec(Part):
    """Views of a picture: PatchCore-type memory banks and PaDiM-type Gaussians, one per stage and metric, whose distance maps are added.

    Banks and pools that are not given are chosen by made-up marks on the line's own normals.
    """

    method: Literal["memory_bank"] = "memory_bank"
    banks: tuple[Bank, ...] = Field((), description="chosen when not given")
    pools: tuple[PoolSpec, ...] = Field((), description="one of 2 % for each view of the banks when not given")
    suspects: Literal["list", "leave_out"] = Field("list", description="what becomes of normals that stand out")
    coreset_share: float = Field(0.25, gt=0, le=1, description="no bank holds more than this share of all patches")

    @model_validator(mode="after")
    def _pools_name_known_views(self) -> MemoryBankSpec:
        views = {bank.view for bank in self.banks}
        if self.pools and not self.banks:
            raise ValueError("pools are given and banks are not, whose views they take; give [[scorer.banks]] too, or leave pools out")
        for pool in self.pools:
            if pool.view not in views:
                raise ValueError(f"pools names view {pool.view!r}, which none of the banks belongs to; name one of {sorted(views)}")
        unpooled = sorted(views - {pool.view for pool in self.pools}) if self.pools else []
        if unpooled:
            raise ValueError(f"no pool takes view {unpooled[0]!r}; add one, or leave all pools out")
        return self


class Calibration(Part):
    """Cross-conformal calibration: every normal window is scored once by a scorer that was not fitted on it. Cameras leave one picture out.

    With `records`, normal tables of other machines of the same kind, the threshold allows for the normal drift of scores that is seen
    there after fitting on as many rows as there are here.
    """

    folds: int = Field(3, ge=2, le=50)
    records: Path | None = Field(None, description="a normal table, or a folder of them, of the same kind of machine")


class CameraSpec(Part):
    kind: Literal["camera"]
    name: Name = Field("camera", description="of the line, as people say it: shown in alarms and reports")
    version: str = Field("1", pattern=r"^[A-Za-z0-9][A-Za-z0-9._]{0,31}$")
    seed: int = 0
    input: CameraInput = CameraInput()
    extractor: CameraExtractor = CameraExtractor()
    pretrain: Pretrain = Pretrain()
    transfer: Transfer = Transfer()
    scorer: MemoryBankSpec = MemoryBankSpec()
    budget: Budget = Budget()
    alarm: Alarm = Alarm()
    release: Approval = Approval()

    @model_validator(mode="after")
    def _filters_fit_the_picture(self) -> CameraSpec:
        if self.extractor.backbone == ORIENTED_FILTERS and self.input.size is not None and any(side % 128 for side in self.input.size):
            raise ValueError(f"{ORIENTED_FILTERS} need an input.size that is a multiple of 128, not {self.input.size}; take 256")
        return self

    @model_validator(mode="after")
    def _banks_name_known_stages(self) -> CameraSpec:
        for bank in self.scorer.banks:
            if bank.stage not in self.extractor.stages and self.extractor.stages:
                raise ValueError(
                    f"scorer.banks names stage {bank.stage!r}, which extractor.stages {list(self.extractor.stages)} "
                    "does not give; add it there or change the bank"
                )
        return self


class Modes(Part):
    """Only rows in these operating modes are fitted and scored (a stopped machine is not an anomaly)."""

    column: str
    use: tuple[str, ...] = Field(min_length=1)


class SensorInput(Part):
    time: str | tuple[str, str] | None = Field(None, description="time column, or [date, time of day]; found when not given")
    time_format: str | tuple[str, ...] = Field(
        (), description='such as "%d.%m.%Y %H:%M", "ISO8601", or s, ms, us, ns; found when not given'
    )
    zone: str = Field(
        "", description="zone of times that name none, and the clock people are shown, such as Europe/Berlin; UTC when not given"
    )
    encoding: str | None = Field(None, description="of text tables; found when not given")
    delimiter: str | None = Field(None, description="between cells; found when not given")
    decimal: Literal[".", ","] | None = Field(None, description="decimal mark; found when not given")
    thousands: str | None = Field(None, description='mark between groups of three digits, "" for none; found when not given')
    skip_rows: int | None = Field(None, ge=0, description="lines before the header; found when not given")
    missing: tuple[str, ...] = Field((), description='further words that mean "no reading"')
    period_s: float | None = Field(None, gt=0, description="seconds between rows; found when not given")
    max_gap_s: float | None = Field(None, gt=0, description="no window spans a longer gap; ten periods when not given")
    window: int | str = Field("auto", description='rows a window, a multiple of 3; "auto": from the readings')
    sensors: tuple[Channel, ...] = Field((), description="columns; all numeric ones but labels when not given")
    labels: tuple[str, ...] = ("anomaly", "label", "changepoint", "fault", "is_anomaly")
    train_rows: int | None = Field(None, ge=1, description="only the first rows of a table are normal running to learn from")
    leave_out: tuple[tuple[AwareDatetime, AwareDatetime], ...] = Field((), description="[from, to] of rows that are not learnt from")
    modes: Modes | None = None
    pattern: Literal["auto", "none"] = Field("auto", description="a daily or weekly pattern is taken off where it pays, or never")

    @property
    def dialect(self) -> Dialect:
        """What is told of how the tables are written."""
        told = {name: getattr(self, name) for name in ("zone", "encoding", "delimiter", "decimal", "thousands", "skip_rows")}
        return Dialect(**told, **{name: _several(getattr(self, name)) for name in ("time", "time_format", "missing")})

    @field_validator("window")
    @classmethod
    def _window_is_auto_or_rows(cls, value: int | str) -> int | str:
        if isinstance(value, str) and value != "auto":
            raise ValueError('write "auto" or a number of rows')
        if isinstance(value, int) and (value % 3 or not 6 <= value <= 4096):
            raise ValueError("should be a multiple of 3 from 6 to 4096")
        return value

    @field_validator("time_format")
    @classmethod
    def _formats_are_known(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for form in _several(value):
            check_time_format(form)
        return value

    @model_validator(mode="after")
    def _dialect_is_sound(self) -> SensorInput:
        try:
            _ = self.dialect
        except ValidationError as error:
            raise ValueError("; ".join(f"{item['loc'][0] if item['loc'] else ''} {item['msg']}" for item in error.errors())) from None
        return self


def _several(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


class SensorExtractor(Part):
    """A small convolution encoder of a window's shape, the same for every sensor (MiniRocket; Dempster et al. 2021, arXiv:2012.08791)."""

    kernels: int = Field(4, ge=1, le=84, description="of each dilation; each gives a sensor four features")
    dilations: tuple[int, ...] = Field((1, 2, 4), min_length=1, description="rows between the readings that a kernel looks at")


class SensorScorerSpec(Part):
    """How windows are scored."""

    suspects: Literal["list", "leave_out"] = Field("list", description="what becomes of normals that stand out")


SENSOR_PRETRAIN = {"method": "none", "epochs": 20, "batch": 64}  # where a sensor's spec does not say otherwise


class SensorSpec(Part):
    kind: Literal["sensor"]
    name: Name = Field("sensor", description="of the line, as people say it: shown in alarms and reports")
    version: str = Field("1", pattern=r"^[A-Za-z0-9][A-Za-z0-9._]{0,31}$")
    seed: int = 0
    input: SensorInput = SensorInput()
    extractor: SensorExtractor = SensorExtractor()
    pretrain: Pretrain = Pretrain.model_validate(SENSOR_PRETRAIN)
    transfer: Transfer = Transfer()
    scorer: SensorScorerSpec = SensorScorerSpec()
    calibration: Calibration = Calibration()
    budget: Budget = Budget()
    alarm: Alarm = Alarm()
    release: Approval = Approval()

    @field_validator("pretrain", mode="before")
    @classmethod
    def _defaults_of_sensors(cls, given: Any) -> Any:
        """A table [pretrain] that names some keys leaves the others as they are for sensors."""
        return SENSOR_PRETRAIN | given if isinstance(given, dict) else given


GONE = {  # keys of an older version: what became of them
    ("sensor", "input.context"): "scores are no longer eased after a fault; leave it out. When an alarm is over is set in [alarm]",
    ("sensor", "extractor.channels"): "the encoder is another one; leave it out, or set `kernels`",
    ("sensor", "scorer.method"): "there is one scorer of readings, so leave it out; gaussian, pca and memory_bank are gone",
}
SPECS: dict[str, type[BaseModel]] = {"camera": CameraSpec, "sensor": SensorSpec}  # by `kind`; a further kind adds its own


def read_spec(path: Path, overrides: Mapping[str, Any] = MappingProxyType({})) -> CameraSpec | SensorSpec:
    """Read and validate a spec, with other values for some of its keys (`budget.false_alarm_rate`).

    Raises SpecError naming file, key and fix, before any work is done.
    """
    raw = with_keys(read_toml(path, "specs/camera.toml or specs/sensor.toml"), overrides)
    model = SPECS.get(str(raw.get("kind")))
    if model is None:
        known = " or ".join(f'kind = "{kind}"' for kind in SPECS)
        raise SpecError(f"{path}: key `kind` is {raw.get('kind')!r}; set {known}")
    try:
        return cast("CameraSpec | SensorSpec", model.model_validate(raw))  # a further kind's spec has what these two share
    except ValidationError as error:
        gone = {key: why for (kind, key), why in GONE.items() if model is SPECS.get(kind)}
        raise SpecError(*dict.fromkeys(f"{path}: {explain(model, item, gone)}" for item in error.errors())) from error


def check_paths(path: Path, spec: BaseModel) -> None:
    """Raise SpecError, naming the key, when a spec read from `path` names a file or folder that is not there."""

    def named(part: BaseModel, where: str) -> Iterator[tuple[str, Path]]:
        for key, value in part:
            if isinstance(value, BaseModel):
                yield from named(value, f"{where}{key}.")
            elif isinstance(value, Path):
                yield where + key, value

    gone = [f"{path}: key `{key}`: {value}: no such file or folder" for key, value in named(spec, "") if not value.exists()]
    if gone:
        raise SpecError(*gone)
