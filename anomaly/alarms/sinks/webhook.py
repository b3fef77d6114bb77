"""Events by HTTP POST."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from anomaly.alarms.sinks.base import Sink, SinkSettings, read_secret
from anomaly.alarms.sinks.http import HttpPoster, HttpUrl

SIGNATURE = "X-Anomaly-Signature"


class WebhookSettings(SinkSettings):
    kind: Literal["webhook"]
    url: HttpUrl
    secret_env: str | None = None

    def open(self, where: Path) -> Sink:
        secret = read_secret(where, self.secret_env) if self.secret_env is not None else None
        return Webhook(self.name, self.url, secret, self.timeout_s)


class Webhook:
    """HTTP POST of the CloudEvents JSON, signed over time and body: `X-Anomaly-Signature: t=SECONDS,v1=HEX`.

    `clock`: seconds since 1970, for the signature.
    """

    def __init__(self, name: str, url: str, secret: str | None, timeout_s: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self._secret = secret
        self._clock = clock
        self._http = HttpPoster(name, url, timeout_s)

    def send(self, body: str, event_id: str) -> None:
        raw = body.encode()
        headers = {"Content-Type": "application/cloudevents+json", "Idempotency-Key": event_id}
        if self._secret:
            headers[SIGNATURE] = sign(self._secret, int(self._clock()), raw)
        self._http.post(raw, headers)

    def close(self) -> None:
        self._http.close()


def sign(secret: str, at: int, body: bytes) -> str:
    """The signature's header: HMAC-SHA256 in hex over `SECONDS.BODY`, with the time it was made (seconds since 1970), as Stripe does.

    A receiver computes the same and compares in constant time; it refuses a time more than five minutes from its own clock, so that
    nobody can send an old message again.

    >>> sign("key", 0, b"{}")[:24]
    't=0,v1=7314351dd949aa7ec'
    """
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"
