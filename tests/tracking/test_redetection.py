"""Re-detection: the search grid, recovery elsewhere, verification against distractors, time.

Films are followed in f32 with ONNX Runtime: `auto` depends on the CPU, and bf16 decides otherwise
where a rule of the loop is close to its limit.
"""

import cv2
import numpy as np
import pytest
from skimage import data

import siamtrack
from siamtrack.engines.base import Exemplar, Response
from siamtrack.geometry import CropMap, iou
from siamtrack.models.lite0 import Lite0Config
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.tracking import redetection
from siamtrack.tracking.decode import Prediction, calibrated_score
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.online_filter import FilterResponse
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.redetection import (
    TimeBudget,
    Verification,
    accept_redetection,
    best_coarse_center,
    count_fine,
    decode_redetection,
    grid_centers,
    is_reachable,
    next_grid_windows,
    next_verification,
    should_switch_target,
)
from siamtrack.tracking.tracker import Tracker


@pytest.mark.parametrize(
    ("side", "frame_wh"), [(100, (640, 480)), (300, (640, 480)), (700, (640, 480)), (64, (64, 64))]
)
def test_every_point_of_the_frame_is_well_inside_a_window(side, frame_wh):
    centers = np.array(grid_centers(np.array([10.0, 20.0]), side, frame_wh))
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (200, 2)) * frame_wh
    # Points near the rim of the frame are near the rim of their window; all others are not.
    inner = points[((points > side / 4) & (points < np.array(frame_wh) - side / 4)).all(axis=1)]
    distance = np.abs(inner[:, None] - centers[None]).max(axis=2).min(axis=1)
    assert (distance <= side / 4 + 1e-9).all()
    covered = np.abs(points[:, None] - centers[None]).max(axis=2).min(axis=1)
    assert (covered <= side / 2 + 1e-9).all()


def test_grid_centers_are_sorted_by_distance():
    centers = grid_centers(np.array([600.0, 400.0]), 100, (640, 480))
    distances = [np.hypot(*(c - [600, 400])) for c in centers]
    assert distances == sorted(distances)
    assert len({tuple(c) for c in centers}) == len(centers)


def test_a_window_larger_than_the_frame_is_one_window_in_its_middle():
    assert np.array(grid_centers(np.zeros(2), 900, (640, 480))).tolist() == [[320, 240]]


def visited(side, frame_wh, frames, fine_centers=()):
    """The windows of each frame, for three a frame."""
    found, grid_index = [], 0
    for k in range(frames):
        fine_center = fine_centers[k] if k < len(fine_centers) else None
        where = np.array([320.0, 240.0]), side, frame_wh
        windows = next_grid_windows(
            *where, grid_index=grid_index, refine_center_xy=fine_center, count=3
        )
        grid_index += len(windows) - (fine_center is not None)
        found.append(windows)
    return found


def test_a_small_grid_is_visited_in_fine_windows_again_and_again():
    grid = [tuple(c) for c in grid_centers(np.array([320.0, 240.0]), 200.0, (640, 480))]
    assert len(grid) <= redetection.MAX_FINE_WINDOWS
    rounds = -(-2 * len(grid) // 3)
    seen = [w for frame in visited(200.0, (640, 480), rounds) for w in frame]
    assert [tuple(c) for c, _ in seen[: 2 * len(grid)]] == grid * 2
    assert {side for _, side in seen} == {200.0}


def test_a_large_grid_is_visited_in_coarse_windows():
    side, frame_wh = 100.0, (1920, 1080)
    coarse = grid_centers(np.array([320.0, 240.0]), 200.0, frame_wh)
    assert 3.5 < len(grid_centers(np.zeros(2), side, frame_wh)) / len(coarse) < 4.5
    seen = [w for frame in visited(side, frame_wh, 4) for w in frame]
    assert [tuple(c) for c, _ in seen] == [tuple(c) for c in coarse[:12]]
    assert {side for _, side in seen} == {200.0}


def test_the_fine_window_comes_first_and_the_grid_goes_on_after_it():
    first, second, third = visited(100.0, (1920, 1080), 3, [None, (900.0, 30.0), None])
    grid = [tuple(c) for c in grid_centers(np.array([320.0, 240.0]), 200.0, (1920, 1080))]
    assert [tuple(c) for c, _ in second] == [(900.0, 30.0), *grid[3:5]]
    assert [side for _, side in second] == [100.0, 200.0, 200.0]
    assert [tuple(c) for c, _ in first + third] == grid[:3] + grid[5:8]
    maps = [CropMap.around(c, side, 224) for c, side in second]
    assert count_fine(CropMap.around((320, 240), 100, 224), maps) == 1
    assert (
        next_grid_windows(
            np.zeros(2), 100.0, (640, 480), grid_index=0, refine_center_xy=(9.0, 9.0), count=0
        )
        == []
    )


def test_the_best_coarse_center_is_the_best_cell_of_all_coarse_windows():
    logits = np.full((2, 16, 16), -6.0, np.float32)
    logits[0, 3, 3], logits[1, 2, 15] = -1.0, -0.5
    response = Response(logits, np.full((2, 4, 16, 16), 32.0, np.float32), None)
    maps = [CropMap.around((x, 400), 512, 256) for x in (300, 900)]
    # Cell (2, 15) has its center at crop (248, 40), a crop px is 2 of the frame.
    assert best_coarse_center(response, maps, Lite0Config()) == (900 - 256 + 496, 400 - 256 + 80)
    assert best_coarse_center(response[:0], [], Lite0Config()) is None


def test_redetection_takes_the_best_window_wherever_in_it_the_peak_is():
    logits = np.full((3, 16, 16), -6.0, np.float32)
    logits[1, 15, 0] = 3.0  # in a corner, where the cosine window is almost 0
    logits[2, 8, 8] = 2.0
    response = Response(logits, np.full((3, 4, 16, 16), 32.0, np.float32), None)
    maps = [CropMap.around((x, 100), 160, 256) for x in (100, 300, 500)]
    box = np.array([80.0, 80.0, 40.0, 40.0])
    options = BoxHeadOptions(window_influence=0.9, min_peak=0.99)
    found = decode_redetection(response, maps, box, Lite0Config(), options)
    assert found.peak_logit == 3.0
    center = found.box_xywh[:2] + found.box_xywh[2:] / 2
    # Cell (15, 0) has its center at crop (8, 248).
    np.testing.assert_allclose(center, [220 + 8 * 0.625, 20 + 248 * 0.625], atol=0.01)


def test_with_the_filter_redetection_takes_the_window_with_the_filters_highest_peak():
    """The network responds most in the last one."""
    logits = np.full((3, 16, 16), -6.0, np.float32)
    logits[1, 15, 0], logits[2, 8, 8] = 2.0, 5.0
    response = Response(logits, np.full((3, 4, 16, 16), 32.0, np.float32), None)
    maps = [CropMap.around((x, 100), 160, 256) for x in (100, 300, 500)]
    filtered = [FilterResponse(*np.zeros((2, 16, 16), np.float32)) for _ in maps]
    filtered[1].mixed[15, 0], filtered[1].first[15, 0] = 0.8, 0.6
    filtered[2].mixed[8, 8], filtered[2].first[8, 8] = 0.3, 0.9
    box = np.array([80.0, 80.0, 40.0, 40.0])
    options = BoxHeadOptions(window_influence=0.9, min_peak=0.99)
    found = decode_redetection(response, maps, box, Lite0Config(), options, filtered)
    assert (found.window, found.cell, found.peak_logit) == (1, (15, 0), 2.0)
    assert found.filter_peak == pytest.approx(0.8) and found.similarity == pytest.approx(0.6)
    np.testing.assert_allclose(
        found.box_xywh[:2] + found.box_xywh[2:] / 2, [220 + 8 * 0.625, 20 + 248 * 0.625], atol=0.01
    )


def test_the_reach_of_a_lost_target_grows_from_half_a_window():
    """In a window of 160 px around (100, 80); distances are of the centers."""
    last, window = np.array([80.0, 70.0, 40.0, 20.0]), CropMap.around((100, 80), 160, 256)

    def reach(frames):
        return 160 * (0.5 + redetection.REACH_GROWTH * frames)

    for frames in (0, 1, 20, redetection.ANYWHERE_AFTER - 1):
        for angle in (0.0, 2.0, 4.5):
            way = np.array([np.cos(angle), np.sin(angle)])
            for factor in (0.99, 1.01):
                center = np.array([100, 80]) + factor * reach(frames) * way
                box = np.array([*(center - (15, 25)), 30, 50])
                assert is_reachable(box, last, window, frames) == (factor < 1)
    far = np.array([9000.0, 0, 30, 50])
    assert is_reachable(far, last, window, redetection.ANYWHERE_AFTER)


def test_a_lost_target_moves_only_to_a_certain_and_similar_prediction():
    options = BoxHeadOptions(online_filter=False, redetect_score=0.6, redetect_similarity=0.8)
    found = Prediction(np.zeros(4), peak_logit=2.0, similarity=0.5)
    assert accept_redetection(found, 0.6, options)
    assert not accept_redetection(found, 0.7, options)
    assert not accept_redetection(found._replace(peak_logit=0.3), 0.6, options)


PLAIN = BoxHeadOptions(online_filter=False, switch_score=0.9)


def prediction(x, score):
    """A prediction at x with that score."""
    found = Prediction(np.array([x, 0.0, 10.0, 10.0]), float(np.log(score / (1 - score))))
    assert calibrated_score(found, PLAIN) == pytest.approx(score)
    return found


def test_only_a_better_match_on_another_object_replaces_a_recovered_target():
    def switches(here, there, mean=0.1, x=50):
        remote, local = prediction(x, there), prediction(0, here)
        return should_switch_target(remote, local, Verification(9, mean), PLAIN)

    assert switches(0.94, 0.95) and not switches(0.95, 0.9499)
    assert switches(0.1, 0.901) and not switches(0.1, 0.89)
    assert not switches(0.1, 0.95, mean=0.96)
    assert not switches(0.1, 0.95, x=3)  # the same object


def test_a_lost_target_takes_the_higher_score():
    for here, there in ((0.5, 0.6), (0.6, 0.5)):
        remote, local = prediction(0, there), prediction(0, here)
        assert should_switch_target(remote, local, None, PLAIN) == (there > here)


def test_siamfc_does_not_search_elsewhere():
    class Lost(BlindEngine):
        config = SiamFCConfig()

        def track(self, exemplar, crops):
            self.seen.append(len(crops))
            return Response(np.full((len(crops), 17, 17), -9.0, np.float32), None, None)

    engine = Lost(Clock())
    tracker = Tracker(engine, ScalePyramidOptions(lost_after=2))
    tracker.init(FRAME, BOX)
    results = [tracker.update(FRAME) for _ in range(6)]
    assert results[-1].status == "lost" and set(engine.seen) == {3}


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
    """Results and truth of a film in which the thing comes back out of the last box's window."""
    tracker = siamtrack.load(device="cpu", engine="onnx")
    results, truth = [], []
    for image, box in vanishing_film(away_px=110):
        results.append(
            tracker.update(image) if tracker.is_initialized else tracker.init(image, box)
        )
        truth.append(box)
    return results, truth


def test_a_vanished_target_is_lost(returned):
    results, _ = returned
    assert {r.status for r in results[1:15]} == {"tracked"}
    statuses = [r.status for r in results[15:45]]
    assert "lost" in statuses[:15]
    first = statuses.index("lost")
    assert set(statuses[first:]) == {"lost"}
    assert max(r.score for r in results[20:45]) < 0.5
    # It was seen nowhere, so the box stays where it was.
    assert len({r.box for r in results[15 + first : 45]}) == 1


def test_it_is_recovered_elsewhere(returned):
    results, truth = returned
    back = [iou(r.box, box) > 0.5 for r, box in zip(results[45:], truth[45:], strict=True)]
    assert any(back[:30]) and all(back[-5:])
    assert results[-1].status == "tracked"


def test_without_redetection_it_is_not():
    tracker = siamtrack.load(device="cpu", engine="onnx", redetect_windows=0)
    for image, box in vanishing_film(away_px=300):
        last = tracker.update(image) if tracker.is_initialized else tracker.init(image, box)
    assert last.status == "lost" and iou(last.box, box) < 0.1


def frames_until_found():
    """Frames until a small thing is found that comes back in another corner of a large frame."""
    scene = cv2.cvtColor(data.rocket(), cv2.COLOR_RGB2BGR)
    scene = cv2.resize(scene, (1600, 1000), interpolation=cv2.INTER_CUBIC)
    face = cv2.cvtColor(data.chelsea(), cv2.COLOR_RGB2BGR)[60:260, 130:330]
    face = cv2.resize(face, (60, 60), interpolation=cv2.INTER_AREA)
    tracker = siamtrack.load(device="cpu", engine="onnx")
    for frame in range(70):
        image, (x, y) = scene.copy(), (1400, 820) if frame >= 30 else (100 + 2 * frame, 150)
        if frame < 10 or frame >= 30:
            image[y : y + 60, x : x + 60] = face
        if not tracker.is_initialized:
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
def test_coarse_windows_find_a_target_sooner_in_a_large_frame(monkeypatch):
    monkeypatch.setattr(redetection, "ANYWHERE_AFTER", 0)  # not only near the last place
    coarse = frames_until_found()
    monkeypatch.setattr(redetection, "MAX_FINE_WINDOWS", 10**6)
    close = frames_until_found()
    assert coarse is not None and (close is None or coarse < close)


SIDE_PX = 70
GONE, ALIKE, BACK, END = 15, 30, 50, 80  # frames


LIKE, TARGET = (80, 250, SIDE_PX, SIDE_PX), (420, 40, SIDE_PX, SIDE_PX)


def distractor_film(other):
    """A cat's face leaves, something like it appears, then it comes back itself, elsewhere."""
    background = cv2.cvtColor(data.rocket(), cv2.COLOR_RGB2BGR)
    face = cv2.cvtColor(data.chelsea(), cv2.COLOR_RGB2BGR)[60:260, 130:330]
    face = cv2.resize(face, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    for frame in range(END):
        image = background.copy()
        x, y = (60 + 2 * frame, 150) if frame < GONE else TARGET[:2]
        if frame < GONE or frame >= BACK:
            image[y : y + SIDE_PX, x : x + SIDE_PX] = face
        if frame >= ALIKE:
            image[LIKE[1] : LIKE[1] + SIDE_PX, LIKE[0] : LIKE[0] + SIDE_PX] = other(face)
        yield image, (x, y, SIDE_PX, SIDE_PX)


def blurred(face):
    return cv2.GaussianBlur(face, (0, 0), 3)


def other_colors(face):
    return np.ascontiguousarray(cv2.flip(face, 1)[..., ::-1])


def followed(other, **options):
    """Results, and which of the two the box is on: "like", "target" or None."""
    tracker = siamtrack.load(device="cpu", engine="onnx", **options)
    results = []
    for image, box in distractor_film(other):
        results.append(
            tracker.update(image) if tracker.is_initialized else tracker.init(image, box)
        )
    on = [
        next((n for n, b in (("like", LIKE), ("target", TARGET)) if iou(r.box, b) > 0.5), None)
        for r in results
    ]
    return results, on


def test_a_thing_of_other_colors_is_not_taken_for_the_target():
    _, on = followed(other_colors)
    assert "like" not in on


def test_the_target_takes_over_from_a_recovered_distractor():
    results, on = followed(blurred, verify_frames=60, redetect_windows=3)
    assert "lost" in {r.status for r in results[GONE:ALIKE]}
    assert on[BACK - 1] == "like"  # there is nothing better yet
    assert "target" in on[BACK : BACK + 10]
    assert set(on[BACK + 10 :]) == {"target"}
    assert results[-1].status == "tracked"


@pytest.mark.parametrize("options", [{"verify_frames": 0}, {"switch_score": 1.0}])
def test_without_verification_it_never_does(options):
    _, on = followed(blurred, **options)
    assert set(on[BACK:]) == {"like"}


def test_verification_ends_and_the_search_with_it():
    tracker = siamtrack.load(device="cpu", engine="onnx", verify_frames=10, redetect_windows=3)
    windows = []
    for image, box in distractor_film(blurred):
        if not tracker.is_initialized:
            tracker.init(image, box)
            continue
        windows.append(len(tracker.crop_search_windows(image)[1]))
        tracker.update(image)
    found = windows.index(4)  # the first frame in which it was lost
    assert set(windows[:found]) == {1}
    assert sum(count == 4 for count in windows[ALIKE:]) <= 10 + 5
    assert set(windows[-30:]) == {1}


@pytest.mark.parametrize(
    ("current", "before", "now", "switched", "expected"),
    [
        (None, "tracked", "tracked", False, None),
        (None, "tracked", "lost", False, None),
        (None, "lost", "lost", False, None),
        (None, "lost", "tracked", False, (60, 0.8)),
        (Verification(60, 0.7), "tracked", "uncertain", False, (59, 0.71)),
        (Verification(1, 0.7), "tracked", "tracked", False, None),
        (Verification(5, 0.7), "tracked", "tracked", True, (60, 0.8)),
        (Verification(5, 0.7), "uncertain", "lost", False, None),
    ],
)
def test_verification_starts_with_a_recovery_and_ends(current, before, now, switched, expected):
    after = next_verification(current, before, now, 0.8, switched=switched, frames=60)
    if expected is None:
        assert after is None
    else:
        assert (after.frames_left, after.mean_score) == (expected[0], pytest.approx(expected[1]))


def test_no_verification_of_0_frames():
    assert next_verification(None, "lost", "tracked", 0.8, switched=False, frames=0) is None


FRAME = np.zeros((480, 640, 3), np.uint8)
OPTIONS = BoxHeadOptions(redetect_windows=6, lost_after=3, box_correction=0.0, online_filter=False)
BOX = (300.0, 200.0, 40.0, 40.0)


class Clock:
    """Shows the time it was set to."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class BlindEngine:
    """Never sees a target; every call takes 2 ms and 3 more for each crop."""

    name, precision, device, architecture = "blind", "f32", "cpu", "none"
    config = Lite0Config()

    def __init__(self, clock):
        self.clock, self.seen = clock, []

    def embed_exemplar(self, crops, boxes_xywh):
        return Exemplar((), 1)

    def stack(self, exemplars):
        return exemplars[0]

    def track(self, exemplar, crops):
        self.seen.append(len(crops))
        self.clock.now_s += 0.002 + 0.003 * len(crops)
        count = len(crops)
        return Response(
            np.full((count, 16, 16), -9.0, np.float32),
            np.full((count, 4, 16, 16), 40.0, np.float32),
            np.zeros((count, 16, 16), np.float32),
        )


@pytest.fixture
def clock():
    return Clock()


def crops_when_lost(clock, limit_ms, frames=60):
    """Crops per frame once the target is lost, and the budget."""
    engine, budget = BlindEngine(clock), TimeBudget(limit_ms / 1e3, clock)
    tracker = Tracker(engine, OPTIONS, budget)
    tracker.init(FRAME, BOX)
    for _ in range(frames):
        tracker.update(FRAME)
    assert engine.seen[:3] == [1, 1, 1]
    return engine.seen[20:], budget


@pytest.mark.parametrize(("limit_ms", "windows"), [(100.0, 6), (18.0, 4), (12.0, 2), (8.5, 1)])
def test_as_many_windows_as_fit_into_the_time(clock, limit_ms, windows):
    """One window near takes 5 ms, every one elsewhere 3 ms."""
    crops, budget = crops_when_lost(clock, limit_ms)
    assert max(crops) <= 1 + windows
    assert crops[-1] == 1 + windows
    assert (budget.exceeded, budget.frames) == (0, 60)


def test_without_time_for_a_window_one_is_tried_now_and_then(clock):
    crops, budget = crops_when_lost(clock, 7.0, frames=200)
    assert set(crops) == {1, 2}
    assert crops.count(2) < 0.2 * len(crops)
    assert budget.exceeded == crops.count(2)


def test_exceeded_limits_are_counted(clock):
    crops, budget = crops_when_lost(clock, 4.0)
    assert set(crops) == {1}
    assert budget.exceeded == budget.frames == 60


def test_without_a_budget_all_windows_are_visited(clock):
    engine = BlindEngine(clock)
    tracker = Tracker(engine, OPTIONS)
    tracker.init(FRAME, BOX)
    for _ in range(10):
        tracker.update(FRAME)
    assert tracker.budget is None
    assert engine.seen == [1, 1, 1] + [7] * 7


def test_one_slow_frame_does_not_stop_redetection(clock):
    budget = TimeBudget(0.012, clock)
    for took_s in (0.004, 0.004, 1.0, 0.004):
        with budget.frame():
            clock.now_s += took_s
    assert budget.exceeded == 1
    with budget.frame():
        assert budget.allowed_windows(5) >= 1


def test_targets_share_one_budget(clock):
    engine, budget = BlindEngine(clock), TimeBudget(0.016, clock)
    tracker = MultiTracker(lambda: Tracker(engine, OPTIONS, budget), budget)
    for shift in (0.0, 100.0):
        tracker.add(FRAME, (BOX[0] + shift, *BOX[1:]))
    for _ in range(40):
        tracker.update(FRAME)
    # Two windows near take 8 ms: two more fit, one more for the second target would not.
    assert engine.seen[:3] == [2, 2, 2]
    assert engine.seen[-1] == 4
    assert budget.exceeded == 0


def test_budget_ms_makes_the_budget():
    tracker = siamtrack.load(device="cpu", engine="torch", budget_ms=12)
    assert tracker.budget.limit_s == pytest.approx(0.012)
    assert siamtrack.load(device="cpu", engine="torch").budget is None
    assert siamtrack.load_multi(device="cpu", engine="torch", budget_ms=12).budget.frames == 0
