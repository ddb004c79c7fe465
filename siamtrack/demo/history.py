"""What happened in the demo so far, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.synthetic.scene import SceneFrame
from siamtrack.geometry import iou
from siamtrack.tracking.result import Result

FloatArray = NDArray[np.float64]

SUCCESS_IOU = 0.5


@dataclass(slots=True)
class History:
    """Grows by one entry per frame.

    Attributes:
        ious: overlap with the truth in [0, 1]; nan where the target cannot be seen.
        results: what the tracker said.
        visible: share of the target that can be seen.
        update_s: time that `update` took; nothing for the first frame, whose box is given.
    """

    ious: list[float] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    update_s: list[float] = field(default_factory=list)

    def add(self, frame: SceneFrame, result: Result, update_s: float | None) -> None:
        """Note one frame.

        Args:
            frame: image and truth.
            result: what the tracker said.
            update_s: time it took; None for the first frame.
        """
        self.ious.append(float(iou(result.box, frame.box_xywh)))
        self.results.append(result)
        self.visible.append(frame.visible_fraction)
        if update_s is not None:
            self.update_s.append(update_s)

    @property
    def scores(self) -> list[float]:
        """The tracker's score in every frame."""
        return [result.score for result in self.results]

    @property
    def _judged(self) -> FloatArray:
        """Overlaps after the first frame, where there is a truth."""
        after = np.array(self.ious[1:], dtype=np.float64)
        return np.asarray(after[np.isfinite(after)])

    @property
    def mean_iou(self) -> float:
        """Mean overlap with the truth, the given first frame left out; nan if nothing is left."""
        return float(self._judged.mean()) if self._judged.size else float("nan")

    @property
    def success_rate(self) -> float:
        """Share of the same frames with an overlap above `SUCCESS_IOU`; nan if nothing is left."""
        return float((self._judged > SUCCESS_IOU).mean()) if self._judged.size else float("nan")

    @property
    def fps(self) -> float:
        """Frames per second of the tracker alone; nan before the first update."""
        total_s = sum(self.update_s)
        return len(self.update_s) / total_s if total_s > 0 else float("nan")
