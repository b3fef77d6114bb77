"""Variables of an OPC UA server, written by events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anomaly.alarms.sinks.base import RecallingSink, Sink
from anomaly.errors import SinkError, SpecError
from tests.alarms.sinks.conftest import event
from tests.integration.servers import OpcUaServer, free_port

NODES = {"press-3.Event": "", "press-3.Text": "", "press-3.Active": 0.0, "ReadOnly": ""}
SETTINGS = """kind = "opcua"
url = "opc.tcp://127.0.0.1:{port}/"
event_node = "ns=2;s={{line}}.Event"
text_node = "ns=2;s={{line}}.Text"
active_node = "ns=2;s={{line}}.Active"
timeout_s = 5"""


class Controller(OpcUaServer):
    """Variables that may be written."""

    async def add_nodes(self, server: Any) -> None:
        from asyncua import ua

        self._nodes: dict[str, Any] = {}
        for name, value in NODES.items():
            node = await server.nodes.objects.add_variable(ua.NodeId(name, 2), ua.QualifiedName(name, 2), value)
            if name != "ReadOnly":
                await node.set_writable()
            self._nodes[name] = node
        self._loop = asyncio.get_running_loop()

    def value(self, name: str) -> Any:
        return asyncio.run_coroutine_threadsafe(self._nodes[name].read_value(), self._loop).result(10)


@pytest.fixture
def controller() -> Iterator[Controller]:
    one = Controller()
    yield one
    one.stop()


def test_events_are_written_to_the_nodes_of_their_line(sink: Callable[[str], Sink], controller: Controller) -> None:
    out = sink(SETTINGS.format(port=controller.port))
    assert isinstance(out, RecallingSink)
    out.recall([event("opened", "a0")[0]])
    body, id_ = event("opened")
    out.send(body, id_)
    assert json.loads(controller.value("press-3.Event")) == json.loads(body)
    assert controller.value("press-3.Active") == 2.0  # a Double, as the controller has it
    assert controller.value("press-3.Text").startswith("press-3: ")
    assert "\n" not in controller.value("press-3.Text")
    out.send(*event("closed", state="normal"))
    out.send(*event("closed", "a0", state="normal"))
    assert controller.value("press-3.Active") == 0.0
    with pytest.raises(SinkError, match="Bad"):
        out.send(*event("opened", line="oven"))  # a line that the controller has no nodes for
    with pytest.raises(SinkError, match="Bad"):
        sink(f'kind = "opcua"\nurl = "opc.tcp://127.0.0.1:{controller.port}/"\ntext_node = "ns=2;s=ReadOnly"').send(body, id_)


def test_a_controller_that_is_away_is_a_failed_try(sink: Callable[[str], Sink]) -> None:
    with pytest.raises(SinkError, match="it: "):
        sink(SETTINGS.format(port=free_port())).send(*event("opened"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('url = "opc.tcp://h"', "at least one of event_node"),
        ('url = "http://h"\ntext_node = "i=1"', "key `url`"),
        ('url = "opc.tcp://me:secret@h"\ntext_node = "i=1"', "key `url`: a password"),
        ('url = "opc.tcp://h"\ntext_node = "Pump.Text"', "key `text_node`"),
        ('url = "opc.tcp://h"\ntext_node = "i=1"\nsecurity = "Basic256Sha256,SignAndEncrypt,none.der,none.pem"', "key `security`"),
    ],
)
def test_settings_that_cannot_be_met_are_named(sink: Callable[[str], Sink], settings: str, words: str) -> None:
    with pytest.raises(SpecError, match="sink 'it'") as raised:
        sink(f'kind = "opcua"\n{settings}')
    assert words in str(raised.value)
