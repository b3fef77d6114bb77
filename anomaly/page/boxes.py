"""Many boxes in one list: each is asked in the background for its lines and alarms. One that is away never holds up the others."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from anomaly.alarms.events import iso
from anomaly.alarms.routing import PRIORITIES
from anomaly.errors import SpecError
from anomaly.names import masked, one_line
from anomaly.page.auth.settings import is_own, web_address
from anomaly.page.lines import ORDER
from anomaly.page.models import Alarm, Answer, Line
from anomaly.toml_file import explain, read_toml

EVERY_S, IDLE_S, LOOKED_S = 2.0, 15.0, 60.0  # between two askings: while somebody looks, and when nobody has looked for so long
ANSWERS_S = 3.0
MOST_BYTES = 4_000_000
MOST_ALARMS = 100  # of a box, the most urgent
HOW_TO = "docs/how-to/line/the-page.md"
log = logging.getLogger("anomaly")


class Box(BaseModel):
    """A box whose page is asked. `page`: the address by which people open it, where that is another than `url`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=100)
    url: Annotated[str, Field(max_length=500), AfterValidator(web_address)]
    page: Annotated[str | None, Field(max_length=500), AfterValidator(lambda given: given and web_address(given))] = None
    token_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")


class BoxesFile(BaseModel):
    """The file of `anomaly page --boxes`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    box: list[Box] = Field(min_length=1, max_length=1000)

    @field_validator("box")
    @classmethod
    def _told_apart(cls, given: list[Box]) -> list[Box]:
        names = [each.name for each in given]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two boxes are named {twice!r}; give one another name")
        return given


def read_boxes(path: Path) -> list[Box]:
    """Read the file. Raises SpecError naming the key that is wrong, or the variable of a token that is not set."""
    try:
        found = BoxesFile.model_validate(read_toml(path, HOW_TO)).box
    except ValidationError as error:
        raise SpecError(f"{path}: {masked(explain(BoxesFile, error.errors()[0]))}; see {HOW_TO}") from error
    for box in found:
        if box.token_env is None:
            continue
        if not os.environ.get(box.token_env):
            raise SpecError(f"{path}: box {box.name}: the variable {box.token_env} is not set; set it to the token for this process")
        if box.url.startswith("http:") and not _near(box):
            log.warning("box %s: its token goes by http, and can be read on its way; use https", one_line(box.name))
    return found


def _near(box: Box) -> bool:
    return is_own(urlsplit(box.url).hostname or "")


# --- what is shown ---


class BoxState(Answer):
    """One box. `since`: since when it is away, or there."""

    name: str
    page: str
    state: Literal["there", "away", "not asked yet"]
    since: str | None
    why: str
    lines: int
    waiting: int = Field(description="alarms that nobody has acknowledged")


class BoxLine(Answer):
    """A line of a box."""

    box: str
    page: str
    line: Line


class BoxAlarm(Answer):
    """An alarm of a box that is on or waits for someone."""

    box: str
    page: str
    alarm: Alarm


class BoxesView(Answer):
    """All boxes, those away first; lines and alarms of those that answer, what needs a person first."""

    time: str
    boxes: list[BoxState]
    lines: list[BoxLine]
    alarms: list[BoxAlarm]


@dataclass(frozen=True, slots=True)
class Heard:
    """What was last heard of a box."""

    state: Literal["there", "away", "not asked yet"] = "not asked yet"
    since: float | None = None
    why: str = ""
    lines: tuple[Line, ...] = ()
    alarms: tuple[Alarm, ...] = ()


class UnreadableError(ValueError):
    """A box answers, but not what was asked for."""


class Boxes:
    """Asks while `asking` runs. `clock`: seconds since 1970."""

    def __init__(self, boxes: Sequence[Box], clock: Callable[[], float] = time.time) -> None:
        self._boxes, self._clock = boxes, clock
        self._heard = {box.name: Heard() for box in boxes}
        self._looked = time.monotonic()

    def look(self) -> BoxesView:
        """What is known now; asks nobody, so it never waits."""
        self._looked = time.monotonic()
        heard = [(box, self._heard[box.name]) for box in self._boxes]
        states = [
            BoxState(
                name=box.name, page=box.page or box.url, state=it.state, since=None if it.since is None else iso(it.since), why=it.why,
                lines=len(it.lines), waiting=sum(line.waiting for line in it.lines),
            )
            for box, it in heard
        ]  # fmt: skip
        lines = [BoxLine(box=box.name, page=box.page or box.url, line=line) for box, it in heard for line in it.lines]
        alarms = [BoxAlarm(box=box.name, page=box.page or box.url, alarm=alarm) for box, it in heard for alarm in it.alarms]
        states.sort(key=lambda each: (each.state != "away", -each.waiting, each.name))
        lines.sort(key=lambda each: (ORDER.index(each.line.state), -each.line.waiting, each.box, each.line.name))
        alarms.sort(key=lambda each: each.alarm.opened, reverse=True)
        alarms.sort(key=lambda each: -PRIORITIES.index(each.alarm.priority))  # of one priority the newest stays first
        return BoxesView(time=iso(self._clock()), boxes=states, lines=lines, alarms=alarms)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask all boxes again and again in a thread, while the block runs."""
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._ask_all())
        thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])), name="boxes", daemon=True)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join(2 * ANSWERS_S)
            if not thread.is_alive():
                loop.close()

    async def _ask_all(self) -> None:
        async with httpx.AsyncClient(timeout=ANSWERS_S, follow_redirects=False) as far, httpx.AsyncClient(trust_env=False) as near:
            await asyncio.gather(
                *(self._keep_asking(near if is_own(urlsplit(box.url).hostname or "") else far, box) for box in self._boxes)
            )

    async def _keep_asking(self, client: httpx.AsyncClient, box: Box) -> None:
        while True:
            began = time.monotonic()
            before = self._heard[box.name]
            try:
                lines, alarms = await self._ask(client, box)
                since = before.since if before.state == "there" else self._clock()
                self._heard[box.name] = Heard("there", since, "", lines, alarms)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError) as error:
                since = before.since if before.state == "away" else self._clock()
                self._heard[box.name] = replace(Heard("away", since), why=_reason(error))
            except Exception as error:  # of ours; the box is shown as away, and asked again
                log.exception("asking box %s had an error that is ours to mend; it is asked again", one_line(box.name))
                self._heard[box.name] = replace(Heard("away", self._clock()), why=type(error).__name__)
            while time.monotonic() - began < (EVERY_S if time.monotonic() - self._looked < LOOKED_S else IDLE_S):
                await asyncio.sleep(0.25)  # somebody may begin to look meanwhile

    async def _ask(self, client: httpx.AsyncClient, box: Box) -> tuple[tuple[Line, ...], tuple[Alarm, ...]]:
        headers = {"X-Background": "1"}
        if box.token_env is not None:
            headers["Authorization"] = f"Bearer {os.environ.get(box.token_env, '')}"
        async with asyncio.timeout(ANSWERS_S):
            lines = await _get(client, f"{box.url}/api/v1/lines", headers)
            alarms = await _get(client, f"{box.url}/api/v1/alarms?live=true&order=urgent&limit={MOST_ALARMS}", headers)
        return tuple(_parts(lines, "lines", Line)), tuple(_parts(alarms, "alarms", Alarm))


async def _get(client: httpx.AsyncClient, address: str, headers: dict[str, str]) -> Any:
    body = bytearray()
    async with client.stream("GET", address, headers=headers) as answer:
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise UnreadableError(f"does not take our token ({answer.status_code}); make one there and name its variable as token_env")
        if answer.status_code != httpx.codes.OK:
            raise UnreadableError(f"answers {urlsplit(address).path} with {answer.status_code}; is its page on, and as new as this one?")
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise UnreadableError(f"answers {urlsplit(address).path} with more than {MOST_BYTES // 1_000_000} MB")
    return json.loads(body)


def _parts(found: Any, key: str, model: type[Any]) -> Iterator[Any]:
    """The items of an answer. What a newer version says beyond what is known here is left out."""
    items = found.get(key) if isinstance(found, dict) else None
    if not isinstance(items, list):
        raise UnreadableError(f"answers without {key}; is it as new as this one?")
    for item in items:
        try:
            yield model.model_validate(
                {name: item[name] for name in model.model_fields if name in item} if isinstance(item, dict) else item
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise UnreadableError(f"{key}: {'.'.join(map(str, first['loc']))}: {first['msg']}; is it as new as this one?") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {ANSWERS_S:g} s"
    words = str(error) if isinstance(error, UnreadableError) else f"not reached: {error or type(error).__name__}"
    return one_line(masked(words))[:300]
