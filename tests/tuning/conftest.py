"""Clips with truth that take no time to track."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrack.data.synthetic import small_scene
from siamtrack.video.video_writer import VideoSink

FRAMES = 6


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Three clips of a moving thing with its exact boxes, as a data set's name."""
    folder = tmp_path_factory.mktemp("tuning") / "clips"
    for number in range(3):
        frames = small_scene(seed=number, frame_count=FRAMES)
        with VideoSink(folder / f"clip{number}.mp4", 30, (160, 120)) as sink:
            for frame in frames:
                sink.write(frame.image_bgr)
        np.savetxt(folder / f"clip{number}.txt", [f.box_xywh for f in frames], delimiter=",")
    return f"folder:{folder}"
