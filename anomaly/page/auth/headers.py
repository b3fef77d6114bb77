"""Headers on every answer, the longest body that is read, and how often one address may ask."""

from __future__ import annotations

import ipaddress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anomaly.page.auth.guard import SAFE
from anomaly.page.auth.limits import Kind, Limits

LONGEST_BODY = 256 * 1024  # bytes: a label with a thousand boxes
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
FIXED = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}  # fmt: skip
REPORTS = ("/api/v1/weekly", "/api/v1/labels.zip")
UNLIMITED = ("/healthz", "/readyz", "/metrics")  # asked by machines that must not be turned away


class Shell:
    """Around the whole app."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in FIXED.items():
                    headers.setdefault(name, value)
                if not path.startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refused(scope, path)
        if refused is not None:
            await refused(scope, receive, with_headers)
            return
        await self.app(scope, _bounded(receive), with_headers)

    def _refused(self, scope: Scope, path: str) -> JSONResponse | None:
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            return JSONResponse({"detail": f"at most {LONGEST_BODY} bytes are read"}, 413)
        if path in UNLIMITED:
            return None
        wait = self.limits.wait_s(_network(scope), _kind(scope["method"], path))
        if wait:
            return JSONResponse({"detail": f"too many requests; again in {wait} s"}, 429, {"Retry-After": str(wait)})
        return None


def _kind(method: str, path: str) -> Kind:
    if path == "/api/v1/oidc/back" or (path == "/api/v1/session" and method == "POST"):
        return "sign in"
    if path in REPORTS:
        return "report"
    return "read" if method in SAFE else "act"


def _network(scope: Scope) -> str:
    """Who asks: an address, or of IPv6 the network of 64 bits, since one machine has all the addresses of its network."""
    host = str((scope.get("client") or ("", 0))[0])
    try:
        return str(ipaddress.ip_network((host, 64), strict=False)) if ":" in host else host
    except ValueError:
        return host


def _bounded(receive: Receive) -> Receive:
    """A body without a length is read up to the bound as well."""
    read = 0

    async def one() -> Any:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > LONGEST_BODY:
            return {"type": "http.disconnect"}
        return message

    return one
