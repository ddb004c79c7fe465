"""Webcams, and folders of pictures read as a video."""

from __future__ import annotations

import copy
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from siamtrack.errors import DatasetError, VideoError
from siamtrack.types import Image
from siamtrack.utils.images import list_pages, sample_pages
from siamtrack.utils.levels import Levels, ValueRange
from siamtrack.utils.opencv import SILENT, set_log_level
from siamtrack.utils.picture_files import PictureFile, is_animation, open_picture_file
from siamtrack.video.frames import DEFAULT_FPS, Reader, SourceInfo
from siamtrack.video.times import warn_of_assumed_rate

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
        log_level = set_log_level(SILENT)
        try:
            self._capture = cv2.VideoCapture(device)
        finally:
            set_log_level(log_level)
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
    """Read pictures in order; unreadable ones are skipped, counted, and leave a gap in time.

    Files may hold several pictures each: stacks and animations.

    Args:
        paths: the picture files in their order, at least one.
        name: of the folder or the pattern.
        fps: rate the pictures are shown at; None: as an animation says, else 30.
        value_range: the values shown as black and white; None: see `Levels`.

    Attributes:
        place: of the picture read last, in the list of all.

    Raises:
        VideoError: none of the pictures can be read, or a file holds a stack that is no film.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        name: str,
        fps: float | None = None,
        value_range: ValueRange | None = None,
    ) -> None:
        try:
            self._pages = list_pages(paths)
        except DatasetError as error:
            raise VideoError(str(error)) from error
        self._listed = Counter(path for path, _ in self._pages)
        self._has_folders = len({path.parent for path in paths}) > 1
        self._fps = fps or DEFAULT_FPS
        self._keeps_delays = fps is None
        self._steps, self._delays_s = 0, 0.0  # so far, of pictures without and with a delay
        self.place = -1
        self._warned: set[Path] = set()
        self._file: PictureFile | None = None
        self._levels = Levels(
            name, lambda: sample_pages(self._pages, upright=True), given=value_range
        )
        self.unreadable = 0
        self._first = self._read_next()
        if self._first is None:
            self.close()
            raise VideoError(
                f"{name}: none of its {len(self._pages)} picture(s) can be read; they must be "
                "undamaged, with 8 to 32 bits per channel"
            )
        height, width = self._first[0].shape[:2]
        nominal_fps = 1 / self._delays_s if self._delays_s else self._fps
        if fps is None and not self._delays_s and len(self._pages) > 1:
            warn_of_assumed_rate(name, self._fps)
        self.info = SourceInfo(name, nominal_fps, (width, height), len(self._pages))

    def _read_next(self) -> tuple[Image, float] | None:
        while self.place + 1 < len(self._pages):
            time_s = self._delays_s + self._steps / self._fps
            try:
                image = self.read_place(self.place + 1)
            except DatasetError as error:
                self._steps += 1
                self.unreadable += 1
                _log.info("%s, skipped", error)
                continue
            _, page = self._pages[self.place]
            delay_s = self._file.delay_s(page) if self._file and self._keeps_delays else None
            if self._file is not None and page + 1 == self._file.count:
                self.close()
            if delay_s is None:
                self._steps += 1
            else:
                self._delays_s += delay_s
            return image, time_s
        return None

    def read_place(self, place: int) -> Image:
        """Read the picture at a place in the list, whatever was read before.

        Raises:
            DatasetError: it cannot be read.
        """
        self.place = place
        path, page = self._pages[place]
        file = self._file
        if file is None or file.path != path:
            file = self._open(path)
        image = self._levels.to_8_bits(file.read(page, upright=True))
        self.picture = path.as_posix() if self._has_folders else path.name
        if file.count > 1:
            self.picture += f"#{page}"
        return image

    def reopen(self) -> Self:
        """Make another reader of the same pictures, from the first on."""
        again = copy.copy(self)
        again._file, again._first, again.place = None, None, -1
        again._steps, again._delays_s, again.unreadable = 0, 0.0, 0
        return again

    def plain_times_s(self) -> list[float] | None:
        """Times of all pictures by the rate; None where a file says how long its own are shown."""
        if self._keeps_delays and any(is_animation(path) for path in self._listed):
            return None
        return [number / self._fps for number in range(len(self._pages))]

    def _open(self, path: Path) -> PictureFile:
        """Open the next file, and warn if it holds pictures that are not on the list."""
        self.close()
        self._file = open_picture_file(path)
        if self._file.count > self._listed[path] and path not in self._warned:
            self._warned.add(path)
            _log.warning(
                "%s holds %d pictures, of which the first is read; give the file by itself",
                path,
                self._file.count,
            )
        return self._file

    def close(self) -> None:
        """Close the file that is open between two of its pictures."""
        if self._file is not None:
            self._file.close()
            self._file = None
