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


def hidden(box, last_wh, frame_wh=(100, 80)):
    return g.keep_hidden_part(np.array(box, float), np.array(last_wh, float), frame_wh).tolist()


def test_a_box_inside_the_frame_is_as_long_as_it_is():
    assert hidden((30, 20, 10, 60), (40, 30)) == [30, 20, 10, 60]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((92, 20, 8, 30), [92, 20, 40, 30]),  # right: the left end stays
        ((0, 20, 8, 30), [-32, 20, 40, 30]),  # left: the right end stays
        ((30, 74, 40, 6), [30, 74, 40, 30]),
        ((30, 0, 40, 6), [30, -24, 40, 30]),
        ((95, 0, 5, 9), [95, -21, 40, 30]),  # through a corner
    ],
)
def test_a_cut_box_stays_as_long_as_it_was_while_its_center_is_inside(box, expected):
    # The center of [92, 132] is beyond the frame of 100 px, so it is brought back to its border.
    for axis, end in ((0, 100), (1, 80)):
        middle = expected[axis] + expected[axis + 2] / 2
        expected[axis] += min(max(middle, 0), end) - middle
    assert hidden(box, (40, 30)) == expected


def test_what_is_predicted_longer_than_it_was_stays_so():
    assert hidden((70, 20, 50, 30), (20, 30)) == [70, 20, 30, 30]
    assert hidden((60, 20, 60, 30), (20, 30)) == [60, 20, 40, 30]


def test_a_target_that_leaves_slowly_keeps_its_size():
    """The network draws what is left of it, a little less in every frame, and never quite ends."""
    box = np.array([60.0, 20.0, 40.0, 30.0])
    for left in range(61, 140):
        end = 100 - (left % 2)  # boxes are not exact
        predicted = np.array([left, 20.0, max(end - left, 0.5), 30.0])
        box = g.keep_hidden_part(predicted, box[2:], (100, 80))
        assert box[2] == pytest.approx(40, rel=0.05)
        assert box[0] + box[2] / 2 <= 100 + 1e-9
    assert box[0] == pytest.approx(80, abs=1.5)


def test_a_box_over_both_ends_is_cut_at_both():
    assert hidden((-30, -20, 200, 130), (150, 60)) == [0, 0, 100, 80]
    assert hidden((-30, 20, 200, 20), (150, 20)) == [0, 20, 100, 20]


def test_a_box_as_good_as_at_the_border_reaches_it():
    """Boxes are not exact: one px of 40 from the border is at the border."""
    assert hidden((61, 20, 38, 30), (40, 30)) == [61, 20, 40, 30]
    assert hidden((57, 20, 38, 30), (40, 30)) == [57, 20, 38, 30]
    assert hidden((1, 20, 38, 30), (40, 30)) == [-1, 20, 40, 30]


@pytest.mark.parametrize("box", [(400, 20, 30, 30), (-400, 20, 30, 30), (30, 900, 30, 30)])
def test_a_box_beyond_the_frame_comes_back_to_its_border_at_its_size(box):
    x, y, w, h = hidden(box, (30, 30))
    assert (w, h) == (30, 30)
    assert (x + w / 2, y + h / 2) in {(100, 35), (0, 35), (45, 80)}


def test_a_box_in_the_frame_has_a_minimum_size():
    x, y, w, h = hidden((50, 40, 0.25, 0.5), (30, 30))
    assert w == h == g.MIN_SIDE_PX and abs(x - 50) < 2 and abs(y - 40) < 2
    assert hidden((0, 0, 1, 1), (1, 1), frame_wh=(1, 1)) == [0, 0, 1, 1]


@given(boxes, st.tuples(length, length), st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_cut_boxes_have_their_center_in_the_frame_and_show_the_same_part(box, last_wh, frame_wh):
    given_box, given_wh = np.array(box), np.array(last_wh)
    kept = g.keep_hidden_part(given_box, given_wh, frame_wh)
    assert given_box.tolist() == list(box) and given_wh.tolist() == list(last_wh)
    for axis in (0, 1):
        middle = kept[axis] + kept[2 + axis] / 2
        assert -1e-9 <= middle <= frame_wh[axis] + 1e-9
        assert kept[2 + axis] >= min(g.MIN_SIDE_PX, frame_wh[axis]) - 1e-9
        # Never longer than both were.
        assert kept[2 + axis] <= max(box[2 + axis], last_wh[axis], g.MIN_SIDE_PX) + 1e-9


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
