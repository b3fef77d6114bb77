"""Mail by Apprise, to a real SMTP server."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from anomaly.alarms.sinks.base import Sink
from anomaly.errors import SinkError
from tests.alarms.sinks.conftest import event
from tests.integration.servers import free_port


class Mailbox:
    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.answer.startswith("250"):
            self.got.append(email.message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        return self.answer


def test_a_mail_says_what_is_wrong_and_a_refused_one_is_a_failed_try(sink: Callable[[str], Sink], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda *_: "box.plant.example")  # no name server is asked: it may not answer for long
    mailbox, port = Mailbox(), free_port()
    server = Controller(mailbox, hostname="127.0.0.1", port=port)
    server.start()
    try:
        monkeypatch.setenv("MAIL_URL", f"mailto://127.0.0.1:{port}/?from=line@plant.example&to=team@plant.example&mode=insecure")
        settings = 'kind = "apprise"\nurl_env = "MAIL_URL"'
        sink(settings).send(
            *event("opened", **{"class": "data quality", "condition": "sensor:flow", "reason": "flow: no reading since 10:00"})
        )
        (mail,) = mailbox.got
        part = mail.get_body(("plain", "html"))
        assert part is not None
        assert "press-3" in mail["Subject"]
        assert "flow: no reading since 10:00" in part.get_content()
        mailbox.answer = "452 mailbox full"
        with pytest.raises(SinkError, match="did not take"):
            sink(settings).send(*event("closed"))  # opened anew: Apprise waits some seconds between two messages of one
    finally:
        server.stop()
