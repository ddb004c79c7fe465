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
from siamtrack.tracking import redetection as scanning
from siamtrack.tracking.decode import BoxHead, ScalePyramid
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.redetection import count_close, next_windows, scan_centres


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


def looked_at(side, frame_wh, frames, nominees=()):
    """The windows of each frame, for three a frame."""
    found, scanned = [], 0
    for k in range(frames):
        nominee = nominees[k] if k < len(nominees) else None
        where = np.array([320.0, 240.0]), side, frame_wh
        windows = next_windows(*where, scanned=scanned, nominee_xy=nominee, count=3)
        scanned += len(windows) - (nominee is not None)
        found.append(windows)
    return found


def test_few_windows_are_looked_at_closely_round_and_round():
    grid = [tuple(c) for c in scan_centres(np.array([320.0, 240.0]), 200.0, (640, 480))]
    assert len(grid) <= scanning.FEW_WINDOWS
    rounds = -(-2 * len(grid) // 3)
    seen = [w for frame in looked_at(200.0, (640, 480), rounds) for w in frame]
    assert [tuple(c) for c, _ in seen[: 2 * len(grid)]] == grid * 2
    assert {side for _, side in seen} == {200.0}


def test_many_windows_become_fewer_and_larger_ones():
    side, frame_wh = 100.0, (1920, 1080)
    coarse = scan_centres(np.array([320.0, 240.0]), 200.0, frame_wh)
    assert 3.5 < len(scan_centres(np.zeros(2), side, frame_wh)) / len(coarse) < 4.5
    seen = [w for frame in looked_at(side, frame_wh, 4) for w in frame]
    assert [tuple(c) for c, _ in seen] == [tuple(c) for c in coarse[:12]]
    assert {side for _, side in seen} == {200.0}


def test_a_nominee_is_looked_at_closely_first_and_the_round_goes_on_after_it():
    first, second, third = looked_at(100.0, (1920, 1080), 3, [None, (900.0, 30.0), None])
    grid = [tuple(c) for c in scan_centres(np.array([320.0, 240.0]), 200.0, (1920, 1080))]
    assert [tuple(c) for c, _ in second] == [(900.0, 30.0), *grid[3:5]]
    assert [side for _, side in second] == [100.0, 200.0, 200.0]
    assert [tuple(c) for c, _ in first + third] == grid[:3] + grid[5:8]
    maps = [CropMap.around(c, side, 224) for c, side in second]
    assert count_close(CropMap.around((320, 240), 100, 224), maps) == 1
    assert (
        next_windows(np.zeros(2), 100.0, (640, 480), scanned=0, nominee_xy=(9.0, 9.0), count=0)
        == []
    )


def test_the_nominee_is_the_best_cell_of_all_coarse_windows():
    logits = np.full((2, 16, 16), -6.0, np.float32)
    logits[0, 3, 3], logits[1, 2, 15] = -1.0, -0.5
    response = Response(logits, np.full((2, 4, 16, 16), 32.0, np.float32), None)
    maps = [CropMap.around((x, 400), 512, 256) for x in (300, 900)]
    head = BoxHead(Lite0Config(), BoxHeadOptions())
    # Cell (2, 15) has its centre at crop (248, 40), a crop px is 2 of the frame.
    assert head.nominate(response, maps) == (900 - 256 + 496, 400 - 256 + 80)
    assert head.nominate(response.rows(0, 0), []) is None
    assert ScalePyramid(SiamFCConfig(), ScalePyramidOptions()).nominate(response, maps) is None


def test_scanning_takes_the_best_window_wherever_in_it_the_peak_is():
    logits = np.full((3, 16, 16), -6.0, np.float32)
    logits[1, 15, 0] = 3.0  # in a corner, where the cosine window is almost 0
    logits[2, 8, 8] = 2.0
    response = Response(logits, np.full((3, 4, 16, 16), 32.0, np.float32), None)
    maps = [CropMap.around((x, 100), 160, 256) for x in (100, 300, 500)]
    box = np.array([80.0, 80.0, 40.0, 40.0])
    head = BoxHead(Lite0Config(), BoxHeadOptions(window_influence=0.9, min_peak=0.99))
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
    tracker = siamtrack.load(device="cpu", redetect_windows=0)
    for image, box in vanishing_film(away_px=300):
        last = tracker.update(image) if tracker.initialised else tracker.init(image, box)
    assert last.status == "lost" and iou(last.box, box) < 0.1


def frames_until_found():
    """Frames until a small thing is found that comes back in another corner of a large frame."""
    scene = cv2.cvtColor(data.rocket(), cv2.COLOR_RGB2BGR)
    scene = cv2.resize(scene, (1600, 1000), interpolation=cv2.INTER_CUBIC)
    face = cv2.cvtColor(data.chelsea(), cv2.COLOR_RGB2BGR)[60:260, 130:330]
    face = cv2.resize(face, (60, 60), interpolation=cv2.INTER_AREA)
    tracker = siamtrack.load(device="cpu")
    for frame in range(70):
        image, (x, y) = scene.copy(), (1400, 820) if frame >= 30 else (100 + 2 * frame, 150)
        if frame < 10 or frame >= 30:
            image[y : y + 60, x : x + 60] = face
        if not tracker.initialised:
            tracker.init(image, (x, y, 60, 60))
            continue
        result = tracker.update(image)
        if frame == 29:
            assert result.status == "lost"
        if frame >= 30 and result.status == "tracked":
            assert iou(np.array(result.box), np.array([x, y, 60, 60])) > 0.5
            return frame - 30
    return None


@pytest.mark.slow
def test_a_large_frame_is_searched_sooner_in_coarse_windows_first(monkeypatch):
    coarse = frames_until_found()
    monkeypatch.setattr(scanning, "FEW_WINDOWS", 10**6)
    close = frames_until_found()
    assert coarse is not None and (close is None or coarse < close)
