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
    second_peak,
    shape_penalty,
    window_sides,
)
from siamtrack.tracking.online_filter import FilterResponse
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


@pytest.mark.parametrize(("size", "whole"), [(9, 13), (7, 9), (6, 8), (10, 16), (1, 5)])
def test_the_cosine_window_of_a_near_window_is_the_middle_of_the_whole_one(size, whole):
    out = (whole - size) // 2
    expected = cosine_window(whole)[out : out + size, out : out + size]
    np.testing.assert_array_equal(cosine_window(size, whole), expected)
    # sin(pi k / (whole + 1))^2 along each axis, k from 1.
    along = np.sin(np.pi * np.arange(1 + out, 1 + out + size) / (whole + 1)) ** 2
    np.testing.assert_allclose(cosine_window(size, whole), np.outer(along, along), atol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        cosine_window(size, whole)[0, 0] = 1


def test_the_cosine_window_of_a_window_that_is_no_smaller_is_its_own():
    np.testing.assert_array_equal(cosine_window(9, 9), cosine_window(9))
    np.testing.assert_array_equal(cosine_window(13, 9), cosine_window(13))


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
    sides = np.array([80.0, 40.0], np.float32).reshape(1, 2, 1, 1)
    penalty = shape_penalty(sides, np.array([[40.0, 40.0]], np.float32), 0.1)
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
    options = BoxHeadOptions(online_filter=False, score_gain=2.0, score_offset=1.0)
    assert calibrated_score(prediction(1.0), options) == pytest.approx(0.5)
    assert calibrated_score(prediction(2.0), options) == pytest.approx(1 / (1 + 2.718281828**-2))
    assert calibrated_score(prediction(-1e6), options) == 0.0
    assert calibrated_score(prediction(1e6), options) == 1.0


def test_each_cue_counts_by_its_weight():
    options = BoxHeadOptions(
        online_filter=False, score_gain=2.0, score_offset=1.0, score_similarity=3.0,
        score_margin=0.5,
    )  # fmt: skip
    log_odds = 2.0 * (0.2 - 1.0) + 3.0 * 0.4 + 0.5 * -1.0
    score = calibrated_score(prediction(0.2, similarity=0.4, margin=-1.0), options)
    assert score == pytest.approx(1 / (1 + np.exp(-log_odds)))


def test_excluded_cells_are_never_the_peak():
    box = np.array([100.0, 80.0, 40.0, 40.0])
    response = response_with({(8, 8): -np.inf, (1, 14): -5.0})
    found = decode_box(response, CropMap.around((120, 100), 160, 256), box, window_influence=1.0)
    assert np.isfinite(found.peak_logit)


# --- With the online filter -----------------------------------------------------------------------

BOX = np.array([100.0, 80.0, 40.0, 40.0])
CROP_MAP = CropMap.around((120, 100), 160, 256)
BARE = {"window_influence": 0.0, "shape_penalty": 0.0, "size_lr": 1.0, "filter_center": 0.0}


def filter_response(mixed, first=None):
    """A filter's response of 0 everywhere but at {(row, column): response}."""
    maps = []
    for peaks in (mixed if first is None else first, mixed):
        maps.append(np.zeros((16, 16), np.float32))
        for cell, value in peaks.items():
            maps[-1][cell] = value
    return FilterResponse(*maps)


def decode_filtered(response, filtered, **options):
    return decode(response, [CROP_MAP], BOX, CONFIG, BoxHeadOptions(**BARE | options), filtered)


def test_the_filter_ranks_the_places_and_the_network_draws_the_box():
    """The network responds more to (2, 2); beside the filter's peak it draws best at (10, 5)."""
    response = response_with({(2, 2): 8.0, (10, 5): 3.0, (9, 4): 1.0})
    response.ltrb_px[0, :, 10, 5] = (20, 30, 40, 50)
    found = decode_filtered(response, filter_response({(9, 4): 0.9, (2, 2): 0.4}))
    # Cell center (5.5, 10.5) * 16 = (88, 168); the size comes in at the rate of the score.
    rate = 1 / (1 + np.exp(-3.0))
    w, h = 64 + rate * (60 - 64), 64 + rate * (80 - 64)
    center = 88 + (40 - 20) / 2, 168 + (50 - 30) / 2
    expected = CROP_MAP.to_frame([center[0] - w / 2, center[1] - h / 2, w, h])
    np.testing.assert_allclose(found.box_xywh, expected, atol=0.01)
    assert found.cell == (9, 4) and found.window == 0
    assert found.peak_logit == 1.0  # of the network, at the filter's peak
    assert found.filter_peak == pytest.approx(0.9)


@pytest.mark.parametrize(("logit", "peak"), [(-2.0, 0.6), (1.0, 0.5), (-2.0, 1.7)])
def test_the_size_follows_at_the_certainty_of_network_or_filter(logit, peak):
    response = response_with({(9, 4): logit}, ltrb=(20, 30, 40, 50))
    found = decode_filtered(response, filter_response({(9, 4): peak}))
    rate = max(1 / (1 + np.exp(-logit)), min(peak, 1.0))
    expected = np.array([64 + rate * (60 - 64), 64 + rate * (80 - 64)]) * CROP_MAP.scale
    np.testing.assert_allclose(found.box_xywh[2:], expected, rtol=1e-5)


def gaussian(column, row, sigma=0.85):
    """(16, 16) response that is highest at a point, in cells."""
    along = np.arange(16)
    x, y = (np.exp(-0.5 * ((along - at) / sigma) ** 2) for at in (column, row))
    return np.outer(y, x).astype(np.float32)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_peak_of_the_filter_moves_the_center_by_its_share(share):
    """It lies between cells, beside the cell that the cosine window prefers."""
    response = response_with({(9, 4): 3.0}, ltrb=(20, 30, 40, 50))
    peak = gaussian(4.3, 8.6)
    found = decode_filtered(response, FilterResponse(peak, peak), filter_center=share)
    network = np.array([72 + 10, 152 + 10])  # of the cell (9, 4), px of the crop
    filters = 8 + 16 * np.array([4.3, 8.6])
    expected = CROP_MAP.to_frame([*(network + share * (filters - network)), 0, 0])[:2]
    center = found.box_xywh[:2] + found.box_xywh[2:] / 2
    np.testing.assert_allclose(center, expected, atol=0.01)


def test_the_center_does_not_go_to_cells_that_are_excluded():
    """Another target is at (9, 4), where the filter responds more than at (9, 6)."""
    other, own = gaussian(4, 9), 0.7 * gaussian(6.2, 9)
    peaks = np.maximum(other, own)
    response = response_with({(9, 6): 3.0}, ltrb=(20, 30, 40, 50))
    response.score_logits[0, 8:11, 3:6] = -np.inf
    found = decode_filtered(response, FilterResponse(peaks, peaks), filter_center=1.0)
    x = CROP_MAP.to_crop(found.box_xywh)[0] + CROP_MAP.to_crop(found.box_xywh)[2] / 2
    assert x == pytest.approx(8 + 16 * 6.2, abs=8)  # the other one is 35 px away


def test_a_weak_peak_of_the_filter_or_one_at_the_border_moves_nothing():
    response = response_with({(9, 4): 3.0, (0, 7): 3.0}, ltrb=(20, 30, 40, 50))
    for peak in (0.29 * gaussian(4.3, 9.2), gaussian(7.2, 0.0)):
        filtered = FilterResponse(peak, peak)
        free = decode_filtered(response, filtered, filter_center=1.0)
        bound = decode_filtered(response, filtered, filter_center=0.0)
        np.testing.assert_array_equal(free.box_xywh, bound.box_xywh)


def test_without_the_filter_the_network_ranks_the_places():
    found = decode_filtered(response_with({(2, 2): 8.0, (9, 4): 1.0}), None)
    assert (found.cell, found.peak_logit, found.filter_peak) == ((2, 2), 8.0, 0.0)


def test_the_cosine_window_and_the_shape_penalty_weigh_on_the_filter_too():
    response = response_with({}, ltrb=(32, 32, 32, 32))
    filtered = filter_response({(8, 8): 0.8, (1, 14): 0.9})
    assert decode_filtered(response, filtered).cell == (1, 14)
    assert decode_filtered(response, filtered, window_influence=0.4).cell == (8, 8)
    response.ltrb_px[0, :, 1, 14] = (10, 60, 10, 60)
    assert decode_filtered(response, filtered, shape_penalty=0.5).cell == (8, 8)


def test_similarity_and_margin_are_those_of_the_filters_first_weights():
    """Target of 64 crop px, 4 cells: another object is more than 2 cells away."""
    response = response_with({(8, 8): 5.0})
    first = {(8, 8): 0.7, (8, 9): 0.65, (10, 8): 0.6, (8, 11): 0.2, (3, 3): -0.4}
    found = decode_filtered(response, filter_response({(8, 8): 0.95, (8, 12): 0.9}, first))
    assert found.filter_peak == pytest.approx(0.95)
    assert found.similarity == pytest.approx(0.7)
    assert found.margin == pytest.approx(0.7 - 0.2)


def test_the_second_peak_is_half_a_target_away():
    response = np.zeros((9, 9), np.float32)
    for cell, value in (((4, 4), 9), ((4, 5), 8), ((2, 4), 7), ((4, 7), 6), ((0, 0), 5)):
        response[cell] = value
    before = response.copy()
    assert second_peak(response, (4, 4), np.array([1.0, 1.0])) == (2, 4)  # at least its neighbors
    assert second_peak(response, (4, 4), np.array([2.0, 4.0])) == (4, 7)
    assert second_peak(response, (4, 4), np.array([6.0, 4.0])) == (0, 0)
    assert second_peak(response, (0, 0), np.array([2.0, 2.0])) == (4, 4)
    np.testing.assert_array_equal(response, before)


def test_something_is_left_of_the_window_of_a_large_target():
    """Its neighborhood reaches no farther than a few cells."""
    response = np.zeros((16, 16), np.float32)
    response[8, 8], response[8, 10], response[0, 15] = 1.0, 0.9, 0.5
    assert second_peak(response, (8, 8), np.array([40.0, 99.0])) == (0, 15)


def test_excluded_cells_are_never_the_filters_peak():
    response = response_with({(8, 8): -np.inf, (1, 14): -5.0})
    found = decode_filtered(response, filter_response({(8, 8): 1.0, (1, 14): 0.3}))
    assert found.cell == (1, 14)


def test_peaks_below_min_peak_do_not_move_the_box_with_a_filter_either():
    response = response_with({(2, 2): -2.0})
    held = decode_filtered(response, filter_response({(2, 2): 1.0}), min_peak=0.2)
    np.testing.assert_array_equal(held.box_xywh, BOX)
    assert (held.cell, held.filter_peak) == ((2, 2), 1.0)


def test_with_the_filter_the_score_is_that_of_the_networks_peak_and_the_filters_margin():
    options = BoxHeadOptions(
        filter_score_gain=2.0, filter_score_offset=1.0, filter_score_margin=3.0, score_gain=99.0,
        score_offset=99.0, score_similarity=99.0, score_margin=99.0,
    )  # fmt: skip
    found = prediction(0.2, similarity=0.4, margin=0.3)
    log_odds = 2.0 * (0.2 - 1.0) + 3.0 * 0.3
    assert calibrated_score(found, options) == pytest.approx(1 / (1 + np.exp(-log_odds)))
    assert calibrated_score(prediction(1e6), options) == 1.0
    assert calibrated_score(prediction(-1e6), options) == 0.0


# --- The near window ------------------------------------------------------------------------------

SEARCH_208 = Lite0Config(search_size_px=208)  # 13 cells; the near window has 9
MIDDLE = slice(2, 11)


def both_windows(rng, peaks, box=BOX):
    """A whole response of 13 cells, its middle, and the maps of both, which have one scale."""
    logits = rng.uniform(-7, -5, (1, 13, 13)).astype(np.float32)
    for cell, value in peaks.items():
        logits[0][cell] = value
    ltrb = rng.uniform(20, 60, (1, 4, 13, 13)).astype(np.float32)
    whole = Response(logits, ltrb, None)
    near = Response(logits[:, MIDDLE, MIDDLE], ltrb[:, :, MIDDLE, MIDDLE], None)
    center = box[:2] + box[2:] / 2
    (side,) = window_sides(box[2:], SEARCH_208, BoxHeadOptions())
    maps = CropMap.around(center, side, 208), CropMap.around(center, side * 144 / 208, 144)
    return (whole, maps[0]), (near, maps[1])


def decode_both(whole, near, mixed=None, **options):
    """The predictions in both windows; `mixed` is the filter's response in the whole one."""
    found = []
    for (response, crop_map), part in ((whole, slice(None)), (near, MIDDLE)):
        filtered = None if mixed is None else FilterResponse(*[mixed[part, part]] * 2)
        found.append(
            decode(response, [crop_map], BOX, SEARCH_208, BoxHeadOptions(**options), filtered)
        )
    return found


@pytest.mark.parametrize("cell", [(6, 6), (3, 8), (9, 4), (3, 3)])
@pytest.mark.parametrize("has_filter", [False, True])
def test_the_same_cells_give_the_same_box_in_the_near_window(rng, cell, has_filter):
    """By hand: the cell's center lies (cell - 6) * 16 px of the crop from the last one."""
    windows = both_windows(rng, {cell: 4.0})
    mixed = None
    if has_filter:
        x, y = np.meshgrid(*[np.arange(13)] * 2)
        away = np.square(x - cell[1] - 0.3) + np.square(y - cell[0] + 0.2)
        mixed = np.exp(-0.5 * away / 0.85**2).astype(np.float32)
    whole, near = decode_both(*windows, mixed)
    np.testing.assert_allclose(near.box_xywh, whole.box_xywh, atol=1e-3)
    assert near.peak_logit == whole.peak_logit and near.filter_peak == whole.filter_peak
    assert (near.cell[0] + 2, near.cell[1] + 2) == whole.cell == cell
    if not has_filter:
        # 80 px of the exemplar's window are 128 of the crop.
        row, column = cell
        left, top, right, bottom = windows[0][0].ltrb_px[0, :, row, column].tolist()
        x = 120 + ((column - 6) * 16 + (right - left) / 2) * 80 / 128
        y = 100 + ((row - 6) * 16 + (bottom - top) / 2) * 80 / 128
        np.testing.assert_allclose(near.box_xywh[:2] + near.box_xywh[2:] / 2, [x, y], atol=1e-3)


def test_the_cosine_window_prefers_the_same_of_two_places_in_the_near_window(rng):
    """At its border that of the whole window has sin(3 pi / 14)^2 = 0.39.

    One of 9 cells would have sin(pi / 10)^2 = 0.10 there, and prefer the middle at once.
    """
    windows = both_windows(rng, {(6, 2): 3.0, (6, 6): 0.0})  # 0.95 and 0.5 in the score
    for influence, expected in ((0.4, 2), (0.6, 6)):
        # 0.6 * 0.95 + 0.4 * 0.39 > 0.6 * 0.5 + 0.4; and 0.4 * 0.95 + 0.6 * 0.39 < 0.4 * 0.5 + 0.6
        whole, near = decode_both(*windows, window_influence=influence, shape_penalty=0.0)
        assert whole.cell == (6, expected) and near.cell == (4, expected - 2)
