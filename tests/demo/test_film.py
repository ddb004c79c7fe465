"""The clip: its truth against its own pixels, and the difficulties it promises."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from siamtrack.data.synthetic import SceneFrame
from siamtrack.demo import film as film_module
from siamtrack.demo.film import FRAME_WH, film

COUNT = 60


@pytest.fixture(scope="module")
def frames() -> list[SceneFrame]:
    return list(film(COUNT, seed=0))


def test_frames_are_video_frames(frames: list[SceneFrame]) -> None:
    assert len(frames) == COUNT
    for frame in frames:
        assert frame.image_bgr.shape == (FRAME_WH[1], FRAME_WH[0], 3)
        assert frame.image_bgr.dtype == np.uint8


def test_the_balloon_moves_turns_and_changes_size(frames: list[SceneFrame]) -> None:
    boxes = np.array([frame.box_xywh for frame in frames if frame.visible_fraction > 0.99])
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    assert np.ptp(centers, axis=0)[0] > 500
    sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
    assert sides.max() > 1.4 * sides.min()
    aspects = boxes[:, 2] / boxes[:, 3]
    assert aspects.max() > 1.15 * aspects.min()


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_hidden_to_about_70_percent_once_and_leaves_the_frame_once(seed: int) -> None:
    frames = list(film(COUNT, seed=seed))
    visible = np.array([frame.visible_fraction for frame in frames])
    inside = visible[: round(0.6 * COUNT)]
    assert 0.2 < inside.min() < 0.4
    away = [hidden for hidden, _ in groupby(visible == 0)]
    assert away == [False, True, False]
    assert 0.05 < np.mean(visible == 0) < 0.2
    assert visible[0] == 1 and (visible[-5:] > 0.99).all()
    for frame in frames:
        assert np.isnan(frame.box_xywh).all() == (frame.visible_fraction == 0)


def test_seed_varies_the_clip(frames: list[SceneFrame]) -> None:
    same = next(iter(film(COUNT, seed=0)))
    assert np.array_equal(same.image_bgr, frames[0].image_bgr)
    assert not np.array_equal(next(iter(film(COUNT, seed=1))).image_bgr, frames[0].image_bgr)


def test_box_is_where_the_balloon_changes_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same clip without the balloon differs inside the box and nowhere else."""
    monkeypatch.setattr(film_module, "_GRAIN", 0.0)
    monkeypatch.setattr(film_module, "_SHUTTER", 0.0)
    with_balloon = list(film(COUNT, seed=0))
    monkeypatch.setattr(film_module.PlanarLayer, "render", lambda *_: None)
    checked = 0
    for frame, empty in zip(with_balloon, film(COUNT, seed=0), strict=True):
        change = np.abs(frame.image_bgr.astype(int) - empty.image_bgr).max(axis=2) > 10
        if frame.visible_fraction == 0:
            assert not change.any()
            continue
        x, y, w, h = frame.box_xywh
        rows, columns = np.flatnonzero(change.any(axis=1)), np.flatnonzero(change.any(axis=0))
        # The soft rim, up to 2 px outside the box, is less than half covered and changes too.
        assert columns[0] >= x - 2 and columns[-1] < x + w + 2
        assert rows[0] >= y - 2 and rows[-1] < y + h + 2
        if frame.visible_fraction > 0.995:
            checked += 1
            assert [columns[0], rows[0]] == pytest.approx([x, y], abs=3)
            assert [columns[-1] + 1, rows[-1] + 1] == pytest.approx([x + w, y + h], abs=3)
    assert checked > 30
