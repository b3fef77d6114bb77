"""All that listens on a plant's network at once: servers are killed and come again, and no alarm is lost."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from anomaly.alarms.delivery import delivering
from anomaly.alarms.events import Event, make_event
from anomaly.alarms.sinks.alerts_toml import read_routes
from anomaly.alarms.store import Store
from anomaly.buses.mqtt import Broker, MqttLink
from tests.alarms.sinks.conftest import OPENED
from tests.alarms.sinks.test_alertmanager import alertmanager, on
from tests.alarms.sinks.test_syslog import read, receiving
from tests.edge.conftest import until
from tests.integration.servers import free_port, listening, program, serving

ALARMS = 100


def happened(kind: str, number: int) -> Event:
    data = OPENED | {"condition": f"sensor:{number}"}
    return make_event(kind, "press-3", f"a{number}", time.time(), data)  # type: ignore[arg-type]


@pytest.mark.timeout(120)
def test_every_alarm_reaches_every_sink_though_servers_are_killed(tmp_path: Path) -> None:
    mqtt, alerts, got = free_port(), free_port(), set[str]()
    store = Store(tmp_path / "s.db")
    with ExitStack() as site:
        syslog = site.enter_context(receiving())
        (tmp_path / "broker.conf").write_text(f"listener {mqtt} 127.0.0.1\nallow_anonymous true\nuser root\n")
        broker = ([program("mosquitto"), "-c", tmp_path / "broker.conf"], lambda: listening(mqtt), tmp_path / "broker.log")
        (tmp_path / "alerts.toml").write_text(
            f'[[sink]]\nname = "file"\nkind = "jsonl"\npath = "{tmp_path}/a.jsonl"\n'
            f'[[sink]]\nname = "broker"\nkind = "mqtt"\nurl = "mqtt://127.0.0.1:{mqtt}"\ntopic = "all/{{alarm}}/{{kind}}"\nretain = true\n'
            f'[[sink]]\nname = "scada"\nkind = "sparkplug"\nurl = "mqtt://127.0.0.1:{mqtt}"\ngroup = "g"\n'
            f'[[sink]]\nname = "alerts"\nkind = "alertmanager"\nurl = "http://127.0.0.1:{alerts}"\nagain_s = 1\n'
            f'[[sink]]\nname = "log"\nkind = "syslog"\nurl = "tcp://127.0.0.1:{syslog.port}"\n'
        )
        routes = read_routes(tmp_path / "alerts.toml")
        names = [each.name for each in routes]

        def file_has(count: int) -> bool:
            path = tmp_path / "a.jsonl"
            return path.exists() and len(path.read_text().splitlines()) >= count

        with delivering(tmp_path / "s.db", routes) as delivery:
            for killed in (True, False):  # everything but the file is away at first, and then killed once
                with ExitStack() as servers:
                    if killed:
                        opened = [happened("opened", number) for number in range(ALARMS)]
                        store.add_events(opened, names)
                        delivery.wake()
                        until(lambda: file_has(ALARMS), 5)  # held up by nobody
                    running = [servers.enter_context(serving(*broker)), servers.enter_context(alertmanager(alerts, tmp_path))]
                    delivery.wake()
                    until(lambda: len(on(alerts)) == ALARMS, 60)
                    if killed:
                        for each in running:
                            each.kill()
                        continue
                    closed = [happened("closed", number) for number in range(ALARMS)]
                    store.add_events(closed, names)
                    delivery.wake()
                    until(lambda: not any(state == "waiting" for _, state in store.outbox_counts()), 60)
                    assert on(alerts) == []
                    link = MqttLink(Broker.from_uri(f"mqtt://127.0.0.1:{mqtt}"), lambda topic, _payload: got.add(topic))
                    link.open(10)
                    link.subscribe("all/#", 1, 10)
                    until(lambda: link.step(0.05) or len(got) >= ALARMS)
                    link.close()
        wanted = {event.id for event in opened + closed}
        assert {json.loads(line)["id"] for line in (tmp_path / "a.jsonl").read_text().splitlines()} == wanted
        until(lambda: {read(raw.partition(b" ")[2])[2]["id"] for raw in syslog.got} == wanted)
        assert {f"all/a{number}/alarm.closed" for number in range(ALARMS)} <= got  # what was open lies where the killed broker kept it
        assert store.outbox_counts() == {(name, "delivered"): 2 * ALARMS for name in names}
    store.close()
