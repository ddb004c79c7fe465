"""Online classifier: tells the target from everything else in its own video.

The network has learned what targets look like in general. This filter learns what *this* target
looks like, against its surroundings: ridge regression from the search features of 3 x 3 cells to a
Gaussian around the target's center, solved on augmented windows of the first frame and updated
while tracking. It ranks the cells of a search window; the network draws the box.

The least squares problem is that of correlation filters (Henriques et al. 2015, KCF, equation 2;
Danelljan et al. 2017, ECO), in the spatial domain and with few rows, as in DCFST (Zheng et al.
2020, section 3.2). R is the side of the response in cells, C the number of feature channels, and
D = 9 C the length of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from siamtrack.crops import crop_square
from siamtrack.geometry import CropMap
from siamtrack.types import BoolArray, Float32Array, FloatArray, Image, IntArray

SIGMA_CELLS = 0.85
"""Standard deviation of the Gaussian label. Raising it blurs the response; lowering it leaves too
few cells that say what the target looks like."""

TARGET_WEIGHT = 16.0
"""Weight of a row with label 1 over one with label 0: only about nine cells show the target."""

RIDGE = 0.003
"""Regularization, as a fraction of the mean of the Gram matrix's diagonal."""

FIRST_FRAME_SHARE = 0.3
"""Share of the first frame in the updated weights, which never fades."""

FIRST_WEIGHTS_VOTE = 0.5
"""Say of the first frame's weights, which never change, in the response. What the update has
learned from an occluder cannot outvote them."""

BACKGROUND_ROWS = 30
"""Rows of the background that an update learns from: half of them those with the highest response,
the others spread over the rest."""

DISTRACTOR_RATIO = 0.5
"""A second peak of at least this fraction of the first is a distractor."""

DISTRACTOR_WEIGHT = 4.0
"""Weight of a distractor's cells in an update."""

UPDATE_INTERVAL = 4
"""Frames from update to update; a distractor is learned at once, at twice the rate."""

_FIRST_CG_STEPS = 40  # from zero, on the first frame: more change the response by little
_CG_STEPS = 8  # of an update; the weights of the last one are the start
_MIN_RESIDUAL = 1e-14
_TARGET_LABEL = 0.02  # rows with a higher one are the target's
_BLOCK_ROWS = 32

# --- The filter ----------------------------------------------------------------------------------


_blas_limit = threadpool_limits.wrap(limits=1, user_api="blas")  # may be entered again and again


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run numpy's matrix products in the block on one thread.

    OpenBLAS splits even a product of a tenth of a millisecond over all cores. Its threads then spin
    for tens of milliseconds, waiting for another one, and the network, which comes next, takes half
    as long again beside them. Where blocks of several threads overlap, the first one sets and lifts
    the limit.
    """
    with _blas_limit:
        yield


class FilterResponse(NamedTuple):
    """Response of the filter to one search window; about 1 at the target and 0 elsewhere."""

    first: Float32Array  # (R, R) of the first frame's weights
    mixed: Float32Array  # (R, R) mean of those and of the updated weights


@dataclass(frozen=True, slots=True, eq=False)
class OnlineFilter:
    """Filter of one target. Never changed: `updated` returns another one.

    Attributes:
        first_weights: (D,) weights after the first frame.
        weights: (D,) weights after the last update.
        first_gram: (D, D) sum over rows x of the first frame of s x x'; s is a row's weight.
        gram: (D, D) the same, a running mean over updates with the first frame's share in it.
        first_cross: (D,) sum of s y x, with the labels y.
        cross: (D,) its running mean.
        damping: lambda of the ridge regression.
    """

    first_weights: Float32Array
    weights: Float32Array
    first_gram: Float32Array
    gram: Float32Array
    first_cross: Float32Array
    cross: Float32Array
    damping: float

    @classmethod
    @one_blas_thread()
    def from_first_frame(cls, features: Float32Array, centers_xy: FloatArray) -> OnlineFilter:
        """Learn windows of the first frame.

        Args:
            features: (B, C, R, R) unit-length search features of the windows.
            centers_xy: (B, 2) center of the target in each window, in cells: (0, 0) is the middle
                of the first cell.
        """
        cells = features.shape[-1]
        rows = neighborhoods(features)  # (B R R, D)
        label = np.concatenate([gaussian_label(c, cells).ravel() for c in centers_xy])
        weight = row_weights(label, cells) / np.float32(len(features))

        # Half of the background is enough, in a checkerboard: neighborhoods overlap.
        window, row, column = np.indices((len(features), cells, cells)).reshape(3, -1)
        background = label <= _TARGET_LABEL
        chosen = ~background | ((window + row + column) % 2 == 0)
        weight = np.where(background, 2 * weight, weight)[chosen]
        rows, label = rows[chosen], label[chosen]

        # Normal equations: (sum s x x' + lambda I) w = sum s y x.
        scaled = rows * np.sqrt(weight)[:, None]
        gram = scaled.T @ scaled
        cross = rows.T @ (weight * label)
        damping = RIDGE * float(np.trace(gram)) / len(gram)
        weights = conjugate_gradients(gram, cross, np.zeros_like(cross), damping, _FIRST_CG_STEPS)
        return cls(weights, weights, gram, gram, cross, cross, damping)

    def respond(self, features: Float32Array) -> FilterResponse:
        """Response to the (C, R, R) features of one search window."""
        return respond_each([self], features[None])[0]

    @one_blas_thread()
    def updated(
        self,
        features: Float32Array,
        center_xy: FloatArray,
        response: Float32Array,
        *,
        lr: float,
        distractors_xy: Sequence[FloatArray] = (),
    ) -> OnlineFilter:
        """The filter after it has learned one more search window.

        Args:
            features: (C, R, R) of the window.
            center_xy: (2,) center of the target in the window, in cells.
            response: (R, R) `mixed` of the window.
            lr: weight of this window against all earlier ones.
            distractors_xy: (2,) centers of objects that are not the target, in cells.
        """
        cells = features.shape[-1]
        label = gaussian_label(center_xy, cells)
        weight = row_weights(label, cells)
        if len(distractors_xy):
            weight += distractor_weights(label, distractors_xy)
        weight, label = weight.ravel(), label.ravel()

        # 1. All rows of the target, and few of the background that stand for the rest.
        chosen, multiplicity = sample_rows(label, response.ravel())
        rows = neighborhoods(features[None])[chosen]
        weight, label = weight[chosen] * multiplicity, label[chosen]

        # 2. Running normal equations; the first frame keeps its share.
        keep, rate = np.float32(FIRST_FRAME_SHARE * lr), np.float32((1 - FIRST_FRAME_SHARE) * lr)
        decay = np.float32(1 - lr)
        scaled = rows * np.sqrt(rate * weight)[:, None]
        gram = scaled.T @ scaled
        for start in range(0, len(gram), _BLOCK_ROWS):  # blocks that stay in the cache
            block = slice(start, start + _BLOCK_ROWS)
            gram[block] += decay * self.gram[block] + keep * self.first_gram[block]
        cross = decay * self.cross + keep * self.first_cross + rate * (rows.T @ (weight * label))
        weights = conjugate_gradients(gram, cross, self.weights, self.damping, _CG_STEPS)
        return replace(self, gram=gram, cross=cross, weights=weights)


def respond_each(filters: Sequence[OnlineFilter], features: Float32Array) -> list[FilterResponse]:
    """Responses to the (B, C, R, R) features of B windows: of one filter, or of B of them."""
    vote = np.float32(FIRST_WEIGHTS_VOTE)
    weights = np.array([(one.first_weights, one.weights) for one in filters])  # (N, 2, D)
    weights[:, 1] = vote * weights[:, 0] + (1 - vote) * weights[:, 1]
    return [FilterResponse(*one) for one in correlate(features, weights)]


# --- Rows, labels, weights ------------------------------------------------------------------------


def neighborhoods(features: Float32Array) -> Float32Array:
    """(B, C, R, R) features to (B R R, 9 C) rows: the 3 x 3 cells around each, zeros outside."""
    batch, channels, cells, _ = features.shape
    padded = np.zeros((batch, cells + 2, cells + 2, channels), np.float32)
    padded[:, 1:-1, 1:-1] = features.transpose(0, 2, 3, 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    windows = windows.transpose(0, 1, 2, 4, 5, 3)  # (B, R, R, 3, 3, C)
    return windows.reshape(batch * cells * cells, 9 * channels)


def correlate(features: Float32Array, filters: Float32Array) -> Float32Array:
    """`neighborhoods` times filters.

    Args:
        features: (B, C, R, R).
        filters: (B, N, 9 C), or (1, N, 9 C) for the same ones everywhere.

    Returns:
        (B, N, R, R).
    """
    batch, channels, cells, _ = features.shape
    count = filters.shape[1]
    # Every cell with every tap in one product, then the nine shifted sums.
    taps = filters.reshape(-1, 9 * count, channels)
    products = taps @ features.reshape(batch, channels, -1)
    products = products.reshape(batch, count, 3, 3, cells, cells)
    out = np.zeros((batch, count, cells + 2, cells + 2), np.float32)
    for i in range(3):
        for j in range(3):
            out[..., 2 - i : 2 - i + cells, 2 - j : 2 - j + cells] += products[:, :, i, j]
    return out[..., 1:-1, 1:-1]


def gaussian_label(center_xy: FloatArray, cells: int) -> Float32Array:
    """(R, R) Gaussian around a point, in cells: the response that the filter should give.

    Example:
        >>> gaussian_label(np.array([1.0, 0.0]), 3)[0].round(2).tolist()
        [0.5, 1.0, 0.5]
    """
    along = np.arange(cells)
    x, y = (np.exp(-0.5 * ((along - c) / SIGMA_CELLS) ** 2) for c in center_xy)
    return np.outer(y, x).astype(np.float32)


def row_weights(label: Float32Array, cells: int) -> Float32Array:
    """Weight of rows by their label: from 1 to `TARGET_WEIGHT`, over the R R rows of a window."""
    return ((1 + (TARGET_WEIGHT - 1) * label) / cells**2).astype(np.float32)


def sample_rows(label: Float32Array, response: Float32Array) -> tuple[IntArray, Float32Array]:
    """Rows of one window that an update learns from, and how many rows each stands for."""
    target: BoolArray = label > _TARGET_LABEL
    background = np.flatnonzero(~target)
    background = background[np.argsort(-response[background], kind="stable")]
    half = BACKGROUND_ROWS // 2
    hard, rest = background[:half], background[half:]
    spread = rest[:: max(1, len(rest) // half)][:half]
    chosen = np.concatenate([np.flatnonzero(target), hard, spread])
    multiplicity = np.ones(len(chosen), np.float32)
    if len(spread):
        multiplicity[-len(spread) :] = len(rest) / len(spread)
    return chosen, multiplicity


def distractor_weights(label: Float32Array, distractors_xy: Sequence[FloatArray]) -> Float32Array:
    """(R, R) weights that cells of distractors get on top, none where the target is.

    `label` is that of the target; `distractors_xy` are centers in cells.
    """
    along = np.arange(len(label), dtype=np.float32)
    near = np.zeros_like(label)
    for x, y in np.asarray(distractors_xy, np.float32):
        distance = (along - x) ** 2 + (along[:, None] - y) ** 2  # (R, R), cells
        np.maximum(near, np.exp(-0.5 * distance), out=near)
    return (DISTRACTOR_WEIGHT - 1) * near * (1 - label) / np.float32(label.size)


def conjugate_gradients(
    gram: Float32Array, cross: Float32Array, start: Float32Array, damping: float, steps: int
) -> Float32Array:
    """A few steps towards the solution of (gram + damping I) w = cross (Hestenes, Stiefel 1952)."""
    lam = np.float32(damping)
    weights: Float32Array = start.copy()
    residual: Float32Array = cross.copy()
    residual -= gram @ weights + lam * weights
    direction, norm = residual.copy(), float(residual @ residual)
    for _ in range(steps):
        if norm < _MIN_RESIDUAL:
            break
        product = gram @ direction + lam * direction
        step = np.float32(norm / float(direction @ product))
        weights += step * direction
        residual -= step * product
        last, norm = norm, float(residual @ residual)
        direction = residual + np.float32(norm / last) * direction
    return weights


# --- Windows of the first frame -------------------------------------------------------------------


class Augmentation(NamedTuple):
    """How a window of the first frame differs from one centered on the target."""

    shift: tuple[float, float]  # of the window's center, in window sides
    scale: float = 1.0  # of the window's side
    turn_deg: float = 0.0  # of the picture, around the target
    blur_px: float = 0.0  # standard deviation of a Gaussian, crop px
    mirrored: bool = False  # left and right


AUGMENTATIONS = (
    Augmentation((0.25, 0.1), scale=0.9, mirrored=True),
    Augmentation((-0.25, -0.1), scale=1.12, turn_deg=8.0),
    Augmentation((0.1, -0.25), blur_px=1.4, mirrored=True),
    Augmentation((-0.1, 0.25), scale=0.87, turn_deg=-8.0, mirrored=True),
    Augmentation((0.2, 0.2), scale=1.15),
    Augmentation((-0.2, 0.2), turn_deg=5.0, blur_px=1.0),
    Augmentation((0.2, -0.2), scale=0.95, turn_deg=-5.0, mirrored=True),
)
"""Guises of the target that the filter learns besides the plain windows of the first frame. With
one guise alone it picks a wrong object three times as often."""


def augmented_window(
    frame: Image,
    target_xywh: FloatArray,
    augmentation: Augmentation,
    *,
    side_px: float,
    size_px: int,
    fill_bgr: tuple[float, float, float],
) -> tuple[Image, FloatArray]:
    """Cut one window of the first frame and change it; the arguments are those of `crop_square`.

    Returns:
        uint8 (size_px, size_px, 3) BGR, and the center of the target in it, (2,) crop px.
    """
    shift, scale, turn_deg, blur_px, mirrored = augmentation
    side = side_px * scale
    center = target_xywh[:2] + target_xywh[2:] / 2 + np.array(shift) * side
    crop, crop_map = crop_square(frame, center, side, size_px, fill_bgr=fill_bgr)
    x, y = center_in_crop(target_xywh, crop_map).tolist()
    if turn_deg:
        turn = cv2.getRotationMatrix2D((x, y), turn_deg, 1.0)
        crop = cv2.warpAffine(crop, turn, (size_px, size_px), borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    if blur_px:
        crop = cv2.GaussianBlur(crop, (0, 0), blur_px)  # type: ignore[assignment]
    if mirrored:
        crop, x = np.ascontiguousarray(crop[:, ::-1]), size_px - x
    return crop, np.array([x, y])


def center_in_crop(boxes_xywh: FloatArray, crop_map: CropMap) -> FloatArray:
    """(..., 2) centers of (..., 4) boxes of the frame, crop px."""
    boxes = crop_map.to_crop(boxes_xywh)
    return boxes[..., :2] + boxes[..., 2:] / 2
