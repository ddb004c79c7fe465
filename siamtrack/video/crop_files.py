"""Pictures of the targets, one file per frame and target."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from siamtrack.errors import OutputError
from siamtrack.tracking.result import Result
from siamtrack.utils.files import atomic_write
from siamtrack.video.frames import Frame

_log = logging.getLogger(__name__)


class CropSink:
    """Write what is inside the boxes, at its own size, as `target_0/frame_000012.png`.

    Sides of a box are rounded outwards to whole px. Lost targets are left out.

    Args:
        folder: is made.
        overwrite: write into a folder that has files in it.

    Attributes:
        count: pictures written.

    Raises:
        OutputError: the folder has files in it and `overwrite` is False, or is a file.
    """

    def __init__(self, folder: Path, *, overwrite: bool) -> None:
        self.path, self.count = folder.expanduser(), 0
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{folder} is a file; give the name of a folder for the crops")
        if not overwrite and self.path.is_dir() and any(self.path.iterdir()):
            raise OutputError(
                f"{folder} has files in it; choose another folder, or allow that files in it are "
                "replaced (--overwrite)"
            )
        self._warn_of_others()

    def write(self, frame: Frame, results: Mapping[int, Result]) -> None:
        """Write the targets of one frame.

        Raises:
            OutputError: a picture cannot be written.
        """
        for target, result in results.items():
            if result.status == "lost":
                continue
            height, width = frame.image.shape[:2]
            left, top = np.floor(result.xyxy[:2]).astype(int).clip(0)
            right, bottom = np.ceil(result.xyxy[2:]).astype(int).clip(0, (width, height))
            crop = frame.image[top:bottom, left:right]
            path = self.path / f"target_{target}" / f"frame_{frame.index:06d}.png"
            atomic_write(path, cv2.imencode(".png", crop)[1].tobytes(), "choose another folder")
            self.count += 1

    def _warn_of_others(self) -> None:
        """Say that a folder already holds crops: those that this run does not replace stay."""
        others = sum(1 for _ in self.path.glob("target_*/frame_*.png"))
        if others:
            _log.warning(
                "%s holds %d crop(s) of an earlier run; those of frames and targets that this run "
                "does not write stay there: choose another folder to have this run's alone",
                self.path,
                others,
            )
