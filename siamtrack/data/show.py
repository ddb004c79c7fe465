"""Training pairs as a picture to look at: what the network sees, and what it is told."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from siamtrack.data.pairs import Pair, PairDataset
from siamtrack.errors import ConfigError
from siamtrack.types import Image

TARGET_BGR = (0, 255, 0)
OTHER_BGR = (0, 0, 255)
DISTRACTOR_BGR = (0, 165, 255)
_GAP_PX = 4
_BAND_PX = 18


def draw_pairs(pairs: PairDataset, *, first: int = 0, count: int = 64, columns: int = 8) -> Image:
    """Draw pairs with their labels, exemplar left and search right.

    The target is boxed green in both; a search box is red where the pair is a negative and the
    object is not the exemplar's target. A distractor is orange.

    Args:
        pairs: where they come from.
        first: index of the first.
        count: how many.
        columns: pairs side by side.

    Returns:
        uint8 (H, W, 3) BGR.

    Raises:
        ConfigError: numbers that are not positive.
        DatasetError: see `PairDataset.__getitem__`.
    """
    if first < 0 or count < 1 or columns < 1:
        raise ConfigError(
            f"pairs from {first}, {count} of them in {columns} columns cannot be drawn; the first "
            "must be at least 0, the others at least 1"
        )
    tiles = [_tile(pairs[first + number]) for number in range(count)]
    tiles += [np.zeros_like(tiles[0])] * (-count % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _tile(pair: Pair) -> Image:
    z, x = _picture(pair["z"]), _picture(pair["x"])
    positive = bool(pair["positive"])
    _box(z, pair["z_box"], TARGET_BGR)
    _box(x, pair["x_box"], TARGET_BGR if positive else OTHER_BGR)
    if pair["has_distractor"]:
        _box(x, pair["distractor_box"], DISTRACTOR_BGR)
    height, width = x.shape[0], z.shape[1] + x.shape[1]
    tile = np.zeros((height + _BAND_PX + _GAP_PX, width + _GAP_PX, 3), np.uint8)
    tile[_BAND_PX : _BAND_PX + z.shape[0], : z.shape[1]] = z
    tile[_BAND_PX : _BAND_PX + height, z.shape[1] : width] = x
    text = f"{pair['index']} {'same' if positive else 'different'}"
    where = (2, _BAND_PX - 5)
    cv2.putText(tile, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return tile


def _picture(rgb: Tensor) -> Image:
    return np.ascontiguousarray(rgb.permute(1, 2, 0).numpy()[:, :, ::-1])


def _box(image: Image, box: Tensor, colour: tuple[int, int, int]) -> None:
    x, y, w, h = box.tolist()
    corners = (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1)
    cv2.rectangle(image, *corners, colour, 1)
