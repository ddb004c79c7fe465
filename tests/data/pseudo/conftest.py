"""Clips of a textured patch that moves over a background that moves otherwise, and a tracker that
follows it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from siamtrack.tracking.result import Result

FRAME_WH = (200, 140)
PATCH_WH = (36, 30)


def texture(rng, wh, low, high):
    """Smooth noise between two gray levels, in three colors."""
    noise = rng.random((wh[1] // 4 + 2, wh[0] // 4 + 2, 3)).astype(np.float32)
    smooth = cv2.resize(noise, wh, interpolation=cv2.INTER_CUBIC)
    return np.clip(low + (high - low) * smooth, 0, 255).astype(np.uint8)


def make_scene(frames=30, *, camera_px=1.0, patch_px=(2.0, 0.5), seed=3):
    """Frames (H, W, 3) and boxes (N, 4) of a bright patch; the camera pans, the patch moves.

    The first pixel of a frame is its number.
    """
    rng = np.random.default_rng(seed)
    width, height = FRAME_WH
    world = texture(rng, (width + 120, height), 0, 120)
    patch = texture(rng, PATCH_WH, 150, 255)
    images, boxes = [], []
    for k in range(frames):
        shift = round(camera_px * k)
        image = world[:, shift : shift + width].copy()
        x, y = round(20 + patch_px[0] * k), round(40 + patch_px[1] * k)
        image[y : y + PATCH_WH[1], x : x + PATCH_WH[0]] = patch
        image[0, 0] = k
        images.append(image)
        boxes.append([x, y, *PATCH_WH])
    return images, np.array(boxes, float)


class TemplateTracker:
    """Follows by template matching; slides off, doubts or loses the target in certain frames."""

    def __init__(self, slide_px=0.0, slides=lambda n: True, doubts=(), lost=()) -> None:
        self.slide_px, self.slides = slide_px, slides
        self.doubts, self.lost = set(doubts), set(lost)
        self.state = None
        self.updates = 0

    def set_state(self, state):
        self.state = state

    def init(self, image, box):
        x, y, w, h = (round(float(v)) for v in box)
        x, y = min(x, image.shape[1] - w), min(y, image.shape[0] - h)
        self.state = (image[y : y + h, x : x + w].copy(), np.array(box, float), 0.0)
        return Result(tuple(self.state[1]), 1.0, "tracked")

    def update(self, image):
        self.updates += 1
        template, box, slid = self.state
        left, top = (max(0, int(v) - 12) for v in box[:2])
        height, width = template.shape[:2]
        # The last rows and columns where the target is beyond them: then anything is found.
        top, left = min(top, image.shape[0] - height), min(left, image.shape[1] - width)
        near = image[top : top + height + 24, left : left + width + 24]
        x, y = cv2.minMaxLoc(cv2.matchTemplate(near, template, cv2.TM_SQDIFF))[2]
        number = int(image[0, 0, 0])
        slid += self.slide_px * self.slides(number)
        box = np.array([left + x + slid, top + y, *box[2:]])
        self.state = (template, box, slid)
        status = "lost" if number in self.lost else "tracked"
        return Result(tuple(box.tolist()), 0.3 if number in self.doubts else 0.9, status)


@pytest.fixture
def template_tracker():
    return TemplateTracker


@pytest.fixture
def scene():
    return make_scene


@pytest.fixture
def write_scene():
    """Write a scene as a folder of pictures, which loses nothing; returns its boxes."""

    def write(folder, **arguments):
        images, boxes = make_scene(**arguments)
        folder.mkdir(parents=True)
        for k, image in enumerate(images):
            (folder / f"{k}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        return boxes

    return write
