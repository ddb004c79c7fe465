"""Webcams, and folders of pictures read as a video."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from siamtrack.errors import DatasetError, VideoError
from siamtrack.types import Image
from siamtrack.utils.images import read_image
from siamtrack.video.frames import DEFAULT_FPS, Reader, SourceInfo

_log = logging.getLogger(__name__)

READ_ATTEMPTS = 3
"""Working cameras still fail a read now and then, above all while they warm up."""


class CameraReader(Reader):
    """Read a webcam, by index or device file such as /dev/video0; times are those of arrival.

    Args:
        device: 0 for the first camera.
        fps: nominal rate instead of the one that the driver reports.

    Raises:
        VideoError: no such camera, or it delivers no picture.
    """

    def __init__(self, device: int | str, *, fps: float | None = None) -> None:
        name = f"camera {device}"
        # OpenCV prints messages of its own about a missing camera.
        log_level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(device)
        finally:
            cv2.utils.logging.setLogLevel(log_level)
        if not self._capture.isOpened():
            self._capture.release()
            raise VideoError(
                f"{name} cannot be opened; check that it is plugged in, that no other program "
                "uses it and that you may use it, or try another index"
            )
        # Frames queued in the driver arrive late. Some drivers need a queue and ignore this.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.unreadable = 0
        image = self._grab()
        if image is None:
            self._capture.release()
            raise VideoError(
                f"{name} was opened but sends no picture; check that no other program uses it, "
                "or unplug it and plug it in again"
            )
        self._started_s = time.monotonic()
        self._first = (image, 0.0)
        if fps is None and (reported := self._capture.get(cv2.CAP_PROP_FPS)) > 0:
            fps = reported
        self.info = SourceInfo(name, fps, (image.shape[1], image.shape[0]), None)

    def _read_next(self) -> tuple[Image, float]:
        image = self._grab()
        time_s = time.monotonic() - self._started_s
        if image is None:  # A camera has no end: it was unplugged or taken over.
            raise VideoError(
                f"{self.info.name} stopped sending pictures after {time_s:.1f} s; check that it is "
                "still plugged in"
            )
        return image, time_s

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()

    def _grab(self) -> Image | None:
        for failed in range(READ_ATTEMPTS):
            try:
                ok, image = self._capture.read()
            except cv2.error:
                ok, image = False, None
            if ok and image is not None and image.size:
                self.unreadable += failed
                if image.ndim == 2 or image.shape[2] == 1:
                    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
                return np.ascontiguousarray(image, dtype=np.uint8)
        return None


class ImagesReader(Reader):
    """Read picture files in order; unreadable ones are skipped, counted, and leave a gap in time.

    Args:
        paths: the pictures in their order, at least one.
        name: of the folder or the pattern.
        fps: rate the pictures are shown at.

    Raises:
        VideoError: none of the pictures can be read.
    """

    def __init__(self, paths: Sequence[Path], *, name: str, fps: float | None = None) -> None:
        self._paths = paths
        self._has_folders = len({path.parent for path in paths}) > 1
        self._fps = fps or DEFAULT_FPS
        self._position = 0
        self.unreadable = 0
        self._first = self._read_next()
        if self._first is None:
            raise VideoError(
                f"{name}: none of its {len(paths)} picture(s) can be read; they must be undamaged, "
                "with 8 or 16 bits per channel"
            )
        height, width = self._first[0].shape[:2]
        self.info = SourceInfo(name, self._fps, (width, height), len(paths))

    def _read_next(self) -> tuple[Image, float] | None:
        while self._position < len(self._paths):
            path, time_s = self._paths[self._position], self._position / self._fps
            self._position += 1
            try:
                image = read_image(path, upright=True)
                self.picture = path.as_posix() if self._has_folders else path.name
                return image, time_s
            except DatasetError as error:
                self.unreadable += 1
                _log.info("%s, skipped", error)
        return None

    def close(self) -> None:
        """Do nothing: no file stays open between pictures."""
