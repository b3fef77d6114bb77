"""Readings by OPC UA subscription: the variables under one node whose names are the bundle's sensors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from anomaly.edge.sources.live.row_feed import RowFeed
from anomaly.errors import DataError, SourceError, in_words
from anomaly.schema import InputSchema

PASSWORD = "ANOMALY_OPCUA_PASSWORD"  # noqa: S105 - the variable's name
CHECK_S = 2.0


class OpcUaFeed(RowFeed):
    """`opc.tcp://[USER@]HOST:PORT/?under=NODEID`: each variable below the node (the Objects folder when none is named).

    Values come as the server changes them, with the source's own time, and are held and cut into rows every period. A value whose
    status is not good counts as missing.
    """

    def __init__(self, uri: str, schema: InputSchema, clock: Callable[[], float] = time.time) -> None:
        """Raises DataError when asyncua is not installed."""
        parts = urlsplit(uri)
        try:
            from asyncua.client.client import Client
        except ImportError as error:
            raise DataError(f"--source {uri}: needs asyncua; run: pip install 'anomaly-pipeline[opcua]'") from error
        self._client: Any = Client
        self._under = parse_qs(parts.query).get("under", ["i=85"])[-1]
        self._user = parts.username
        host = f"{parts.hostname}:{parts.port or 4840}"
        self._url = urlunsplit((parts.scheme, host, parts.path, "", ""))
        super().__init__(f"opcua:{host}", schema, clock)

    def run(self) -> None:
        """One session, from connect to loss."""
        asyncio.run(self._session())

    async def _session(self) -> None:
        client = self._client(self._url, timeout=4)
        if self._user:
            client.set_user(self._user)
            client.set_password(os.environ.get(PASSWORD, ""))
        try:
            await client.connect()
        except (TimeoutError, OSError) as error:
            raise SourceError(f"no connection to {self._url} ({error or type(error).__name__})") from error
        try:
            names = await self._variables(client)
            subscription = await client.create_subscription(min(500.0, 500 * self.held.period_s), _Handler(self, names))
            await subscription.subscribe_data_change(list(names))
            self.connected()
            while not self.stopping.is_set():
                await asyncio.sleep(0.2)
                await asyncio.wait_for(client.check_connection(), CHECK_S)
        finally:
            with contextlib.suppress(Exception):  # the server may be gone, and that be why we are here
                await asyncio.wait_for(client.disconnect(), CHECK_S)

    async def _variables(self, client: Any) -> dict[Any, str]:
        """Node -> sensor. Raises SourceError naming what is not there."""
        names: dict[Any, str] = {}
        for node in await client.get_node(self._under).get_children():
            name = (await node.read_browse_name()).Name
            if self.held.known(name):
                names[node] = name
        missing = [s.name for s in self.schema.sensors if s.name not in names.values()]
        if missing:
            raise SourceError(f"no variables {missing} under node {self._under}; name the node above them: ?under=ns=2;s=Pump1")
        return names


class _Handler:
    """What asyncua calls for every change."""

    def __init__(self, feed: OpcUaFeed, names: dict[Any, str]) -> None:
        self._feed, self._names = feed, names

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        try:
            self._take(node, value, data)
        except Exception as error:  # asyncua would log it, and the reading be lost without a word
            self._feed.reject(self._feed.clock(), f"{self._names.get(node, node)}: {in_words(error)}; the value: {value!r:.200}")

    def _take(self, node: Any, value: Any, data: Any) -> None:
        found = data.monitored_item.Value
        stamp = found.SourceTimestamp or found.ServerTimestamp
        moment = self._feed.clock() if stamp is None else stamp.replace(tzinfo=UTC).timestamp()  # OPC UA knows no other zone
        good = found.StatusCode is None or found.StatusCode.is_good()
        try:
            reading = float(value) if good and value is not None else float("nan")
        except (TypeError, ValueError):
            self._feed.reject(moment, f"{self._names[node]}: {value!r:.200} is not a number")
            return
        self._feed.reading(moment, {self._names[node]: reading})
