"""The budget: what fits is done, what does not waits, and nobody looks at a real clock."""

import numpy as np
import pytest

import siamtrack
from siamtrack.engines.base import Exemplar, Response
from siamtrack.models.lite0 import Lite0Config
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.redetection import Budget
from siamtrack.tracking.tracker import Tracker

FRAME = np.zeros((480, 640, 3), np.uint8)
OPTIONS = BoxHeadOptions(redetect_windows=6, lost_after=3, box_correction=0.0)
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
    engine, budget = BlindEngine(clock), Budget(limit_ms / 1e3, clock)
    tracker = Tracker(engine, OPTIONS, budget)
    tracker.init(FRAME, BOX)
    for _ in range(frames):
        tracker.update(FRAME)
    assert engine.seen[:3] == [1, 1, 1]
    return engine.seen[20:], budget


@pytest.mark.parametrize(("limit_ms", "windows"), [(100.0, 6), (18.0, 4), (12.0, 2), (8.5, 1)])
def test_as_many_windows_as_fit(clock, limit_ms, windows):
    """One window near takes 5 ms, every one elsewhere 3 ms."""
    crops, budget = crops_when_lost(clock, limit_ms)
    assert max(crops) <= 1 + windows
    assert crops[-1] == 1 + windows
    assert (budget.over, budget.frames) == (0, 60)


def test_without_room_the_box_is_followed_and_a_window_tried_now_and_then(clock):
    crops, budget = crops_when_lost(clock, 7.0, frames=200)
    assert set(crops) == {1, 2}
    assert crops.count(2) < 0.2 * len(crops)
    assert budget.over == crops.count(2)


def test_a_limit_that_cannot_be_kept_is_counted(clock):
    crops, budget = crops_when_lost(clock, 4.0)
    assert set(crops) == {1}
    assert budget.over == budget.frames == 60


def test_no_budget_changes_nothing(clock):
    engine = BlindEngine(clock)
    tracker = Tracker(engine, OPTIONS)
    tracker.init(FRAME, BOX)
    for _ in range(10):
        tracker.update(FRAME)
    assert tracker.budget is None
    assert engine.seen == [1, 1, 1] + [7] * 7


def test_one_hiccup_is_not_believed(clock):
    budget = Budget(0.012, clock)
    for took_s in (0.004, 0.004, 1.0, 0.004):
        with budget.frame():
            clock.now_s += took_s
    assert budget.over == 1
    with budget.frame():
        assert budget.grant(5) >= 1


def test_targets_share_one_budget(clock):
    engine, budget = BlindEngine(clock), Budget(0.016, clock)
    tracker = MultiTracker(lambda: Tracker(engine, OPTIONS, budget), budget)
    for shift in (0.0, 100.0):
        tracker.add(FRAME, (BOX[0] + shift, *BOX[1:]))
    for _ in range(40):
        tracker.update(FRAME)
    # Two windows near take 8 ms: two more fit, one more for the second target would not.
    assert engine.seen[:3] == [2, 2, 2]
    assert engine.seen[-1] == 4
    assert budget.over == 0


def test_the_option_makes_the_budget():
    tracker = siamtrack.load(device="cpu", engine="torch", budget_ms=12)
    assert tracker.budget.limit_s == pytest.approx(0.012)
    assert siamtrack.load(device="cpu", engine="torch").budget is None
    assert siamtrack.load_multi(device="cpu", engine="torch", budget_ms=12).budget.frames == 0
