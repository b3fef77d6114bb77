"""Many boxes in one list."""

from __future__ import annotations

from fastapi import APIRouter, Request

from anomaly.page.boxes import Boxes, BoxesView

router = APIRouter(tags=["boxes"])


@router.get("/boxes")
def boxes(request: Request) -> BoxesView:
    """All boxes with their lines, and the alarms that are on or wait for someone."""
    asked: Boxes = request.app.state.boxes
    return asked.look()
