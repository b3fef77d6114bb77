"""The pictures of a camera line in one format: which can be read, and what an extractor sees in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import Picture, PictureFormat, Smaller, read_picture, read_smaller
from anomaly.data.pictures.survey import Survey, check_enough, survey_pictures
from anomaly.errors import RecordError
from anomaly.export.onnx_stages import onnx_stages
from anomaly.features.backbones.weights import WeightsSource
from anomaly.features.maps import gather_maps, pictures_at_once
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import Stages
from anomaly.features.threads import one_thread
from anomaly.names import record_name
from anomaly.parallel import on_all_cores
from anomaly.progress import Progress, silent
from anomaly.spec import CameraInput

PEEKED, UNKNOWN = 8, (512, 512)  # pictures whose headers tell the size of all, about; and a size where none can be read
AT_HAND_BYTES, AT_HAND_LEAST = 1 << 30, 16  # of raw pictures that are in memory together
ENOUGH = 2  # times the sides of the input are those of a picture that is looked at on trial: no more is to be seen
KEPT_BYTES = 1 << 29  # of such pictures that stay in memory
BATCH = 4  # pictures through the extractor at a time; more are no quicker


def _left_out(asked: Sequence[str], found: Collection[str]) -> list[str]:
    """What a person should know of [input] leave_out; [] where it names nothing."""
    unknown = sorted(set(asked) - set(found))
    more = f"; not there: {', '.join(map(record_name, unknown[:3]))}{' and others' if len(unknown) > 3 else ''}" if unknown else ""
    return [f"{len(found)} good parts are left out by [input] leave_out{more}"] if asked else []


class _Kept:
    """Smaller pictures for one size of input at a time, in memory up to a bound; many threads may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._size: tuple[int, int] | None = None
        self._found: dict[Path, Smaller] = {}
        self._bytes = 0

    def get(self, path: Path, size: tuple[int, int], make: Callable[[], Smaller]) -> Smaller:
        """A picture for a size of input: as it was kept, or made now and kept where there is room. The first stay, since all come again."""
        with self._lock:
            if size != self._size:
                self._size, self._found, self._bytes = size, {}, 0
            found = self._found.get(path)
        if found is not None:
            return found
        found = make()
        with self._lock:
            if size == self._size and path not in self._found and self._bytes + found.pixels.nbytes <= KEPT_BYTES:
                self._found[path] = found
                self._bytes += found.pixels.nbytes
        return found


class PictureFolder:
    """The pictures under one folder (or of a manifest), all read in the same format.

    `train` holds pictures of good parts only. `test` holds labelled pictures and may be empty. `rejected` maps the id of every
    picture that could not be read so far to the reason.
    """

    def __init__(self, data: Path, settings: CameraInput) -> None:
        """Find the pictures; none is read yet. Raises DataError for a folder that is not there or holds no pictures."""
        self.settings = settings
        self.root = data if data.is_dir() else data.parent
        found = find_pictures(data)
        left_out = set(settings.leave_out) & {picture.path.name for picture in found.train}
        self.train = [picture for picture in found.train if picture.path.name not in left_out]
        self.test, self.notes = found.test, [*found.notes, *_left_out(settings.leave_out, left_out)]
        self.rejected: dict[str, str] = {}
        self._survey: Survey | None = None
        self._smaller = _Kept()

    @property
    def survey(self) -> Survey:
        """What one look at all training pictures shows."""
        return self._look(silent)

    def _look(self, progress: Progress) -> Survey:
        if self._survey is None:
            self._survey = survey_pictures(self.train, self.settings.color, self.settings.bits, progress)
            self.rejected |= self._survey.rejected
        return self._survey

    @property
    def format(self) -> PictureFormat:
        """The format that the spec names, or that the training pictures show."""
        return self.survey.format

    @property
    def readable(self) -> list[Picture]:
        """Training pictures that can be decoded. Raises DataError when they are too few, or show too few different parts."""
        return self.look_through(silent)

    def look_through(self, progress: Progress) -> list[Picture]:
        """Decode every training picture, once, and say how far it is. Returns `readable`, and raises as that does."""
        found = self._look(progress)
        check_enough(found, self.root)
        return found.readable

    @cached_property
    def parts(self) -> list[Picture]:
        """One of the readable pictures for each part: the first."""
        _, first = np.unique(self.survey.groups, return_index=True)
        return [self.readable[i] for i in sorted(first.tolist())]

    def some_sizes(self) -> list[tuple[int, int]]:
        """The sizes (high, wide) of pictures, of a few as long as not all are decoded: for an estimate of time, no more."""
        if self._survey is not None and self._survey.sizes:
            return self._survey.sizes
        sizes = []
        for picture in self.train[:: max(1, len(self.train) // PEEKED)]:
            with suppress(OSError, ValueError, Image.DecompressionBombError), Image.open(picture.path) as image:
                sizes.append((image.height, image.width))
        return sizes or [UNKNOWN]

    def at_size(self, size: tuple[int, int]) -> PictureFolder:
        """The same pictures, looked at with another size of input."""
        other = copy(self)
        other.settings = self.settings.model_copy(update={"size": size})
        return other

    @property
    def size(self) -> tuple[int, int]:
        """The size of input (high, wide), once it is settled."""
        size = self.settings.size
        assert size is not None, "the plan comes before anything that looks at pictures"
        return size

    def read(self, picture: Picture) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """One picture (H, W, C) as uint8, or uint16 where the format is deep. None, and an entry in `rejected`, when it cannot be read."""
        return self._kept(picture, self._attempt(picture))

    def smaller(self, picture: Picture) -> Smaller | None:
        """One picture as `read` gives it, with no more pixels than matter at the size of input; None as there.

        For trials, which look at the same pictures many times. What a detector learns from, and what it is calibrated by, is read whole.
        """
        enough = (ENOUGH * self.size[0], ENOUGH * self.size[1])
        try:
            return self._smaller.get(picture.path, self.size, lambda: read_smaller(picture.path, self.format, enough))
        except RecordError as error:
            self.rejected[picture.id] = str(error)
            return None

    def _all_smaller(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        return [small.pixels for small in map(self.smaller, pictures) if small is not None]

    def decoded(self, pictures: Sequence[Picture]) -> Iterator[NDArray[Any] | None]:
        """Pictures as `read` gives them, in their order, a few at a time and each by a thread of its own."""
        for picture, found in zip(pictures, on_all_cores(self._attempt, pictures), strict=True):
            yield self._kept(picture, found)

    def _attempt(self, picture: Picture) -> NDArray[Any] | RecordError:
        try:
            return read_picture(picture.path, self.format).pixels
        except RecordError as error:
            return error

    def _kept(self, picture: Picture, found: NDArray[Any] | RecordError) -> NDArray[Any] | None:
        """What was read; an error goes into `rejected`, in the order in which pictures are asked for."""
        if isinstance(found, RecordError):
            self.rejected[picture.id] = str(found)
            return None
        return found

    def read_all(self, pictures: Sequence[Picture]) -> list[NDArray[Any]]:
        """Those of some pictures that can be read, each (H, W, C), in their order."""
        return [raw for raw in self.decoded(pictures) if raw is not None]

    def at_hand(self, most: int) -> int:
        """How many raw pictures may be in memory together: `most`, or fewer where that would be more than 1 GB, but never fewer than 16."""
        first = self.read_all(self.readable[:1])
        return min(most, max(AT_HAND_LEAST, AT_HAND_BYTES // max((raw.nbytes for raw in first), default=1)))

    def preprocess(self, source: WeightsSource) -> ImagePreprocess:
        """The graph's first layers (resize, scale), for a backbone trained on pictures like those of `source`."""
        roi = [(r.left, r.top, r.right, r.bottom) for r in self.settings.roi]
        return ImagePreprocess(self.size, source.mean, source.std, deep=self.format.deep, roi=roi)

    def whole(self, pictures: Sequence[Picture], preprocess: ImagePreprocess, *, on_trial: bool = False) -> Tensor:
        """Preprocessed pictures (n, 3, h, w) float32, `on_trial` from smaller ones; those that cannot be read are left out."""
        found = self._all_smaller(pictures) if on_trial else self.read_all(pictures)
        seen = [preprocess(torch.from_numpy(raw.copy()).unsqueeze(0)) for raw in found]
        return torch.cat(seen) if seen else torch.empty(0, 3, *self.size)

    def crops(self, pictures: Sequence[Picture], preprocess: ImagePreprocess, generator: torch.Generator) -> Tensor:
        """Preprocessed pictures (n, 3, h / 2, w / 2) float32, each cropped at random: local features need no more than that.

        Every picture must be readable.
        """
        half = [side // 2 for side in self.size]
        crops = []
        for picture in pictures:
            small = self.smaller(picture)
            assert small is not None, picture.path
            x = preprocess(torch.from_numpy(small.pixels.copy()).unsqueeze(0))
            y0, x0 = (int(torch.randint(side, (), generator=generator)) for side in half)
            crops.append(x[:, :, y0 : y0 + half[0], x0 : x0 + half[1]])
        return torch.cat(crops)

    def features_of(
        self,
        extractor: Stages,
        preprocess: ImagePreprocess,
        pictures: Sequence[Picture],
        progress: Progress = silent,
        *,
        on_trial: bool = False,
    ) -> list[Tensor]:
        """Feature maps of the pictures that can be read, one (n, C_s, h_s, w_s) float32 a stage; on disk where they are large.

        `on_trial` takes them from smaller pictures, see `smaller`.
        """
        extractor = onnx_stages(extractor)
        few = pictures_at_once(BATCH, self.size)

        def features(start: int) -> list[Tensor]:
            x = self.whole(pictures[start : start + few], preprocess, on_trial=on_trial)
            return extractor(x) if len(x) else []

        starts = range(0, len(pictures), few)

        def found() -> Iterator[list[Tensor]]:
            for start, maps in zip(starts, on_all_cores(features, starts), strict=True):
                progress("features of pictures", start, len(pictures))
                yield maps

        with torch.inference_mode(), one_thread():
            return gather_maps(found(), len(pictures))


def batches(pictures: Sequence[NDArray[Any]], largest: int) -> list[NDArray[Any]]:
    """Pictures (H, W, C) in batches (n, H, W, C) of at most `largest`: those of one size that follow each other.

    >>> import numpy as np
    >>> [batch.shape for batch in batches([np.zeros((2, 2, 1))] * 3 + [np.zeros((4, 4, 1))], largest=2)]
    [(2, 2, 2, 1), (1, 2, 2, 1), (1, 4, 4, 1)]
    """
    groups: list[list[NDArray[Any]]] = []
    for picture in pictures:
        if groups and groups[-1][0].shape == picture.shape and len(groups[-1]) < largest:
            groups[-1].append(picture)
        else:
            groups.append([picture])
    return [np.stack(group) for group in groups]


def to_8_bit(raw: NDArray[Any], deep: bool) -> NDArray[np.uint8]:
    """A picture in 8 bits a channel, the depth at which synthetic defects are drawn. `deep` says that it has 16.

    >>> import numpy as np
    >>> to_8_bit(np.array([0, 257, 65535], np.uint16), deep=True)
    array([  0,   1, 255], dtype=uint8)
    """
    return (raw // 257 if deep else raw).astype(np.uint8)


def from_8_bit(picture: NDArray[np.uint8], deep: bool) -> NDArray[Any]:
    """An 8-bit picture in the camera's own depth: uint16 when `deep`, else as it is.

    >>> import numpy as np
    >>> from_8_bit(np.array([0, 1, 255], np.uint8), deep=True)
    array([    0,   257, 65535], dtype=uint16)
    """
    return picture.astype(np.uint16) * 257 if deep else picture
