"""From response to box, against positions and sizes put into hand-made responses."""

import numpy as np
import pytest

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap, context_side
from siamtrack.models.lite0 import Lite0Config
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.tracking.decode import BoxHead, ScalePyramid, cosine_window, margin_of, sigmoid
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions

CONFIG = Lite0Config()


def response_with(peaks, ltrb=(32.0, 32.0, 32.0, 32.0)):
    """A box-head response of -6 everywhere but at {(row, column): logit}."""
    logits = np.full((1, 16, 16), -6.0, np.float32)
    for cell, value in peaks.items():
        logits[0][cell] = value
    boxes = np.tile(np.array(ltrb, np.float32)[None, :, None, None], (1, 1, 16, 16))
    return Response(logits, boxes, None)


def head(**options):
    return BoxHead(CONFIG, BoxHeadOptions(**options))


def test_sigmoid_is_stable():
    x = np.array([-1e4, -2.0, 0.0, 2.0, 1e4], np.float32)
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(sigmoid(x), [0, 0.119203, 0.5, 0.880797, 1], atol=1e-6)


def test_cosine_window_is_positive_symmetric_and_shared_read_only():
    window = cosine_window(17)
    assert window.min() > 0
    assert np.unravel_index(window.argmax(), window.shape) == (8, 8)
    np.testing.assert_allclose(window, window[::-1, ::-1], rtol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        window[0, 0] = 1


def test_box_head_reads_the_box_of_the_best_cell():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    # The window is 160 frame px on 256 crop px: 0.625 frame px per crop px.
    (side,) = head().window_sides(box[2:])
    assert side == pytest.approx(2 * context_side(40, 40))
    crop_map = CropMap.around((120, 100), side, 256)
    response = response_with({(7, 10): 8.0}, ltrb=(20, 30, 40, 50))
    found = head(window_influence=0.0, shape_penalty=0.0, size_lr=1.0).locate(
        response, [crop_map], box
    )
    # Cell centre (10.5, 7.5) * 16 = (168, 120); box from (148, 90) to (208, 170) in the crop.
    expected = crop_map.to_frame([148, 90, 60, 80])
    np.testing.assert_allclose(found.box_xywh, expected, atol=0.05)
    assert found.peak_logit == 8.0


def test_size_rate_takes_on_a_share_of_the_new_size():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    crop_map = CropMap.around((120, 100), 160, 256)
    response = response_with({(8, 8): 20.0}, ltrb=(64, 64, 64, 64))  # 80 frame px
    found = head(window_influence=0.0, shape_penalty=0.0, size_lr=0.25).locate(
        response, [crop_map], box
    )
    np.testing.assert_allclose(found.box_xywh[2:], 0.75 * 40 + 0.25 * 80, atol=0.01)


def test_the_window_prefers_the_nearer_of_two_equals_and_0_does_not():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    crop_map = CropMap.around((120, 100), 160, 256)
    response = response_with({(8, 8): 2.0, (1, 14): 2.2})
    near = head(window_influence=0.4).locate(response, [crop_map], box)
    far = head(window_influence=0.0).locate(response, [crop_map], box)
    assert near.peak_logit == pytest.approx(2.0)
    assert far.peak_logit == pytest.approx(2.2)


def test_the_shape_penalty_prefers_the_box_that_kept_its_shape():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    crop_map = CropMap.around((120, 100), 160, 256)
    response = response_with({(8, 7): 1.0, (8, 8): 1.1})
    response.ltrb_px[0, :, 8, 8] = (10, 60, 10, 60)
    strict = head(window_influence=0.0, shape_penalty=0.5).locate(response, [crop_map], box)
    lax = head(window_influence=0.0, shape_penalty=0.0).locate(response, [crop_map], box)
    assert strict.peak_logit == pytest.approx(1.0)
    assert lax.peak_logit == pytest.approx(1.1)


def test_shape_penalty_by_hand():
    penalty = head(shape_penalty=0.1)._shape_penalty(
        np.array([[80.0], [40.0]], np.float32), np.array([40.0, 40.0])
    )
    size = np.sqrt((80 + 60) * (40 + 60)) / 80
    np.testing.assert_allclose(penalty, np.exp(-0.1 * (size * 2 - 1)), rtol=1e-5)


def test_weak_peaks_do_not_move_the_box_when_held():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    crop_map = CropMap.around((120, 100), 160, 256)
    response = response_with({(2, 2): -2.0})
    held = head(min_peak=0.2, window_influence=0.0).locate(response, [crop_map], box)
    np.testing.assert_array_equal(held.box_xywh, box)
    moved = head(min_peak=0.0, window_influence=0.0).locate(response, [crop_map], box)
    assert not np.array_equal(moved.box_xywh, box)


def test_box_head_refuses_a_network_without_boxes():
    response = Response(np.zeros((1, 16, 16), np.float32), None, None)
    with pytest.raises(TypeError, match="no box head"):
        head().locate(response, [CropMap.around((0, 0), 1, 256)], np.array([0.0, 0, 1, 1]))


def bump(row, column, height=4.0, size=17):
    """A smooth response with its peak at a (fractional) cell."""
    y, x = np.mgrid[:size, :size]
    return (height * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8.0)).astype(np.float32)


def pyramid(**options):
    return ScalePyramid(SiamFCConfig(), ScalePyramidOptions(**options))


def maps_of(loop, box):
    sides = loop.window_sides(box[2:])
    return [CropMap.around(box[:2] + box[2:] / 2, side, 255) for side in sides]


def test_pyramid_windows_are_the_papers_scales():
    sides = pyramid().window_sides(np.array([64.0, 64.0]))
    np.testing.assert_allclose(np.array(sides) / sides[1], [1 / 1.0375, 1, 1.0375])
    assert sides[1] == pytest.approx(255 / 127 * 128)


def test_pyramid_moves_by_the_peaks_displacement():
    box = np.array([100.0, 80.0, 64.0, 64.0])
    loop = pyramid(window_influence=0.0)
    maps = maps_of(loop, box)
    peak = bump(row=8 - 2.25, column=8 + 3.5)
    response = Response(np.stack([peak * 0, peak, peak * 0]), None, None)
    found = loop.locate(response, maps, box)
    # 3.5 cells of 8 px right and 2.25 up, at the scale of the middle window.
    scale = maps[1].scale
    expected = box[:2] + np.array([3.5, -2.25]) * 8 * scale
    np.testing.assert_allclose(found.box_xywh[:2], expected, atol=scale)
    np.testing.assert_allclose(found.box_xywh[2:], box[2:])


def test_pyramid_takes_on_a_share_of_the_winning_scale():
    box = np.array([100.0, 80.0, 64.0, 48.0])
    loop = pyramid(scale_lr=0.5)
    response = Response(np.stack([bump(8, 8, 1), bump(8, 8, 1), bump(8, 8, 4)]), None, None)
    found = loop.locate(response, maps_of(loop, box), box)
    np.testing.assert_allclose(found.box_xywh[2:], box[2:] * (0.5 + 0.5 * 1.0375))


def test_the_scale_penalty_discourages_change_even_where_all_responses_are_negative():
    """A factor on a negative peak would raise it: the published port's mistake."""
    box = np.array([100.0, 80.0, 64.0, 64.0])
    loop = pyramid()
    base = bump(8, 8, 0.1) - 5.0
    response = Response(np.stack([base, base - 1e-4, base]), None, None)
    found = loop.locate(response, maps_of(loop, box), box)
    np.testing.assert_allclose(found.box_xywh[2:], box[2:])


def test_the_margin_is_the_lead_over_the_best_cell_outside_the_neighbourhood():
    logits = np.full((9, 9), -5.0, np.float32)
    logits[4, 4] = 2.0
    logits[4, 6] = 1.5  # two cells to the right
    logits[8, 0] = -1.0
    assert margin_of(logits, (4, 4), [1, 1, 1, 1]) == 0.5
    assert margin_of(logits, (4, 4), [1, 1, 2.9, 1]) == 3.0
    assert margin_of(logits, (4, 4), [0, 0, 0, 0]) == 0.5  # never less than its neighbours
    assert margin_of(logits, (4, 6), [2, 2, 1, 2]) == 2.5
    assert margin_of(logits, (4, 6), [1, 1, 1, 1]) == -0.5  # something else responds more
    assert margin_of(logits, (4, 4), [99, np.nan, np.inf, 99]) == 7.0
