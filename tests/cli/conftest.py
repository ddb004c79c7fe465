"""A clip, and a tracker that needs no weights, for the tests of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.tracking.redetection import TimeBudget
from siamtrack.tracking.result import Result
from siamtrack.video.run import first_frame_result


class ScriptedTracker:
    """Boxes that move one px to the right per frame; `on_update` may get in the way."""

    def __init__(self, on_update: Callable[[int], None] | None = None) -> None:
        self.arguments: dict[str, object] = {}
        self.boxes: dict[int, tuple[float, ...]] = {}
        self.updates = 0
        self.on_update = on_update
        self.budget: TimeBudget | None = None

    @property
    def targets(self) -> tuple[int, ...]:
        return tuple(self.boxes)

    def add(self, frame_bgr: np.ndarray, box: Sequence[float], *, target: int | None = None) -> int:
        target = len(self.boxes) if target is None else target
        self.boxes[target] = first_frame_result(box, frame_bgr).box
        return target

    def reinit(self, target: int, frame_bgr: np.ndarray, box: Sequence[float]) -> None:
        self.boxes[target] = first_frame_result(box, frame_bgr).box

    def update(self, frame_bgr: np.ndarray) -> Mapping[int, Result]:
        self.updates += 1
        if self.on_update is not None:
            self.on_update(self.updates)
        self.boxes = {k: (x + 1, y, w, h) for k, (x, y, w, h) in self.boxes.items()}
        return {k: Result(box, 0.75, "uncertain") for k, box in self.boxes.items()}  # type: ignore[arg-type]


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> ScriptedTracker:
    """What `siamtrack.load_multi` gives in this test; its arguments are in `arguments`."""
    scripted = ScriptedTracker()

    def load_multi(**arguments: object) -> ScriptedTracker:
        scripted.arguments = arguments
        return scripted

    monkeypatch.setattr(siamtrack, "load_multi", load_multi, raising=False)
    return scripted


@dataclass(frozen=True)
class Clip:
    """A video file and what is known of it."""

    path: Path
    frames: int = 12
    wh: tuple[int, int] = (160, 120)
    fps: int = 25


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A small mp4: noise, and before it a bright square that moves to the right."""
    made = Clip(tmp_path_factory.mktemp("clip") / "clip.mp4")
    noise = np.random.default_rng(7).integers(0, 90, (made.wh[1], made.wh[0], 3), np.uint8)
    writer = cv2.VideoWriter(str(made.path), cv2.VideoWriter.fourcc(*"mp4v"), made.fps, made.wh)
    for k in range(made.frames):
        image = noise.copy()
        image[40:70, 30 + 3 * k : 60 + 3 * k] = (40, 220, 250)
        writer.write(image)
    writer.release()
    return made


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a screen."""
    if sys.platform != "linux":
        pytest.skip("only Linux says by its environment that there is no screen")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
