"""What tests of the studio share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from siamtrack.studio.project import Project, ProjectState
from siamtrack.tracking.track import ROW, TRACKED, Rows


@pytest.fixture
def make_rows() -> Callable[..., Rows]:
    """Rows of a run from a key frame on, whose box moves by 1 px a frame."""

    def make(frame: int, box, count: int, direction: int = 1, score: float = 0.9) -> Rows:
        rows = np.zeros(count, ROW)
        rows["frame"] = frame + direction * (1 + np.arange(count))
        rows["box"] = np.array(box) + np.outer(1.0 + np.arange(count), [1, 0, 0, 0])
        rows["score"], rows["status"] = score, TRACKED
        return rows

    return make


@pytest.fixture
def project() -> Project:
    """An empty project of a clip of 100 frames of 200x100 px, whose rows are in memory."""
    files: dict[str, Rows] = {}

    def write(rows: Rows) -> str:
        name = f"{len(files):06d}"
        files[name] = rows
        return name

    return Project(ProjectState(), 100, (200, 100), files.__getitem__, write)
