"""Look-alikes: what was elsewhere in an earlier frame is not taken for the target."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import siamtrack.tracking.tracker as tracker_module
from siamtrack.crops import crop_square
from siamtrack.engines.base import Exemplar, Response
from siamtrack.geometry import CropMap, iou
from siamtrack.models.lite0 import Lite0Config
from siamtrack.tracking.crossings import exchange_boxes
from siamtrack.tracking.look_alikes import (
    DOUBTFUL_FRAMES,
    KEPT_EVERY,
    KEPT_FRAMES,
    SURE_PEAK,
    EarlierFrame,
    Refused,
    SharedFrame,
    crop_earlier,
    exclude_place,
    is_jump,
    keep_frame,
    shows_look_alike,
)
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.tracker import Tracker
from tests.tracking.test_filtered_tracking import (
    GREEN,
    RED,
    Colors,
    box_at,
    ground,
    options,
    scene,
    started,
)

HERE, LARGE = (240, 240), (480, 480)
PLACES = [(325, 240), (300, 240), (240, 140), (360, 350)]  # the last one is out of the window
FILL = (90.0, 90.0, 90.0)


def large(*things):
    return scene(*things, size=LARGE)


def seen_for(tracker, frame, frames=2 * KEPT_EVERY):
    for _ in range(frames):
        result = tracker.update(frame)
    assert iou(result.box, box_at(*HERE)) > 0.9 and result.status == "tracked"


class ManyColors(Colors):
    """The same for batches of several targets."""

    def stack(self, exemplars):
        return Exemplar((), sum(one.targets for one in exemplars))


def without_earlier_frames(monkeypatch):
    monkeypatch.setattr(Tracker, "crop_earlier_frames", lambda *args: ([], []))


# --- In the tracker -------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_hidden_target_is_not_confused_with_its_twin_that_was_there_before(place, monkeypatch):
    def run():
        tracker = started(at=HERE, size=LARGE)
        seen_for(tracker, large((GREEN, *HERE), (GREEN, *place)))
        return [tracker.update(large((GREEN, *place))) for _ in range(6)]

    results = run()
    assert [result.status for result in results] == ["uncertain"] * 3 + ["lost"] * 3
    for result in results:
        assert iou(result.box, box_at(*HERE)) > 0.9 and result.score < 0.5
    # That is what the earlier frames are for.
    without_earlier_frames(monkeypatch)
    assert iou(run()[0].box, box_at(*place)) > 0.9


@pytest.mark.parametrize("place", PLACES)
def test_a_target_that_goes_where_nothing_was_is_followed(place):
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE)))
    result = tracker.update(large((GREEN, *place)))
    assert iou(result.box, box_at(*place)) > 0.9 and result.status == "tracked"


@pytest.mark.parametrize("place", PLACES)
def test_so_is_one_that_goes_where_another_thing_was(place):
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE), (RED, *place)))
    result = tracker.update(large((GREEN, *place)))
    assert iou(result.box, box_at(*place)) > 0.9 and result.status == "tracked"


def test_a_target_that_is_found_again_beside_its_twin_is_the_one_that_is_not_the_twin():
    """Both respond alike; the twin has moved a little."""
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE), (GREEN, 320, 240)))
    result = tracker.update(large((GREEN, 326, 246), (GREEN, 240, 160)))
    assert iou(result.box, box_at(240, 160)) > 0.9


def test_a_lost_target_is_not_found_where_its_twin_was():
    tracker = started(at=HERE, size=LARGE, redetect_windows=3)
    twin = (GREEN, 400, 90)
    seen_for(tracker, large((GREEN, *HERE), twin))
    for _ in range(40):
        result = tracker.update(large(twin))
        assert iou(result.box, box_at(*twin[1:])) == 0 and result.status != "tracked"
    for _ in range(30):
        result = tracker.update(large(twin, (GREEN, 90, 400)))
    assert iou(result.box, box_at(90, 400)) > 0.8 and result.status == "tracked"


def test_frames_of_another_shot_tell_nothing():
    tracker = started(at=HERE, size=LARGE)
    twin = (GREEN, 325, 240)
    seen_for(tracker, large((GREEN, *HERE), twin))
    assert tracker.state.earlier
    tracker.update(large(twin))
    assert tracker.state.earlier and not tracker.state.refused  # the target is not yet lost
    for _ in range(5):
        tracker.update(large(twin))
    assert tracker.state.refused
    tracker.update(scene((GREEN, *HERE), seed=3, size=LARGE)[::-1].copy() // 2 + 100)
    assert tracker.state.cut_frames and not tracker.state.earlier and not tracker.state.refused


@pytest.mark.parametrize("count", [3, 4, 6])
def test_among_many_twins_the_box_does_not_jump_to_the_last_one(count):
    """More than are excluded one by one."""
    places = [(325, 240), (240, 330), (155, 240), (240, 150), (325, 330), (155, 150)]
    twins = [(GREEN, *place) for place in places[:count]]
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE), *twins))
    for _ in range(6):
        result = tracker.update(large(*twins))
        assert iou(result.box, box_at(*HERE)) > 0.9 and result.status != "tracked"


@pytest.mark.parametrize("place", [(325, 240), (400, 90)])
def test_a_target_that_comes_back_where_its_twin_was_is_found_after_a_while(place):
    """There it is taken for its twin until the earlier frames are too old."""
    tracker = started(at=HERE, size=LARGE, redetect_windows=3)
    seen_for(tracker, large((GREEN, *HERE), (GREEN, *place)))
    for _ in range(20):
        tracker.update(large())
    tracker.set_state(replace(tracker.state, frames=tracker.state.frames + 240))
    statuses = [tracker.update(large((GREEN, *place))).status for _ in range(80)]
    assert statuses[10] == "lost" and statuses[-1] == "tracked"
    assert iou(tracker.state.box_xywh, box_at(*place)) > 0.9


@pytest.mark.parametrize(("away", "found"), [(75, True), (45, False)])
def test_a_lost_target_is_found_beside_the_place_of_its_twin(away, found):
    """A look-alike moves by one and a half of its sides at most, 60 px, however far the jump."""
    tracker = started(at=HERE, size=LARGE, redetect_windows=3)
    seen_for(tracker, large((GREEN, *HERE), (GREEN, 90, 400)))
    for _ in range(60):
        result = tracker.update(large((GREEN, 90, 400 - away)))
    assert (result.status == "tracked") == found
    assert (iou(result.box, box_at(90, 400 - away)) > 0.8) == found


def test_frames_are_kept_in_which_the_target_is_seen_for_sure():
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE)))
    kept = tracker.state.earlier
    assert [one.number for one in kept] == [6, 1]
    for color in ((60, 170, 90), (70, 150, 110)):  # like it, but not much
        tracker.set_state(replace(tracker.state, frames=20))
        tracker.update(large((color, *HERE)))
        peak, status = tracker.state.last_prediction.filter_peak, tracker.state.status_filter.status
        sure = peak >= SURE_PEAK and status == "tracked"
        assert (tracker.state.earlier is not kept) == sure, (peak, status)
        tracker.set_state(replace(tracker.state, earlier=kept))
    assert not sure


def test_frames_in_which_a_recovered_target_is_verified_are_not_kept():
    tracker = started(at=HERE, size=LARGE, redetect_windows=3, verify_frames=10)
    seen_for(tracker, large((GREEN, *HERE)))
    for _ in range(20):
        tracker.update(large())
    kept = tracker.state.earlier
    for _ in range(60):
        tracker.update(large((GREEN, *HERE)))
        if tracker.state.verification is not None:
            assert tracker.state.earlier is kept
    assert tracker.state.verification is None and tracker.state.earlier is not kept


def test_targets_that_swap_boxes_keep_their_own_earlier_frames():
    """Counted as the frames of the box are: each new frame is newer than all that are kept."""
    states = []
    for color, frames in ((GREEN, 30), (RED, 12)):
        tracker = Tracker(Colors(), options())
        tracker.init(large((color, *HERE)), box_at(*HERE))
        for _ in range(frames):
            tracker.update(large((color, *HERE)))
        states.append(tracker.state)
    for after, own, theirs in zip(
        exchange_boxes(tuple(states), tuple(states)), states, reversed(states), strict=True
    ):
        assert after.frames == theirs.frames
        ages = [after.frames - one.number for one in after.earlier]
        assert ages == [own.frames - one.number for one in own.earlier]
        assert all(a.picture is b.picture for a, b in zip(after.earlier, own.earlier, strict=True))


def test_moved_by_hand_the_target_has_no_earlier_frames():
    """Its box may have been on its twin in them."""
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE), (GREEN, 325, 240)))
    tracker.move_to(box_at(325, 240))
    assert tracker.state.earlier == ()
    result = tracker.update(large((GREEN, *HERE), (GREEN, 325, 240)))
    assert iou(result.box, box_at(325, 240)) > 0.9


def test_a_frame_of_another_resolution_forgets_the_earlier_ones():
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE)))
    result = tracker.update(np.repeat(np.repeat(large((GREEN, 242, 240)), 2, axis=0), 2, axis=1))
    assert iou(result.box, 2 * np.array(box_at(242, 240))) > 0.9
    assert all(one.number == tracker.state.frames for one in tracker.state.earlier)


def test_frames_after_a_jump_are_not_kept_for_a_while():
    """The jump may have been wrong; a box that went to a twin may come back."""
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE)))
    there = large((GREEN, 325, 240))
    tracker.update(there)
    kept = tracker.state.earlier
    for _ in range(DOUBTFUL_FRAMES):
        tracker.update(there)
        assert tracker.state.earlier is kept
    tracker.update(there)
    assert tracker.state.earlier[1] is kept[0]


def test_what_the_caller_does_with_the_frame_afterwards_does_not_matter():
    """Readers that fill one array again and again."""
    twin, buffer = (GREEN, 325, 240), np.empty((*LARGE, 3), np.uint8)
    tracker = Tracker(Colors(), options())
    buffer[:] = large((GREEN, *HERE), twin)
    tracker.init(buffer, box_at(*HERE))
    for k in range(15):
        buffer[:] = large((GREEN, *HERE), twin) if k < 10 else large(twin)
        result = tracker.update(buffer)
    assert iou(result.box, box_at(*HERE)) > 0.9 and result.status == "lost"


def test_a_state_with_earlier_frames_goes_on_with_the_same_boxes():
    twin = (GREEN, 325, 240)
    tracker = started(at=HERE, size=LARGE)
    seen_for(tracker, large((GREEN, *HERE), twin))
    other = Tracker(Colors(), options())
    other.set_state(pickle.loads(pickle.dumps(tracker.state)))
    frames = [large(twin), large(twin), large((GREEN, 244, 240), twin)]
    assert [tracker.update(one) for one in frames] == [other.update(one) for one in frames]


def test_without_a_filter_no_frame_is_kept():
    tracker = started(at=HERE, size=LARGE, online_filter=False)
    for _ in range(10):
        tracker.update(large((GREEN, *HERE)))
    assert tracker.state.earlier == ()


# --- Many targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_many_targets_refuse_the_places_of_look_alikes_as_one_does(count):
    """They share the pictures, too."""
    made, size = options(), (480, 900)
    twins = [(GREEN, 325, 240), (RED, 780, 160)]
    things = [(GREEN, 240, 240), (RED, 700, 240), ((230, 150, 50), 480, 420)][:count]
    first = scene(*things, *twins, size=size)
    engine = ManyColors()
    many, alone = MultiTracker(lambda: Tracker(engine, made)), []
    for thing in things:
        many.add(first, box_at(*thing[1:]))
        alone.append(Tracker(Colors(), made))
        alone[-1].init(first, box_at(*thing[1:]))
    for k in range(14):
        frame = scene(*(things if k < 10 else things[2:]), *twins, size=size)
        results = many.update(frame)
        for result, tracker in zip(results.values(), alone, strict=True):
            expected = tracker.update(frame)
            np.testing.assert_allclose(result.box, expected.box, atol=1e-3)
            assert result.status == expected.status
    for (color, x, y), result in zip(things[:2], results.values(), strict=False):
        assert iou(result.box, box_at(x, y)) > 0.9 and result.status != "tracked", color
    kept = [state.earlier for state in many.state.trackers.values()][:2]
    for others in kept[1:]:
        assert [one.number for one in others] == [one.number for one in kept[0]]
        assert all(a.picture is b.picture for a, b in zip(kept[0], others, strict=True))


# --- The rules by themselves ----------------------------------------------------------------------

CONFIG = Lite0Config(exemplar_size_px=64, search_size_px=144)
MAP = CropMap((100.0, 200.0), 2.0, 144)  # a cell is 32 frame px, and its middle 16 px from 100, 200
PLACE = np.array([244.0, 344.0])  # the middle of cell (4, 4)
FAR = EarlierFrame(np.zeros((4, 4, 3), np.uint8), 1, np.array([700.0, 700, 40, 40]), 0)


def response_with(**peaks):
    response = np.zeros((9, 9), np.float32)
    for name, value in peaks.items():
        response[int(name[1]), int(name[2])] = value
    return response


@pytest.mark.parametrize(
    ("peaks", "radius_px", "peak", "expected"),
    [
        ({"_44": 0.6}, 20, 0.8, True),
        ({"_44": 0.39}, 20, 0.8, False),  # less than half of it
        ({"_44": 0.41}, 20, 0.8, True),
        ({"_44": 0.19}, 20, 0.25, False),  # noise
        ({"_45": 0.6}, 31, 0.8, False),  # 32 px away
        ({"_45": 0.6}, 33, 0.8, True),
        ({"_54": 0.6}, 31, 0.8, False),
        ({"_54": 0.6}, 33, 0.8, True),
        ({"_45": 0.6, "_46": 0.7}, 33, 0.8, False),  # the peak is beside it
        ({"_00": 0.6}, 181, 0.8, False),  # 181.02 px away
        ({"_00": 0.6}, 182, 0.8, True),
        ({}, 20, 0.8, False),
    ],
)
def test_a_look_alike_is_a_peak_that_is_high_enough_and_near(peaks, radius_px, peak, expected):
    response = response_with(**peaks)
    assert shows_look_alike(response, MAP, FAR, PLACE, radius_px, peak, CONFIG) is expected


@pytest.mark.parametrize(
    ("center", "expected"),
    [
        ((244, 344), False),  # on the place
        ((244 + 45, 344), False),  # 0.75 of 40 px and half a cell: 46
        ((244 + 47, 344), True),
        ((244, 344 - 45), False),
        ((244, 344 - 47), True),
    ],
)
def test_the_target_itself_is_none(center, expected):
    frame = FAR._replace(box_xywh=np.array([center[0] - 20.0, center[1] - 20.0, 40, 40]))
    response = response_with(_44=0.9)
    assert shows_look_alike(response, MAP, frame, PLACE, 200.0, 0.8, CONFIG) is expected


def test_cells_and_boxes_near_a_look_alike_are_excluded():
    logits, ltrb = np.zeros((2, 9, 9), np.float32), np.full((2, 4, 9, 9), 10.0, np.float32)
    ltrb[0, :, 0, 0] = -54, -54, 74, 74  # 64 crop px right and down: on the place
    maps = [MAP, CropMap((1000.0, 1000.0), 2.0, 144)]
    out = exclude_place(Response(logits, ltrb, None), maps, Refused(PLACE, 50.0, 1), CONFIG)
    rows, columns = np.indices((9, 9))
    expected = np.hypot(rows - 4, columns - 4) * 32 < 50
    expected[0, 0] = True
    np.testing.assert_array_equal(np.isneginf(out.score_logits[0]), expected)
    assert (out.score_logits[1] == 0).all() and (logits == 0).all()


def test_something_is_left_where_all_boxes_are_at_the_look_alike():
    middle = (np.arange(9) + 0.5) * 16
    x, y = np.meshgrid(middle, middle)
    ltrb = np.stack([x - 62, y - 62, 82 - x, 82 - y])[None].astype(np.float32)
    response = Response(np.zeros((1, 9, 9), np.float32), ltrb, None)
    out = exclude_place(response, [MAP], Refused(PLACE, 50.0, 1), CONFIG)
    excluded = np.isneginf(out.score_logits[0])
    assert excluded[4, 4] and 0 < excluded.sum() < 20


def test_a_jump_is_a_step_beyond_seven_tenths_of_the_target():
    last = np.array([100.0, 100, 80, 20])  # a square of its area has sides of 40
    assert not is_jump(last, last + np.array([27.9, 0, 0, 0])) and is_jump(
        last, last + np.array([0, 28.1, 0, 0])
    )
    assert not is_jump(last, np.array([60.0, 90, 160, 40]))  # it grows in its place
    assert not is_jump(last, np.array([np.nan, 0, 10, 10]))


# --- Pictures of earlier frames -------------------------------------------------------------------


def test_frames_are_kept_now_and_then_and_the_newest_come_first():
    kept = ()
    for number in range(3 * KEPT_EVERY + 1):
        frame = np.full((6, 8, 3), number, np.uint8)
        kept = keep_frame(kept, SharedFrame(frame), np.arange(4.0) + number, number, 0.7)
    assert len(kept) == KEPT_FRAMES
    for k, one in enumerate(kept):
        assert one.number == (3 - k) * KEPT_EVERY and one.step == 1
        assert (one.picture == one.number).all() and one.box_xywh[0] == one.number


def test_a_copy_is_made_once_and_is_one():
    frame = ground(size=(60, 81))
    shared, before = SharedFrame(frame), frame.copy()
    whole, third = shared.copy(1), shared.copy(3)
    assert shared.copy(1) is whole and shared.copy(3) is third
    assert third.shape == (20, 27, 3)
    np.testing.assert_allclose(
        third.astype(float), before.reshape(20, 3, 27, 3, 3).mean(axis=(1, 3)), atol=4
    )
    frame[:] = 0
    np.testing.assert_array_equal(whole, before)


def test_pictures_of_large_frames_are_reduced():
    """Many targets may keep pictures of different frames."""
    (kept,) = keep_frame((), SharedFrame(np.zeros((2160, 3840, 3), np.uint8)), np.ones(4), 0, 0.5)
    assert kept.step == 2 and kept.picture.shape == (1080, 1920, 3)
    (kept,) = keep_frame((), SharedFrame(np.zeros((1080, 1920, 3), np.uint8)), np.ones(4), 0, 0.5)
    assert kept.step == 1


@pytest.mark.parametrize(("scale", "step"), [(0.4, 1), (1.9, 1), (2.0, 2), (5.5, 5), (1e9, 60)])
def test_pictures_have_no_smaller_pixels_than_crops(scale, step):
    (kept,) = keep_frame((), SharedFrame(ground(size=(60, 81))), np.ones(4), 0, scale)
    assert kept.step == step


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_window_of_an_earlier_frame_shows_what_the_frame_shows(step):
    frame = large((GREEN, 200, 260), (RED, 320, 240))
    (kept,) = keep_frame((), SharedFrame(frame), np.ones(4), 0, step)
    crop, crop_map = crop_earlier(kept, np.array([240.0, 250.0]), 400.0, 100, FILL)
    expected, expected_map = crop_square(frame, (240.0, 250.0), 400.0, 100, fill_bgr=FILL)
    assert crop_map.scale == pytest.approx(expected_map.scale)
    assert crop_map.origin_xy == pytest.approx(expected_map.origin_xy, abs=step)
    assert np.abs(crop.astype(int) - expected).mean() < 2


def test_the_thumbnail_is_made_once(monkeypatch):
    shared = SharedFrame(ground())
    assert shared.thumbnail is shared.thumbnail
    assert tracker_module.SharedFrame is SharedFrame
