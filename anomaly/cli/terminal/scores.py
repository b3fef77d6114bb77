"""What files scored show on a terminal: each of a few records, and of many a sentence and the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.cli.terminal.console import manner, out

if TYPE_CHECKING:
    import pandas as pd

FEW, WORST = 20, 10  # records that are all printed; and of more, places that are


def print_scores(frame: pd.DataFrame) -> None:
    """A line a record, in their order, where they are few or -v asks for all; else how many are flagged and the worst places of them.

    `frame` has a row a record: record, score, p_value, flagged, and for rows of a table time. Flagged rows of a table that follow each
    other are one place.
    """
    if len(frame) <= FEW or manner.verbose:
        for row in frame.itertuples():
            out.print(f"{row.record}  score {row.score:.4g}  p {row.p_value:.3g}{'  FLAGGED' if row.flagged else ''}")
        return
    flagged = int(frame["flagged"].sum())
    if not flagged:
        at = int(frame["score"].to_numpy().argmax())
        name, score, p_value = (frame[key].to_numpy()[at] for key in ("record", "score", "p_value"))
        out.print(f"none of {len(frame):,} records is flagged; the least usual: {name}  score {score:.4g}  p {p_value:.3g}")
        return
    out.print(f"{flagged:,} of {len(frame):,} records are flagged ({flagged / len(frame):.1%})")
    places = stretches(frame)
    if len(places) > 1:
        out.print("the least usual first" if len(places) <= WORST else f"the {WORST} least usual of {len(places):,} places")
    for first, last, rows, score, p_value in places[:WORST]:
        where = first if rows == 1 else f"{first} to {last.rpartition(':')[2]}, {rows} rows"
        out.print(f"  {where}  score {score:.4g}  p {p_value:.3g}")
    out.print("all of them: --csv FILE, --json FILE, or -v")


def stretches(frame: pd.DataFrame) -> list[tuple[str, str, int, float, float]]:
    """Flagged places, the least usual first: the first and the last record, how many, the highest score and the least p-value."""
    flagged = frame["flagged"].to_numpy(dtype=bool)
    files = frame["record"].str.rpartition(":")[0].to_numpy()
    together = "time" in frame
    places: list[list[int]] = []
    for at in flagged.nonzero()[0].tolist():
        if together and places and places[-1][-1] == at - 1 and files[at] == files[at - 1]:
            places[-1].append(at)
        else:
            places.append([at])
    scores, values, records = frame["score"].to_numpy(), frame["p_value"].to_numpy(), frame["record"].to_numpy()
    found = [(str(records[p[0]]), str(records[p[-1]]), len(p), float(scores[p].max()), float(values[p].min())) for p in places]
    return sorted(found, key=lambda place: -place[3])
