"""Crops to calibrate a quantised graph with: windows of any pictures, cut as the tracker cuts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from siamtrack.crops import Image, crop_square
from siamtrack.geometry import FloatArray, context_side
from siamtrack.models.network import NetworkConfig

_SMALLEST, _LARGEST = 1 / 16, 1 / 3  # targets, as shares of the frame's shorter side
_SHIFT, _SCALING = 0.06, 0.1  # spread of what a target does between two frames


class CalibrationCrop(NamedTuple):
    """What the two branches see of one window.

    Attributes:
        exemplar: uint8 (exemplar_size_px, exemplar_size_px, 3) BGR.
        box_xywh: (4,) target in px of the exemplar.
        search: uint8 (search_size_px, search_size_px, 3) BGR.
    """

    exemplar: Image
    box_xywh: FloatArray
    search: Image


def calibration_crops(
    frames: Iterable[Image], config: NetworkConfig, count: int, rng: np.random.Generator
) -> list[CalibrationCrop]:
    """Cut one window out of each of some frames, drawn evenly from all of them.

    Targets are boxes anywhere in the frame: what matters is how large activations become on such
    pictures, not what is followed in them. The frames themselves are not kept.

    Args:
        frames: uint8 (H, W, 3) BGR, any number.
        config: of the network.
        count: crops at the most.
        rng: draws frames and boxes.
    """
    kept: list[CalibrationCrop] = []
    for index, frame in enumerate(frames):
        place = index if index < count else int(rng.integers(index + 1))
        if place < count:
            kept[place : place + 1] = [_cut(frame, config, rng)]
    return kept


def _cut(frame: Image, config: NetworkConfig, rng: np.random.Generator) -> CalibrationCrop:
    height, width = frame.shape[:2]
    fill_bgr = cv2.mean(frame)[:3]
    shares = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST), size=2))
    size = np.maximum(shares * min(width, height), 2.0)
    centre = rng.uniform(size / 2, np.maximum(np.array([width, height]) - size / 2, size / 2 + 1))
    side = float(context_side(size[0], size[1], config.context_amount))
    exemplar, crop_map = crop_square(
        frame, centre, side, config.exemplar_size_px, fill_bgr=fill_bgr
    )
    box = crop_map.to_crop(np.concatenate([centre - size / 2, size]))
    search_side = side * config.search_scale * float(np.exp(_SCALING * rng.normal()))
    moved = centre + _SHIFT * search_side * rng.normal(size=2)
    search, _ = crop_square(frame, moved, search_side, config.search_size_px, fill_bgr=fill_bgr)
    return CalibrationCrop(exemplar, box, search)
