"""HTTP POST for sinks: one total time limit a try, and what each answer means for the next one."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from anomaly.errors import SinkError, SpecError

if TYPE_CHECKING:
    import httpx

TRY_AGAIN = frozenset({408, 425, 429})  # and all from 500 on
ANSWER_BYTES = 500  # of a refusal, kept with the dead letter
LONGEST_WAIT_S = 6 * 3600.0  # that a receiver may ask for


def checked_url(url: str) -> str:
    """An http(s) URL that a client can open. Raises ValueError saying what is wrong with it, without the URL: it may hold a password.

    >>> checked_url("https://a..b/x")
    Traceback (most recent call last):
    ValueError: the host's name has an empty or overlong part between its dots
    """
    if not url.isprintable() or " " in url:
        raise ValueError("a URL has no spaces and no control characters")
    parts = urlsplit(url)  # ValueError for a bracket that is not closed
    if parts.scheme not in ("http", "https"):
        raise ValueError("write a URL that begins with http:// or https://")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    try:
        parts.port  # noqa: B018 - read for its check
    except ValueError as error:
        raise ValueError("the port is not a number from 0 to 65535") from error
    if ":" not in parts.hostname and not all(0 < len(part) <= 63 for part in parts.hostname.removesuffix(".").split(".")):
        raise ValueError("the host's name has an empty or overlong part between its dots")
    return url


HttpUrl = Annotated[str, AfterValidator(checked_url)]


class HttpPoster:
    """POSTs for one sink, at one thread at a time. The time limit is on a whole try: name lookup, connection, TLS, answer.

    An answer of 2xx is success. 408, 425, 429 and 5xx are tried again, after `Retry-After` where it is given. All others, redirects
    among them, are refusals for good. Proxies of the environment are used, but never for this machine itself.
    """

    def __init__(self, name: str, url: str, timeout_s: float) -> None:
        """Raises SpecError for a URL that no client can open."""
        import httpx

        self.name = name
        self._url = url
        self._timeout_s = timeout_s
        self._errors = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError)
        try:
            checked_url(url)
            host = httpx.URL(url).host
        except (ValueError, httpx.InvalidURL) as error:
            raise SpecError(f"sink {name!r}: url: {error}") from error
        self._client = httpx.AsyncClient(
            timeout=timeout_s, follow_redirects=False, trust_env=not _is_loopback(host), verify=httpx.create_ssl_context()
        )
        self._loop = asyncio.Runner()

    def post(self, content: bytes, headers: dict[str, str]) -> None:
        """Returns when the receiver has taken it. Raises SinkError when it has not, and says whether to try again."""
        self._loop.run(self._within_limit(content, headers))

    def close(self) -> None:
        """End the connections."""
        with suppress(Exception):  # nothing depends on how it ends
            self._loop.run(self._client.aclose())
        self._loop.close()

    async def _within_limit(self, content: bytes, headers: dict[str, str]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._post(content, headers)
        except TimeoutError as error:
            raise SinkError(f"{self.name}: no answer within {self._timeout_s:g} s") from error
        except self._errors as error:
            raise SinkError(f"{self.name}: {_words(error)}") from error

    async def _post(self, content: bytes, headers: dict[str, str]) -> None:
        async with self._client.stream("POST", self._url, content=content, headers=headers) as response:
            begin = await _beginning(response)
            if response.is_success:
                return
            words = f"{self.name}: HTTP {response.status_code}"
            if response.is_redirect:
                words += " (a redirect, which is not followed: give the sink its new URL)"
            if begin:
                words += f": {begin}"
            if response.status_code in TRY_AGAIN or response.status_code >= 500:
                raise SinkError(words, retry_after_s=retry_after_s(response.headers.get("Retry-After", ""), time.time()))
            raise SinkError(words, permanent=True)


async def _beginning(response: httpx.Response) -> str:
    """The first bytes of an answer as text. A short answer is read whole, so that the connection can be used again."""
    raw = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            async for part in response.aiter_bytes():
                raw += part
                if len(raw) > (65536 if response.is_success else ANSWER_BYTES):
                    break
    return raw[:ANSWER_BYTES].decode(errors="replace").strip()


def retry_after_s(header: str, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` header (RFC 9110: seconds or a date), at most six hours. None when it says nothing.

    >>> retry_after_s("120", 0.0), retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 0.0), retry_after_s("soon", 0.0)
    (120.0, 60.0, None)
    """
    header = header.strip()
    if re.fullmatch(r"[0-9]{1,12}", header):
        return min(float(header), LONGEST_WAIT_S)
    try:
        wait = parsedate_to_datetime(header).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait, 0.0), LONGEST_WAIT_S)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _words(error: Exception) -> str:
    """What went wrong, in words: the certificate's problem, or the system's reason, where one lies under the client's error."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"TLS: the certificate was not accepted: {each.verify_message}"
        if isinstance(each, ssl.SSLError):
            return f"TLS: {each.reason or each}"
    name = type(error).__name__
    system = next((_system_words(each) for each in _causes(error) if isinstance(each, OSError) and each.strerror), "")
    return f"{name} ({system or error})" if system or str(error) else name


def _system_words(error: OSError) -> str:
    """The system's words for its error; asyncio writes others, which do not say why."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what lies under it, outermost first."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += [*getattr(each, "exceptions", ()), each.__context__, each.__cause__]
