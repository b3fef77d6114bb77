"""A real HTTP receiver that behaves as badly as receivers do: by the path, it hangs, drips, refuses, sends elsewhere or closes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter


class RudeReceiver:
    """Plain sockets, a thread a connection. `got`: bodies by path; `port`: where it listens on loopback."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._tls = tls
        self._over = threading.Event()
        self.port = self._listening.getsockname()[1]
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.seen: Counter[str] = Counter()
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/{path}"

    def close(self) -> None:
        self._over.set()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._quietly, args=(connection,), daemon=True).start()

    def _quietly(self, connection: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as stream:
                self._serve(stream)
        except OSError:  # the client has gone, or did not like the certificate
            pass

    def _serve(self, connection: socket.socket) -> None:
        while self._serve_one(connection):
            pass

    def _serve_one(self, connection: socket.socket) -> bool:
        """Answer one request; returns whether the connection is kept for the next."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            more = connection.recv(65536)
            if not more:
                return False
            raw += more
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        path = first.split(" ")[1].strip("/")
        self.seen[path] += 1
        self._answer(connection, path, headers, body)
        return path[:1].isdigit()

    def _answer(self, connection: socket.socket, path: str, headers: dict[str, str], body: bytes) -> None:
        if path == "hang":
            self._over.wait(60)
        elif path in ("drip", "drip-after-400"):
            start = b"HTTP/1.1 200 OK\r\nX: " if path == "drip" else b"HTTP/1.1 400 Bad\r\nContent-Length: 5000\r\n\r\nno such field: "
            connection.sendall(start)
            while not self._over.wait(0.1):  # each byte long before any limit on a single read
                connection.sendall(b"a")
        elif path == "close":
            return
        elif path == "garbage":
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        else:
            status, _, more = path.partition("-")
            if status.startswith("2"):
                self.got.append((path, headers, body))
            extra = f"Retry-After: {more}\r\n" if more else "Location: /200\r\n" if status.startswith("3") else ""
            answer = b"" if status.startswith("2") else b"reason \x1b[31m" + b"x" * 5000
            connection.sendall(f"HTTP/1.1 {status} Word\r\n{extra}Content-Length: {len(answer)}\r\n\r\n".encode() + answer)
