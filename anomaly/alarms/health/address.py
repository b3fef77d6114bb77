"""An address to listen on, as a command is given it."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """Where to listen. `host` is a name or a number, without the brackets of IPv6."""

    host: str
    port: int

    @property
    def own(self) -> bool:
        """Whether only this machine itself can reach it."""
        return self.host == "localhost" or self.host.startswith("127.") or self.host == "::1"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """HOST:PORT, or only :PORT or PORT for this machine's own address. Raises ValueError for anything else.

    >>> [str(read_address(text)) for text in ("127.0.0.1:9464", "9464", ":9464", "[::1]:9464")]
    ['127.0.0.1:9464', '127.0.0.1:9464', '127.0.0.1:9464', '[::1]:9464']
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (port.isdecimal() and port.isascii() and int(port) < 65536) or (":" in host and not bracketed):
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464")
    return Address((host[1:-1] if bracketed else host) or "127.0.0.1", int(port))
