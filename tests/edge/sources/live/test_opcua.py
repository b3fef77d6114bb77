"""OPC UA, with a server."""

from __future__ import annotations

import asyncio
import threading

import numpy as np

from anomaly.edge.sources.uri import open_source
from tests.edge.conftest import until
from tests.edge.sources.conftest import SCHEMA, gather
from tests.integration.servers import free_port


class OpcServer:
    def __init__(self, port: int) -> None:
        self.port = port
        self.start()

    def start(self) -> None:
        self._ready, self._stop, self._failed = threading.Event(), threading.Event(), []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    async def _serve(self) -> None:
        from asyncua import Server, ua

        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        pump = await server.nodes.objects.add_object(ua.NodeId("Pump", 2), ua.QualifiedName("Pump", 2))
        nodes = [await pump.add_variable(ua.NodeId(n, 2), ua.QualifiedName(n, 2), 0.0) for n in ("a", "b", "other")]
        async with server:
            self._ready.set()
            count = 0
            while not self._stop.is_set():
                count += 1
                for factor, node in enumerate(nodes, 1):
                    await node.write_value(float(factor * count % 40))
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)


def test_opc_ua_subscription_comes_again_after_the_server_was_away() -> None:
    server = OpcServer(free_port())
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
