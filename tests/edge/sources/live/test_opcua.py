"""OPC UA, with a server."""

from __future__ import annotations

from typing import Any

import numpy as np

from anomaly.edge.sources.uri import open_source
from tests.edge.conftest import until
from tests.edge.sources.conftest import SCHEMA, gather
from tests.integration.servers import OpcUaServer


class Pump(OpcUaServer):
    """Three readings that change."""

    async def add_nodes(self, server: Any) -> None:
        from asyncua import ua

        pump = await server.nodes.objects.add_object(ua.NodeId("Pump", 2), ua.QualifiedName("Pump", 2))
        self._nodes = [await pump.add_variable(ua.NodeId(n, 2), ua.QualifiedName(n, 2), 0.0) for n in ("a", "b", "other")]
        self._count = 0

    async def turn(self) -> None:
        self._count += 1
        for factor, node in enumerate(self._nodes, 1):
            await node.write_value(float(factor * self._count % 40))


def test_opc_ua_subscription_comes_again_after_the_server_was_away() -> None:
    server = Pump()
    schema = SCHEMA.model_copy(update={"period_s": 0.1, "max_gap_s": 2.0})
    source = open_source(f"opc.tcp://127.0.0.1:{server.port}/?under=ns=2;s=Pump", schema, lambda _: False, {})
    try:
        records = gather(source, 10)
        assert np.allclose(np.diff([r.time for r in records]), 0.1, atol=1e-3)
        known = np.concatenate([r.payload[-1:] for r in records[5:]])
        assert np.isfinite(known).all()
        server.stop()
        until(lambda: bool(source.poll(1000).trouble), 30)
        server.start()
        until(lambda: not source.poll(1000).trouble, 40)
        assert gather(source, 3)
    finally:
        source.close()
        server.stop()
    wrong = open_source(f"opc.tcp://127.0.0.1:{server.port}/", schema, lambda _: False, {})
    until(lambda: "no connection" in wrong.poll(1).trouble, 30)
    wrong.close()
