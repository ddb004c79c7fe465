"""A picture of training pairs: the network's inputs and their labels."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from siamtrack.data.batched.pairs import PairsOneByOne
from siamtrack.data.pairs import Pair, PairDataset
from siamtrack.errors import ConfigError
from siamtrack.types import Color, Image

TARGET_BGR = (0, 255, 0)
OTHER_BGR = (0, 0, 255)
DISTRACTOR_BGR = (0, 165, 255)
_GAP_PX = 4
_HEADER_PX = 18


def draw_pairs(
    pairs: PairDataset | PairsOneByOne, *, first: int = 0, count: int = 64, columns: int = 8
) -> Image:
    """Draw pairs with their labels: exemplar, search image, and memory windows, if there are any.

    The target's box is green. The object in the search image of a negative pair has a red box, a
    distractor an orange one.

    Args:
        pairs: source of the pairs.
        first: index of the first pair.
        count: number of pairs.
        columns: pairs side by side.

    Returns:
        uint8 (H, W, 3) BGR.

    Raises:
        ConfigError: `first` is negative, or `count` or `columns` is not positive.
        DatasetError: a crop cannot be decoded.
    """
    if first < 0 or count < 1 or columns < 1:
        raise ConfigError(
            f"first {first}, count {count}, columns {columns}: cannot be drawn; first must be at "
            "least 0, count and columns at least 1"
        )
    tiles = [_draw_pair(pairs[first + number]) for number in range(count)]
    tiles += [np.zeros_like(tiles[0])] * (-count % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _draw_pair(pair: Pair) -> Image:
    # (3, S, S) RGB to (S, S, 3) BGR
    z, x = (np.ascontiguousarray(pair[k].permute(1, 2, 0).numpy()[:, :, ::-1]) for k in ("z", "x"))
    positive = bool(pair["positive"])
    _draw_box(z, pair["z_box"], TARGET_BGR)
    _draw_box(x, pair["x_box"], TARGET_BGR if positive else OTHER_BGR)
    if pair["has_distractor"]:
        _draw_box(x, pair["distractor_box"], DISTRACTOR_BGR)
    for window, box in zip(pair["memory"], pair["memory_box"], strict=True):
        image = np.ascontiguousarray(window.permute(1, 2, 0).numpy()[:, :, ::-1])
        _draw_box(image, box, TARGET_BGR)
        x = np.hstack([x, image])
    height, width = x.shape[0], z.shape[1] + x.shape[1]
    tile = np.zeros((height + _HEADER_PX + _GAP_PX, width + _GAP_PX, 3), np.uint8)
    tile[_HEADER_PX : _HEADER_PX + z.shape[0], : z.shape[1]] = z
    tile[_HEADER_PX : _HEADER_PX + height, z.shape[1] : width] = x
    text = f"{pair['index']} {'same' if positive else 'different'}"
    origin, white = (2, _HEADER_PX - 5), (255, 255, 255)
    cv2.putText(tile, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.45, white, 1, cv2.LINE_AA)
    return tile


def _draw_box(image: Image, box: Tensor, color: Color) -> None:
    x, y, w, h = box.tolist()
    corners = (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1)
    cv2.rectangle(image, *corners, color, 1)
