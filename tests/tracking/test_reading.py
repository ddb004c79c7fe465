"""Responses of many targets, read at once: every target gets what it gets alone."""

from dataclasses import replace

import numpy as np
import pytest

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap
from siamtrack.models.lite0 import Lite0Config
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.tracking.box_correction import NO_CORRECTION, BoxCorrection
from siamtrack.tracking.decode import decode
from siamtrack.tracking.online_filter import OnlineFilter
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.reading import Unread, read_each

CELLS, CHANNELS = 13, 6
OPTIONS = BoxHeadOptions()


def unit_features(rng, windows, cells=CELLS):
    features = rng.standard_normal((windows, CHANNELS, cells, cells)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def target(rng, windows=1, *, correction=None, options=OPTIONS, has_filter=True, cells=CELLS):
    """A target that differs from all others in everything; `cells` are those of its window."""
    shape = (windows, cells, cells)
    response = Response(
        rng.normal(0, 3, shape).astype(np.float32),
        rng.uniform(5, 60, (windows, 4, *shape[1:])).astype(np.float32),
        rng.uniform(-1, 1, shape).astype(np.float32),
        unit_features(rng, windows, cells),
    )
    if correction is None:
        correction = BoxCorrection(*rng.uniform(-0.2, 0.2, 4).tolist())
    online_filter = None
    if has_filter:
        centers = rng.uniform(4, 8, (2, 2))
        online_filter = OnlineFilter.from_first_frame(unit_features(rng, 2), centers)
    box = rng.uniform(20, 90, 4)
    crop_map = CropMap.around(box[:2] + box[2:] / 2, rng.uniform(80, 400), 16 * cells)
    return Unread(response, crop_map, CELLS, box, correction, online_filter, options)


def assert_read_as_alone(targets):
    readings = read_each(targets)
    for one, reading in zip(targets, readings, strict=True):
        (alone,) = read_each([one])
        for name in ("score_logits", "ltrb_px", "similarity", "features"):
            expected = getattr(alone.response, name)
            np.testing.assert_array_equal(getattr(reading.response, name), expected)
        assert len(reading.filtered) == len(alone.filtered)
        for a, b in zip(reading.filtered, alone.filtered, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        for a, b in zip(reading.cells, alone.cells, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    return readings


def test_targets_are_not_mixed_up(rng):
    """Some with several windows, one without bias: a row too far would be another target's."""
    targets = [
        target(rng),
        target(rng, 4),
        target(rng, correction=NO_CORRECTION),
        target(rng, 2),
        target(rng),
    ]
    readings = assert_read_as_alone(targets)
    for one, reading in zip(targets, readings, strict=True):
        # The same by the parts that know of one target.
        response = one.correction.apply(one.response)
        np.testing.assert_array_equal(reading.response.ltrb_px, response.ltrb_px)
        for features, filtered in zip(one.response.features, reading.filtered, strict=True):
            expected = one.online_filter.respond(features)
            np.testing.assert_allclose(filtered, expected, atol=1e-6)
        config = Lite0Config(search_size_px=208)
        given = response, [one.local_map], one.last_xywh, config, OPTIONS, reading.filtered[0]
        found, expected = decode(*given, reading.cells), decode(*given)
        np.testing.assert_allclose(found.box_xywh, expected.box_xywh, atol=1e-4)
        assert found.cell == expected.cell
    assert readings[2].response.ltrb_px.tobytes() == targets[2].response.ltrb_px.tobytes()


def test_targets_that_are_read_otherwise_stand_beside_each_other(rng):
    others = BoxHeadOptions(window_influence=0.0, shape_penalty=0.5)
    targets = [target(rng), target(rng, has_filter=False), target(rng, 2, options=others)]
    _, bare, _ = assert_read_as_alone(targets)
    assert bare.filtered == []


NEAR_CELLS = 9


def test_near_windows_and_whole_ones_stand_beside_each_other(rng):
    """In any order, each with what belongs to it; one of them is broken."""
    targets = [
        target(rng, cells=NEAR_CELLS),
        target(rng),
        target(rng, cells=NEAR_CELLS),
        target(rng, 3),
        target(rng, cells=NEAR_CELLS, has_filter=False),
        target(rng, has_filter=False),
    ]
    readings = assert_read_as_alone(targets)
    for one, reading in zip(targets, readings, strict=True):
        cells = one.response.score_logits.shape[-1]
        assert reading.cells.ranked.shape == (cells, cells)
        response = one.correction.apply(one.response)
        config = Lite0Config(search_size_px=208)
        filtered = reading.filtered[0] if reading.filtered else None
        given = response, [one.local_map], one.last_xywh, config, OPTIONS, filtered
        found, expected = decode(*given, reading.cells), decode(*given)
        np.testing.assert_allclose(found.box_xywh, expected.box_xywh, atol=1e-4)
        assert found.cell == expected.cell
    values = targets[2].response.ltrb_px.copy()
    values[0, 1, 2, 3] = np.nan
    targets[2] = targets[2]._replace(response=replace(targets[2].response, ltrb_px=values))
    again = read_each(targets)
    assert [reading is None for reading in again] == [False, False, True, False, False, False]
    for k in (0, 1, 3, 4, 5):
        np.testing.assert_allclose(again[k].cells.ranked, readings[k].cells.ranked, atol=1e-6)


@pytest.mark.parametrize("has_filter", [False, True])
def test_a_near_window_is_read_as_the_middle_of_the_whole_one(rng, has_filter):
    whole = target(rng, has_filter=has_filter)
    response, middle = whole.response, slice(2, 11)
    near = whole._replace(
        response=Response(
            response.score_logits[:, middle, middle],
            response.ltrb_px[..., middle, middle],
            response.similarity[:, middle, middle],
            response.features[..., middle, middle],
        ),
        local_map=CropMap.around((50, 50), whole.local_map.scale * 144, 144),
    )
    expected, found = read_each([whole, near])
    inner = slice(1, -1) if has_filter else slice(None)  # beyond its cells the filter sees zeros
    for a, b in zip(found.cells, expected.cells, strict=True):
        np.testing.assert_allclose(
            a[..., inner, inner], b[..., middle, middle][..., inner, inner], atol=1e-5
        )


@pytest.mark.parametrize("name", ["score_logits", "ltrb_px", "similarity", "features"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_response_is_no_reading_and_the_others_are_read(rng, name, bad):
    targets = [target(rng), target(rng, 3), target(rng)]
    values = getattr(targets[1].response, name).copy()
    values[2].flat[7] = bad  # in its last window
    broken = targets[1]._replace(response=replace(targets[1].response, **{name: values}))
    first, none, last = read_each([targets[0], broken, targets[2]])
    assert none is None
    for reading, one in ((first, targets[0]), (last, targets[2])):
        (alone,) = read_each([one])
        np.testing.assert_array_equal(reading.cells.ranked, alone.cells.ranked)


def test_excluded_cells_are_not_broken_and_rank_last(rng):
    one = target(rng)
    logits = one.response.score_logits.copy()
    logits[0, 3, 4] = -np.inf
    (reading,) = read_each([one._replace(response=replace(one.response, score_logits=logits))])
    assert np.isneginf(reading.cells.ranked).sum() == 1
    assert reading.cells.ranked[3, 4] == -np.inf


def test_a_network_without_box_head_has_no_ranked_cells(rng):
    logits = rng.standard_normal((3, 17, 17)).astype(np.float32)
    crop_map = CropMap.around((50, 50), 100, SiamFCConfig().search_size_px)
    one = Unread(
        Response(logits, None, None), crop_map, 17, np.array([40.0, 40, 20, 20]),
        NO_CORRECTION, None, ScalePyramidOptions(),
    )  # fmt: skip
    (reading,) = read_each([one])
    assert reading.cells is None and reading.filtered == []
    np.testing.assert_array_equal(reading.response.score_logits, logits)
