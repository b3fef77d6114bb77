"""Live pictures: RTSP, HTTP, USB cameras and GStreamer pipelines (GigE Vision through aravissrc), by OpenCV."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.data.records import Record
from anomaly.edge.sources.live.feed import Feed
from anomaly.errors import DataError, SourceError
from anomaly.schema import InputSchema

QUEUE = 4  # frames; older ones are discarded


class CameraFeed(Feed):
    """`rtsp://…`, `http://…` (MJPEG and files), `camera:0` (USB), `gst:PIPELINE ! appsink`. A frame's time is that of its arrival."""

    def __init__(self, uri: str, schema: InputSchema, clock: Callable[[], float] = time.time) -> None:
        """Raises DataError when OpenCV is not installed or the bundle takes 16-bit pictures."""
        if schema.dtype == "uint16":
            raise DataError(f"--source {uri}: this bundle takes 16-bit pictures, which live cameras here do not give; use a folder")
        try:
            import cv2
        except ImportError as error:
            raise DataError(f"--source {uri}: needs OpenCV; run: pip install 'anomaly-pipeline[camera]'") from error
        self._cv2 = cv2
        self._uri = uri
        self._gray = schema.channels == 1
        super().__init__(uri.rsplit("@", maxsplit=1)[-1] if "@" in uri else uri, QUEUE, clock)

    def run(self) -> None:
        """One stream, from opening to its end."""
        capture = self._open()
        try:
            if not capture.isOpened():
                raise SourceError("cannot be opened; is the camera on, and the address right?")
            while not self.stopping.is_set():
                there, frame = capture.read()
                if not there:
                    raise SourceError("no more pictures come")
                if self._trouble:
                    self.connected()
                moment = self.clock()
                self.put(Record(f"{self.name}@{moment:.6f}", moment, self._picture(frame)))
        finally:
            capture.release()

    def _open(self) -> Any:
        cv2 = self._cv2
        kind, _, rest = self._uri.partition(":")
        if kind == "camera":
            return cv2.VideoCapture(int(rest))
        if kind == "gst":
            return cv2.VideoCapture(rest, cv2.CAP_GSTREAMER)
        return cv2.VideoCapture(self._uri, cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000])

    def _picture(self, frame: NDArray[Any]) -> NDArray[np.uint8]:
        cv2 = self._cv2
        if self._gray:
            return np.asarray(frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), dtype=np.uint8)[:, :, None]
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB), dtype=np.uint8)
