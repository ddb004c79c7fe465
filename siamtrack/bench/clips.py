"""The clip of a benchmark: one made here, or the beginning of a given one."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

import siamtrack
from siamtrack.bench.contestants import Box, Clip
from siamtrack.data.synthetic import small_scene
from siamtrack.errors import ConfigError
from siamtrack.geometry import parse_first_box
from siamtrack.video.sinks import VideoSink

_FPS = 30.0


def parse_size(text: str) -> tuple[int, int]:
    """Read "640x480".

    Raises:
        ConfigError: not two whole numbers of px.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"size {text!r} is not WIDTHxHEIGHT; give it in px, as in 640x480")
    return int(width), int(height)


def make_clip(path: Path, frame_wh: tuple[int, int], frame_count: int) -> Clip:
    """Render an easy scene into a file and read it back.

    Args:
        path: .mp4 to write.
        frame_wh: width and height in px, both even.
        frame_count: at least two.

    Raises:
        ConfigError: a size that cannot be rendered, or too few frames.
        OutputError: the file cannot be written.
    """
    if frame_count < 2:
        raise ConfigError(f"{frame_count} frame(s) for the clip; give at least 2")
    scene = small_scene(frame_wh=frame_wh, frame_count=frame_count)
    with VideoSink(path, _FPS, frame_wh) as video:
        for frame in scene:
            video.write(frame.image_bgr)
    return read_clip(path, scene[0].box_xywh.tolist(), frame_count)


def read_clip(path: Path, box: list[float], frame_count: int) -> Clip:
    """Decode the beginning of a video.

    Args:
        path: video file, or folder of pictures.
        box: xywh px on the first frame.
        frame_count: frames to take at the most.

    Raises:
        VideoError: the video cannot be read, or has fewer than two frames.
        InvalidBoxError: the box cannot be tracked.
    """
    with siamtrack.open_source(path) as source:
        images = [frame.image for frame in islice(source, frame_count)]
    height, width = images[0].shape[:2]
    x, y, w, h = parse_first_box(np.asarray(box), (width, height)).tolist()
    first: Box = (x, y, w, h)
    return Clip(path, images, first)
