"""Pictures over HTTP."""

from __future__ import annotations

import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from anomaly.edge.sources.uri import open_source
from tests.edge.conftest import until
from tests.edge.sources.conftest import IMAGE, gather


class Camera(BaseHTTPRequestHandler):
    frames = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        self.end_headers()
        try:
            for _ in range(40):
                Camera.frames += 1
                buffer = io.BytesIO()
                Image.new("RGB", (64, 48), (200, 30, Camera.frames % 200)).save(buffer, "JPEG")
                self.wfile.write(b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(buffer.getvalue()))
                self.wfile.write(buffer.getvalue() + b"\r\n")
                time.sleep(0.02)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        return


def test_a_live_camera_gives_the_newest_pictures_and_comes_again() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = open_source(f"http://127.0.0.1:{server.server_port}/v.mjpg", IMAGE, lambda _: False, {})
    try:
        record = gather(source, 1, 30)[0]
        assert record.payload.shape == (48, 64, 3)
        assert record.payload[0, 0, 0] > record.payload[0, 0, 1] + 100  # red first
        before = source.connects  # type: ignore[attr-defined]
        until(lambda: source.connects > before, 30)  # type: ignore[attr-defined]  # the stream ends after 40 pictures
        assert gather(source, 1, 30)
    finally:
        source.close()
        server.shutdown()
