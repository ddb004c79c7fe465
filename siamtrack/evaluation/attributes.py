"""What is hard about a sequence, computed from its true boxes where nobody wrote it down.

Fast motion, scale variation and low resolution are defined as in Wu, Lim and Yang, "Object Tracking
Benchmark", PAMI 2015, table 2; aspect ratio change as in Mueller, Smith and Ghanem, "A Benchmark
and Simulator for UAV Tracking", ECCV 2016, table 1.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import DatasetError
from siamtrack.geometry import xywh_to_cxcywh

FAST_PX = 20.0
SCALE_RATIO = 2.0
LOW_RESOLUTION_PX2 = 400.0
ATTRIBUTES_FILE = "attributes.json"


def frames_with_box(boxes_xywh: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) frames whose row is four finite numbers with an area."""
    return np.all(np.isfinite(boxes_xywh), axis=1) & np.all(boxes_xywh[:, 2:] > 0, axis=1)


def computed_attributes(boxes_xywh: NDArray[np.float64]) -> frozenset[str]:
    """Attributes that follow from the boxes alone.

    Args:
        boxes_xywh: (N, 4) float px, NaN where the target is absent.
    """
    present = frames_with_box(boxes_xywh)
    boxes = np.where(present[:, None], boxes_xywh, np.nan)
    names = set()
    if not present.all():
        names.add("out of view")
    step = np.diff(xywh_to_cxcywh(boxes)[:, :2], axis=0)
    if np.any(np.hypot(step[:, 0], step[:, 1]) > FAST_PX):
        names.add("fast motion")
    area = boxes[:, 2] * boxes[:, 3]
    if _departs(np.sqrt(area / area[0])):
        names.add("scale variation")
    ratio = boxes[:, 2] / boxes[:, 3]
    if _departs(ratio / ratio[0]):
        names.add("aspect ratio change")
    if np.any(area < LOW_RESOLUTION_PX2):
        names.add("low resolution")
    return frozenset(names)


def _departs(relative: NDArray[np.float64]) -> bool:
    return bool(np.any(relative > SCALE_RATIO) or np.any(relative < 1 / SCALE_RATIO))


def annotated_attributes(root: Path) -> dict[str, frozenset[str]]:
    """Attributes by sequence from `attributes.json` in a data set's root; empty without the file.

    Raises:
        DatasetError: the file is not an object of lists of names.
    """
    path = root / ATTRIBUTES_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): frozenset(map(str, values)) for name, values in content.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DatasetError(
            f'{path} cannot be read ({error}); it must look like {{"sequence": ["occlusion"]}}'
        ) from error
