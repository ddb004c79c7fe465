"""What the two ways to read a response have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap, context_side
from siamtrack.models.network import NetworkConfig
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions, TrackerOptions
from siamtrack.types import Float32Array, FloatArray

APART = 0.3
"""Boxes that overlap by less lie on different things."""


class Candidate(NamedTuple):
    """Where the target seems to be.

    Attributes:
        box_xywh: (4,) frame px.
        peak_logit: the response where the target was found, before sigmoid.
        similarity: cosine between the embedding there, or in a neighbouring cell where that is more
            alike, and the exemplar's; 1 without embeddings.
        margin: how far the peak is above the best logit outside the target's neighbourhood.
    """

    box_xywh: FloatArray
    peak_logit: float
    similarity: float = 1.0
    margin: float = 0.0


class Localiser(Protocol):
    """Where to look, and what to read from what was seen there.

    Attributes:
        windows: how many `window_sides` there are.
        redetect_windows: windows elsewhere that a lost target is looked for in, per frame.
        framing: share of the network's own way to draw boxes that is taken off them, see
            `siamtrack.tracking.framing`; 0 where the network draws none.
        verify_frames: frames after a lost target was found in which it is looked for elsewhere
            all the same, see `siamtrack.tracking.doubt`.
    """

    windows: int
    redetect_windows: int
    framing: float
    verify_frames: int

    def window_sides(self, size_wh: FloatArray) -> list[float]:
        """Sides, in frame px, of the search windows around a target of this size."""
        ...

    def locate(self, response: Response, maps: list[CropMap], box_xywh: FloatArray) -> Candidate:
        """Find the target.

        Args:
            response: of the windows, in order. Nothing is found in cells of minus infinity.
            maps: of the windows, in order.
            box_xywh: (4,) where the target was, frame px.
        """
        ...

    def scan(
        self,
        response: Response,
        maps: list[CropMap],
        box_xywh: FloatArray,
        similarity: float = 0.0,
    ) -> Candidate | None:
        """Find the best place in windows anywhere in the frame, wherever in them it is.

        Args:
            response: of the windows, in order.
            maps: of the windows, in order; may be empty.
            box_xywh: (4,) the target as it was last, for its size.
            similarity: to the exemplar, that the target had while it was tracked.

        Returns:
            The candidate; None where none can be trusted, without windows, or where the loop cannot
            scan.
        """
        ...

    def nominate(self, response: Response, maps: list[CropMap]) -> tuple[float, float] | None:
        """The place in coarse windows that most deserves a close look.

        Args:
            response: of the windows, in order.
            maps: of the windows, in order; may be empty.

        Returns:
            x, y in frame px; None without windows, or where the loop cannot scan.
        """
        ...

    def trusts(self, found: Candidate, similarity: float) -> bool:
        """Whether a lost target's box may move to a candidate.

        Args:
            found: near or elsewhere.
            similarity: to the exemplar, that the target had while it was tracked.
        """
        ...

    def overrules(self, elsewhere: float, here: float) -> bool:
        """Whether a place elsewhere says that what was found was not the target.

        Args:
            elsewhere: score there.
            here: score of what was found, now or in the mean, whichever is higher.
        """
        ...


def cell_middles(cells: int, stride_px: int, crop_px: int) -> FloatArray:
    """(cells,) where the cells of a response lie along either axis of the crop, px."""
    return (np.arange(cells, dtype=np.float64) - (cells - 1) / 2) * stride_px + crop_px / 2


def cell_boxes(ltrb_px: Float32Array | FloatArray, stride_px: int, crop_map: CropMap) -> FloatArray:
    """The box that every cell of one window draws.

    Args:
        ltrb_px: (4, R, R) see `Response.ltrb_px`.
        stride_px: from cell to cell, px of the crop.
        crop_map: of the window.

    Returns:
        (R, R, 4) xywh frame px.
    """
    left, top, right, bottom = ltrb_px.astype(np.float64)
    x, y = np.meshgrid(*[cell_middles(len(left), stride_px, crop_map.size_px)] * 2)
    return crop_map.to_frame(np.stack([x - left, y - top, left + right, top + bottom], axis=-1))


def margin_of(logits: Float32Array, cell: tuple[int, int], reach: Iterable[float]) -> float:
    """How far a peak is above the best logit outside its neighbourhood (its side lobe).

    Args:
        logits: (R, R).
        cell: row and column of the peak.
        reach: cells that the neighbourhood extends left, up, right and down; at least one each.
    """
    row, column = cell
    # A network may return anything; comparisons with not-a-number are false.
    most = len(logits)
    left, up, right, down = (int(min(r, most)) if r > 1 else 1 for r in reach)
    rest = logits.copy()
    rest[max(row - up, 0) : row + down + 1, max(column - left, 0) : column + right + 1] = -np.inf
    best = rest.max()
    if best == -np.inf:  # the neighbourhood is all there is
        best = logits[logits > -np.inf].min(initial=max(float(logits[cell]), -1e9))
    return float(logits[cell] - best)


def best_about(similarity: Float32Array, cell: tuple[int, int]) -> float:
    """The best of a cell and its neighbours: a target's middle is rarely that of a cell."""
    row, column = cell
    return float(similarity[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max())


@lru_cache(maxsize=8)
def cosine_window(size: int) -> Float32Array:
    """(size, size) outer product of Hann windows without their zero ends; read-only, shared."""
    hann = np.hanning(size + 2)[1:-1]
    window = np.outer(hann, hann).astype(np.float32)
    window.flags.writeable = False
    return window


def sigmoid(x: Float32Array) -> Float32Array:
    """Logistic function; large negative inputs do not overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * x))).astype(np.float32, copy=False)


class BoxHead:
    """Reads centre and size from the box that the best cell predicts (SiamRPN, section 4.4)."""

    def __init__(self, config: NetworkConfig, options: BoxHeadOptions) -> None:
        self.config, self.options = config, options
        self.windows, self.redetect_windows, self.framing = (
            1,
            options.redetect_windows,
            options.box_correction,
        )
        self.verify_frames = options.verify_frames if options.redetect_windows else 0
        cells = config.search_size_px // config.total_stride
        self._window = cosine_window(cells)
        middles = cell_middles(cells, config.total_stride, config.search_size_px)
        self._cell_x, self._cell_y = np.meshgrid(*[middles.astype(np.float32)] * 2)

    def window_sides(self, size_wh: FloatArray) -> list[float]:
        """One window: the exemplar's context scaled to the search size."""
        exemplar_side = float(context_side(size_wh[0], size_wh[1], self.config.context_amount))
        return [self.config.search_scale * exemplar_side]

    def locate(self, response: Response, maps: list[CropMap], box_xywh: FloatArray) -> Candidate:
        """Penalise changes of shape, add the cosine window, take the best cell's box."""
        influence, min_peak = self.options.window_influence, self.options.min_peak
        return self._best(response, maps[0], box_xywh, influence, min_peak)

    def _best(
        self,
        response: Response,
        crop_map: CropMap,
        box_xywh: FloatArray,
        influence: float,
        min_peak: float,
    ) -> Candidate:
        """The best cell's box in one window; `BoxHeadOptions` says what the last two do."""
        if response.ltrb_px is None:
            raise TypeError("this network has no box head; use ScalePyramid")
        logits = response.score_logits[0]
        last_wh = (box_xywh[2:] / crop_map.scale).astype(np.float32)
        ltrb = response.ltrb_px[0]
        sides = ltrb[:2] + ltrb[2:]
        penalty = self._shape_penalty(sides, last_wh)
        score = sigmoid(logits)
        ranked = score * penalty * (1.0 - influence) + self._window * influence
        best = divmod(int(ranked.argmax()), ranked.shape[1])
        if logits[best] == -np.inf:  # where the target cannot be, however near
            ranked[logits == -np.inf] = -1.0
            best = divmod(int(ranked.argmax()), ranked.shape[1])
        peak, logit = float(score[best]), float(logits[best])
        similarity = (
            1.0 if response.similarity is None else best_about(response.similarity[0], best)
        )
        left, top, right, bottom = ltrb[:, *best]
        reach = (ltrb[:, *best] / self.config.total_stride).tolist()
        margin = margin_of(logits, best, reach)
        if peak < min_peak:
            return Candidate(box_xywh, logit, similarity, margin)
        centre_x = self._cell_x[best] + (right - left) / 2
        centre_y = self._cell_y[best] + (bottom - top) / 2
        rate = float(penalty[best]) * peak * self.options.size_lr
        size = last_wh * (1.0 - rate) + sides[:, *best] * rate
        box = np.array([centre_x - size[0] / 2, centre_y - size[1] / 2, *size])
        return Candidate(crop_map.to_frame(box), logit, similarity, margin)

    def scan(
        self,
        response: Response,
        maps: list[CropMap],
        box_xywh: FloatArray,
        similarity: float = 0.0,
    ) -> Candidate | None:
        """See `Localiser.scan`; the cosine window has no say here."""
        if not maps:
            return None
        best = int(np.argmax(response.score_logits.max(axis=(1, 2))))
        row = response[best : best + 1]
        found = self._best(row, maps[best], box_xywh, influence=0.0, min_peak=0.0)
        return found if self.trusts(found, similarity) else None

    def nominate(self, response: Response, maps: list[CropMap]) -> tuple[float, float] | None:
        """See `Localiser.nominate`: the cell of the highest score, of all windows."""
        if not maps:
            return None
        logits = response.score_logits
        best, row, column = np.unravel_index(int(logits.argmax()), logits.shape)
        cell = self._cell_x[row, column], self._cell_y[row, column]
        x, y = maps[int(best)].to_frame([*cell, 0.0, 0.0])[:2].tolist()
        return x, y

    def trusts(self, found: Candidate, similarity: float) -> bool:
        """See `Localiser.trusts`."""
        sure = calibrated_score(found, self.options) >= self.options.redetect_score
        return sure and found.similarity >= self.options.redetect_similarity * similarity

    def overrules(self, elsewhere: float, here: float) -> bool:
        """See `Localiser.overrules`."""
        return elsewhere >= self.options.switch_score and elsewhere > here

    def _shape_penalty(self, sides: Float32Array, last_wh: Float32Array) -> Float32Array:
        """exp(-k (s r - 1)): s and r are the changes of size and aspect, whichever way they go."""
        width, height = sides
        grown = sides + (width + height) * 0.5
        size = np.sqrt(grown[0] * grown[1]) / float(context_side(*last_wh))
        aspect = width / height * float(last_wh[1] / last_wh[0])
        change = np.maximum(size, 1 / size) * np.maximum(aspect, 1 / aspect)
        return np.exp((1.0 - change) * np.float32(self.options.shape_penalty))


class ScalePyramid:
    """Searches a few scales and keeps the aspect (SiamFC, section 3.2, "Tracking")."""

    def __init__(self, config: NetworkConfig, options: ScalePyramidOptions) -> None:
        self.config, self.options = config, options
        self.windows, self.redetect_windows, self.framing = options.scale_num, 0, 0.0
        self.verify_frames = 0
        middle = options.scale_num // 2
        self._factors = options.scale_step ** (np.arange(options.scale_num) - float(middle))
        self._penalties = np.full(options.scale_num, options.scale_penalty, np.float32)
        self._penalties[middle] = 1.0

    def window_sides(self, size_wh: FloatArray) -> list[float]:
        """One window per scale, smallest first."""
        exemplar_side = float(context_side(size_wh[0], size_wh[1], self.config.context_amount))
        return [float(f) * self.config.search_scale * exemplar_side for f in self._factors]

    def locate(self, response: Response, maps: list[CropMap], box_xywh: FloatArray) -> Candidate:
        """Upsample, choose the scale, add the cosine window, move by the peak's displacement."""
        upsampled = [self._upsample(r) for r in response.score_logits]
        # Penalties are factors, so they need scores that are not negative: scaling a negative
        # peak down would prefer the change of scale that they are meant to discourage.
        floor = min(float(r.min()) for r in upsampled)
        peaks = [
            float(r.max() - floor) * p for r, p in zip(upsampled, self._penalties, strict=True)
        ]
        scale = int(np.argmax(peaks))
        chosen = upsampled[scale] - upsampled[scale].min()
        chosen = chosen / max(float(chosen.sum()), 1e-12)
        window = cosine_window(chosen.shape[0])
        influence = self.options.window_influence
        ranked = (1 - influence) * chosen + influence * window / window.sum()
        best = np.unravel_index(int(np.argmax(ranked)), ranked.shape)
        logit = float(upsampled[scale][best])
        # Cell i of the response is the exemplar placed i strides from the response's first cell.
        step = self.config.total_stride / self.options.response_up * maps[scale].scale
        offset = (np.array(best[::-1], dtype=np.float64) - (chosen.shape[0] - 1) / 2) * step
        rate = self.options.scale_lr
        factor = (1 - rate) + rate * float(self._factors[scale])
        size = box_xywh[2:] * factor
        centre = box_xywh[:2] + box_xywh[2:] / 2 + offset
        finer = self.options.response_up
        cell = int(best[0]) // finer, int(best[1]) // finer
        # Half a target's side, which is half of the exemplar crop's.
        reach = self.config.exemplar_size_px / 4 / self.config.total_stride
        margin = margin_of(response.score_logits[scale], cell, [reach] * 4)
        return Candidate(np.concatenate([centre - size / 2, size]), logit, margin=margin)

    def trusts(self, found: Candidate, similarity: float) -> bool:
        """Always: without scanning, the window around the last box is all there is."""
        return True

    def scan(
        self,
        response: Response,
        maps: list[CropMap],
        box_xywh: FloatArray,
        similarity: float = 0.0,
    ) -> Candidate | None:
        """None: a response without a scale of its own tells nothing across windows."""
        return None

    def nominate(self, response: Response, maps: list[CropMap]) -> tuple[float, float] | None:
        """None: see `scan`."""
        return None

    def overrules(self, elsewhere: float, here: float) -> bool:
        """Never: see `scan`."""
        return False

    def _upsample(self, response: Float32Array) -> Float32Array:
        factor = self.options.response_up
        size = (response.shape[1] * factor, response.shape[0] * factor)
        return cv2.resize(response, size, interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def localiser_for(config: NetworkConfig, options: TrackerOptions) -> Localiser:
    """The localiser that the options are for.

    Raises:
        TypeError: options of no known kind.
    """
    if isinstance(options, BoxHeadOptions):
        return BoxHead(config, options)
    if isinstance(options, ScalePyramidOptions):
        return ScalePyramid(config, options)
    raise TypeError(f"options are {type(options).__name__}; give one of its two children")


class Cues(Protocol):
    """What speaks for a place and against it.

    Attributes:
        peak_logit: the response there, before sigmoid.
        similarity: cosine between the embedding there, or next to it, and the exemplar's.
        margin: how far the peak is above the best logit outside the target's neighbourhood;
            negative where something else in the window responds more.
    """

    @property
    def peak_logit(self) -> float: ...  # noqa: D102
    @property
    def similarity(self) -> float: ...  # noqa: D102
    @property
    def margin(self) -> float: ...  # noqa: D102


def calibrated_score(cues: Cues, options: TrackerOptions) -> float:
    """Probability that the box is on the target, by logistic regression over three cues.

    score = sigmoid(gain (peak - offset) + w_s similarity + w_m margin), which is Platt scaling
    (Platt 1999) of the peak when both weights are 0. All three come with the response, at no cost.
    """
    x = options.score_gain * (cues.peak_logit - options.score_offset)
    x += options.score_similarity * cues.similarity + options.score_margin * cues.margin
    return 0.5 * (1.0 + math.tanh(0.5 * x))
