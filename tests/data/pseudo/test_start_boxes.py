from __future__ import annotations

import numpy as np
import pytest

from siamtrack.data.pseudo.start_boxes import FrameCues, find_cues
from siamtrack.geometry import iou


@pytest.mark.parametrize("camera_px", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("patch_px", [(2.0, 0.5), (0.5, 1.5)])
def test_a_patch_that_moves_against_the_camera_is_found(scene, camera_px, patch_px) -> None:
    images, boxes = scene(camera_px=max(camera_px, 0.0), patch_px=patch_px)
    if camera_px < 0:  # the same clip backwards
        images, boxes = images[::-1], boxes[::-1]
    cues = find_cues(images[9], images[12], images[15])
    assert cues.candidates[0].cue == "motion"
    assert iou(cues.candidates[0].box_xywh, boxes[12]) > 0.5
    assert cues.support(boxes[12])
    assert not cues.support(boxes[12] + [70, 30, 0, 0]), "background"


def test_what_moves_with_the_background_is_salient_at_most(scene) -> None:
    images, boxes = scene(camera_px=2.0, patch_px=(-2.0, 0.0), frames=8)
    shifted = [np.roll(image, 60, axis=1) for image in images]
    box = boxes[4] + np.array([60, 0, 0, 0])
    cues = find_cues(shifted[1], shifted[4], shifted[7])
    assert [c.cue for c in cues.candidates] == ["saliency"]
    assert iou(cues.candidates[0].box_xywh, box) > 0.5
    assert cues.support(box)
    assert not cues.support(box + np.array([70, 40, 0, 0])), "background"


def test_a_box_inside_a_salient_background_has_no_support() -> None:
    nothing, all_over = np.zeros((100, 100), bool), np.ones((100, 100), bool)
    box = np.array([40.0, 40, 20, 20])
    assert not FrameCues((), nothing, all_over, 1.0).support(box)
    assert not FrameCues((), nothing, nothing, 1.0).support(box)
    assert not FrameCues((), nothing, nothing, 1.0).support(np.array([200.0, 0, 9, 9]))
    assert FrameCues((), all_over, nothing, 1.0).support(box)


def test_a_still_frame_has_no_cues(scene) -> None:
    images, _ = scene(frames=1)
    assert find_cues(images[0], images[0], images[0]) is None


def test_a_frame_without_texture_has_no_cues() -> None:
    flat = np.full((90, 160, 3), 90, np.uint8)
    assert find_cues(flat, flat, flat) is None


def test_frames_that_have_nothing_in_common_have_no_candidates(rng) -> None:
    noise = [rng.integers(0, 255, (90, 160, 3), np.uint8) for _ in range(3)]
    cues = find_cues(*noise)
    assert cues is None or not cues.candidates


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (20, 3000), (3000, 20), (33, 1000)])
def test_frames_of_a_few_rows_have_no_cues(shape, rng) -> None:
    picture = rng.integers(0, 255, (*shape, 3), np.uint8)
    assert find_cues(*(np.roll(picture, k, axis=1) for k in range(3))) is None


def test_boxes_are_in_px_of_the_frame_however_large_it_is(scene) -> None:
    images, boxes = scene()
    large = [np.kron(image, np.ones((4, 4, 1), np.uint8)) for image in images[9:16:3]]
    cues = find_cues(*large)
    assert iou(cues.candidates[0].box_xywh, 4 * boxes[12]) > 0.5
    assert cues.support(4 * boxes[12])


def test_noise_in_a_flat_place_is_no_motion(scene, rng) -> None:
    # Flow is arbitrary where there is no texture: noise alone makes no candidate.
    images, _ = scene(camera_px=0.0, patch_px=(0.0, 0.0), frames=3)
    noisy = []
    for image in images:
        picture = image.copy()
        picture[90:130, 100:180] = 100
        noise = rng.normal(0, 1.5, image.shape)
        noisy.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
    cues = find_cues(*noisy)
    assert cues is None or not cues.candidates
