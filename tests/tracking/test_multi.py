"""Many targets: batches, numbers, and distractors that an engine cannot tell apart."""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

import siamtrack
from siamtrack.data.synthetic import small_scene
from siamtrack.engines.base import Exemplar, Response
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import ConfigError, InvalidBoxError, InvalidFrameError
from siamtrack.geometry import iou
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFC, SiamFCConfig
from siamtrack.tracking.multi import MultiTracker, TargetUpdate, cheapest_columns
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker

SIDE = 40
FRAME_WH = (640, 360)
Y = 160


class Alike:
    """Responds to blue squares and to green squares.

    Args:
        boxes: whether it has a box head.
        other: logit of the square that the exemplar is not; that of the exemplar's own is 4.
    """

    name, precision, device, architecture = "alike", "f32", "cpu", "none"

    def __init__(self, boxes, other=4.0):
        self.boxes, self.other = boxes, other
        self.config = Lite0Config() if boxes else SiamFCConfig()
        self.cells = 16 if boxes else 17

    def embed_exemplar(self, crops, boxes_xywh):
        middle = self.config.exemplar_size_px // 2
        return Exemplar(([int(crop[middle, middle, 1] > 127) for crop in crops],), len(crops))

    def stack(self, exemplars):
        return Exemplar(([c for e in exemplars for c in e.tensors[0]],), len(exemplars))

    def track(self, exemplar, crops):
        shape = (len(crops), self.cells, self.cells)
        logits = np.full(shape, -6.0, np.float32)
        ltrb = np.full((len(crops), 4, *shape[1:]), 20.0, np.float32)
        stride, half = self.config.total_stride, self.config.search_size_px / 2
        centers = (np.arange(self.cells) - (self.cells - 1) / 2) * stride + half
        owns = exemplar.tensors[0] * (len(crops) // len(exemplar.tensors[0]))
        for k, (crop, own) in enumerate(zip(crops, owns, strict=True)):
            for channel, (x, y, w, h) in squares(crop):
                row, column = (int(np.abs(centers - c).argmin()) for c in (y + h / 2, x + w / 2))
                at = centers[column], centers[row]
                if max(abs(at[0] - x - w / 2), abs(at[1] - y - h / 2)) > stride:
                    continue
                logits[k, row, column] = 4.0 if channel == own else self.other
                ltrb[k, :, row, column] = at[0] - x, at[1] - y, x + w - at[0], y + h - at[1]
        return Response(logits, ltrb if self.boxes else None, None)


def squares(crop):
    """Channel and whole box of the squares of which enough is seen."""
    found = [
        (channel, cv2.boundingRect((crop[..., channel] > 127).astype(np.uint8)))
        for channel in (0, 1)
    ]
    front = found[1][1][0] + found[1][1][2] / 2
    for channel, (x, y, w, h) in found:
        if min(w, h) < 12:
            continue
        hidden = max(h - w, 0)  # squares cross sideways
        yield channel, (x - hidden if x + w / 2 > front else x, y, w + hidden, h)


def draw(blue_x, green_x):
    """The green square is in front; None is not there. The ground shows that there is no cut."""
    image = np.zeros((FRAME_WH[1], FRAME_WH[0], 3), np.uint8)
    image[:] = np.linspace(0, 120, FRAME_WH[0])[:, None]
    for channel, x in ((0, blue_x), (1, green_x)):
        if x is not None:
            image[Y : Y + SIDE, x : x + SIDE] = 0
            image[Y : Y + SIDE, x : x + SIDE, channel] = 255
    return image


def maker(boxes=True, other=4.0):
    if boxes:
        options = BoxHeadOptions(lost_after=8, lost_below=0.2, online_filter=False)
        return lambda: Tracker(Alike(True, other), options)
    options = ScalePyramidOptions(scale_num=1)
    return lambda: Tracker(Alike(False, other), options)


def box_at(x):
    return (x, Y, SIDE, SIDE)


def follow(places, make=None):
    """Results of a tracker for both, and of two trackers that know nothing of each other."""
    make = maker() if make is None else make
    many, alone = MultiTracker(make), [make(), make()]
    first = draw(*places[0])
    for x, tracker in zip(places[0], alone, strict=True):
        many.add(first, box_at(x))
        tracker.init(first, box_at(x))
    together, apart = [], []
    for place in places[1:]:
        image = draw(*place)
        together.append(many.update(image))
        apart.append([tracker.update(image) for tracker in alone])
    return together, apart


def on(result, x):
    return iou(result.box, box_at(x)) > 0.6


# Both move by almost the distance between them: each is now where its neighbour was.
RUSH = [(100, 150), (102, 152), (142, 192), (144, 194)]


def test_two_targets_that_swap_positions_stay_apart():
    together, apart = follow(RUSH)
    assert on(apart[1][1], 142)  # alone, the second takes its neighbour for itself
    for results, (blue, green) in zip(together, RUSH[1:], strict=True):
        assert on(results[0], blue) and on(results[1], green)
    assert together[-1][1].status == "tracked"


def test_a_target_without_an_alternative_keeps_its_box_and_is_uncertain():
    """The green one passes close by the blue one and is hidden for a while."""
    hidden = [(282, 230 + 4 * k) for k in range(4)] + [(282, None)] * 6 + [(282, 242)] * 3
    together, apart = follow(hidden)
    assert on(apart[3][1], 282)  # alone, it jumps
    for results in together:
        assert on(results[0], 282) and results[0].status == "tracked"
    for results in together[3:9]:
        assert on(results[1], 242) and results[1].status == "uncertain"
        assert results[1].score < 0.5
    assert on(together[-1][1], 242) and together[-1][1].status == "tracked"


def test_so_does_a_target_of_a_network_without_box_head():
    together, apart = follow([(282, 242)] + [(282, None)] * 4, maker(boxes=False))
    assert on(apart[-1][1], 282)
    for results in together:
        assert on(results[0], 282) and on(results[1], 242)
        assert results[1].status == "uncertain"


@pytest.mark.parametrize("step_px", [3, 5, 8])
@pytest.mark.parametrize("other", [4.0, 1.5])
def test_objects_may_occlude_each_other(step_px, other):
    count = 240 // step_px
    crossing = [(200 + step_px * k, 440 - step_px * k) for k in range(count)]
    together, _ = follow(crossing, maker(other=other))
    middle = min(range(count - 1), key=lambda k: abs(crossing[k + 1][0] - crossing[k + 1][1]))
    assert iou(together[middle][0].box, together[middle][1].box) > 0.6
    (blue, green), ends = crossing[-1], together[-1]
    straight = on(ends[0], blue) and on(ends[1], green)
    statuses = {result.status for results in together for result in results.values()}
    # Nobody can say which is which of two that are alike, but both are there.
    swapped = other == 4.0 and on(ends[0], green) and on(ends[1], blue)
    assert statuses == {"tracked"} if straight else swapped and "uncertain" in statuses


def test_without_duplicates_the_results_are_those_of_separate_trackers():
    places = [(100 + 3 * k, 400 - 5 * k) for k in range(30)]
    together, apart = follow(places)
    assert [[results[0], results[1]] for results in together] == apart


def test_boxes_on_one_object_from_the_start_may_stay():
    many = MultiTracker(maker())
    for x in (100, 104):
        many.add(draw(100, 160), box_at(x))
    for k in range(6):
        results = many.update(draw(100 + 2 * k, 160 + 2 * k))
        assert on(results[0], 100 + 2 * k) and on(results[1], 100 + 2 * k)


def test_boxes_that_separate_exclude_each_other_from_then_on():
    many = MultiTracker(maker())
    many.add(draw(100, 160), box_at(100))
    second = many.add(draw(100, 160), box_at(104))
    many.reinit(second, draw(100, 160), box_at(160))
    for place in [(102, 162), (142, 202)]:
        results = many.update(draw(*place))
    assert on(results[0], 142) and on(results[1], 202)


def test_of_three_on_one_object_one_keeps_it():
    frames = [draw(100, 150), draw(None, 150)]
    many = MultiTracker(maker())
    for x in (100, 150):
        many.add(frames[0], box_at(x))
    third = many.add(frames[0], (198, Y, SIDE, SIDE))  # on nothing, beside the second
    results = many.update(frames[1])
    assert [target for target, result in results.items() if on(result, 150)] == [1]
    assert on(results[0], 100) and on(results[third], 198)
    assert results[1].status == "tracked" and results[0].status == "uncertain"


@pytest.fixture(scope="module")
def engine():
    torch.manual_seed(0)
    return TorchEngine(SiamTrackLite0(Lite0Config(exemplar_size_px=64, search_size_px=128)), "cpu")


def noise(seed=0, size=(90, 120)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_many_targets_equal_separate_trackers(engine):
    frames = [noise(seed) for seed in range(5)]
    boxes = [(30, 30, 20, 20), (70, 20, 24, 40), (5, 60, 30, 20)]
    many = MultiTracker(lambda: Tracker(engine, BoxHeadOptions()))
    assert [many.add(frames[0], box) for box in boxes] == [0, 1, 2]
    together = [many.update(frame) for frame in frames[1:]]
    for target, box in enumerate(boxes):
        alone = Tracker(engine, BoxHeadOptions())
        alone.init(frames[0], box)
        for both, frame in zip(together, frames[1:], strict=True):
            one = alone.update(frame)
            np.testing.assert_allclose(both[target].box, one.box, atol=0.05)
            assert both[target].status == one.status


def test_targets_far_apart_are_followed_as_by_separate_trackers(rng):
    """With the filter and ONNX Runtime; they differ in size, and one is hidden for a while."""
    ground = cv2.resize(noise(size=(9, 16)), FRAME_WH, interpolation=cv2.INTER_CUBIC)
    starts, steps = [(60, 50), (320, 250), (560, 60)], [(3, 1), (-2, -3), (-1, 4)]
    pictures = [np.kron(rng.integers(0, 256, (4, 4, 3), np.uint8), np.ones((s, s, 1), np.uint8))
                for s in (6, 9, 12)]  # fmt: skip
    frames = []
    for k in range(14):
        frames.append(ground.copy())
        for n, (picture, (x, y), (dx, dy)) in enumerate(zip(pictures, starts, steps, strict=True)):
            side, left, top = len(picture), x + k * dx, y + k * dy
            if n != 1 or k not in (6, 7, 8):
                frames[-1][top : top + side, left : left + side] = picture
    boxes = [(*start, len(p), len(p)) for start, p in zip(starts, pictures, strict=True)]

    settings = {"weights": "siamtrack-nano", "engine": "onnx", "threads": 2}
    many = siamtrack.load_multi(**settings)
    for box in boxes:
        many.add(frames[0], box)
    together = [many.update(frame) for frame in frames[1:]]
    for target, box in enumerate(boxes):
        alone = siamtrack.load(**settings)
        alone.init(frames[0], box)
        own = [alone.update(frame) for frame in frames[1:]]
        theirs = [results[target] for results in together]
        assert [r.status for r in theirs] == [r.status for r in own]
        np.testing.assert_allclose([r.box for r in theirs], [r.box for r in own], atol=0.01)
        np.testing.assert_allclose([r.score for r in theirs], [r.score for r in own], atol=1e-3)
    statuses = [[results[target].status for results in together] for target in range(3)]
    assert set(statuses[0] + statuses[2]) == {"tracked"} and "uncertain" in statuses[1]


def test_targets_come_and_go(engine):
    many = MultiTracker(lambda: Tracker(engine, BoxHeadOptions()))
    assert many.update(noise()) == {}
    first, second = many.add(noise(), (10, 10, 20, 20)), many.add(noise(), (50, 40, 20, 20))
    many.remove(first)
    assert many.targets == (second,) and set(many.update(noise(1))) == {second}
    assert many.add(noise(), (10, 10, 20, 20)) == 2  # numbers are not used twice
    assert many.reinit(second, noise(), (1, 2, 30, 30)).box == (1, 2, 30, 30)
    for call in (lambda: many.remove(first), lambda: many.reinit(9, noise(), (1, 2, 3, 4))):
        with pytest.raises(ConfigError, match="does not exist; the targets are: 1, 2"):
            call()
    with pytest.raises(InvalidBoxError):
        many.add(noise(), (1, 1, 0, 0))
    assert many.targets == (1, 2)
    many.reset()
    assert many.targets == () and many.add(noise(), (1, 1, 9, 9)) == 0


def test_targets_of_two_shapes_are_refused_and_nothing_changes():
    many, twin = MultiTracker(maker()), MultiTracker(maker())
    wide, upright = draw(100, 400), np.ascontiguousarray(np.rot90(draw(100, 400)))
    for tracker in (many, twin):
        tracker.add(wide, box_at(100))
        tracker.add(wide, box_at(400))
    with pytest.raises(
        InvalidFrameError,
        match="^frame is 360x640, target 0 is tracked in 640x360, which has another shape; add it "
        r"on a frame of their shape, or reset\(\) and add all",
    ):
        many.add(upright, box_at(100))
    assert many.targets == (0, 1) and many.state.next_target == 2
    # One target in another shape: the other one does not see the refused frame either.
    many.reinit(1, upright, (Y, 200, SIDE, SIDE))
    with pytest.raises(InvalidFrameError, match="target 1 is tracked in 360x640"):
        many.update(draw(500, None))
    many.reinit(1, wide, box_at(400))
    assert many.update(draw(104, 404)) == twin.update(draw(104, 404))
    # All of them may go there, and another resolution is no other shape.
    for target in many.targets:
        many.reinit(target, upright, (Y, 200, SIDE, SIDE))
    many.update(upright)
    assert many.add(cv2.resize(upright, (720, 1280)), (2 * Y, 400, 2 * SIDE, 2 * SIDE)) == 2
    assert set(many.update(upright)) == {0, 1, 2}


@pytest.mark.parametrize(("half_box", "overlap"), [((50, 150, 20, 20), 0), ((100, 300, 40, 40), 1)])
def test_overlaps_are_those_in_frames_of_one_resolution(half_box, overlap):
    """The second target is given on a frame of twice the size; the first is at 50, 150 there."""
    many = MultiTracker(maker())
    small = draw(100, 400)
    many.add(small, (50, 150, 20, 20))
    many.add(cv2.resize(small, (1280, 720)), half_box)
    assert len(many.state.overlapping_pairs) == overlap


def test_siamfc_targets_share_a_batch():
    torch.manual_seed(0)
    engine = TorchEngine(SiamFC(), "cpu")
    many = MultiTracker(lambda: Tracker(engine, ScalePyramidOptions()))
    many.add(noise(), (30, 30, 20, 20))
    many.add(noise(), (60, 30, 30, 20))
    alone = Tracker(engine, ScalePyramidOptions())
    alone.init(noise(), (60, 30, 30, 20))
    np.testing.assert_allclose(many.update(noise(1))[1].box, alone.update(noise(1)).box, atol=0.05)


def test_bundled_weights_of_many_targets_come_by_load_multi():
    frames, boxes = zip(*((f.image_bgr, f.box_xywh) for f in small_scene()), strict=True)
    many = siamtrack.load_multi(device="cpu")
    many.add(frames[0], boxes[0])
    assert iou(many.update(frames[1])[0].box, boxes[1]) > 0.5


def test_scipy_is_imported_when_duplicates_are_resolved():
    code = (
        "import sys, siamtrack.tracking.multi as multi; "
        "raise SystemExit(any(name.partition('.')[0] == 'scipy' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rows", [1, 2, 3, 6])
def test_cheapest_columns_cost_as_little_as_scipys(rng: np.random.Generator, rows: int) -> None:
    for columns in (rows, rows + 1, 3 * rows):
        for _ in range(30):
            costs = rng.choice([rng.uniform(0, 3), 0.5, 1.5, 1e6], (rows, columns))
            costs += rng.uniform(0, 2, costs.shape)
            chosen = cheapest_columns(costs)
            assert len(set(chosen)) == rows
            expected = costs[linear_sum_assignment(costs)].sum()
            assert costs[range(rows), chosen].sum() == pytest.approx(expected)


def test_cheapest_columns_with_ties_are_an_assignment() -> None:
    assert sorted(cheapest_columns(np.zeros((4, 4)))) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("status", "moved", "is_guess", "claims"),
    [
        ("tracked", False, False, True),
        ("uncertain", True, False, True),
        ("lost", False, False, False),
        ("lost", True, False, True),  # it was taken, and is called tracked in the next frame
        ("lost", True, True, False),
    ],
)
def test_a_lost_target_whose_box_is_a_guess_claims_no_object(status, moved, is_guess, claims):
    tracker = siamtrack.load(device="cpu", engine="onnx")
    tracker.init(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8), (9, 9, 40, 50))
    before = tracker.state
    after = replace(before, box_xywh=before.box_xywh + 3 * moved, is_guess=is_guess)
    result = Result(tuple(after.box_xywh.tolist()), 0.4, status)
    update = TargetUpdate(tracker, before, None, [], np.zeros((0, 4)), after, result)
    assert update.claims_box is claims
