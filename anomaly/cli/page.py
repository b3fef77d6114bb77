"""`anomaly page`: the page of a store, or of many boxes, by itself; `anomaly page token`: who may open it."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anomaly.alarms.health.address import Address
from anomaly.cli.edge import Format, Level, Listen, PageAuth, stop_by_signal
from anomaly.cli.terminal.console import err, out
from anomaly.cli.terminal.log import LogFormat, LogLevel, start_log
from anomaly.errors import SpecError, StoreError

if TYPE_CHECKING:
    from anomaly.page.auth.guard import Auth

EXAMPLES = (
    "anomaly page --store line.db",
    "anomaly page --boxes boxes.toml --listen 127.0.0.1:9470",
    "anomaly page --store line.db --listen 0.0.0.0:9470 --page-auth page.toml",
)
LISTEN = Address("127.0.0.1", 9464)
page_app = typer.Typer(
    invoke_without_command=True,
    help="The page by itself: of a store that no monitor serves, or of many boxes. Where a monitor or a box runs: --listen there.",
    epilog="Examples:\n\n" + "\n\n".join(EXAMPLES),
)
log = logging.getLogger("anomaly")


@page_app.callback()
def page(
    ctx: typer.Context,
    store: Annotated[Path | None, typer.Option("--store", help="The event store of a monitor (SQLite); it may run, or be stopped.")] = None,
    boxes: Annotated[Path | None, typer.Option("--boxes", help="Boxes whose lines are shown in one list (TOML).")] = None,
    listen: Listen = None,
    page_auth: PageAuth = None,
    log_format: Format = LogFormat.text,
    log_level: Level = LogLevel.info,
) -> None:
    """Serve it until it is stopped."""
    if ctx.invoked_subcommand is not None:
        return
    if (store is None) == (boxes is None):
        raise typer.BadParameter("give --store, the event store of a line, or --boxes, a file with many boxes")
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise SpecError("there is no page without its libraries: pip install 'anomaly-pipeline[page]'")
    from anomaly.page.serve import auth_of

    listen = listen or LISTEN
    start_log(log_format, log_level, "page")
    auth = auth_of(listen, page_auth)
    if auth is None:
        raise SpecError(f"other machines reach {listen}: say who may open the page by --page-auth (anomaly page token makes a token)")
    stop = stop_by_signal()
    with _serving(store, boxes, listen, auth) as address:
        log.info("the page on http://%s", address)
        stop.wait()


def _serving(store: Path | None, boxes: Path | None, listen: Address, auth: Auth) -> AbstractContextManager[Address]:
    from anomaly.alarms.store.connection import connect_to_read
    from anomaly.page.boxes import Boxes, read_boxes
    from anomaly.page.serve import serving_boxes, serving_page
    from anomaly.page.site import Site

    if boxes is not None:
        return serving_boxes(Boxes(read_boxes(boxes)), listen, auth)
    if store is None or not store.is_file():
        raise StoreError(f"{store}: no such store; give the file that the monitor or box writes")
    connect_to_read(store).close()  # told now: a page of another program's database would answer nothing
    return serving_page(Site(store), listen, auth)


@page_app.command()
def token(
    name: Annotated[str, typer.Option("--name", help="Whose it is: a person or a program. The name stands in the audit log.")],
    role: Annotated[Literal["view", "operate", "admin"], typer.Option("--role", help="Look; act on alarms; change how lines are watched.")],
) -> None:
    """Make a token to sign in with. It is shown once; the file of --page-auth gets the lines with its hash."""
    from anomaly.page.auth.settings import new_token

    name = name.strip()
    if not name or len(name) > 100 or not name.isprintable():
        raise typer.BadParameter("--name: from 1 to 100 letters that can be seen")
    made, digest = new_token()
    err.print("The token, which is not kept anywhere. Give it to that person by a safe way:", always=True)
    err.print(f"\n    {made}\n", always=True)
    err.print("Lines for the file of --page-auth:\n", always=True)
    out.print(f'[[token]]\nname = {json.dumps(name, ensure_ascii=False)}\nrole = "{role}"\nsha256 = "{digest}"')
