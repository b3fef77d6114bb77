"""What routes share: what they are handed, and who may ask."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query, Request

from anomaly.errors import DataError
from anomaly.names import masked, one_line
from anomaly.page.site import Site

LONGEST_NAME = 200


def the_site(request: Request) -> Site:
    """What this page shows."""
    site: Site = request.app.state.site
    return site


OfSite = Annotated[Site, Depends(the_site)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Limit = Annotated[int, Query(ge=1, le=500)]
LineName = Annotated[str, Query(max_length=LONGEST_NAME)]


def seconds_of(text: str | None, what: str) -> float | None:
    """A time of RFC 3339 in seconds since 1970, None for none. Raises DataError."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError
        return found.astimezone(UTC).timestamp()  # in UTC it is of the years 1 to 9999, too
    except (ValueError, OverflowError) as error:
        raise DataError(f"{what}: write a time with its zone, such as 2026-11-27T08:00:00Z") from error


def said(text: str) -> str:
    """A person's words as they are kept: one line, no secrets."""
    return one_line(masked(text.strip()))
