"""The whole way in a process of its own: bundled weights, a file on the disk, files out."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from siamtrack.geometry import iou


def test_a_clip_is_tracked_into_a_table_and_a_video(clip: Any, tmp_path: Path) -> None:
    arguments = [str(clip.path), "--box", "30,40,30,30", "--no-display"]
    outputs = ["--csv", "boxes.csv", "--save", "out.mp4"]
    done = subprocess.run(
        [sys.executable, "-m", "siamtrack", "track", *arguments, *outputs],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    summary = done.stderr.replace("\r", "\n").splitlines()[-1]
    assert f"{clip.frames} frames at" in summary and "wrote boxes.csv, out.mp4" in summary

    with (tmp_path / "boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(clip.frames))
    for k, row in enumerate(rows):
        x, y, w, h = (float(row[c]) for c in "xywh")
        assert 0 <= x < x + w <= clip.wh[0] and 0 <= y < y + h <= clip.wh[1]
        assert iou((x, y, w, h), (30 + 3 * k, 40, 30, 30)) > 0.3, "the bright square"
        assert 0 <= float(row["score"]) <= 1

    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == clip.frames
    size = (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    assert size == clip.wh


WITHOUT = ("torch", "matplotlib", "scipy", "skimage", "got10k", "PIL")
LIGHT = f"""
import sys
from siamtrack.cli import main
code = main(sys.argv[1:])
print(code, [name for name in {WITHOUT} if name in sys.modules])
"""


@pytest.mark.parametrize("engine", ["auto", "onnx", "openvino"])
def test_tracking_imports_no_package_it_does_not_need(
    engine: str, clip: Any, tmp_path: Path
) -> None:
    arguments = ["track", str(clip.path), "--box", "30,40,30,30", "--no-display"]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments, "--csv", "boxes.csv", "--engine", engine],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "0 []\n", done.stderr
