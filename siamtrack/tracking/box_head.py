"""Reading the box that the network predicts."""

from __future__ import annotations

import numpy as np

from siamtrack.engines.base import Float32Array, Response
from siamtrack.geometry import CropMap, FloatArray, context_side
from siamtrack.models.network import NetworkConfig
from siamtrack.tracking.localiser import Candidate
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.presence import calibrated_score
from siamtrack.tracking.responses import (
    best_about,
    cell_middles,
    cosine_window,
    margin_of,
    sigmoid,
)


class BoxHead:
    """Reads centre and size from the box that the best cell predicts (SiamRPN, section 4.4)."""

    def __init__(self, config: NetworkConfig, options: BoxHeadOptions) -> None:
        self.config, self.options = config, options
        self.windows, self.scan_crops, self.framing = 1, options.scan_crops, options.framing
        self.doubt_frames = options.doubt_frames if options.scan_crops else 0
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
        influence, hold_below = self.options.window_influence, self.options.hold_below
        return self._best(response, maps[0], box_xywh, influence, hold_below)

    def _best(
        self,
        response: Response,
        crop_map: CropMap,
        box_xywh: FloatArray,
        influence: float,
        hold_below: float,
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
        if peak < hold_below:
            return Candidate(box_xywh, logit, similarity, margin)
        centre_x = self._cell_x[best] + (right - left) / 2
        centre_y = self._cell_y[best] + (bottom - top) / 2
        rate = float(penalty[best]) * peak * self.options.size_rate
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
        row = response.rows(best, best + 1)
        found = self._best(row, maps[best], box_xywh, influence=0.0, hold_below=0.0)
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
        sure = calibrated_score(found, self.options) >= self.options.found_above
        return sure and found.similarity >= self.options.found_similarity * similarity

    def overrules(self, elsewhere: float, here: float) -> bool:
        """See `Localiser.overrules`."""
        return elsewhere >= self.options.overruled_above and elsewhere > here

    def _shape_penalty(self, sides: Float32Array, last_wh: Float32Array) -> Float32Array:
        """exp(-k (s r - 1)): s and r are the changes of size and aspect, whichever way they go."""
        width, height = sides
        grown = sides + (width + height) * 0.5
        size = np.sqrt(grown[0] * grown[1]) / float(context_side(*last_wh))
        aspect = width / height * float(last_wh[1] / last_wh[0])
        change = np.maximum(size, 1 / size) * np.maximum(aspect, 1 / aspect)
        return np.exp((1.0 - change) * np.float32(self.options.shape_penalty))
