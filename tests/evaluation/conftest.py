"""Small data sets made by code, in the layouts that evaluation reads, and trackers that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Maker = Callable[..., Path]

SIZE_WH = (80, 60)
ONE = np.array([1.0, 1.0, 0.0, 0.0])
"""From boxes whose first pixel is 0 to boxes whose first pixel is 1."""
TRACKERS = '''
import os
import signal
import time

import numpy as np


class Drift:
    """Moves the first box by a fixed step per frame: deterministic, with some overlap."""

    def __init__(self, step=1.0):
        self.step = step

    def init(self, frame_bgr, box):
        self.box = np.array(box, dtype=float)

    def update(self, frame_bgr):
        self.box = self.box + np.array([self.step, 0.3, 0.1, 0.0])
        return tuple(self.box)


class Follows:
    """Finds the bright square again: right on every frame."""

    def init(self, frame_bgr, box):
        self.box = box

    def update(self, frame_bgr):
        rows, columns = np.nonzero(frame_bgr[..., 1] > 200)
        if len(rows):
            w, h = np.ptp(columns) + 1, np.ptp(rows) + 1
            self.box = (columns.min(), rows.min(), w, h)
        return self.box


class Raises(Drift):
    def update(self, frame_bgr):
        raise ValueError("no idea")


class NotANumber(Drift):
    def update(self, frame_bgr):
        return (1.0, float("nan"), 3.0, 4.0)


class Hangs(Drift):
    def update(self, frame_bgr):
        while True:
            time.sleep(0.01)


class Dies(Drift):
    def update(self, frame_bgr):
        os.kill(os.getpid(), signal.SIGKILL)


class Unbuildable:
    def __init__(self):
        raise RuntimeError("no camera attached")


class NoUpdate:
    def init(self, frame_bgr, box):
        pass
'''


def straight_boxes(frames: int, start: tuple[float, float] = (10.0, 12.0)) -> FloatArray:
    """A 16 x 14 px target that walks to the right and a little down, whole pixels."""
    steps = np.arange(frames, dtype=np.float64)[:, None]
    corner = np.array(start) + np.floor(steps * np.array([1.6, 0.7]))
    return np.concatenate([corner, np.tile([16.0, 14.0], (frames, 1))], axis=1)


def picture(box: FloatArray, size_wh: tuple[int, int] = SIZE_WH) -> NDArray[np.uint8]:
    """Dark gradient with a bright square where `box` is; plain where it is NaN."""
    width, height = size_wh
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(20, 90, width, dtype=np.uint8)[None, :]
    image[..., 2] = np.linspace(20, 90, height, dtype=np.uint8)[:, None]
    if np.isfinite(box).all():
        x, y, w, h = (round(v) for v in box)
        image[max(y, 0) : y + h, max(x, 0) : x + w] = (240, 250, 230)
    return image


def write_pictures(folder: Path, boxes: FloatArray, digits: int = 4, first: int = 1) -> None:
    """`0001.jpg`, ... with the target where `boxes` says."""
    folder.mkdir(parents=True)
    for number, box in enumerate(boxes, start=first):
        cv2.imwrite(
            str(folder / f"{number:0{digits}d}.jpg"), picture(box), [cv2.IMWRITE_JPEG_QUALITY, 98]
        )


@pytest.fixture(scope="session")
def write_trackers() -> Callable[[Path], Path]:
    """Writes a Python file with trackers that drift, follow, raise, hang and crash."""

    def write(folder: Path) -> Path:
        path = folder / "own_trackers.py"
        path.write_text(TRACKERS)
        return path

    return write


@pytest.fixture
def trackers_file(tmp_path: Path, write_trackers: Callable[[Path], Path]) -> Path:
    """A Python file with trackers that drift, follow, raise, hang and crash."""
    return write_trackers(tmp_path)


@pytest.fixture
def clips(tmp_path: Path, write_clips: Callable[..., Path]) -> Maker:
    """Writes a folder of clips: folders of pictures with boxes beside them, one per name."""

    def make(lengths: Mapping[str, int] | None = None) -> Path:
        return write_clips(tmp_path / "clips", lengths or {"walk": 12, "run": 9})

    return make


@pytest.fixture(scope="session")
def write_clips() -> Callable[..., Path]:
    """What `clips` does, into a folder of one's own."""

    def write(folder: Path, lengths: Mapping[str, int]) -> Path:
        for index, (name, frames) in enumerate(lengths.items()):
            boxes = straight_boxes(frames, (8.0 + 3 * index, 10.0))
            write_pictures(folder / name, boxes)
            lines = [",".join(f"{v:g}" for v in box) for box in boxes]
            (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
        return folder

    return write


@pytest.fixture
def otb(tmp_path: Path) -> Maker:
    """Writes OTB's layout under names that OTB has; boxes in the files are 1-based."""

    def make(lengths: Mapping[str, int] | None = None) -> Path:
        folder = tmp_path / "OTB"
        for index, (name, frames) in enumerate((lengths or {"Deer": 11, "Man": 8}).items()):
            boxes = straight_boxes(frames, (7.0 + 2 * index, 9.0))
            write_pictures(folder / name / "img", boxes)
            lines = ["\t".join(f"{v:g}" for v in box + ONE) for box in boxes]
            (folder / name / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
        return folder

    return make


@pytest.fixture
def got10k(tmp_path: Path) -> Maker:
    """Writes GOT-10k's layout: the target leaves over the left border and is hidden for a while."""

    def make(subset: str = "val", lengths: Mapping[str, int] | None = None) -> Path:
        folder = tmp_path / "GOT-10k" / subset
        names = list(lengths or {"GOT-10k_Val_000001": 12, "GOT-10k_Val_000002": 20})
        for name, frames in (lengths or dict(zip(names, (12, 20), strict=True))).items():
            boxes = straight_boxes(frames, (6.0, 9.0)) * [1, 1, 1.3, 1.1] + [0.25, 0.5, 0, 0]
            boxes[:, 0] -= np.linspace(0, 40, frames)
            sequence = folder / name
            write_pictures(sequence, boxes, digits=8)
            rows = boxes[:1] if subset == "test" else boxes
            lines = [",".join(f"{v:.4f}" for v in box + ONE) for box in rows]
            (sequence / "groundtruth.txt").write_text("\n".join(lines) + "\n")
            cover = np.where(np.arange(frames) % 7 == 5, 0, 8)
            for label, values in {
                "cover": cover,
                "absence": (cover == 0).astype(int),
                "cut_by_image": (boxes[:, 0] < 0).astype(int),
            }.items():
                (sequence / f"{label}.label").write_text("\n".join(map(str, values)) + "\n")
            (sequence / "meta_info.ini").write_text(
                f"[METAINFO]\nurl: none\nresolution: {SIZE_WH}\nobject_class: square\n"
            )
        (folder / "list.txt").write_text("\n".join(names))
        return folder.parent

    return make


@pytest.fixture
def vot(tmp_path: Path) -> Maker:
    """Writes VOT's layout with polygons and frame tags."""

    def make(lengths: Mapping[str, int] | None = None) -> Path:
        folder = tmp_path / "VOT"
        made = lengths or {"bag": 30, "ball": 24}
        for index, (name, frames) in enumerate(made.items()):
            boxes = straight_boxes(frames, (8.0 + index, 9.0))
            write_pictures(folder / name, boxes, digits=8)
            corners = np.concatenate(
                [
                    boxes[:, :2] + [2, 0],
                    boxes[:, :2] + boxes[:, 2:] * [1, 0] + [0, 1],
                    boxes[:, :2] + boxes[:, 2:],
                    boxes[:, :2] + boxes[:, 2:] * [0, 1],
                ],
                axis=1,
            )
            lines = [",".join(f"{v:.2f}" for v in row) for row in corners]
            (folder / name / "groundtruth.txt").write_text("\n".join(lines) + "\n")
            tags = {
                "camera_motion": np.arange(frames) % 3 == 0,
                "occlusion": np.arange(frames) > 14,
            }
            for tag, values in tags.items():
                text = "\n".join(str(int(v)) for v in values) + "\n"
                (folder / name / f"{tag}.tag").write_text(text)
        (folder / "list.txt").write_text("\n".join(made))
        return folder

    return make


@pytest.fixture
def uav123(tmp_path: Path) -> Path:
    """One sequence of UAV123, absent in the middle, in a root with the entries it insists on."""
    root = tmp_path / "UAV"
    boxes = straight_boxes(9)
    write_pictures(root / "data_seq" / "UAV123" / "bike1", boxes, digits=6)
    boxes[4:6] = np.nan
    lines = [",".join("NaN" if np.isnan(v) else f"{v:g}" for v in box) for box in boxes]
    (root / "anno" / "UAV123").mkdir(parents=True)
    (root / "anno" / "UAV123" / "bike1.txt").write_text("\n".join(lines) + "\n")
    for extra in ("readme.txt", "licence.txt"):
        (root / extra).write_text("")
    return root
