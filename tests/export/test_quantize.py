"""Scales and calibration crops; what the quantized graph computes is tested with the engines."""

import cv2
import numpy as np
import pytest

from siamtrack.export.quantize import calibration_crops, min_mse_scale
from siamtrack.models.config import Lite0Config

SMALL = Lite0Config(exemplar_size_px=64, search_size_px=128)


@pytest.mark.parametrize("unsigned", [True, False])
def test_no_other_scale_loses_less(unsigned):
    """Against all scales on a fine grid, for values with a long tail."""
    rng = np.random.default_rng(0)
    values = rng.standard_t(3, size=20000).astype(np.float32)
    values = np.abs(values) if unsigned else values
    low, high = (0, 255) if unsigned else (-128, 127)

    def loss(step):
        return np.mean((np.clip(np.rint(values / step), low, high) * step - values) ** 2)

    scale = min_mse_scale(values)
    assert (scale.zero, scale.zero.dtype) == (0 if unsigned else 128, np.uint8)
    largest = np.abs(values).max() / high
    best = min(loss(largest * share) for share in np.linspace(0.3, 1.0, 400))
    assert loss(scale.step) <= 1.1 * best
    assert loss(scale.step) < loss(largest)  # the tail is cut


def test_nothing_but_zeros_has_a_scale_too():
    assert min_mse_scale(np.zeros(8, np.float32)).step > 0


def test_crops_come_evenly_from_all_frames_and_are_the_same_again():
    config = SMALL
    frames = [np.full((40, 60, 3), index, np.uint8) for index in range(200)]

    def seen(seed):
        crops = calibration_crops(iter(frames), config, 20, np.random.default_rng(seed))
        return [int(crop.search[0, 0, 0]) for crop in crops], crops

    first, crops = seen(0)
    assert first == seen(0)[0] != seen(1)[0]
    assert len(set(first)) == 20
    assert 60 < np.mean(first) < 140
    assert max(first) > 150
    for crop in crops:
        assert crop.exemplar.shape == (64, 64, 3)
        assert crop.search.shape == (128, 128, 3)
        x, y, w, h = crop.box_xywh
        assert -1 <= x and -1 <= y and x + w <= 65 and y + h <= 65


def test_few_and_tiny_frames_are_enough():
    frames = [cv2.UMat(np.zeros((3, 2, 3), np.uint8)).get()]
    assert len(calibration_crops(frames, SMALL, 5, np.random.default_rng(0))) == 1
    assert calibration_crops([], SMALL, 5, np.random.default_rng(0)) == []
