"""Metrics against the toolkit's functions, bit for bit, and against hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest
from got10k.utils.metrics import center_error, rect_iou
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from siamtrack.errors import DatasetError
from siamtrack.evaluation import metrics
from siamtrack.geometry import iou

coordinates = st.floats(-200, 300, width=32)
sides = st.floats(0, 250, width=32)


@st.composite
def two_sets_of_boxes(draw):
    count = draw(st.integers(1, 8))
    corners = arrays(np.float64, (count, 2), elements=coordinates)
    sizes = arrays(np.float64, (count, 2), elements=sides)
    return tuple(np.concatenate([draw(corners), draw(sizes)], axis=1) for _ in range(2))


@given(two_sets_of_boxes())
def test_overlap_is_the_toolkits_to_the_last_bit(boxes):
    ours = metrics.toolkit_overlap(*boxes)
    np.testing.assert_array_equal(ours, rect_iou(*(b.copy() for b in boxes)))
    np.testing.assert_allclose(ours, iou(*boxes), atol=1e-6)


@given(two_sets_of_boxes(), st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_clipped_overlap_is_the_toolkits_and_changes_nothing(boxes, bound):
    before = [b.copy() for b in boxes]
    ours = metrics.overlap_after_toolkit_clipping(*boxes, bound)
    for box, kept in zip(boxes, before, strict=True):
        np.testing.assert_array_equal(box, kept)
    np.testing.assert_array_equal(ours, rect_iou(*before, bound=bound))


@given(two_sets_of_boxes())
def test_center_error_is_the_toolkits_to_the_last_bit(boxes):
    np.testing.assert_array_equal(metrics.center_error(*boxes), center_error(*boxes))


def test_toolkit_clipping_shifts_a_box_over_the_left_border_instead_of_cutting_it():
    over, visible = [[-10, 20, 30, 40]], [[0, 20, 20, 40]]
    quirk = metrics.overlap_after_toolkit_clipping(over, visible, (100, 100))
    assert quirk[0] == pytest.approx(2 / 3)
    assert metrics.toolkit_overlap(over, visible)[0] == pytest.approx(2 / 3)
    # Over the right border it cuts, as one would expect: 20 of 30 px remain.
    right = metrics.overlap_after_toolkit_clipping(
        [[80, 20, 30, 40]], [[80, 20, 20, 40]], (100, 100)
    )
    assert right[0] == pytest.approx(1.0)


def test_nan_coordinates_give_nan_overlap():
    assert np.isnan(metrics.toolkit_overlap([[np.nan, 0, 1, 1]], [[0, 0, 1, 1]])).all()


def test_success_curve_is_strict_and_precision_curve_is_not():
    curve = metrics.success_curve(np.array([1.0, 0.5, 0.0]), 21)
    assert curve[0] == pytest.approx(2 / 3)  # an overlap of 0 is not above 0
    assert curve[10] == pytest.approx(1 / 3)  # nor is 0.5 above 0.5
    assert curve[20] == 0.0
    errors = metrics.precision_curve(np.array([20.0, 20.001, 0.0]))
    assert errors[20] == pytest.approx(2 / 3)
    assert errors[0] == pytest.approx(1 / 3)
    assert len(errors) == 51


@given(arrays(np.float64, 17, elements=st.floats(0, 1)), st.sampled_from([21, 101]))
def test_success_curve_counts_frames(overlaps, count):
    expected = [
        sum(overlap > threshold for overlap in overlaps) / 17
        for threshold in np.linspace(0, 1, count)
    ]
    np.testing.assert_allclose(metrics.success_curve(overlaps, count), expected, atol=1e-15)


def test_normalized_error_divides_each_axis_by_the_true_size():
    error = metrics.normalized_center_error([[10, 10, 40, 20]], [[6, 7, 40, 20]])
    assert error[0] == pytest.approx(np.hypot(4 / 40, 3 / 20))
    curve = metrics.normalized_precision_curve(np.array([0.1, 0.25, 9.0]))
    assert curve[10] == pytest.approx(1 / 3)
    assert curve[50] == pytest.approx(2 / 3)


def test_mean_of_inverse_times_flatters_and_frame_rate_does_not():
    times = [0.1, 0.3, 0.0, np.nan]
    assert metrics.mean_of_inverse_times(times) == pytest.approx((10 + 1 / 0.3) / 2)
    assert metrics.frame_rate(times) == pytest.approx(2 / 0.4)
    assert np.isnan(metrics.frame_rate([])) and np.isnan(metrics.mean_of_inverse_times([0.0]))


@pytest.mark.parametrize("boxes", [np.zeros((3, 4)), np.zeros((2, 3)), np.zeros(4)])
def test_rows_that_do_not_match_are_refused(boxes):
    with pytest.raises(DatasetError, match="both must be"):
        metrics.toolkit_overlap(boxes, np.zeros((2, 4)))
