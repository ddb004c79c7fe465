"""Looking for a lost target: the grid, and a thing that vanishes and returns elsewhere."""

import cv2
import numpy as np
import pytest
from skimage import data

import siamtrack
from siamtrack.engines.base import Response
from siamtrack.geometry import CropMap, iou
from siamtrack.models.lite0 import Lite0Config
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.tracking.localise import BoxHead, ScalePyramid
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.scanning import scan_centres


@pytest.mark.parametrize(
    ("side", "frame_wh"), [(100, (640, 480)), (300, (640, 480)), (700, (640, 480)), (64, (64, 64))]
)
def test_every_point_of_the_frame_is_well_inside_a_window(side, frame_wh):
    centres = np.array(scan_centres(np.array([10.0, 20.0]), side, frame_wh))
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (200, 2)) * frame_wh
    # Points near the rim of the frame are near the rim of their window; all others are not.
    inner = points[((points > side / 4) & (points < np.array(frame_wh) - side / 4)).all(axis=1)]
    distance = np.abs(inner[:, None] - centres[None]).max(axis=2).min(axis=1)
    assert (distance <= side / 4 + 1e-9).all()
    covered = np.abs(points[:, None] - centres[None]).max(axis=2).min(axis=1)
    assert (covered <= side / 2 + 1e-9).all()


def test_the_nearest_windows_come_first():
    centres = scan_centres(np.array([600.0, 400.0]), 100, (640, 480))
    distances = [np.hypot(*(c - [600, 400])) for c in centres]
    assert distances == sorted(distances)
    assert len({tuple(c) for c in centres}) == len(centres)


def test_a_window_larger_than_the_frame_is_one_window_in_its_middle():
    assert np.array(scan_centres(np.zeros(2), 900, (640, 480))).tolist() == [[320, 240]]


def test_scanning_takes_the_best_window_wherever_in_it_the_peak_is():
    logits = np.full((3, 16, 16), -6.0, np.float32)
    logits[1, 15, 0] = 3.0  # in a corner, where the cosine window is almost 0
    logits[2, 8, 8] = 2.0
    response = Response(logits, np.full((3, 4, 16, 16), 32.0, np.float32), None)
    maps = [CropMap.around((x, 100), 160, 256) for x in (100, 300, 500)]
    box = np.array([80.0, 80.0, 40.0, 40.0])
    head = BoxHead(Lite0Config(), BoxHeadOptions(window_influence=0.9, hold_below=0.99))
    found = head.scan(response, maps, box)
    assert found.peak_logit == 3.0
    centre = found.box_xywh[:2] + found.box_xywh[2:] / 2
    # Cell (15, 0) has its centre at crop (8, 248).
    np.testing.assert_allclose(centre, [220 + 8 * 0.625, 20 + 248 * 0.625], atol=0.01)
    assert head.scan(response.rows(0, 0), [], box) is None


def test_siamfc_does_not_scan():
    loop = ScalePyramid(SiamFCConfig(), ScalePyramidOptions())
    response = Response(np.zeros((1, 17, 17), np.float32), None, None)
    assert loop.scan(response, [CropMap.around((0, 0), 100, 255)], np.ones(4)) is None


def vanishing_film(away_px):
    """A cat's face on a photograph: 15 frames there, 30 away, 40 back, `away_px` to the right."""
    background = cv2.cvtColor(data.rocket(), cv2.COLOR_RGB2BGR)
    face = cv2.resize(cv2.cvtColor(data.chelsea(), cv2.COLOR_RGB2BGR)[60:260, 130:330], (70, 70))
    for frame in range(85):
        image = background.copy()
        x = 60 + 2 * frame + (away_px if frame >= 45 else 0)
        there = frame < 15 or frame >= 45
        if there:
            image[150:220, x : x + 70] = face
        yield image, (x, 150, 70, 70) if there else None


@pytest.fixture(scope="module")
def returned():
    """Results and truth of a film in which the thing comes back far from where it was."""
    tracker = siamtrack.load(device="cpu")
    results, truth = [], []
    for image, box in vanishing_film(away_px=300):
        results.append(tracker.update(image) if tracker.initialised else tracker.init(image, box))
        truth.append(box)
    return results, truth


def test_a_thing_that_vanished_is_called_lost(returned):
    results, _ = returned
    assert {r.status for r in results[1:15]} == {"tracked"}
    statuses = [r.status for r in results[15:45]]
    assert "lost" in statuses[:15]
    first = statuses.index("lost")
    assert set(statuses[first:]) == {"lost"}
    assert max(r.score for r in results[20:45]) < 0.5
    # It was seen nowhere, so the box stays where it was.
    assert len({r.box for r in results[15 + first : 45]}) == 1


def test_it_is_found_again_elsewhere(returned):
    results, truth = returned
    back = [iou(r.box, box) > 0.5 for r, box in zip(results[45:], truth[45:], strict=True)]
    assert any(back[:30]) and all(back[-5:])
    assert results[-1].status == "tracked"


def test_without_scanning_it_is_not():
    tracker = siamtrack.load(device="cpu", scan_crops=0)
    for image, box in vanishing_film(away_px=300):
        last = tracker.update(image) if tracker.initialised else tracker.init(image, box)
    assert last.status == "lost" and iou(last.box, box) < 0.1
