"""A steady target is looked at in a smaller window, and in the whole one when that is not enough.

The engine is a fake that sees every colored thing and notes the crops that it gets. The whole
window shows 90 frame px on either side of the target's center, the near one 50.
"""

import copy
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.engines.base import Exemplar, Response
from siamtrack.geometry import iou
from siamtrack.models.lite0 import Lite0Config
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.near_window import WHOLE_FRAMES, is_clear, is_steady, motion_of_late
from siamtrack.tracking.online_filter import UPDATE_INTERVAL, FilterResponse
from siamtrack.tracking.reading import Reading, read_each
from siamtrack.tracking.tracker import StatusFilter, Tracker
from tests.tracking.test_filtered_tracking import (
    BLUE,
    GREEN,
    OTHER_SEED,
    RED,
    SIZE_PX,
    Colors,
    Film,
    assert_learned,
    box_at,
    ground,
    options,
    scene,
)

STRIDE_PX, WHOLE, NEAR = 16, 144, 80


class Notes(Colors):
    """Takes crops of any size.

    `looked` has the number and the side of the crops of every call.
    """

    def __init__(self, *, any_search_size=True, broken=()):
        self.any_search_size, self.broken = any_search_size, broken  # sides that give NaN
        self.looked = []

    def stack(self, exemplars):
        return Exemplar((), sum(exemplar.targets for exemplar in exemplars))

    def track(self, exemplar, crops):
        (side,) = {len(crop) for crop in crops}
        self.looked.append((len(crops), side))
        logits, ltrb, features = (np.stack(v) for v in zip(*map(self._one, crops), strict=True))
        if side in self.broken:
            logits[:, 0, 0] = np.nan
        return Response(logits, ltrb, np.ones_like(logits), features)


LARGE = (480, 480)
HERE = (240, 240)


def started(engine=None, *, at=HERE, size=LARGE, **changes):
    engine = engine or Notes()
    tracker = Tracker(engine, options(**changes))
    tracker.init(scene((GREEN, *at), size=size), box_at(*at))
    engine.looked.clear()
    return tracker


def looks(tracker, frame):
    """Sides of the crops of each call for one frame, and the result."""
    tracker.engine.looked.clear()
    result = tracker.update(frame)
    return [side for _, side in tracker.engine.looked], result


def steady(engine=None, *, frames=3, **changes):
    """A tracker whose next frame is looked at in the near window."""
    at, size = changes.get("at", HERE), changes.get("size", LARGE)
    tracker = started(engine, **changes)
    for _ in range(frames):
        tracker.update(scene((GREEN, *at), size=size))
    tracker.engine.looked.clear()
    return tracker


# --- When -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "whole"), [(5, [1, 5, 10, 15]), (2, [1, *range(2, 17, 2)])])
def test_a_steady_target_gets_the_whole_window_every_few_frames(every, whole):
    """And in the first frame, since nothing is known of its motion yet."""
    tracker = started(whole_window_every=every)
    seen = [looks(tracker, scene((GREEN, *HERE), size=LARGE))[0] for _ in range(16)]
    assert seen == [[WHOLE] if number in whole else [NEAR] for number in range(1, 17)]


@pytest.mark.parametrize("rival", [(60, 140, 60), None])
def test_a_near_window_does_not_raise_the_score(rival):
    """What is somewhat like the target is in the whole window alone, at its border."""
    things = [(GREEN, *HERE)] + ([(rival, HERE[0] + 75, HERE[1] + 75)] if rival else [])
    frame = scene(*things, size=LARGE)
    tracker = steady(whole_window_every=6, filter_min_peak=2.0)  # nothing is learned
    seen = [looks(tracker, frame) for _ in range(18)][6:]  # a whole window has been looked at
    near = [result.score for sides, result in seen if sides == [NEAR]]
    whole = [result.score for sides, result in seen if sides == [WHOLE]]
    assert near and whole
    assert max(near) == pytest.approx(whole[-1], abs=2e-4)
    if rival:
        alone = steady().update(scene((GREEN, *HERE), size=LARGE)).score
        assert whole[-1] < alone - 8e-4


def test_by_default_there_are_several_near_windows_to_a_whole_one():
    tracker = started()
    seen = [looks(tracker, scene((GREEN, *HERE), size=LARGE))[0] for _ in range(36)]
    assert seen.count([NEAR]) >= 24 and seen.count([WHOLE]) >= 2
    assert seen.count([NEAR]) + seen.count([WHOLE]) == 36


@pytest.mark.parametrize("changes", [{"whole_window_every": 1}, {"online_filter": False}])
def test_there_are_none_where_every_frame_gets_the_whole_one_or_no_filter_judges(changes):
    tracker = started(**changes)
    for _ in range(20):
        assert looks(tracker, scene((GREEN, *HERE), size=LARGE))[0] == [WHOLE]


def test_an_engine_that_does_not_say_that_it_takes_other_sizes_gets_the_whole_one():
    """As engines of users do, which know nothing of it."""
    engine = Notes()
    del engine.any_search_size
    for one in (engine, Notes(any_search_size=False)):
        tracker = started(one)
        for step in range(20):
            sides, result = looks(tracker, scene((GREEN, 240 + step, 240), size=LARGE))
            assert sides == [WHOLE]
        assert iou(result.box, box_at(259, 240)) > 0.9


@pytest.mark.parametrize("search", [128, 144])
def test_a_network_with_a_search_crop_that_is_hardly_larger_has_no_near_one(search):
    engine = Notes()
    engine.config = Lite0Config(exemplar_size_px=128, search_size_px=search)
    tracker = started(engine)
    for _ in range(12):
        assert looks(tracker, scene((GREEN, *HERE), size=LARGE))[0] == [search]


@pytest.mark.parametrize(("step", "near"), [(4, True), (12, False)])
def test_a_fast_target_gets_whole_windows(step, near):
    """A tenth of the exemplar's window is 8 px."""
    tracker = started(at=(60, 240))
    places = [60 + step * k for k in range(1, 30)]
    seen = [looks(tracker, scene((GREEN, x, 240), size=LARGE))[0] for x in places]
    assert ([NEAR] in seen[1:]) == near
    assert near or seen == [[WHOLE]] * len(places)
    assert iou(tracker.state.box_xywh, box_at(places[-1], 240)) > 0.8


def test_a_target_that_stops_gets_near_windows_again():
    tracker = started(at=(60, 240))
    for k in range(1, 15):
        tracker.update(scene((GREEN, 60 + 12 * k, 240), size=LARGE))
    seen = [looks(tracker, scene((GREEN, 228, 240), size=LARGE))[0] for _ in range(8)]
    assert seen[0] == [WHOLE] and seen[-1] == [NEAR]
    first = seen.index([NEAR])
    assert all(sides == [WHOLE] for sides in seen[:first])


def bar(w, h):
    """A green bar in the middle of a large frame, and its box."""
    frame = ground(size=(480, 960))
    left, top = 480 - w // 2, 240 - h // 2
    frame[top : top + h, left : left + w] = GREEN
    return frame, (left, top, w, h)


@pytest.mark.parametrize(("w", "h", "near"), [(80, 80, True), (80, 50, True), (360, 16, False)])
def test_a_target_that_does_not_fit_gets_whole_windows(w, h, near):
    """The exemplar's window of the long bar is 324 px, the near one 405: 180 + 32 are left."""
    frame, box = bar(w, h)
    tracker = Tracker(Notes(), options(whole_window_every=100, box_correction=0.0))
    tracker.init(frame, box)
    seen = [looks(tracker, frame)[0] for _ in range(10)]
    assert [result[-1] for result in seen[3:]] == [NEAR if near else WHOLE] * 7
    assert tracker.state.last_prediction.filter_peak > 0.5  # it is clearly seen
    assert iou(tracker.state.box_xywh, box) > 0.8


def test_a_look_alike_in_the_window_and_for_a_few_frames_after_it_gets_whole_windows():
    """It is out of the near window, in which it would not be noticed."""
    tracker = steady(whole_window_every=6, frames=5)
    pair = scene((GREEN, *HERE), (GREEN, 240 + 66, 240), size=LARGE)
    seen = [looks(tracker, pair)[0] for _ in range(20)]
    assert seen == [[WHOLE]] * 20
    tracker.set_state(replace(tracker.state, frames=0))  # the next whole one by itself is far
    alone = scene((GREEN, *HERE), size=LARGE)
    after = [looks(tracker, alone)[0] for _ in range(WHOLE_FRAMES + 1)]
    assert after == [[WHOLE]] * WHOLE_FRAMES + [[NEAR]]
    assert iou(tracker.state.box_xywh, box_at(*HERE)) > 0.9


def test_something_else_in_the_window_does_not():
    tracker = steady(whole_window_every=100)
    pair = scene((GREEN, *HERE), (RED, 240 + 66, 240), size=LARGE)
    assert [looks(tracker, pair)[0] for _ in range(6)] == [[NEAR]] * 6


def test_moved_by_hand_a_target_gets_whole_windows_for_a_few_frames():
    tracker = steady(whole_window_every=100)
    frame = scene((GREEN, 300, 200), size=LARGE)
    tracker.move_to(box_at(290, 200))
    seen = [looks(tracker, frame)[0] for _ in range(WHOLE_FRAMES + 1)]
    assert seen[0] == [WHOLE] and seen[1] == [WHOLE]
    assert seen[-1] == [NEAR]
    assert iou(tracker.state.box_xywh, box_at(300, 200)) > 0.9


def test_a_lost_target_gets_whole_windows():
    tracker = steady(whole_window_every=100, min_peak=0.05)
    empty = scene(size=LARGE)
    first, result = looks(tracker, empty)
    assert first[:2] == [NEAR, WHOLE] and result.status != "tracked"
    while tracker.state.status_filter.status != "lost":
        assert NEAR not in looks(tracker, empty)[0]
    for _ in range(6):
        assert NEAR not in looks(tracker, empty)[0]
    # Found again, there are near ones as before.
    back = [looks(tracker, scene((GREEN, *HERE), size=LARGE)) for _ in range(30)]
    assert back[0][0] == [WHOLE]
    assert back[-1][0] == [NEAR] and back[-1][1].status == "tracked"


@pytest.mark.parametrize("status", ["uncertain", "lost"])
def test_a_target_that_is_not_tracked_for_sure_gets_the_whole_window(status):
    """However clear it was in the last frame: so it is after targets crossed."""
    tracker = steady(whole_window_every=100)
    frame = scene((GREEN, *HERE), size=LARGE)
    tracker.set_state(replace(tracker.state, status_filter=StatusFilter(status)))
    assert looks(tracker, frame)[0] == [WHOLE]
    while tracker.state.status_filter.status != "tracked" or tracker.state.verification:
        tracker.update(frame)
    assert looks(tracker, frame)[0] == [NEAR]


def test_a_recovered_target_gets_whole_windows_while_it_is_verified():
    tracker = steady(whole_window_every=100, redetect_windows=2, verify_frames=15, switch_score=1.0)
    while tracker.state.status_filter.status != "lost":
        tracker.update(scene(size=LARGE))
    verified = []
    for _ in range(40):
        searched = tracker.state.verification is not None
        sides, result = looks(tracker, scene((GREEN, *HERE), size=LARGE))
        if searched:
            verified.append(sides)
    assert len(verified) >= 10 and all(NEAR not in sides for sides in verified)
    assert sides == [NEAR] and result.status == "tracked"


def test_a_target_that_leaves_gets_whole_windows():
    """A target of which more than a quarter is out of the frame."""
    size = (240, 320)
    tracker = steady(at=(280, 120), size=size, whole_window_every=100)
    inside, leaving = [], []
    for x in range(282, 322, 2):
        left, _, w, _ = tracker.state.box_xywh
        visible = min(left + w, 320) - left
        sides, _ = looks(tracker, scene((GREEN, x, 120), size=size))
        (inside if visible >= 0.75 * w else leaving).append(sides)
    assert len(inside) > 8 and all(sides == [NEAR] for sides in inside)
    assert len(leaving) >= 3 and all(NEAR not in sides for sides in leaving)


def test_in_the_frame_after_a_cut_and_while_it_is_doubted_the_whole_window_is_looked_at():
    tracker = steady(whole_window_every=100)
    seen, doubted = [], []
    for _ in range(12):
        sides, result = looks(tracker, scene((GREEN, *HERE), size=LARGE, seed=OTHER_SEED))
        seen.append(sides)
        doubted.append(tracker.state.cut_frames > 0)
    assert doubted[0] and not doubted[-1]  # a premise
    before = [True, *doubted[:-1]]  # of the first frame the cut itself
    assert [sides[0] for sides, doubt in zip(seen, before, strict=True) if doubt] == (
        [WHOLE] * sum(before)
    )
    assert seen[-1] == [NEAR] and result.status == "tracked"


# --- What is seen ---------------------------------------------------------------------------------


def test_the_near_window_is_the_middle_of_the_whole_one():
    tracker = steady()
    frame = scene((GREEN, *HERE), size=LARGE)
    (near,), (near_map,) = tracker.crop_search_windows(frame, near=True)
    (whole,), (whole_map,) = tracker.crop_search_windows(frame)
    assert (near.shape, whole.shape) == ((NEAR, NEAR, 3), (WHOLE, WHOLE, 3))
    # As many px of the crop are left out on every side, up to the rounding to px of the frame.
    assert near_map.scale == pytest.approx(whole_map.scale, rel=0.02)
    place = whole_map.to_crop(near_map.to_frame([0, 0, NEAR, NEAR]))
    np.testing.assert_allclose(place, [32, 32, NEAR, NEAR], atol=1.5)


def test_both_windows_give_the_same_boxes():
    """Of a target that moves slowly and comes back, with all that is learned on the way."""
    path = [(240 + 40 * np.sin(k / 12), 240 + 30 * np.sin(k / 17)) for k in range(80)]
    path = [(round(float(x)), round(float(y))) for x, y in path]
    frames = [scene((GREEN, *at), (RED, 80, 80), size=LARGE) for at in path]
    near, whole = started(), started(whole_window_every=1)
    results = [(near.update(frame), whole.update(frame)) for frame in frames]
    sides = [side for _, side in near.engine.looked]
    assert sides.count(NEAR) > 50 and {side for _, side in whole.engine.looked} == {WHOLE}
    for (a, b), at in zip(results, path, strict=True):
        assert iou(a.box, b.box) > 0.93 and iou(a.box, box_at(*at)) > 0.9
        assert a.status == b.status == "tracked"


@pytest.mark.parametrize("jump", [(38, 0), (-44, 0), (0, 60), (60, -60), (-66, 20)])
def test_a_target_that_jumps_out_of_the_near_window_is_found_in_the_same_frame(jump):
    tracker = steady(whole_window_every=100)
    now = HERE[0] + jump[0], HERE[1] + jump[1]
    sides, result = looks(tracker, scene((GREEN, *now), size=LARGE))
    assert sides == [NEAR, WHOLE, WHOLE]  # the last one shows an earlier frame
    assert tracker.engine.looked == [(1, NEAR), (1, WHOLE), (len(tracker.state.earlier), WHOLE)]
    assert iou(result.box, box_at(*now)) > 0.8 and result.status == "tracked"
    # It was fast: for a while there are no near windows.
    sides, result = looks(tracker, scene((GREEN, *now), size=LARGE))
    assert sides == [WHOLE] and iou(result.box, box_at(*now)) > 0.9


def test_so_is_one_that_jumps_out_of_the_whole_window():
    tracker = steady(whole_window_every=100)
    _, result = looks(tracker, scene((GREEN, 340, 330), size=LARGE))
    assert tracker.engine.looked[:3] == [(1, NEAR), (1, WHOLE), (4, WHOLE)]
    assert iou(result.box, box_at(340, 330)) > 0.8


def test_a_step_that_stays_in_the_near_window_needs_nothing_else():
    tracker = steady(whole_window_every=100)
    sides, result = looks(tracker, scene((GREEN, 246, 235), size=LARGE))
    assert sides == [NEAR] and iou(result.box, box_at(246, 235)) > 0.9


def test_what_takes_the_targets_place_is_not_clear():
    """The target jumps, and something else stands where it was: it is found all the same."""
    tracker = steady(whole_window_every=100)
    sides, result = looks(tracker, scene((RED, *HERE), (GREEN, 306, 240), size=LARGE))
    assert sides[:2] == [NEAR, WHOLE]
    assert iou(result.box, box_at(306, 240)) > 0.8


def test_a_broken_response_to_the_near_window_is_replaced_by_the_whole_one(caplog):
    tracker = steady(Notes(broken=(NEAR,)), whole_window_every=100)
    for x in (243, 246, 249):
        sides, result = looks(tracker, scene((GREEN, x, 240), size=LARGE))
        assert sides == [NEAR, WHOLE]
        assert result.status == "tracked" and iou(result.box, box_at(x, 240)) > 0.9
    assert "not finite" not in caplog.text


def test_where_both_are_broken_the_box_is_kept(caplog):
    tracker = steady(Notes(broken=()), whole_window_every=100)
    tracker.engine.broken = (NEAR, WHOLE)
    before = tracker.state.box_xywh
    _, result = looks(tracker, scene((GREEN, 243, 240), size=LARGE))
    assert result.score == 0.0 and "not finite" in caplog.text
    np.testing.assert_array_equal(tracker.state.box_xywh, before)


def test_a_frame_of_another_resolution_is_looked_at_in_the_near_window_too():
    tracker = steady(whole_window_every=100)
    frame = scene((GREEN, 243, 240), size=LARGE)
    large = cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    sides, result = looks(tracker, large)
    assert sides == [NEAR]
    x, y, w, h = box_at(243, 240)
    assert iou(result.box, (2 * x, 2 * y, 2 * w, 2 * h)) > 0.9


@pytest.mark.parametrize(
    ("others", "places"),
    [
        ((), ()),
        (((270, 225), (215, 260)), ((270, 225), (215, 260))),
        (((300, 240), (270, 225)), ((270, 225),)),  # the first is in the whole window alone
    ],
)
def test_what_is_learned_in_a_near_window_is_where_things_are_in_it(others, places):
    """Without others in every few frames, with them at once."""
    tracker = steady(frames=2 if others else 2 * UPDATE_INTERVAL - 1, whole_window_every=100)
    crops, maps = tracker.crop_search_windows(scene((GREEN, 245, 237), size=LARGE), near=True)
    assert maps[0].size_px == NEAR
    assert_learned(tracker, crops, maps, others, places)


# --- The state ------------------------------------------------------------------------------------


def test_a_state_from_between_near_windows_goes_on_with_the_same_boxes():
    """And with the same windows: those that a step then needs and those that are due."""
    path = [(240 + 2 * k, 240 - k) for k in range(1, 30)]
    path[14:] = [(x + 50, y) for x, y in path[14:]]  # a jump
    frames = [scene((GREEN, *at), size=LARGE) for at in path]
    tracker = started()
    for frame in frames[:8]:
        tracker.update(frame)
    assert tracker.engine.looked[-1] == (1, NEAR)
    state, copied = tracker.state, copy.deepcopy(tracker)
    tracker.engine.looked.clear()
    results = [tracker.update(frame) for frame in frames[8:]]
    looked = list(tracker.engine.looked)
    assert {side for _, side in looked} == {NEAR, WHOLE}
    resumed = Tracker(Notes(), options())
    resumed.set_state(pickle.loads(pickle.dumps(state)))
    copied.engine.looked.clear()
    for other in (resumed, copied):
        assert [other.update(frame) for frame in frames[8:]] == results
        assert other.engine.looked == looked
        np.testing.assert_array_equal(
            other.state.online_filter.weights, tracker.state.online_filter.weights
        )
    # The snapshot is as it was.
    tracker.set_state(state)
    assert [tracker.update(frame) for frame in frames[8:]] == results


# --- The rules by themselves ----------------------------------------------------------------------


def test_the_motion_of_late_is_in_sides_of_the_exemplar_window_and_fades():
    config = Lite0Config()
    first, second = np.array([10.0, 20, 40, 40]), np.array([16.0, 28, 40, 40])
    # 10 px of 80, then nothing, and something smaller than what is left.
    motion = motion_of_late(0.0, first, second, config)
    assert motion == pytest.approx(10 / 80)
    assert motion_of_late(motion, second, second, config) == pytest.approx(0.8 * 10 / 80)
    assert motion_of_late(motion, second, second + np.array([4, 0, 0, 0]), config) == pytest.approx(
        0.1
    )
    assert motion_of_late(
        motion, second, second + np.array([12, 0, 0, 0]), config
    ) == pytest.approx(0.15)
    # It is that of the center: a target that grows does not move.
    assert motion_of_late(0.0, first, np.array([0.0, 10, 60, 60]), config) == 0.0
    # Twice the size, twice the step.
    assert motion_of_late(0.0, 2 * first, 2 * second, config) == pytest.approx(10 / 80)


@pytest.mark.parametrize(
    ("peak", "motion", "wh", "expected"),
    [
        (0.9, 0.02, (40, 40), True),
        (0.51, 0.099, (40, 40), True),
        (0.49, 0.0, (40, 40), False),  # hardly seen
        (0.9, 0.101, (40, 40), False),  # fast
        # The exemplar's window is 62.83 px, half of 9/8 of that 35.3: less than 30 + 6.28.
        (0.9, 0.0, (60, 8), False),
        (0.9, 0.0, (8, 60), False),
        # 65.38, and 36.8: more than 30 + 6.54.
        (0.9, 0.0, (60, 10), True),
        (0.9, 0.0, (600, 150), True),  # however large it is
    ],
)
def test_a_target_is_steady_that_is_seen_slow_and_fits(peak, motion, wh, expected):
    config = Lite0Config(search_size_px=208)  # a near crop of 144 px with an exemplar of 128
    assert is_steady(peak, motion, np.array([50.0, 50, *wh]), config) is expected


def reading_with(ranked, mixed):
    """A reading of a 9 x 9 near window by the ranks and the filter's response of some cells."""
    cells, response = np.zeros((2, 9, 9), np.float32)
    for place, value in ranked.items():
        cells[place] = value
    for place, value in mixed.items():
        response[place] = value
    (reading,) = read_each([_unread()])
    return reading._replace(
        filtered=[FilterResponse(response, response)], cells=reading.cells._replace(ranked=cells)
    )


def _unread():
    tracker = steady()
    crops, maps = tracker.crop_search_windows(scene((GREEN, *HERE), size=LARGE), near=True)
    return tracker.unread(tracker.engine.track(tracker.exemplar, crops), maps)


@pytest.mark.parametrize(
    ("ranked", "mixed", "expected"),
    [
        ({(4, 5): 1.0}, {(4, 5): 0.9}, True),
        ({(1, 7): 1.0}, {(1, 7): 0.41}, True),
        ({(4, 5): 1.0}, {(4, 5): 0.39}, False),  # weak
        ({(0, 4): 1.0}, {(0, 4): 0.9}, False),  # at a border
        ({(8, 4): 1.0}, {(8, 4): 0.9}, False),
        ({(4, 0): 1.0}, {(4, 0): 0.9}, False),
        ({(4, 8): 1.0}, {(4, 8): 0.9}, False),
        ({(4, 5): 1.0}, {(4, 5): 0.8, (7, 1): 0.86}, False),  # more of it elsewhere
        ({(4, 5): 1.0}, {(4, 5): 0.8, (7, 1): 0.84}, True),
    ],
)
def test_a_near_window_is_clear_that_shows_the_target_at_one_place(ranked, mixed, expected):
    assert is_clear(reading_with(ranked, mixed)) is expected


def test_without_a_filter_or_a_box_head_no_near_window_is_clear():
    reading = reading_with({(4, 5): 1.0}, {(4, 5): 0.9})
    assert not is_clear(reading._replace(filtered=[]))
    assert not is_clear(Reading(reading.response, reading.filtered, None))


# --- Many targets ---------------------------------------------------------------------------------

FIRST, SECOND, SIZE = (120, 120), (420, 300), (420, 560)


def two(engine, places, colors=(GREEN, RED), **changes):
    """A tracker of two targets, and one tracker each."""
    made = options(**changes)
    first = scene(*((c, *at) for c, at in zip(colors, places, strict=True)), size=SIZE)
    many, alone = MultiTracker(lambda: Tracker(engine, made)), []
    for at in places:
        many.add(first, box_at(*at))
        alone.append(Tracker(Notes(), made))
        alone[-1].init(first, box_at(*at))
    return many, alone


def assert_same(results, alone, frame):
    """The results of many are those of separate trackers."""
    for result, tracker in zip(results.values(), alone, strict=True):
        expected = tracker.update(frame)
        np.testing.assert_allclose(result.box, expected.box, atol=1e-3)
        assert result.score == pytest.approx(expected.score, abs=1e-4)
        assert result.status == expected.status


def test_distant_targets_get_near_windows_in_one_batch_as_each_would_alone():
    engine = Notes()
    many, alone = two(engine, (FIRST, SECOND), whole_window_every=6)
    for k in range(1, 14):
        at = (FIRST[0] + 2 * k, FIRST[1]), (SECOND[0], SECOND[1] - 3 * k)
        frame = scene((GREEN, *at[0]), (RED, *at[1]), size=SIZE)
        engine.looked.clear()
        assert_same(many.update(frame), alone, frame)
        assert engine.looked == [(2, WHOLE if k in (1, 6, 12) else NEAR)]


def test_targets_that_touch_each_others_near_windows_get_whole_ones():
    """60 px apart, the other one's box begins 40 px away; the near window reaches 50.

    As soon as they are far from each other, they get near ones.
    """
    engine = Notes()
    many, alone = two(engine, ((200, 200), (260, 200)), whole_window_every=100)
    for _ in range(8):
        frame = scene((GREEN, 200, 200), (RED, 260, 200), size=SIZE)
        engine.looked.clear()
        many.update(frame)
        for tracker in alone:
            tracker.update(frame)
        assert engine.looked == [(2, WHOLE)]
    assert all(tracker.engine.looked[-1] == (1, NEAR) for tracker in alone)
    for x in range(263, 320, 3):
        engine.looked.clear()
        results = many.update(scene((GREEN, 200, 200), (RED, x, 200), size=SIZE))
    assert engine.looked == [(2, NEAR)]
    assert iou(results[0].box, box_at(200, 200)) > 0.9
    assert iou(results[1].box, box_at(x, 200)) > 0.9


def test_targets_in_each_others_whole_windows_get_one_when_the_filter_learns():
    """80 px apart they are not in the near windows. Each learns to tell the other apart."""
    engine = Notes()
    many, _ = two(engine, ((200, 200), (280, 200)), whole_window_every=100)
    frame = scene((GREEN, 200, 200), (RED, 280, 200), size=SIZE)
    many.update(frame)
    for _ in range(12):
        state = many.state.trackers[0]
        engine.looked.clear()
        many.update(frame)
        due = (state.frames + 1) % UPDATE_INTERVAL == 0
        assert engine.looked == [(2, WHOLE if due else NEAR)]
        learned = many.state.trackers[0].online_filter is not state.online_filter
        assert learned == due


def test_one_target_without_a_neighbor_between_two_that_are_near_each_other():
    engine = Notes()
    many, _ = two(engine, ((200, 120), SECOND), whole_window_every=100)
    frame = scene((GREEN, 200, 120), (RED, *SECOND), (BLUE, 260, 120), size=SIZE)
    many.add(frame, box_at(260, 120))
    many.update(frame)
    engine.looked.clear()
    results = many.update(frame)
    assert sorted(engine.looked) == [(1, NEAR), (2, WHOLE)]
    for result, at in zip(results.values(), ((200, 120), SECOND, (260, 120)), strict=True):
        assert iou(result.box, box_at(*at)) > 0.9


def test_a_lost_neighbor_does_not_count():
    """Its box tells nothing of where it is."""
    engine = Notes()
    many, _ = two(engine, ((200, 200), (280, 200)), whole_window_every=100)
    for _ in range(12):
        engine.looked.clear()
        results = many.update(scene((GREEN, 200, 200), size=SIZE))
    assert results[1].status == "lost"
    assert (1, NEAR) in engine.looked and (1, WHOLE) in engine.looked


def test_windows_of_both_sizes_in_a_frame_give_what_each_gives_alone():
    """The first is fast, the second is not."""
    engine = Notes()
    many, alone = two(engine, ((60, 120), SECOND), whole_window_every=100)
    for k in range(1, 14):
        frame = scene((GREEN, 60 + 12 * k, 120), (RED, *SECOND), size=SIZE)
        engine.looked.clear()
        assert_same(many.update(frame), alone, frame)
        assert sorted(engine.looked) == ([(1, NEAR), (1, WHOLE)] if k > 1 else [(2, WHOLE)])


@pytest.mark.parametrize("jumps", [(True, False), (False, True), (True, True)])
def test_targets_that_jump_are_found_in_the_whole_windows_of_the_same_frame(jumps):
    engine = Notes()
    many, alone = two(engine, (FIRST, SECOND), whole_window_every=100)
    still = scene((GREEN, *FIRST), (RED, *SECOND), size=SIZE)
    for _ in range(3):
        assert_same(many.update(still), alone, still)
    at = [(x + 60 * jump, y) for (x, y), jump in zip((FIRST, SECOND), jumps, strict=True)]
    frame = scene((GREEN, *at[0]), (RED, *at[1]), size=SIZE)
    engine.looked.clear()
    results = many.update(frame)
    assert engine.looked[:2] == [(2, NEAR), (sum(jumps), WHOLE)]
    for result, place in zip(results.values(), at, strict=True):
        assert iou(result.box, box_at(*place)) > 0.8 and result.status == "tracked"
    assert_same(results, alone, frame)


def test_a_state_of_many_from_between_near_windows_goes_on_with_the_same_boxes():
    engine = Notes()
    many, _ = two(engine, (FIRST, SECOND), whole_window_every=6)
    frames = [
        scene((GREEN, FIRST[0] + 2 * k, FIRST[1]), (RED, *SECOND), size=SIZE) for k in range(1, 16)
    ]
    for frame in frames[:4]:
        many.update(frame)
    assert engine.looked[-1] == (2, NEAR)
    state = pickle.loads(pickle.dumps(many.state))
    results = [many.update(frame) for frame in frames[4:]]
    other = MultiTracker(lambda: Tracker(Notes(), options(whole_window_every=6)))
    other.set_state(state)
    assert [other.update(frame) for frame in frames[4:]] == results


@pytest.mark.parametrize(
    ("box", "near", "near_when_due"),
    [
        ((240, 240), False, False),
        ((240 + 69, 240 - 69), False, False),  # 50 px are the end of the near window, 20 of the box
        ((240 + 71, 240), True, False),
        ((240 + 89, 240 - 89), True, False),  # 90 px are the end of the whole one
        ((240 - 89, 240 + 89), True, False),
        ((240 + 91, 240), True, True),
        ((240, 240 - 91), True, True),
    ],
)
def test_others_allow_a_near_window_by_their_places(box, near, near_when_due):
    tracker = started(box_correction=0.0)
    far = box_at(20, 20)
    for frames, expected in ((0, near), (UPDATE_INTERVAL - 1, near_when_due)):
        tracker.set_state(replace(tracker.state, frames=frames))
        assert tracker.may_look_near(np.array([box_at(*box)])) is expected
        assert tracker.may_look_near(np.array([far, box_at(*box)])) is expected
        assert tracker.may_look_near(np.zeros((0, 4))) is True


# --- With the bundled weights ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["siamtrack-lite0", "siamtrack-nano"])
def test_a_steady_film_has_the_same_boxes_with_near_windows_and_without(name, monkeypatch):
    places = [(100 + k, 100 + k // 2) for k in range(40)]
    film, boxes, sides = Film(), {}, {}
    for every in (12, 1):
        tracker = siamtrack.load(name, device="cpu", engine="onnx", whole_window_every=every)
        track, seen = tracker.engine.track, []
        monkeypatch.setattr(
            tracker.engine,
            "track",
            lambda exemplar, crops, track=track, seen=seen: (
                seen.append(len(crops[0])) or track(exemplar, crops)
            ),
        )
        tracker.init(film.frame(places[0]), (*places[0], SIZE_PX, SIZE_PX))
        results = [tracker.update(film.frame(at)) for at in places[1:]]
        assert {result.status for result in results} == {"tracked"}
        boxes[every], sides[every] = [result.box for result in results], seen
    config = tracker.engine.config
    assert sides[12].count(config.near_size_px) > 25
    assert set(sides[1]) == {config.search_size_px}
    same = iou(boxes[12], boxes[1])
    assert same.min() > 0.85 and same.mean() > 0.93
