"""Events written to variables of an OPC UA server, such as that of a PLC or a SCADA system."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from anomaly.alarms.sinks.base import Sink, SinkSettings, read_secret
from anomaly.alarms.sinks.parsed import OpenAlarms, parse_event, words_of
from anomaly.errors import SinkError, SpecError


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "opc.tcp" or not parts.hostname:
        raise ValueError("write opc.tcp://[USER@]HOST[:PORT][/PATH]")
    if parts.password is not None:
        raise ValueError("a password does not belong in the URL: name the variable that holds it as password_env")
    try:
        parts.port  # noqa: B018 - read for its check
    except ValueError as error:
        raise ValueError("the port is not a number from 0 to 65535") from error
    return url


class OpcUaSettings(SinkSettings):
    kind: Literal["opcua"]
    url: Annotated[str, AfterValidator(_checked)]
    event_node: str | None = Field(None, description="String variable for the CloudEvents JSON of the last event")
    text_node: str | None = Field(None, description="String variable for the last event in words, one line")
    active_node: str | None = Field(None, description="number variable for how many alarms of the line are on")
    password_env: str | None = Field(None, description="environment variable that holds the user's password")
    security: str | None = Field(None, description="POLICY,MODE,CERTIFICATE,KEY such as Basic256Sha256,SignAndEncrypt,cert.der,key.pem")

    @model_validator(mode="after")
    def _some_node(self) -> OpcUaSettings:
        if not (self.event_node or self.text_node or self.active_node):
            raise ValueError("name at least one of event_node, text_node and active_node")
        return self

    def open(self, where: Path) -> Sink:
        return OpcUaSink(self, "" if self.password_env is None else read_secret(where, self.password_env))


class OpcUaSink:
    """Each event is a session of its own: connect, write, and leave. `{line}` in a node's id stands for the line's name."""

    def __init__(self, settings: OpcUaSettings, password: str = "") -> None:
        """Raises SpecError without asyncua, and for the id of a node that is none."""
        try:
            from asyncua import ua
            from asyncua.client.client import Client
        except ImportError as error:
            raise SpecError(f"sink {settings.name!r} needs asyncua; run: pip install 'anomaly-pipeline[opcua]'") from error
        self.name = settings.name
        self._client: Any = Client
        self._ua: Any = ua
        self._settings, self._password = settings, password
        self._user = urlsplit(settings.url).username
        self._open = OpenAlarms()
        for key in ("event_node", "text_node", "active_node"):
            try:
                self._node_id(getattr(settings, key), "x")
            except Exception as error:
                raise SpecError(f"sink {self.name!r}, key `{key}`: not the id of a node, such as ns=2;s={{line}}.Alarm: {error}") from error
        for path in (settings.security or "").split(",")[2:]:
            if not Path(path).is_file():
                raise SpecError(f"sink {self.name!r}, key `security`: there is no file {path}")

    def send(self, body: str, event_id: str) -> None:
        event = parse_event(body)
        count = self._open.apply(event)
        settings = self._settings
        values: list[tuple[str | None, str | int]] = [
            (settings.event_node, body),
            (settings.text_node, words_of(body)),
            (settings.active_node, count),
        ]
        try:
            asyncio.run(self._write([(self._node_id(node, event.line), value) for node, value in values if node]))
        except TimeoutError as error:
            raise SinkError(f"{self.name}: no answer within {settings.timeout_s:g} s") from error
        except (OSError, ValueError, self._ua.UaError) as error:
            raise SinkError(f"{self.name}: {type(error).__name__}: {error}") from error

    def recall(self, told: Sequence[str]) -> None:
        """What was on before counts."""
        self._open.recall(told)

    def close(self) -> None:
        """Nothing is held between two events."""

    def _node_id(self, node: str | None, line: str) -> Any:
        return None if node is None else self._ua.NodeId.from_string(node.replace("{line}", line))

    async def _write(self, values: list[tuple[Any, str | int]]) -> None:
        async with asyncio.timeout(self._settings.timeout_s):
            client = self._client(self._settings.url, timeout=self._settings.timeout_s)
            client.session_timeout = 60_000  # ms; an hour, as asyncua asks for, is more than most servers grant, and it warns each time
            if self._user:
                client.set_user(self._user)
                client.set_password(self._password)
            if self._settings.security:
                await client.set_security_string(self._settings.security)
            await client.connect()
            try:
                for node_id, value in values:
                    node = client.get_node(node_id)
                    kind = self._ua.VariantType.String if isinstance(value, str) else await node.read_data_type_as_variant_type()
                    # without status and time stamps: many controllers refuse to have those written
                    await node.write_attribute(self._ua.AttributeIds.Value, self._ua.DataValue(self._ua.Variant(value, kind)))
            finally:
                with contextlib.suppress(Exception):
                    await client.disconnect()
