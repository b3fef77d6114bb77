"""Sinks, and the file that names them."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.sinks.alerts_toml import read_routes
from anomaly.alarms.sinks.json_lines import JsonLines
from anomaly.alarms.sinks.webhook import Webhook
from anomaly.errors import SpecError
from tests.alarms.conftest import Receiver


def test_webhook_is_cloudevents_signed_and_idempotent(receiver: Receiver) -> None:
    event = make_event("opened", "press-7", "a", 0.0, {"record": "r"})
    Webhook("w", receiver.url, "secret", clock=lambda: 1234.5).send(event.to_json(), event.id)
    headers, body = receiver.got[0]
    sent = json.loads(body)
    assert sent["specversion"] == "1.0"
    assert sent["type"] == "anomaly.alarm.opened"
    assert sent["source"] == "/anomaly/press-7"
    assert sent["time"] == "1970-01-01T00:00:00Z"
    assert headers["Idempotency-Key"] == sent["id"] == event.id
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["X-Anomaly-Signature"] == "t=1234,v1=" + hmac.new(b"secret", b"1234." + body, hashlib.sha256).hexdigest()


def test_a_line_cut_short_by_a_crash_is_closed_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1"}\n{"id": "2')
    JsonLines("f", path).send('{"id": "3"}', "3")
    assert path.read_text().splitlines() == ['{"id": "1"}', '{"id": "2', '{"id": "3"}']


def test_sink_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alerts.toml"

    def read(text: str):
        path.write_text(text)
        return [route.sink for route in read_routes(path)]

    assert [route.name for route in read_routes(Path("deploy/alerts.toml"))] == ["file"]
    with pytest.raises(SpecError, match="ALARM_SECRET is not set"):
        read('[[sink]]\nname="w"\nkind="webhook"\nurl="http://x"\nsecret_env="ALARM_SECRET"')
    for bad in ("ftp://x", "http://plant:port/x", "http://[::1", "https://a..b/x", "http://", "http://x/\\u001b[2J", "http://x:99999/"):
        with pytest.raises(SpecError, match=r"alerts\.toml: sink 'w', key `url`: "):
            read(f'[[sink]]\nname="w"\nkind="webhook"\nurl="{bad}"')
    with pytest.raises(SpecError, match="same name"):
        read('[[sink]]\nname="a"\nkind="jsonl"\npath="x"\n[[sink]]\nname="a"\nkind="jsonl"\npath="y"')
    with pytest.raises(SpecError, match="unknown key `sinks`"):
        read('[[sinks]]\nname="a"')
    monkeypatch.setenv("ONCALL_URL", "nonsense")
    with pytest.raises(SpecError, match="not a URL that Apprise understands"):
        read('[[sink]]\nname="a"\nkind="apprise"\nurl_env="ONCALL_URL"')


def test_apprise_reaches_a_real_receiver(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONCALL_URL", receiver.url.replace("http://", "json://"))
    path = tmp_path / "alerts.toml"
    path.write_text('[[sink]]\nname="a"\nkind="apprise"\nurl_env="ONCALL_URL"')
    data = {"record": "r:7", "began": "2026-01-01T00:00:00Z", "p_value": 0.001, "top": [{"sensor": "flow", "share": 0.8}]}
    event = make_event("opened", "press-7", "a", 0.0, data)
    read_routes(path)[0].sink.send(event.to_json(), event.id)
    sent = json.loads(receiver.got[0][1])
    assert sent["title"] == "press-7: alarm"
    assert "1 normal record in 1,000" in sent["message"]
    assert "flow (80%)" in sent["message"]


def test_every_example_of_a_sink_can_be_used_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ALARM_SECRET", "BROKER_PASSWORD", "PLC_PASSWORD"):
        monkeypatch.setenv(variable, "secret")
    monkeypatch.setenv("ONCALL_URL", "json://localhost")
    page = Path("docs/how-to/alarms.md").read_text()
    shipped = Path("deploy/alerts.toml").read_text()
    begin = shipped.index("[[sink]]")
    whole = shipped[begin:].replace("# [[sink]]", "[[sink]]").replace("\n# ", "\n")
    kinds = set()
    for text in [whole, *re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]:
        (tmp_path / "alerts.toml").write_text(text)
        for sink in (route.sink for route in read_routes(tmp_path / "alerts.toml")):
            kinds.add(type(sink).__name__)
            sink.close()
    assert len(kinds) == 9


def test_reading_the_file_loads_no_client_of_a_sink_it_does_not_name() -> None:
    clients = ("paho", "asyncua", "google.protobuf", "httpx", "apprise", "torch")
    script = (
        "import sys; from pathlib import Path; from anomaly.alarms.sinks.alerts_toml import read_routes; "
        f"read_routes(Path('deploy/alerts.toml')); print([name for name in {clients} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
