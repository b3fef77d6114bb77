"""Delivery under kills: alarms are stored at a steady rate while the process that delivers them is killed again and again.

Three receivers on loopback: one takes everything, one fails 30 % of its calls (HTTP 500, or closes without an answer), one never answers.
Counted are alarms that a living receiver never got, those it got more than once, and how long after its commit an alarm reached the
healthy one, downtime after a kill included.

    python -m benchmarks.alarms.delivery_soak [--alarms 10000] [--kills 50] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

FAILING = 0.3
SEED = 1


class Receiver:
    """An HTTP server that notes when it took which event. `mood` says what it does with a call: take, fail, or hang."""

    def __init__(self, mood: str) -> None:
        self.got: Counter[str] = Counter()
        self.lags: list[float] = []
        self.calls = 0
        receiver, chance = self, random.Random(SEED)  # noqa: S311 - repeatable

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.calls += 1
                if mood == "hangs":
                    time.sleep(3600)
                if mood == "fails" and chance.random() < FAILING:
                    self.close_connection = True
                    if chance.random() < 0.5:
                        self._answer(500)
                    return
                receiver.got[body["id"]] += 1
                if receiver.got[body["id"]] == 1:
                    receiver.lags.append(time.time() - body["data"]["committed"])
                self._answer(204)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign] - killed clients
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def deliver(store: Path, urls: dict[str, str], alarms: int, rate: float) -> None:
    """Store alarms from where the store ends, and deliver them, until the living sinks have all. One process, to be killed."""
    from anomaly.alarms.delivery import Delivery
    from anomaly.alarms.delivery.lane import store_at
    from anomaly.alarms.events import make_event
    from anomaly.alarms.life import State
    from anomaly.alarms.routing import Routing
    from anomaly.alarms.sinks.base import Route
    from anomaly.alarms.sinks.webhook import Webhook
    from anomaly.alarms.store import Batch, Store

    routes = []
    for name, url in urls.items():
        sink = Webhook(name, url, None, 5.0)
        routes.append(Route(Routing(name=name), sink, lambda name=name, url=url: Webhook(name, url, None, 5.0), 5.0))  # type: ignore[misc]
    db = Store(store)
    lanes = Delivery(store_at(store), routes, failing_after_s=1e9)  # alarms about sinks are not counted here
    begin, done = time.monotonic(), db.counts()["events"]
    for i in range(done, alarms):
        time.sleep(max(0.0, (i - done) / rate - (time.monotonic() - begin)))
        data = {"class": "process", "record": f"r{i}", "p_value": 1e-4, "committed": time.time()}
        event = make_event("opened", "line", f"alarm {i}", float(i), data)
        db.commit(Batch("line", "b", {"at": i}, State(), None, events=[event], sinks=list(urls)))
        lanes.wake()
    while any(db.pressing(name)[0] for name in urls if name != "hangs"):
        time.sleep(0.1)
    os._exit(0)


def work(store: Path, urls: dict[str, str], alarms: int, kills: int, rate: float) -> None:
    """Start a process that delivers, kill it with -9 after a random while, so many times; then let one finish. Has no threads itself."""
    import httpx  # noqa: F401 - imported once, so that a start after a kill takes no second

    import anomaly.alarms.delivery.supervisor
    import anomaly.alarms.sinks.webhook  # noqa: F401

    chance = random.Random(SEED)  # noqa: S311 - repeatable
    mean = 0.9 * alarms / rate / max(kills, 1)
    killed = 0
    while True:
        child = os.fork()
        if child == 0:
            deliver(store, urls, alarms, rate)
        if killed < kills:
            time.sleep(chance.uniform(0.3, 1.7) * mean)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.stdout.write(f"{killed}\n")
            sys.exit(os.waitstatus_to_exitcode(status))
        killed += 1


def run(alarms: int, kills: int, rate: float, folder: Path) -> dict[str, Any]:
    """The soak; returns what was counted."""
    from anomaly.alarms.store import Store

    store = folder / "soak.db"
    Store(store).close()
    receivers = {"healthy": Receiver("takes"), "fails": Receiver("fails"), "hangs": Receiver("hangs")}
    urls = {name: receiver.url for name, receiver in receivers.items()}
    began = time.monotonic()
    asked = ["work", str(store), json.dumps(urls), str(alarms), str(kills), str(rate)]
    done = subprocess.run([sys.executable, "-m", "benchmarks.alarms.delivery_soak", *asked], check=True, stdout=subprocess.PIPE, text=True)
    ids = {event["id"] for event in Store(store).events()}
    lags = np.array(receivers["healthy"].lags)
    return {
        "alarms": len(ids),
        "kills": int(done.stdout.split()[-1]),
        "seconds": round(time.monotonic() - began, 1),
        "lost": {name: len(ids - set(receivers[name].got)) for name in ("healthy", "fails")},
        "twice": {name: sum(n > 1 for n in receivers[name].got.values()) for name in ("healthy", "fails")},
        "calls": {name: receiver.calls for name, receiver in receivers.items()},
        "healthy_behind_s": {"median": round(float(np.median(lags)), 3), "p99": round(float(np.quantile(lags, 0.99)), 3),
                             "max": round(float(lags.max()), 3)},
    }  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["work"]:
        store, urls, alarms, kills, rate = sys.argv[2:]
        work(Path(store), json.loads(urls), int(alarms), int(kills), float(rate))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alarms", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rate", type=float, default=50.0, help="alarms a second")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counted = run(asked.alarms, asked.kills, asked.rate, Path(folder))
    text = json.dumps(counted, indent=1)
    sys.stdout.write(text + "\n")
    if asked.json:
        from anomaly.atomic import write_text

        write_text(asked.json, text + "\n")


if __name__ == "__main__":
    main()
