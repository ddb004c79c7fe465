"""What is hard about a sequence."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrack.errors import DatasetError
from siamtrack.evaluation.datasets import (
    annotated_attributes,
    computed_attributes,
    frames_with_box,
    open_benchmark,
)

STILL = np.tile([50.0, 50.0, 40.0, 30.0], (4, 1))


def changed(frame, **sides):
    boxes = STILL.copy()
    for side, value in sides.items():
        boxes[frame, "xywh".index(side)] = value
    return boxes


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (STILL, set()),
        (changed(3, x=70.0), set()),  # 20 px are not more than 20
        (changed(3, x=70.5), {"fast motion"}),
        (changed(2, w=np.nan), {"out of view"}),
        (changed(2, w=0.0), {"out of view"}),
        (changed(3, w=82.0), {"aspect ratio change", "fast motion"}),
        (changed(3, w=82.0, x=29.0), {"aspect ratio change"}),
        (changed(3, w=82.0, h=62.0, x=29.0, y=34.0), {"scale variation"}),
        (changed(3, w=19.0, h=14.0, x=60.0, y=58.0), {"scale variation", "low resolution"}),
        (changed(3, w=20.0, h=20.0, x=60.0, y=55.0), set()),  # 400 px² are not less than 400
    ],
)
def test_attributes_follow_from_boxes(boxes, expected):
    assert computed_attributes(boxes) == expected


def test_fast_motion_ignores_steps_across_an_absence():
    boxes = changed(2, x=np.nan)
    boxes[3, 0] = 200.0
    assert computed_attributes(boxes) == {"out of view"}


def test_frames_with_box_need_finite_numbers_and_an_area():
    boxes = np.array([[1, 1, 2, 2], [1, 1, 0, 2], [np.nan, 1, 2, 2], [1, np.inf, 2, 2]])
    assert frames_with_box(boxes).tolist() == [True, False, False, False]


def test_attributes_json_is_added(clips, tmp_path):
    root = clips({"walk": 5})
    assert annotated_attributes(root) == {}
    (root / "attributes.json").write_text('{"walk": ["occlusion"], "gone": []}')
    sequence = open_benchmark("clips", root).load("walk")
    assert "occlusion" in sequence.attributes and "low resolution" in sequence.attributes


def test_a_target_that_comes_later_is_evaluated_from_there_on(clips):
    root = clips({"walk": 6})
    whole = open_benchmark("clips", root).load("walk")
    lines = (root / "walk.txt").read_text().splitlines()
    (root / "walk.txt").write_text("\n".join(["nan,nan,nan,nan"] * 2 + lines[2:]))
    benchmark = open_benchmark("clips", root)
    usable, problems = benchmark.check(["walk"])
    assert problems == [] and len(usable["walk"]) == len(usable["walk"].frames) == 4
    assert (usable["walk"].boxes_xywh == whole.boxes_xywh[2:]).all()
    assert (usable["walk"].frames.read(1) == whole.frames.read(3)).all()
    (root / "walk.txt").write_text("\n".join(["nan,nan,nan,nan"] * 6))
    _, (problem,) = open_benchmark("clips", root).check(["walk"])
    assert "nothing to start from" in problem


@pytest.mark.parametrize("content", ["[1]", '{"walk": 3}', "not json"])
def test_malformed_attributes_json_is_rejected(content, tmp_path):
    (tmp_path / "attributes.json").write_text(content)
    with pytest.raises(DatasetError, match="must look like"):
        annotated_attributes(tmp_path)


def test_labels_of_got10k_and_vot_become_attributes(got10k, vot):
    names = open_benchmark("got10k", got10k()).load("GOT-10k_Val_000001").attributes
    assert {"absent", "cut by the image border"} <= names
    assert {"camera motion", "occlusion"} <= open_benchmark("vot2016", vot()).load("bag").attributes
