"""How long the work on a camera line is expected to take, so that the time left can be told. No choice depends on it.

Seconds on two cores with EfficientNet-Lite0, measured on 40 pictures of 704 x 704, 40 of 400 x 400 and 120 and 300 of 256 x 256: good for
shares of a whole, not for a promise.
"""

from __future__ import annotations

from collections.abc import Sequence

from anomaly.features.maps import fewer_of_large
from anomaly.pipeline.camera.pictures import ENOUGH
from anomaly.pipeline.camera.plan.sizes import Size, megapixels
from anomaly.pipeline.camera.plan.trial import judged_at
from anomaly.spec import CameraSpec

READ = 0.02  # to decode a picture, for each million of its own pixels; the same to bring it to the size of input
SEEN = 0.5  # to see a picture and to search the banks, for each million pixels of input
LOOKED, DRAWN = 0.5, 0.2  # in a trial, a picture: for each million pixels of input, and of those on which marks are drawn
COMPARED = 2.35  # the same for its comparison with banks that grow with the pixels of input, until they are full
FULL = 0.5  # million pixels from which on banks have as many patches as they may
TRAINED, RANKED = 0.54, 0.78  # a picture in a step of training, and in a trial of what was gained, for each million pixels of input
FIRST_STEPS = 64  # pictures in the first steps of an adaptation
PROBED, FEWEST_PROBED, USUAL_TRIALS = 24, 8, 2  # pictures that rank these, fewer of large ones; trials of them
EPOCHS, RANKINGS, RANKED_BY = 2, 5, 60  # of an adaptation in full, as a rule
PARITY, FEWEST_PARITY = 200, 32  # records, and as many of noise
JUDGED = 80  # pictures that a variant is judged by


def trial_s(size: Size, pictures: int, own: tuple[float, float]) -> tuple[float, float]:
    """Seconds to look at the pictures of a trial, and to judge them by banks of each half. `own` is the pictures' usual size.

    >>> [round(s, 1) for s in trial_s((256, 256), 40, (704, 704))], [round(s, 1) for s in trial_s((704, 704), 40, (704, 704))]
    ([3.6, 0.4], [13.6, 21.0])
    """
    count, pixels = 2 * judged_at(size, pictures), megapixels(size)
    drawn = min(megapixels(own), ENOUGH**2 * pixels)
    looking = READ * megapixels(own) + DRAWN * drawn + LOOKED * pixels
    return count * looking, count * pixels * COMPARED * min(pixels, FULL)


def adaptation_s(size: Size, count: int) -> tuple[float, float]:
    """Seconds of the first steps of an adaptation, and of a trial of what they gained on `count` pictures.

    >>> [round(s, 1) for s in adaptation_s((704, 704), 8)]
    [16.3, 2.9]
    """
    return FIRST_STEPS * TRAINED * megapixels(size), count * RANKED * megapixels(size)


def full_adaptation_s(size: Size, pictures: int, judged: int, most: float) -> float:
    """Seconds of an adaptation in full, which ends after `most` of training. `judged` pictures rank what it gains.

    >>> round(full_adaptation_s((384, 384), 40, 20, 240.0))
    17
    """
    pixels = megapixels(size)
    return min(most, EPOCHS * pictures * TRAINED * pixels) + RANKINGS * judged * RANKED * pixels


def steps_s(size: Size, pictures: int, labelled: int, own: tuple[float, float]) -> dict[str, float]:
    """Seconds of the steps after the first: on so many pictures of good parts, and so many labelled ones, at a size of input.

    >>> {step: round(seconds) for step, seconds in steps_s((704, 704), 40, 0, (704, 704)).items() if seconds > 1}
    {'fit': 11, 'parity': 15, 'variants': 29, 'export': 2, 'report': 4}
    """
    pixels = megapixels(size)
    picture = SEEN * pixels + READ * megapixels(own)
    return {
        "fit": 1.5 + pictures * picture,
        "calibrate": 0.1,
        "evaluate": 0.1 + labelled * picture,
        "graph": 0.5,
        "parity": 2 * fewer_of_large(PARITY, size, FEWEST_PARITY, side=256) * SEEN * pixels,
        "variants": 1.0 + pictures * picture / 2 + JUDGED * 0.6 * pixels,
        "export": 0.6 + 3.2 * pixels,
        "report": 3.0 + 2.0 * pixels,
    }


def trials_s(sizes: Sequence[Size], pictures: int, own: tuple[float, float]) -> dict[Size, float]:
    """Seconds of the trial of each size of input."""
    return {size: sum(trial_s(size, pictures, own)) for size in sizes}


def adapting_s(spec: CameraSpec, size: Size, pictures: int) -> dict[str, float]:
    """Seconds of an adaptation's first steps, with what looks at them, and of the whole of it, which follows where these promise a gain.

    >>> {part: round(seconds) for part, seconds in adapting_s(CameraSpec(kind="camera"), (704, 704), 40).items()}
    {'adaptation, first steps': 22, 'adaptation': 57}
    """
    if spec.pretrain.method == "none":
        return {"adaptation": 0.1}
    half = max(1, pictures // 2)
    training, ranking = adaptation_s(size, min(fewer_of_large(PROBED, size, FEWEST_PROBED), max(1, half // 2)))
    whole = full_adaptation_s(size, pictures, min(half, RANKED_BY), 60 * spec.pretrain.max_minutes)
    return {"adaptation, first steps": training + USUAL_TRIALS * ranking, "adaptation": whole}


def pretrain_s(spec: CameraSpec, sizes: Sequence[Size], pictures: int, own: tuple[float, float]) -> dict[str, float]:
    """Seconds of the parts of the first step: the look at all pictures, the trial of each size of input, and the adaptation after it.

    >>> spec = CameraSpec(kind="camera")
    >>> {part: round(seconds) for part, seconds in pretrain_s(spec, [(256, 256), (704, 704)], 40, (704, 704)).items()}
    {'pictures': 0, 'plan': 39, 'adaptation': 80}
    """
    return {
        "pictures": 0.1 + pictures * READ * megapixels(own),
        "plan": 0.1 if spec.input.size is not None and spec.scorer.banks else sum(trials_s(sizes, pictures, own).values()),
        "adaptation": sum(adapting_s(spec, sizes[-1], pictures).values()),
    }
