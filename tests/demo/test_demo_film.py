"""The film: its truth against its own pixels, and the story it is to tell."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from siamtrack.data.synthetic import SceneFrame
from siamtrack.demo import film as film_module
from siamtrack.demo.film import FRAME_WH, Balloon, Pose, View, film

COUNT = 48


@pytest.fixture(scope="module")
def frames() -> list[SceneFrame]:
    return list(film(COUNT, seed=0))


def test_frames_are_video_frames(frames: list[SceneFrame]) -> None:
    assert len(frames) == COUNT
    for frame in frames:
        assert frame.image_bgr.shape == (FRAME_WH[1], FRAME_WH[0], 3)
        assert frame.image_bgr.dtype == np.uint8


def test_the_balloon_moves_turns_changes_size_and_is_partly_hidden_for_a_while(
    frames: list[SceneFrame],
) -> None:
    boxes = np.array([frame.box_xywh for frame in frames])
    visible = np.array([frame.visible_fraction for frame in frames])
    assert np.isfinite(boxes).all()
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    assert np.ptp(centres, axis=0)[0] > 500
    sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
    assert sides.max() > 1.6 * sides.min()
    aspects = boxes[:, 2] / boxes[:, 3]
    assert aspects.max() > 1.2 * aspects.min()
    assert visible[0] == 1
    assert 0.15 < visible.min() < 0.5
    assert 0.1 < np.mean(visible < 0.85) < 0.4
    assert (visible[-5:] > 0.9).all()
    # Wholly in the frame all the time.
    assert (boxes[:, :2] > 0).all()
    assert (boxes[:, 0] + boxes[:, 2] < FRAME_WH[0]).all()


def test_seed_varies_the_flight(frames: list[SceneFrame]) -> None:
    same = next(iter(film(COUNT, seed=0)))
    assert np.array_equal(same.image_bgr, frames[0].image_bgr)
    assert not np.array_equal(next(iter(film(COUNT, seed=1))).image_bgr, frames[0].image_bgr)


def test_box_is_where_the_balloon_changes_the_picture(
    frames: list[SceneFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film_module, "draw_ribbon", nothing)
    monkeypatch.setattr(film_module, "cast_shadow", lambda *_: None)
    monkeypatch.setattr(film_module, "_GRAIN", 0.0)
    monkeypatch.setattr(film_module, "_SHUTTER", 0.0)
    with_balloon = list(film(COUNT, seed=0))
    monkeypatch.setattr(film_module, "put_behind", lambda *_: None)
    checked = 0
    for frame, empty in zip(with_balloon, film(COUNT, seed=0), strict=True):
        change = np.abs(frame.image_bgr.astype(int) - empty.image_bgr).max(axis=2) > 10
        x, y, w, h = frame.box_xywh
        rows, columns = np.flatnonzero(change.any(axis=1)), np.flatnonzero(change.any(axis=0))
        # Half a pixel of the rim is less than half covered, and changes all the same.
        assert columns[0] >= x - 1
        assert rows[0] >= y - 1
        assert columns[-1] < x + w + 1
        assert rows[-1] < y + h + 1
        if frame.visible_fraction > 0.995:
            checked += 1
            assert [columns[0], rows[0]] == pytest.approx([x, y], abs=3)
            assert [columns[-1] + 1, rows[-1] + 1] == pytest.approx([x + w, y + h], abs=3)
    assert checked > 20


def nothing(*_: object) -> object:
    """A patch outside every frame."""
    from siamtrack.data.synthetic.render import Patch

    empty = np.zeros((1, 1), np.float32)
    return Patch(-9, -9, np.zeros((1, 1, 3), np.float32), empty, empty > 0)


def test_out_of_the_frame_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    render = Balloon.render

    def far_left(self: Balloon, pose: Pose, view: View) -> object:
        return dataclasses.replace(render(self, pose, view), x=-5000)

    monkeypatch.setattr(Balloon, "render", far_left)
    frame = next(iter(film(2, seed=0)))
    assert np.isnan(frame.box_xywh).all()
    assert frame.visible_fraction == 0


def test_wholly_hidden_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film_module, "cover_of", lambda shot, window, pose: 1.0)
    frame = next(iter(film(2, seed=0)))
    assert np.isnan(frame.box_xywh).all()
    assert frame.visible_fraction == 0
