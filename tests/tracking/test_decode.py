"""From response to box, against positions and sizes put into hand-made responses."""

import numpy as np
import pytest

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap, context_side
from siamtrack.models.lite0 import Lite0Config
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.tracking.decode import (
    Prediction,
    calibrated_score,
    cosine_window,
    decode,
    peak_margin,
    shape_penalty,
    window_sides,
)
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions

CONFIG = Lite0Config()


def response_with(peaks, ltrb=(32.0, 32.0, 32.0, 32.0)):
    """A box-head response of -6 everywhere but at {(row, column): logit}."""
    logits = np.full((1, 16, 16), -6.0, np.float32)
    for cell, value in peaks.items():
        logits[0][cell] = value
    boxes = np.tile(np.array(ltrb, np.float32)[None, :, None, None], (1, 1, 16, 16))
    return Response(logits, boxes, None)


def decode_box(response, crop_map, box, **options):
    return decode(response, [crop_map], box, CONFIG, BoxHeadOptions(**options))


def test_extreme_logits_do_not_overflow():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    response = response_with({(0, 0): -1e4, (3, 4): 1e4})
    with np.errstate(all="raise", under="ignore"):
        found = decode_box(response, CropMap.around((120, 100), 160, 256), box)
    assert found.peak_logit == 1e4


def test_cosine_window_is_positive_symmetric_and_shared_read_only():
    window = cosine_window(17)
    assert window.min() > 0
    assert np.unravel_index(window.argmax(), window.shape) == (8, 8)
    np.testing.assert_allclose(window, window[::-1, ::-1], rtol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        window[0, 0] = 1


def test_box_head_decodes_the_box_of_the_best_cell():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    # The window is 160 frame px on 256 crop px: 0.625 frame px per crop px.
    (side,) = window_sides(box[2:], CONFIG, BoxHeadOptions())
    assert side == pytest.approx(2 * context_side(40, 40))
    crop_map = CropMap.around((120, 100), side, 256)
    response = response_with({(7, 10): 8.0}, ltrb=(20, 30, 40, 50))
    found = decode_box(
        response, crop_map, box, window_influence=0.0, shape_penalty=0.0, size_lr=1.0
    )
    # Cell center (10.5, 7.5) * 16 = (168, 120); box from (148, 90) to (208, 170) in the crop.
    expected = crop_map.to_frame([148, 90, 60, 80])
    np.testing.assert_allclose(found.box_xywh, expected, atol=0.05)
    assert found.peak_logit == 8.0


def test_size_lr_blends_the_predicted_size_into_the_last_one():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    crop_map = CropMap.around((120, 100), 160, 256)
    response = response_with({(8, 8): 20.0}, ltrb=(64, 64, 64, 64))  # 80 frame px
    found = decode_box(
        response, crop_map, box, window_influence=0.0, shape_penalty=0.0, size_lr=0.25
    )
    np.testing.assert_allclose(found.box_xywh[2:], 0.75 * 40 + 0.25 * 80, atol=0.01)


def test_cosine_window_prefers_the_central_of_two_similar_peaks():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    crop_map = CropMap.around((120, 100), 160, 256)
    response = response_with({(8, 8): 2.0, (1, 14): 2.2})
    near = decode_box(response, crop_map, box, window_influence=0.4)
    far = decode_box(response, crop_map, box, window_influence=0.0)
    assert near.peak_logit == pytest.approx(2.0)
    assert far.peak_logit == pytest.approx(2.2)


def test_shape_penalty_prefers_the_box_of_unchanged_shape():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    crop_map = CropMap.around((120, 100), 160, 256)
    response = response_with({(8, 7): 1.0, (8, 8): 1.1})
    response.ltrb_px[0, :, 8, 8] = (10, 60, 10, 60)
    strict = decode_box(response, crop_map, box, window_influence=0.0, shape_penalty=0.5)
    lax = decode_box(response, crop_map, box, window_influence=0.0, shape_penalty=0.0)
    assert strict.peak_logit == pytest.approx(1.0)
    assert lax.peak_logit == pytest.approx(1.1)


def test_shape_penalty_by_hand():
    penalty = shape_penalty(np.array([[80.0], [40.0]], np.float32), np.array([40.0, 40.0]), 0.1)
    size = np.sqrt((80 + 60) * (40 + 60)) / 80
    np.testing.assert_allclose(penalty, np.exp(-0.1 * (size * 2 - 1)), rtol=1e-5)


def test_peaks_below_min_peak_do_not_move_the_box():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    crop_map = CropMap.around((120, 100), 160, 256)
    response = response_with({(2, 2): -2.0})
    held = decode_box(response, crop_map, box, min_peak=0.2, window_influence=0.0)
    np.testing.assert_array_equal(held.box_xywh, box)
    moved = decode_box(response, crop_map, box, min_peak=0.0, window_influence=0.0)
    assert not np.array_equal(moved.box_xywh, box)


def test_box_head_refuses_a_network_without_boxes():
    response = Response(np.zeros((1, 16, 16), np.float32), None, None)
    with pytest.raises(TypeError, match="no box head"):
        decode_box(response, CropMap.around((0, 0), 1, 256), np.array([0.0, 0, 1, 1]))


def bump(row, column, height=4.0, size=17):
    """A smooth response with its peak at a (fractional) cell."""
    y, x = np.mgrid[:size, :size]
    return (height * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8.0)).astype(np.float32)


def pyramid_maps(box):
    sides = window_sides(box[2:], SiamFCConfig(), ScalePyramidOptions())
    return [CropMap.around(box[:2] + box[2:] / 2, side, 255) for side in sides]


def decode_pyramid(response, box, **options):
    options = ScalePyramidOptions(**options)
    return decode(response, pyramid_maps(box), box, SiamFCConfig(), options)


def test_pyramid_windows_are_the_papers_scales():
    sides = window_sides(np.array([64.0, 64.0]), SiamFCConfig(), ScalePyramidOptions())
    np.testing.assert_allclose(np.array(sides) / sides[1], [1 / 1.0375, 1, 1.0375])
    assert sides[1] == pytest.approx(255 / 127 * 128)


def test_pyramid_moves_by_the_peaks_displacement():
    box = np.array([100.0, 80.0, 64.0, 64.0])
    peak = bump(row=8 - 2.25, column=8 + 3.5)
    response = Response(np.stack([peak * 0, peak, peak * 0]), None, None)
    found = decode_pyramid(response, box, window_influence=0.0)
    # 3.5 cells of 8 px right and 2.25 up, at the scale of the middle window.
    scale = pyramid_maps(box)[1].scale
    expected = box[:2] + np.array([3.5, -2.25]) * 8 * scale
    np.testing.assert_allclose(found.box_xywh[:2], expected, atol=scale)
    np.testing.assert_allclose(found.box_xywh[2:], box[2:])


def test_scale_lr_blends_the_winning_scale_into_the_last_size():
    box = np.array([100.0, 80.0, 64.0, 48.0])
    response = Response(np.stack([bump(8, 8, 1), bump(8, 8, 1), bump(8, 8, 4)]), None, None)
    found = decode_pyramid(response, box, scale_lr=0.5)
    np.testing.assert_allclose(found.box_xywh[2:], box[2:] * (0.5 + 0.5 * 1.0375))


def test_scale_penalty_discourages_changes_even_if_all_responses_are_negative():
    """A factor on a negative peak would raise it: the published port's mistake."""
    box = np.array([100.0, 80.0, 64.0, 64.0])
    base = bump(8, 8, 0.1) - 5.0
    response = Response(np.stack([base, base - 1e-4, base]), None, None)
    found = decode_pyramid(response, box)
    np.testing.assert_allclose(found.box_xywh[2:], box[2:])


def test_peak_margin_is_the_lead_over_the_best_cell_outside_the_neighborhood():
    logits = np.full((9, 9), -5.0, np.float32)
    logits[4, 4] = 2.0
    logits[4, 6] = 1.5  # two cells to the right
    logits[8, 0] = -1.0
    assert peak_margin(logits, (4, 4), [1, 1, 1, 1]) == 0.5
    assert peak_margin(logits, (4, 4), [1, 1, 2.9, 1]) == 3.0
    assert peak_margin(logits, (4, 4), [0, 0, 0, 0]) == 0.5  # never less than its neighbors
    assert peak_margin(logits, (4, 6), [2, 2, 1, 2]) == 2.5
    assert peak_margin(logits, (4, 6), [1, 1, 1, 1]) == -0.5  # something else responds more
    assert peak_margin(logits, (4, 4), [99, np.nan, np.inf, 99]) == 7.0


def prediction(peak_logit, similarity=0.5, margin=3.0):
    return Prediction(np.zeros(4), peak_logit, similarity, margin)


def test_score_is_the_logistic_curve_of_the_peak_if_the_other_cues_have_no_weight():
    options = BoxHeadOptions(score_gain=2.0, score_offset=1.0)
    assert calibrated_score(prediction(1.0), options) == pytest.approx(0.5)
    assert calibrated_score(prediction(2.0), options) == pytest.approx(1 / (1 + 2.718281828**-2))
    assert calibrated_score(prediction(-1e6), options) == 0.0
    assert calibrated_score(prediction(1e6), options) == 1.0


def test_each_cue_counts_by_its_weight():
    options = BoxHeadOptions(
        score_gain=2.0, score_offset=1.0, score_similarity=3.0, score_margin=0.5
    )
    log_odds = 2.0 * (0.2 - 1.0) + 3.0 * 0.4 + 0.5 * -1.0
    score = calibrated_score(prediction(0.2, similarity=0.4, margin=-1.0), options)
    assert score == pytest.approx(1 / (1 + np.exp(-log_odds)))


def test_excluded_cells_are_never_the_peak():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    response = response_with({(8, 8): -np.inf, (1, 14): -5.0})
    found = decode_box(response, CropMap.around((120, 100), 160, 256), box, window_influence=1.0)
    assert np.isfinite(found.peak_logit)
