"""Boxes, windows and maps, against hand-worked cases and got10k's own overlap."""

import numpy as np
import pytest
from got10k.utils.metrics import rect_iou
from hypothesis import given
from hypothesis import strategies as st

from siamtrack import geometry as g
from siamtrack.errors import InvalidBoxError

coordinate = st.floats(-500, 500)
length = st.floats(0.5, 500)
boxes = st.tuples(coordinate, coordinate, length, length)


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ((1, 2, 3), "shape"),
        ((1, 2, 3, 4, 5), "shape"),
        ("box", "not numeric|shape"),
        (("a", 2, 3, 4), "not numeric"),
        ((1, 2, float("nan"), 4), "not finite"),
        ((float("inf"), 2, 3, 4), "not finite"),
        ((1, 2, 0, 4), "no area"),
        ((1, 2, 3, -4), "no area"),
        (None, "shape|not numeric|not finite"),
    ],
)
def test_what_is_not_a_box_is_refused(box, says):
    with pytest.raises(InvalidBoxError, match=says):
        g.parse_box(box)


def test_a_box_is_copied():
    given_box = np.array([1.0, 2.0, 3.0, 4.0])
    parsed = g.parse_box(given_box)
    parsed[0] = 99
    assert given_box[0] == 1


def test_first_box_partly_outside_is_clipped():
    assert g.parse_first_box((-10, -5, 30, 25), (100, 80)).tolist() == [0, 0, 20, 20]
    assert g.parse_first_box((90, 70, 50, 50), (100, 80)).tolist() == [90, 70, 10, 10]


@pytest.mark.parametrize("box", [(100, 10, 5, 5), (-9, 0, 9, 9), (0, 80, 5, 5)])
def test_first_box_wholly_outside_is_refused(box):
    with pytest.raises(InvalidBoxError, match="outside the 100x80 frame"):
        g.parse_first_box(box, (100, 80))


@given(boxes, st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_kept_boxes_are_inside_and_never_vanish(box, frame_wh):
    x, y, w, h = g.keep_in_frame(box, frame_wh)
    assert x >= 0 and y >= 0
    assert x + w <= frame_wh[0] + 1e-9 and y + h <= frame_wh[1] + 1e-9
    assert w >= min(g.MIN_SIDE_PX, frame_wh[0]) - 1e-9
    assert h >= min(g.MIN_SIDE_PX, frame_wh[1]) - 1e-9


def test_a_box_that_left_is_kept_at_the_edge_it_left_by():
    assert g.keep_in_frame((700, 100, 40, 30), (640, 480)).tolist() == [638, 100, 2, 30]


def test_iou_by_hand():
    assert g.iou([0, 0, 2, 2], [1, 1, 2, 2]) == pytest.approx(1 / 7)
    assert g.iou([0, 0, 2, 2], [2, 0, 2, 2]) == 0
    assert g.iou([0, 0, 0, 0], [0, 0, 0, 0]) == 0
    assert np.isnan(g.iou([0, 0, np.nan, 2], [0, 0, 2, 2]))


@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=5))
def test_iou_is_the_toolkits(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    # The toolkit's rect_iou changes its arguments.
    np.testing.assert_allclose(g.iou(a, b), rect_iou(a.copy(), b.copy()), atol=1e-9)
    np.testing.assert_allclose(g.iou(a, b), g.iou(b, a))


def test_context_side_by_hand():
    # SiamFC: a square target of 64 px has a window of 128 px.
    assert g.context_side(64, 64) == 128
    # w = 30, h = 10: p = 20, (30 + 20) (10 + 20) = 1500.
    assert g.context_side(30, 10) == pytest.approx(1500**0.5)
    assert g.context_side(30, 10, context_amount=0) == pytest.approx(300**0.5)


@given(boxes, st.tuples(coordinate, coordinate), st.floats(1, 2000), st.integers(8, 512))
def test_crop_map_returns(box, center, side, size):
    crop_map = g.CropMap.around(center, side, size)
    np.testing.assert_allclose(
        crop_map.to_frame(crop_map.to_crop(box)), box, atol=1e-6 * max(1, side)
    )


def test_crop_map_by_hand():
    crop_map = g.CropMap.around((100, 50), 40, 80)
    assert crop_map.to_crop([100, 50, 10, 10]).tolist() == [40, 40, 20, 20]
    assert crop_map.to_frame([0, 0, 80, 80]).tolist() == [80, 30, 40, 40]
