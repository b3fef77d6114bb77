"""How long the work on a camera line is expected to take, so that the time left can be told. No choice depends on it."""

from __future__ import annotations

from anomaly.pipeline.camera.plan.sizes import Size, megapixels
from anomaly.pipeline.camera.plan.trial import judged_at

# Seconds on two cores, measured on 40 pictures of 704 x 704 with dinov2-small: good for shares of a whole, not for a promise.
LOOKED, DRAWN = 0.1, 0.05  # to look at a million pixels of input, as it is and marked, and to draw the marks on a picture
LEARNT, COMPARED = 3.3, 19.4  # a million pixels of input: patches told apart, and compared with banks that grow with them
STEPS, TRIED = 115.0, 7.5  # a million pixels of input: all of the first steps, and a picture of a trial
FULL = 0.5  # million pixels from which on banks have as many patches as they may


def trial_s(size: Size, pictures: int) -> tuple[float, float]:
    """Seconds to look at the pictures of a trial, and to judge them by banks of each half.

    Banks grow with what is compared with them.

    >>> [round(s) for s in trial_s((256, 256), 40)], [round(s) for s in trial_s((704, 704), 40)]
    ([2, 6], [6, 118])
    """
    count, pixels = judged_at(size, pictures), megapixels(size)
    return 2 * count * (DRAWN + 2 * LOOKED * pixels), count * pixels * (LEARNT + COMPARED * min(pixels, FULL))


def adaptation_s(size: Size, count: int) -> tuple[float, float]:
    """Seconds of the first steps of an adaptation, and of a trial of what they gained on `count` pictures.

    >>> [round(s) for s in adaptation_s((704, 704), 8)]
    [54, 28]
    """
    return STEPS * megapixels(size), count * TRIED * megapixels(size)
