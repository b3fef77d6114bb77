"""What files scored show on a terminal: each of a few records, and of many a sentence and the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from anomaly.cli.terminal.console import manner, out
from anomaly.data.clock import has_clock, moment
from anomaly.data.tables.windows import joined
from anomaly.rarity import p_words

if TYPE_CHECKING:
    import pandas as pd

    from anomaly.bundle.manifest import Manifest

COLUMNS = ("record", "score", "p_value", "flagged")
FEW, WORST = 20, 10  # records that are all printed; and of more, places that are


def on_the_clock(frame: pd.DataFrame, zone: str) -> pd.DataFrame:
    """Scores with their times, in seconds since 1970, as people read them on the clock of a zone (UTC where none is known).

    Seconds that count from the begin of a record stay as they are.
    """
    import pandas as pd

    if "time" not in frame or not has_clock(frame["time"].to_numpy()):
        return frame
    local = pd.to_datetime((frame["time"] * 1e3).round(), unit="ms", utc=True).dt.tz_convert(zone or "UTC")
    # As many digits in all rows, so that any reader takes the column.
    finest: Literal["milliseconds", "seconds"] = "milliseconds" if bool((frame["time"] % 1 > 0).any()) else "seconds"
    told = [time.isoformat(" ", finest) for time in local]
    return frame.assign(time=told if zone else [text.replace("+00:00", "Z") for text in told])


def with_bound(frame: pd.DataFrame, least: float) -> pd.DataFrame:
    """Scores with p-values no smaller than the normals can tell, and beside them whether one is below that (`p_is_below`)."""
    bounded = frame.assign(p_value=frame["p_value"].clip(lower=least))
    bounded.insert(frame.columns.tolist().index("p_value") + 1, "p_is_below", frame["p_value"] < least)
    return bounded


def print_scores(frame: pd.DataFrame, manifest: Manifest) -> None:
    """A line a record, in their order, where they are few or -v asks for all; else how many are flagged and the worst places of them.

    `frame` has a row a record: record, score, p_value, flagged, and for rows of a table time. Flagged rows of a table that are
    less than a window apart are one place (`windows.joined`).
    """
    schema, least = manifest.input, manifest.least_p
    if len(frame) <= FEW or manner.verbose:
        for name, score, p_value, is_flagged in zip(*(frame[key].tolist() for key in COLUMNS), strict=True):
            out.print(f"{name}  score {score:.4g}  {p_words(p_value, least)}{'  FLAGGED' if is_flagged else ''}")
        return
    flagged = int(frame["flagged"].sum())
    if not flagged:
        at = int(frame["score"].to_numpy().argmax())
        name, score, p_value = (frame[key].to_numpy()[at] for key in ("record", "score", "p_value"))
        out.print(f"none of {len(frame):,} records is flagged; the least usual: {name}  score {score:.4g}  {p_words(p_value, least)}")
        return
    out.print(f"{flagged:,} of {len(frame):,} records are flagged ({flagged / len(frame):.1%})")
    places = stretches(frame, (schema.window or 1) * (schema.period_s or 0.0))
    if "time" in frame:
        apart = f"{schema.window} rows" if (schema.window or 1) > 1 else "a row"
        out.print(f"{len(places):,} {'place' if len(places) == 1 else 'places'}: flagged rows less than a window ({apart}) apart are one")
    if len(places) > 1:
        out.print("the least usual first" if len(places) <= WORST else f"the {WORST} least usual of {len(places):,} places")
    for first, last, rows, score, p_value, began in places[:WORST]:
        where = first if rows == 1 else f"{first} to {last.rpartition(':')[2]}, {rows} rows"
        where += "" if began is None else f", from {moment(began, schema.zone)}"
        out.print(f"  {where}  score {score:.4g}  {p_words(p_value, least)}")
    out.print("all of them: --csv FILE, --json FILE, or -v")


Place = tuple[str, str, int, float, float, float | None]


def stretches(frame: pd.DataFrame, window_s: float) -> list[Place]:
    """Flagged places, the least usual first: the first and the last record, how many, the highest score, the least p-value, and when it
    began, None for pictures. `window_s`: how long a window of readings is.
    """
    flagged = frame["flagged"].to_numpy(dtype=bool).nonzero()[0]
    files = frame["record"].str.rpartition(":")[0].to_numpy()
    times = frame["time"].to_numpy() if "time" in frame else None
    places: list[NDArray[np.int64]] = [np.array([at]) for at in flagged] if times is None else []
    for name in dict.fromkeys(files[flagged]) if times is not None else ():
        own = flagged[files[flagged] == name]
        places += [own[part] for part in joined(frame["time"].to_numpy()[own], window_s)]
    scores, values, records = frame["score"].to_numpy(), frame["p_value"].to_numpy(), frame["record"].to_numpy()
    found: list[Place] = [
        (
            *(str(records[p[0]]), str(records[p[-1]]), len(p), float(scores[p].max()), float(values[p].min())),
            None if times is None else float(times[p[0]]),
        )
        for p in places
    ]
    return sorted(found, key=lambda place: -place[3])
