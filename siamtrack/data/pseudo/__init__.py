"""Pseudo-labels: boxes for clips that have none (`siamtrack pseudo-label`).

Reading order:

1. start_boxes: what moves against the camera, or stands out.
2. agreement: tracking there and back, and the frames in which both agree.
3. dataset: the folder of labels, its reports and contact sheets.
"""

from siamtrack.data.pseudo.dataset import (
    PseudoLabelConfig,
    PseudoLabelReport,
    find_clips,
    pseudo_label,
)

__all__ = ["PseudoLabelConfig", "PseudoLabelReport", "find_clips", "pseudo_label"]
