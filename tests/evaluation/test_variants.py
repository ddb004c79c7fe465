"""Ways of running: perturbed first boxes, restarts, corrupted pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation.runs import (
    CORRUPTIONS,
    FAMILIES,
    STRENGTHS,
    corrupt,
    variant_named,
    variants_of,
)

BOX = np.array([100.0, 50.0, 40.0, 20.0])
SEEN = np.ones(100, dtype=bool)


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("ope", [100, 50, 40, 20]),
        ("sre-left", [96, 50, 40, 20]),
        ("sre-down", [100, 52, 40, 20]),
        ("sre-up-right", [104, 48, 40, 20]),
        ("sre-scale-0.8", [104, 52, 32, 16]),
        ("sre-scale-1.2", [96, 48, 48, 24]),
    ],
)
def test_first_boxes_are_shifted_by_a_tenth_or_scaled_about_the_centre(name, box):
    np.testing.assert_allclose(variant_named(name).first_box(BOX), box)


def test_sre_has_eight_shifts_and_four_scales_all_different():
    boxes = {tuple(variant.first_box(BOX)) for variant in variants_of("sre")}
    assert len(boxes) == 12 and tuple(BOX) not in boxes


def test_the_first_box_is_a_copy():
    variant_named("ope").first_box(BOX)[:] = 0
    assert BOX[0] == 100


def test_tre_starts_are_spread_over_the_sequence():
    starts = [variant.start_frame(SEEN) for variant in variants_of("tre")]
    assert starts == list(range(0, 100, 5))


def test_a_restart_waits_for_the_target_and_never_has_nothing_left():
    visible = SEEN.copy()
    visible[48:60] = False
    visible[80:] = False
    starts = {v.name: v.start_frame(visible) for v in variants_of("tre")}
    assert starts["tre-10"] == 60
    assert starts["tre-19"] == 78  # one visible frame must remain after it


def test_a_target_seen_once_cannot_be_restarted_on():
    with pytest.raises(EvaluationError, match="two frames"):
        variant_named("tre-03").start_frame(np.arange(10) == 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_find_their_variants(family):
    for variant in variants_of(family, fps=29.97):
        assert variant_named(variant.name) == variant


def test_unknown_names_are_refused_with_what_there_is():
    with pytest.raises(ConfigError, match="did you mean 'sre-left'"):
        variant_named("sre-lefft")
    with pytest.raises(ConfigError, match="unknown protocol 'opa'; did you mean 'ope'"):
        variants_of("opa")
    with pytest.raises(ConfigError, match="positive rate"):
        variants_of("realtime", fps=0)


@pytest.fixture
def scene(rng):
    blocks = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(blocks, (160, 120), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_get_worse_with_strength_and_keep_the_picture(kind, scene):
    before = scene.copy()
    damage = []
    for strength in range(1, STRENGTHS + 1):
        worse = corrupt(scene, kind, strength, "walk", 3)
        assert worse.dtype == np.uint8 and worse.shape == scene.shape
        damage.append(np.abs(worse.astype(float) - scene).mean())
    assert damage[0] > 0 and damage == sorted(damage)
    np.testing.assert_array_equal(scene, before)


def test_noise_depends_on_sequence_and_frame_and_on_nothing_else(scene):
    grain = [corrupt(scene, "noise", 2, name, frame) for name, frame in
             [("walk", 3), ("walk", 3), ("walk", 4), ("run", 3)]]  # fmt: skip
    np.testing.assert_array_equal(grain[0], grain[1])
    assert (grain[0] != grain[2]).any() and (grain[0] != grain[3]).any()
