"""What a detector says of one picture file, or of pixels in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from anomaly.data.pictures.reading import Decoded, decode_pixels, format_of, read_picture
from anomaly.data.tables.windows import Run
from anomaly.names import record_name
from anomaly.schema import InputSchema


def score_picture(run: Run, schema: InputSchema, path: Path) -> pd.DataFrame:
    """One row: record, score, p_value, map (h, w), and note where a person should know how it was read.

    Raises RecordError when the file cannot be read.
    """
    return _scored(run, record_name(str(path)), read_picture(path, format_of(schema)))


def score_pixels(run: Run, schema: InputSchema, name: str, pixels: NDArray[Any]) -> pd.DataFrame:
    """The same for a picture (H, W) or (H, W, 1, 3 or 4) uint8, or (H, W) uint16, in memory. Raises RecordError for another array."""
    return _scored(run, name, decode_pixels(pixels, format_of(schema), name))


def _scored(run: Run, name: str, picture: Decoded) -> pd.DataFrame:
    score, p_value, detail = run(picture.pixels[None])
    row = {"record": [name], "score": score.astype(float), "p_value": p_value.astype(float), "map": [detail[0]]}
    return pd.DataFrame(row | ({"note": [picture.note]} if picture.note else {}))
