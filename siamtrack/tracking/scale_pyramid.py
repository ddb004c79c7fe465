"""Searching scales, for networks without a box head."""

from __future__ import annotations

import cv2
import numpy as np

from siamtrack.engines.base import Float32Array, Response
from siamtrack.geometry import CropMap, FloatArray, context_side
from siamtrack.models.network import NetworkConfig
from siamtrack.tracking.localiser import Candidate
from siamtrack.tracking.options import ScalePyramidOptions
from siamtrack.tracking.responses import cosine_window, margin_of


class ScalePyramid:
    """Searches a few scales and keeps the aspect (SiamFC, section 3.2, "Tracking")."""

    def __init__(self, config: NetworkConfig, options: ScalePyramidOptions) -> None:
        self.config, self.options = config, options
        self.windows, self.scan_crops, self.framing = options.scale_count, 0, 0.0
        self.doubt_frames = 0
        middle = options.scale_count // 2
        self._factors = options.scale_step ** (np.arange(options.scale_count) - float(middle))
        self._penalties = np.full(options.scale_count, options.scale_penalty, np.float32)
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
        step = self.config.total_stride / self.options.response_upsampling * maps[scale].scale
        offset = (np.array(best[::-1], dtype=np.float64) - (chosen.shape[0] - 1) / 2) * step
        rate = self.options.scale_rate
        factor = (1 - rate) + rate * float(self._factors[scale])
        size = box_xywh[2:] * factor
        centre = box_xywh[:2] + box_xywh[2:] / 2 + offset
        finer = self.options.response_upsampling
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
        factor = self.options.response_upsampling
        size = (response.shape[1] * factor, response.shape[0] * factor)
        return cv2.resize(response, size, interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]
