"""The tracker with its online filter: what it learns, the second look, cuts, and what is lost.

First with an engine that sees every colored thing alike, then with the bundled weights, in f32 with
ONNX Runtime: `auto` depends on the CPU, and bf16 decides otherwise where a rule is close to its
limit.
"""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.engines.base import Exemplar, Response
from siamtrack.errors import EngineError
from siamtrack.geometry import iou
from siamtrack.models.lite0 import Lite0Config
from siamtrack.tracking import online_filter as of
from siamtrack.tracking.cuts import FRAMES_AFTER_CUT, FRAMES_TO_CONFIRM, is_cut
from siamtrack.tracking.decode import calibrated_score
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.redetection import ANYWHERE_AFTER
from siamtrack.tracking.tracker import Tracker

SIZE_PX = 40
GREEN, RED, BLUE = (40, 220, 60), (60, 40, 230), (230, 150, 50)
DIM_GREEN, PALE = (40, 160, 50), (60, 200, 120)  # somewhat like the target
STRIDE_PX, CELLS, SEARCH_PX = 16, 9, 144


class Colors:
    """An engine that sees every colored thing on gray, all alike; its features are colors.

    Logits are high in the cells near the middle of a thing, and boxes are exact.
    """

    name, precision, device, architecture = "colors", "f32", "cpu", "none"
    config = Lite0Config(exemplar_size_px=64, search_size_px=SEARCH_PX)

    def __init__(self, *, features=True):
        self.has_features, self.crops = features, []  # number of crops of every call

    def embed_exemplar(self, crops, boxes_xywh):
        return Exemplar((), len(crops))

    def track(self, exemplar, crops):
        self.crops.append(len(crops))
        logits, ltrb, features = (np.stack(v) for v in zip(*map(self._one, crops), strict=True))
        return Response(logits, ltrb, np.ones_like(logits), features if self.has_features else None)

    def _one(self, crop):
        cells = len(crop) // STRIDE_PX
        colored = np.ptp(crop.astype(int), axis=2) > 70
        count, _, stats, middles = cv2.connectedComponentsWithStats(colored.astype(np.uint8))
        x, y = np.meshgrid(*[(np.arange(cells) + 0.5) * STRIDE_PX] * 2)
        logits = np.full((cells, cells), -6.0, np.float32)
        ltrb = np.full((4, cells, cells), 16.0, np.float32)
        for (left, top, w, h, _), middle in zip(stats[1:count], middles[1:count], strict=True):
            seen = 5.0 - np.hypot(x - middle[0] - 0.5, y - middle[1] - 0.5) / 6
            nearest = seen > logits
            box = np.stack([x - left, y - top, left + w - x, top + h - y])
            logits[nearest], ltrb[:, nearest] = seen[nearest], box[:, nearest]
        colors = crop.reshape(cells, STRIDE_PX, cells, STRIDE_PX, 3).mean(axis=(1, 3))
        colors = np.concatenate([colors.transpose(2, 0, 1), np.full((1, cells, cells), 40.0)])
        return logits, ltrb, (colors / np.linalg.norm(colors, axis=0)).astype(np.float32)


def ground(seed=0, size=(240, 320)):
    """A gray scene with large structure."""
    small = np.random.default_rng(seed).random((5, 8)).astype(np.float32)
    gray = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(40 + 80 * gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def scene(*things, seed=0, size=(240, 320)):
    """A frame with (color, center x, center y) squares."""
    frame = ground(seed, size)
    for color, x, y in things:
        left, top = x - SIZE_PX // 2, y - SIZE_PX // 2
        frame[max(top, 0) : max(top + SIZE_PX, 0), max(left, 0) : max(left + SIZE_PX, 0)] = color
    return frame


def box_at(x, y):
    return (x - SIZE_PX / 2, y - SIZE_PX / 2, SIZE_PX, SIZE_PX)


def options(**changes):
    """Options that leave nothing to the tuned defaults."""
    chosen = {
        "window_influence": 0.2, "shape_penalty": 0.05, "size_lr": 0.5, "min_peak": 0.0,
        "tracked_above": 0.5, "lost_below": 0.3, "lost_after": 4, "found_after": 2,
        "redetect_windows": 0, "redetect_score": 0.6, "redetect_similarity": 0.7,
        "filter_lr": 0.05, "filter_min_peak": 0.3, "filter_min_score": 0.5,
        "filter_score_gain": 1.0, "filter_score_offset": 0.0, "filter_score_margin": 2.0,
        "look_around_below": 0.3, "look_around_accept": 0.5, "filter_center": 0.0,
    }  # fmt: skip
    return BoxHeadOptions(**chosen | changes)


def started(*, at=(100, 120), engine=None, size=(240, 320), **changes):
    tracker = Tracker(engine or Colors(), options(**changes))
    tracker.init(scene((GREEN, *at), size=size), box_at(*at))
    return tracker


# --- Learning -------------------------------------------------------------------------------------


def test_the_filter_tells_things_apart_that_the_network_sees_alike():
    """The other is nearer to where the target was."""
    frame = scene((RED, 86, 120), (GREEN, 134, 120))
    assert iou(started().update(frame).box, box_at(134, 120)) > 0.9
    assert iou(started(online_filter=False).update(frame).box, box_at(86, 120)) > 0.9


def test_the_first_frame_is_learned_in_one_batch():
    engine = Colors()
    started(engine=engine, box_correction=0.0)
    started(engine=engine, box_correction=0.5)
    started(engine=engine, box_correction=0.5, online_filter=False)
    started(engine=engine, box_correction=0.0, online_filter=False)
    plain = engine.crops[2]
    assert engine.crops == [plain + len(of.AUGMENTATIONS)] * 2 + [plain]


@pytest.mark.parametrize("shift", [(0, 0), (40, 0), (-20, 40)])
def test_the_filter_responds_with_about_1_at_the_target(shift):
    """A cell of the window is half a target."""
    tracker = started()
    tracker.move_to(box_at(100 + shift[0], 120 + shift[1]))
    frame = scene((GREEN, 100, 120))
    crops, _ = tracker.crop_search_windows(frame)
    response = tracker.engine.track(tracker.exemplar, crops)
    for one in tracker.state.online_filter.respond(response.features[0]):
        middle = (CELLS - 1) // 2
        cell = middle - shift[1] // 20, middle - shift[0] // 20
        assert np.unravel_index(one.argmax(), one.shape) == cell
        assert one.max() == pytest.approx(1.0, abs=0.25)
        away = np.hypot(*(np.mgrid[:CELLS, :CELLS] - np.reshape(cell, (2, 1, 1)))) > 3
        assert np.abs(one[away]).max() < 0.3


def test_an_engine_without_features_is_refused_in_words():
    with pytest.raises(
        EngineError, match=r"the colors graph gives no search features.*online_filter=False"
    ):
        started(engine=Colors(features=False))
    tracker = started(engine=Colors(features=False), online_filter=False)
    assert tracker.state.online_filter is None
    assert iou(tracker.update(scene((GREEN, 110, 120))).box, box_at(110, 120)) > 0.9


def learned_frames(tracker, frames):
    """Numbers of the frames, from 1, after which the filter is another one."""
    changed = []
    for number, frame in enumerate(frames, start=1):
        before = tracker.state.online_filter
        tracker.update(frame)
        if tracker.state.online_filter is not before:
            changed.append(number)
    return changed


PATH = [(100 + 3 * k, 120 + k) for k in range(1, 3 * of.UPDATE_INTERVAL + 1)]


def test_the_target_is_learned_every_few_frames():
    expected = [of.UPDATE_INTERVAL * k for k in (1, 2, 3)]
    assert learned_frames(started(), [scene((GREEN, *at)) for at in PATH]) == expected


def test_a_look_alike_in_the_window_is_learned_at_once():
    frames = [scene((GREEN, *at), (GREEN, at[0] - 60, at[1])) for at in PATH]
    assert learned_frames(started(), frames) == list(range(1, len(PATH) + 1))


@pytest.mark.parametrize("changes", [{"filter_min_peak": 9.0}, {"filter_min_score": 1.0}])
def test_what_filter_or_network_doubts_is_not_learned(changes):
    assert learned_frames(started(**changes), [scene((GREEN, *at)) for at in PATH]) == []


def test_a_hidden_target_is_not_learned():
    assert learned_frames(started(), [scene()] * (3 * of.UPDATE_INTERVAL)) == []


def after_update(before, response, maps, number, box_xywh, distractors=()):
    """The filter after it has learned that the target is at the box, in a window by its number."""

    def cell(x, y):
        """Of a point of the frame: a crop px is `scale` frame px, the first cell is 8 px in."""
        origin, scale = np.array(maps[number].origin_xy), maps[number].scale
        return ((np.array([x, y]) - origin) / scale - STRIDE_PX / 2) / STRIDE_PX

    features = response.features[number]
    return before.updated(
        features, cell(*(box_xywh[:2] + box_xywh[2:] / 2)), before.respond(features).mixed,
        lr=0.05 * (2 if distractors else 1), distractors_xy=[cell(*at) for at in distractors],
    )  # fmt: skip


def assert_learned(tracker, crops, maps, others, places):
    """An update on these crops, with others at `others`, learns them at `places`."""
    before = tracker.state.online_filter
    response = tracker.engine.track(tracker.exemplar, crops)
    tracker.update_from_response(response, maps, [np.array(box_at(*at)) for at in others])
    expected = after_update(before, response, maps, 0, tracker.state.box_xywh, places)
    np.testing.assert_allclose(
        tracker.state.online_filter.weights, expected.weights, rtol=0, atol=1e-6
    )
    assert np.abs(expected.weights - before.weights).max() > 1e-4


@pytest.mark.parametrize(
    ("others", "places"), [((), ()), (((140, 90), (60, 150)), ((140, 90), (60, 150)))]
)
def test_an_update_is_that_of_the_window_the_box_and_the_other_targets(others, places):
    tracker = started()
    number = 1 if others else of.UPDATE_INTERVAL
    for at in PATH[: number - 1]:
        tracker.update(scene((GREEN, *at)))
    frame = scene((GREEN, *PATH[number - 1]))
    assert_learned(tracker, *tracker.crop_search_windows(frame), others, places)


def test_a_target_that_changes_its_color_is_followed_by_what_was_learned():
    """In small steps; what was learned responds more to it than the first frame's weights."""
    tracker = started(filter_lr=0.3)
    for k in range(60):
        share = min(k / 50, 1.0)
        color = tuple(np.rint((1 - share) * np.array(GREEN) + share * np.array(BLUE)).tolist())
        result = tracker.update(scene((color, 100 + k, 120)))
    assert iou(result.box, box_at(159, 120)) > 0.8
    first, mixed = (
        response.max()
        for response in tracker.state.online_filter.respond(
            tracker.engine.track(
                tracker.exemplar, tracker.crop_search_windows(scene((color, 160, 120)))[0]
            ).features[0]
        )
    )
    assert mixed > first


# --- The state ------------------------------------------------------------------------------------


def test_a_snapshot_gives_the_same_boxes_again_bit_for_bit():
    tracker = started(filter_lr=0.2)
    frames = [scene((GREEN, *at), (DIM_GREEN, at[0] - 60, at[1])) for at in PATH]
    for frame in frames[:3]:
        tracker.update(frame)
    state = tracker.state
    weights, gram = state.online_filter.weights.copy(), state.online_filter.gram.copy()
    results = [tracker.update(frame) for frame in frames[3:]]
    last = tracker.state.online_filter
    assert last is not state.online_filter
    # The snapshot has not changed since, and neither does a pickled one differ.
    np.testing.assert_array_equal(state.online_filter.weights, weights)
    np.testing.assert_array_equal(state.online_filter.gram, gram)
    for kept in (state, pickle.loads(pickle.dumps(state))):
        tracker.set_state(kept)
        assert [tracker.update(frame) for frame in frames[3:]] == results
        np.testing.assert_array_equal(tracker.state.online_filter.weights, last.weights)
        np.testing.assert_array_equal(tracker.state.online_filter.gram, last.gram)


def test_two_trackers_give_the_same_bits():
    frames = [scene((GREEN, *at), (RED, at[0] - 60, at[1])) for at in PATH]
    trackers = [started(), started()]
    results = [[tracker.update(frame) for frame in frames] for tracker in trackers]
    assert results[0] == results[1]
    first, second = (tracker.state.online_filter for tracker in trackers)
    np.testing.assert_array_equal(first.weights, second.weights)


def test_moved_by_hand_the_target_keeps_its_filter():
    tracker = started()
    kept = tracker.state.online_filter
    tracker.move_to(box_at(200, 60))
    assert tracker.state.online_filter is kept
    assert iou(tracker.update(scene((GREEN, 205, 60))).box, box_at(205, 60)) > 0.9


# --- The second look ------------------------------------------------------------------------------

LARGE = {"at": (240, 240), "size": (480, 480)}
JUMPS = [(110, 110), (-110, 90), (100, -120), (-100, -100)]  # out of the window, which reaches 90


def second_look(tracker, frame):
    """Crops and maps of the second look at a frame; the state is that after the first look."""
    crops, maps = tracker.crop_search_windows(frame)
    response = tracker.engine.track(tracker.exemplar, crops)
    return tracker.crop_second_look(frame, response, maps)


@pytest.mark.parametrize("jump", JUMPS)
def test_a_target_that_jumps_out_of_the_window_is_found_in_the_same_frame(jump):
    engine = Colors()
    tracker = started(engine=engine, **LARGE)
    tracker.update(scene((GREEN, 244, 240), size=(480, 480)))
    now = 244 + jump[0], 240 + jump[1]
    result = tracker.update(scene((GREEN, *now), size=(480, 480)))
    # Looked around in this frame alone, and at the new place in the frame before.
    assert engine.crops[1:] == [1, 1, 4, 1]
    assert iou(result.box, box_at(*now)) > 0.8
    assert result.status == "tracked"
    tracker.update(scene((GREEN, *now), size=(480, 480)))
    assert engine.crops[5:] == [1]


def test_what_is_learned_is_the_window_in_which_the_target_was_found():
    tracker = started(**LARGE)
    for k in range(1, of.UPDATE_INTERVAL):
        tracker.update(scene((GREEN, 240 + k, 240), size=(480, 480)))
    before = tracker.state.online_filter
    response, maps = tracker.search(scene((GREEN, 350, 345), size=(480, 480)))
    tracker.update_from_response(response, maps)
    box = tracker.state.box_xywh
    assert iou(box, box_at(350, 345)) > 0.8
    peaks = [before.respond(one).mixed.max() for one in response.features]
    number = int(np.argmax(peaks))
    assert number > 0
    expected = after_update(before, response, maps, number, box)
    np.testing.assert_allclose(
        tracker.state.online_filter.weights, expected.weights, rtol=0, atol=1e-6
    )
    assert np.abs(expected.weights - before.weights).max() > 1e-4


def test_who_never_looks_around_stays():
    engine = Colors()
    tracker = started(engine=engine, look_around_below=0.0, **LARGE)
    result = tracker.update(scene((GREEN, 350, 350), size=(480, 480)))
    assert engine.crops[1:] == [1]
    assert iou(result.box, box_at(350, 350)) == 0


def test_another_thing_around_is_not_taken_for_the_target():
    tracker = started(**LARGE)
    for _ in range(3):
        result = tracker.update(scene((RED, 350, 350), size=(480, 480)))
        assert iou(result.box, box_at(350, 350)) == 0
        assert result.score < 0.5


def test_the_second_look_wants_a_sure_response():
    tracker = started(look_around_accept=1.0, **LARGE)
    frame = scene((DIM_GREEN, 350, 350), size=(480, 480))
    _, maps = second_look(tracker, frame)
    assert len(maps) == 4
    around = tracker.search(frame)[0].features[1:]
    best = max(tracker.state.online_filter.respond(one).mixed.max() for one in around)
    assert best < 1
    assert iou(tracker.update(frame).box, box_at(350, 350)) == 0
    sure = started(look_around_accept=float(best) - 0.01, **LARGE)
    assert iou(sure.update(frame).box, box_at(350, 350)) > 0.8


def test_the_windows_around_are_as_large_and_beside_the_last_one():
    tracker = started(**LARGE)
    frame = scene(size=(480, 480))
    _, (here,) = tracker.crop_search_windows(frame)
    crops, around = second_look(tracker, frame)
    assert [crop.shape for crop in crops] == [(SEARCH_PX, SEARCH_PX, 3)] * 4
    assert {one.scale for one in around} == {here.scale}
    side = here.scale * SEARCH_PX
    steps = [(np.array(one.origin_xy) - here.origin_xy) / side for one in around]
    assert {tuple(np.sign(step)) for step in steps} == {(-1, -1), (-1, 1), (1, -1), (1, 1)}
    # No gap is left between them and the window of the last box, nor between each other.
    assert all(0.3 < abs(v) <= 0.5 for step in steps for v in step)
    # With the target in its window there are none.
    frame = scene((GREEN, 244, 240), size=(480, 480))
    assert second_look(tracker, frame) == ([], [])


@pytest.mark.parametrize("jump", [(80, 0), (-80, 10), (5, -80), (78, 78)])
def test_a_target_that_the_window_cuts_off_is_looked_at_again_in_the_middle_of_one(jump):
    """The window reaches 90 px, and the target 20 px from its center."""
    engine = Colors()
    tracker = started(engine=engine, window_influence=0.0, **LARGE)
    now = 240 + jump[0], 240 + jump[1]
    frame = scene((GREEN, *now), size=(480, 480))
    _, (centered,) = second_look(tracker, frame)
    middle = np.array(centered.origin_xy) + centered.scale * SEARCH_PX / 2
    np.testing.assert_allclose(middle, now, atol=SIZE_PX / 2)
    engine.crops.clear()
    result = tracker.update(frame)
    assert engine.crops == [1, 1]
    assert iou(result.box, box_at(*now)) > 0.9 and result.status == "tracked"


def test_a_target_at_the_border_is_not_looked_at_again_where_another_place_is_taken():
    """The cosine window prefers the one in the middle."""
    engine = Colors()
    tracker = started(engine=engine, window_influence=0.6, **LARGE)
    tracker.update(scene((GREEN, 242, 240), (GREEN, 320, 240), size=(480, 480)))
    assert engine.crops[1:] == [1]
    assert iou(tracker.state.box_xywh, box_at(242, 240)) > 0.9


def test_a_target_that_leaves_is_not_looked_for_elsewhere():
    """More than a quarter of it is out; then it is gone, and its twin is in a window around."""
    engine = Colors()
    tracker = started(engine=engine, at=(160, 120))
    for x in range(166, 324, 6):
        tracker.update(scene((GREEN, x, 120)))
    left = tracker.state.box_xywh
    assert left[0] + left[2] > 332
    engine.crops.clear()
    for _ in range(3):
        tracker.update(scene((GREEN, 190, 30)))
        np.testing.assert_array_equal(tracker.state.box_xywh, left)
    assert engine.crops == [1] * 3


def test_a_lost_target_is_searched_by_the_grid_alone():
    engine = Colors()
    tracker = started(engine=engine, redetect_windows=2, lost_after=3, **LARGE)
    empty = scene(size=(480, 480))
    statuses = [tracker.update(empty).status for _ in range(6)]
    assert statuses == ["uncertain"] * 2 + ["lost"] * 4
    # Three frames with a second look, then the window of the last box and two of the grid.
    assert engine.crops[1:] == [1, 4] * 3 + [3] * 3


def test_without_the_filter_there_is_no_second_look():
    engine = Colors(features=False)
    tracker = started(engine=engine, online_filter=False, **LARGE)
    frame = scene(size=(480, 480))
    tracker.update(frame)
    assert engine.crops[1:] == [1]


# --- Hidden, gone, cut ----------------------------------------------------------------------------


def test_a_hidden_target_is_waited_for_where_it_was():
    """A box of background is not the target, and the target is taken again where it was."""
    tracker = started(min_peak=0.05)
    for at in PATH:
        tracker.update(scene((GREEN, *at)))
    hidden = [tracker.update(scene((RED, 250, 60))) for _ in range(10)]
    assert hidden[-1].status == "lost" and max(result.score for result in hidden) < 0.5
    x, y = PATH[-1]
    assert len({result.box for result in hidden}) == 1
    assert iou(hidden[-1].box, box_at(x, y)) > 0.8
    back = [tracker.update(scene((GREEN, x, y))) for _ in range(3)]
    assert [r.status for r in back] == ["lost", "tracked", "tracked"]
    assert iou(back[-1].box, box_at(x, y)) > 0.8


def test_nothing_is_learned_of_what_is_doubted_after_a_cut():
    tracker = started(filter_min_peak=-9.0)
    for at in PATH:
        tracker.update(scene((GREEN, *at)))
    cut = [scene((PALE, *PATH[-1]), seed=OTHER_SEED)] * (2 * of.UPDATE_INTERVAL)
    assert learned_frames(tracker, cut) == []


def lost_in_the_middle(**changes):
    tracker = started(redetect_windows=6, min_peak=0.05, **LARGE, **changes)
    while tracker.update(scene(size=(480, 480))).status != "lost":
        pass
    return tracker


def test_a_lost_target_comes_back_near_its_last_place_at_first():
    """Its twin is farther away than a target goes in a few frames."""
    near, far = (GREEN, 300, 290), (GREEN, 440, 440)
    tracker = lost_in_the_middle()
    for _ in range(5):
        result = tracker.update(scene(far, size=(480, 480)))
        assert result.status == "lost" and iou(result.box, box_at(240, 240)) > 0.9
    for _ in range(5):
        result = tracker.update(scene(near, far, size=(480, 480)))
    assert result.status == "tracked" and iou(result.box, box_at(300, 290)) > 0.8


def test_a_target_lost_for_long_may_be_anywhere():
    tracker = lost_in_the_middle()
    for _ in range(ANYWHERE_AFTER + 5):
        result = tracker.update(scene((GREEN, 440, 440), size=(480, 480)))
    assert result.status == "tracked" and iou(result.box, box_at(440, 440)) > 0.8
    assert tracker.state.lost_frames == 0


OLIVE = (30, 120, 140)  # little like the target: the filter responds by 0.26
STRICT = {
    "tracked_above": 1.0,
    "lost_below": 1.0,
    "redetect_score": 1.0,
    "size": (240, 480),
    "filter_center": 0.5,
}


def test_the_box_of_a_lost_target_goes_along_with_what_is_like_it():
    """Its size stays, and nothing is learned."""
    tracker = started(**STRICT)
    path = [(100 + 4 * k, 120) for k in range(1, 40)]
    results = [tracker.update(scene((OLIVE, *at), size=(240, 480))) for at in path]
    lost = [(r, at) for r, at in zip(results, path, strict=True) if r.status == "lost"]
    assert len(lost) > 30 and lost[-1][1] == path[-1]
    assert all(iou(r.box, box_at(*at)) > 0.8 for r, at in lost)
    assert len({r.box[2:] for r, _ in lost}) == 1
    assert tracker.state.online_filter.weights is tracker.state.online_filter.first_weights


@pytest.mark.parametrize("why", ["it is far away", "it is not like it at all", "it was long ago"])
def test_the_box_of_a_lost_target_stays(why):
    tracker = started(**STRICT)
    for _ in range(4):  # lost_after
        result = tracker.update(scene((OLIVE, 100, 120), size=(240, 480)))
    assert result.status == "lost"
    color, at = OLIVE, (110, 120)
    if why == "it is far away":
        at = (145, 120)
    elif why == "it is not like it at all":
        color = (110, 40, 200)
    else:
        for _ in range(ANYWHERE_AFTER):
            tracker.update(scene((OLIVE, 100, 120), size=(240, 480)))
    result = tracker.update(scene((color, *at), size=(240, 480)))
    assert result.status == "lost"
    assert iou(result.box, box_at(100, 120)) > 0.9


def test_something_else_does_not_replace_a_lost_target():
    tracker = started(redetect_windows=3)
    for _ in range(8):
        tracker.update(scene())
    for _ in range(12):
        result = tracker.update(scene((RED, 200, 120), (RED, 100, 60)))
    assert result.status == "lost" and result.score < 0.5
    for at in ((200, 120), (100, 60)):
        assert iou(result.box, box_at(*at)) < 0.3


@pytest.mark.parametrize("step", [(3, 0), (-3, 0), (0, -3)])
def test_a_target_that_leaves_keeps_a_size_at_which_it_can_be_found(step):
    """What is left of it gets thinner; the box that is searched does not."""
    tracker = started(at=(160, 120))
    where = [(160 + step[0] * k, 120 + step[1] * k) for k in range(1, 75)]
    for at in where:
        result = tracker.update(scene((GREEN, *at)))
    assert result.status == "lost"
    assert tracker.state.box_xywh[2:] == pytest.approx([SIZE_PX, SIZE_PX], rel=0.2)
    x, y, w, h = result.box
    assert x >= 0 and y >= 0 and x + w <= 320 and y + h <= 240  # what is reported is inside
    # It comes back the way it left.
    for at in reversed(where[:55]):
        result = tracker.update(scene((GREEN, *at)))
    assert result.status == "tracked"
    assert iou(result.box, box_at(*where[0])) > 0.8


OTHER_SEED = 3


def test_the_grounds_are_of_two_shots():
    """A premise of the tests below."""
    tracker = started()
    tracker.update(scene((GREEN, 103, 120)))
    before = tracker.state.thumbnail
    tracker.update(scene((GREEN, 106, 120), seed=OTHER_SEED))
    assert is_cut(before, tracker.state.thumbnail)


def test_after_a_cut_something_else_is_not_the_target():
    """It stands where the target was, and the network is sure of it."""
    tracker = started()
    for at in PATH:
        tracker.update(scene((GREEN, *at)))
    x, y = PATH[-1]
    cut = [tracker.update(scene((RED, x, y), seed=OTHER_SEED)) for _ in range(8)]
    assert tracker.state.cut_frames == FRAMES_AFTER_CUT - 7
    assert [r.status for r in cut[:3]] == ["uncertain"] * 3
    assert {r.status for r in cut[3:]} == {"lost"}
    assert max(r.score for r in cut) < 0.3
    # Back in the first shot the target is where it was.
    back = [tracker.update(scene((GREEN, x, y))) for _ in range(FRAMES_TO_CONFIRM + 2)]
    assert back[-1].status == "tracked" and iou(back[-1].box, box_at(x, y)) > 0.8
    assert tracker.state.cut_frames == 0


def test_the_score_after_a_cut_is_that_of_a_loss_however_sure_the_network_is():
    """Without a cut the same thing, somewhat like the target, has a high one."""

    def result(seed):
        tracker = started(filter_score_margin=0.0)
        for at in PATH:
            tracker.update(scene((GREEN, *at)))
        found = tracker.update(scene((PALE, *PATH[-1]), seed=seed))
        assert found.score <= calibrated_score(tracker.state.last_prediction, tracker.options)
        return found

    assert result(seed=0).score > 0.9
    assert result(seed=OTHER_SEED).score < 0.3


def test_the_target_in_the_next_shot_is_the_target():
    """Once it has looked like it for a few frames; until then that is uncertain."""
    tracker = started()
    for at in PATH:
        tracker.update(scene((GREEN, *at)))
    x, y = PATH[-1]
    frame = scene((GREEN, x + 20, y), seed=OTHER_SEED)
    results = [tracker.update(frame) for _ in range(FRAMES_TO_CONFIRM + 1)]
    assert min(iou([r.box for r in results], box_at(x + 20, y))) > 0.8
    assert [r.status for r in results] == ["uncertain"] * FRAMES_TO_CONFIRM + ["tracked"]
    assert tracker.state.cut_frames == 0


def test_moved_by_hand_after_a_cut_nothing_is_doubted():
    tracker = started()
    tracker.update(scene((GREEN, 103, 120)))
    tracker.update(scene((RED, 103, 120), seed=OTHER_SEED))
    assert tracker.state.cut_frames > 0
    tracker.move_to(box_at(103, 120))
    assert tracker.state.cut_frames == 0


def test_gray_frames_and_flat_ones_are_no_cuts():
    tracker = started()
    for frame in (scene((GREEN, 103, 120))[..., 1], np.full((240, 320), 90, np.uint8), scene()):
        tracker.update(frame)
        assert tracker.state.cut_frames == 0


def test_a_frame_of_one_pixel_is_tracked():
    tracker = Tracker(Colors(), options())
    pixel = np.full((1, 1, 3), 90, np.uint8)
    assert tracker.init(pixel, (0, 0, 1, 1)).box == (0, 0, 1, 1)
    assert tracker.update(pixel).box == (0, 0, 1, 1)


# --- With the bundled weights ---------------------------------------------------------------------


def texture(rng, size):
    """Smooth colored texture, coarse and fine."""
    out = np.zeros((*size, 3), np.float32)
    for cell in (4, 16, 64):
        small = rng.random((size[0] // cell + 2, size[1] // cell + 2, 3), dtype=np.float32)
        out += cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC) * cell**0.5
    out -= out.min()
    return (40 + out * (160 / out.max())).astype(np.uint8)


def toy(rng, color):
    """A square thing with a rim, patches, an eye and a bar."""
    patches = rng.integers(0, 90, (6, 6, 3)).astype(np.uint8)
    made = cv2.resize(patches, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_NEAREST)
    made = cv2.add(made, np.full_like(made, color))
    cv2.rectangle(made, (0, 0), (SIZE_PX - 1, SIZE_PX - 1), (20, 20, 20), 2)
    cv2.circle(made, (20, 13), 6, (240, 240, 240), -1)
    cv2.line(made, (8, 32), (32, 24), (10, 220, 240), 4)
    return made


class Film:
    """A textured scene, or two of them, with a thing that is drawn where it is asked for."""

    def __init__(self, seed=5, color=(40, 200, 220), size=(300, 420)):
        rng = np.random.default_rng(seed)
        self.grounds = [texture(rng, size) for _ in range(2)]
        self.thing, self.other = toy(rng, color), cv2.flip(toy(rng, (200, 60, 40)), 0)

    def frame(self, at=None, *, ground=0, thing=None):
        """With the thing's top-left corner at whole px; none at None."""
        image = self.grounds[ground].copy()
        if at is not None:
            (x, y), thing = at, self.thing if thing is None else thing
            shown = image[max(y, 0) : y + SIZE_PX, max(x, 0) : x + SIZE_PX]
            top, left = max(-y, 0), max(-x, 0)
            shown[:] = thing[top : top + shown.shape[0], left : left + shown.shape[1]]
        return image


def follow(tracker, film, places):
    """Results of a thing that starts at the first place; it is hidden where a place is None."""
    tracker.init(film.frame(places[0]), (*places[0], SIZE_PX, SIZE_PX))
    return [tracker.update(film.frame(at)) for at in places[1:]]


def overlap(result, at):
    return float(iou(result.box, (*at, SIZE_PX, SIZE_PX)))


def bouncing(step, frames, size=(300, 420)):
    """Top-left corners of a thing that jumps by `step`, and back from the borders."""
    at, step, places = np.array([60, 100]), np.array(step), []
    for _ in range(frames):
        places.append(tuple(at.tolist()))
        outside = (at + step < 10) | (at + step > np.array(size[::-1]) - SIZE_PX - 10)
        step = np.where(outside, -step, step)
        at = at + step
    return places


def test_a_target_that_jumps_by_more_than_its_size_in_every_frame_is_followed():
    """By 1.4 of its size, in a clip of few frames per second."""
    places = bouncing((48, 30), 30)
    results = follow(siamtrack.load(device="cpu", engine="onnx"), Film(), places)
    overlaps = [overlap(r, at) for r, at in zip(results, places[1:], strict=True)]
    assert min(overlaps) > 0.4 and np.mean(overlaps) > 0.6
    assert "lost" not in {r.status for r in results} and results[-1].status == "tracked"


CORNERS = [(100, 60), (210, 160), (100, 60), (215, 60)]
JUMPING = [CORNERS[k // 5] for k in range(20)]
"""From corner to corner, every fifth frame; to the last one between two windows around."""


def test_the_second_and_third_look_follow_jumps_that_leave_the_window():
    def found(**changes):
        tracker = siamtrack.load(device="cpu", engine="onnx", **changes)
        results = follow(tracker, Film(), JUMPING)
        return [overlap(results[k], JUMPING[k + 1]) > 0.8 for k in (4, 9, 14)]

    assert found() == [True] * 3
    assert found(look_around_below=0.0)[0] is False


def test_one_of_several_targets_is_looked_at_a_second_and_a_third_time_as_well():
    alone = follow(siamtrack.load(device="cpu", engine="onnx"), Film(), JUMPING)
    film, many = Film(), siamtrack.load_multi(device="cpu", engine="onnx")
    target = many.add(film.frame(JUMPING[0]), (*JUMPING[0], SIZE_PX, SIZE_PX))
    for at, one in zip(JUMPING[1:], alone, strict=True):
        assert many.update(film.frame(at))[target] == one


def test_background_does_not_replace_a_hidden_target():
    places = [(60 + 4 * k, 120) for k in range(12)]
    tracker = siamtrack.load(device="cpu", engine="onnx")
    results = follow(tracker, Film(), [*places, *[None] * 20, *[(108, 120)] * 10])
    hidden, back = results[11:31], results[31:]
    assert "tracked" not in {r.status for r in hidden[2:]}
    assert max(r.score for r in hidden) < min(r.score for r in results[:11])
    assert back[-1].status == "tracked" and overlap(back[-1], (108, 120)) > 0.6


def test_a_target_that_leaves_is_lost_and_found_when_it_comes_back():
    away = [(300 + 4 * k, 120) for k in range(45)]  # the frame ends at 420
    tracker = siamtrack.load(device="cpu", engine="onnx")
    results = follow(tracker, Film(), away)
    assert {r.status for r in results[:15]} == {"tracked"}
    assert results[-1].status == "lost"
    w, h = tracker.state.box_xywh[2:]
    assert 0.6 * SIZE_PX < w < 1.6 * SIZE_PX and 0.6 * SIZE_PX < h < 1.6 * SIZE_PX
    film = Film()
    back = [tracker.update(film.frame(at)) for at in reversed(away[5:])]
    assert back[-1].status == "tracked" and overlap(back[-1], away[5]) > 0.5


def test_after_a_cut_the_same_thing_in_other_colors_is_not_the_target():
    """It stands where the target was, and the network does not tell them apart."""
    places = [(60 + 4 * k, 120) for k in range(12)]
    film, tracker = Film(), siamtrack.load(device="cpu", engine="onnx")
    follow(tracker, film, places)
    tracker.set_state(replace(tracker.state, similarity=0.0))  # anything is as similar
    other = np.ascontiguousarray(film.thing[..., [1, 0, 2]])  # green where it was red
    cut = [tracker.update(film.frame(places[-1], ground=1, thing=other)) for _ in range(25)]
    assert "tracked" not in {r.status for r in cut} and cut[-1].status == "lost"
    back = [tracker.update(film.frame(places[-1])) for _ in range(15)]
    assert back[-1].status == "tracked" and overlap(back[-1], places[-1]) > 0.5


def test_after_a_cut_the_target_is_lost_until_the_shot_comes_back():
    """In the other shot something of its size moves nearby."""
    places = [(60 + 4 * k, 120) for k in range(12)]
    film, tracker = Film(), siamtrack.load(device="cpu", engine="onnx")
    follow(tracker, film, places)
    x, y = places[-1]
    cut = [
        tracker.update(film.frame((x + 4 * k, y - 30), ground=1, thing=film.other))
        for k in range(25)
    ]
    assert cut[-1].status == "lost"
    assert "tracked" not in {r.status for r in cut}
    back = [tracker.update(film.frame((x + 4 * k, y))) for k in range(1, 15)]
    assert back[-1].status == "tracked"
    assert overlap(back[-1], (x + 56, y)) > 0.5
