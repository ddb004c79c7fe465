"""The tracking loop with real networks: contracts with random weights, tracking with ours."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

import siamtrack
from siamtrack.data.synthetic import small_scene
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import (
    ConfigError,
    DeviceError,
    EngineError,
    InvalidBoxError,
    InvalidFrameError,
    NotInitializedError,
    WeightsError,
)
from siamtrack.geometry import iou
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFC
from siamtrack.models.weights import save_network
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions, TrackerOptions
from siamtrack.tracking.tracker import StatusFilter, Tracker


@pytest.fixture(scope="module")
def engine():
    torch.manual_seed(0)
    return TorchEngine(SiamTrackLite0(Lite0Config(exemplar_size_px=64, search_size_px=128)), "cpu")


@pytest.fixture
def tracker(engine):
    return Tracker(engine, BoxHeadOptions())


@pytest.fixture(scope="module")
def scene():
    frames, boxes = zip(*((f.image_bgr, f.box_xywh) for f in small_scene()), strict=True)
    return list(frames), np.array(boxes)


def noise(seed=0, size=(90, 120)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def follow(tracker, frames, box):
    return [tracker.init(frames[0], box), *(tracker.update(f) for f in frames[1:])]


def test_the_first_result_is_the_clipped_box_and_certain(tracker):
    result = tracker.init(noise(), (-10, 20, 40, 30))
    assert result.box == (0, 20, 30, 30)
    assert (result.score, result.status) == (1.0, "tracked")


def test_update_before_init_is_refused(tracker):
    with pytest.raises(NotInitializedError, match="call init"):
        tracker.update(noise())
    tracker.init(noise(), (10, 10, 20, 20))
    assert tracker.is_initialized
    tracker.reset()
    assert not tracker.is_initialized and tracker.state is None
    with pytest.raises(NotInitializedError, match="call init"):
        tracker.update(noise())


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (200, 200, 5, 5), (1, 2, 3), (1, 2, np.nan, 4)])
def test_bad_boxes_are_refused_and_the_old_target_stays(tracker, box):
    tracker.init(noise(), (10, 10, 20, 20))
    before = tracker.state
    with pytest.raises(InvalidBoxError):
        tracker.init(noise(), box)
    assert tracker.state is before


@pytest.mark.parametrize("frame", [None, noise().astype(np.float32), noise()[:0]])
def test_bad_frames_are_refused_and_the_target_stays(tracker, frame):
    tracker.init(noise(), (10, 10, 20, 20))
    before = tracker.state
    with pytest.raises(InvalidFrameError):
        tracker.update(frame)
    assert tracker.state is before


def test_gray_frames_are_tracked(tracker):
    tracker.init(noise()[..., 0], (10, 10, 20, 20))
    assert len(tracker.update(noise(1)[..., 0]).box) == 4


@pytest.mark.parametrize("box", [(0, 0, 120, 90), (0, 0, 2, 2), (118, 88, 2, 2), (50, 40, 2, 45)])
def test_boxes_stay_in_the_frame_with_a_minimum_size(tracker, box):
    frames = [noise(seed) for seed in range(12)]
    for result in follow(tracker, frames, box):
        x, y, w, h = result.box
        assert np.isfinite(result.box).all() and 0 <= result.score <= 1
        assert x >= 0 and y >= 0 and x + w <= 120 + 1e-9 and y + h <= 90 + 1e-9
        assert w >= 1.999 and h >= 1.999


def test_the_same_frames_give_the_same_boxes(engine):
    frames = [noise(seed) for seed in range(6)]
    runs = [follow(Tracker(engine, BoxHeadOptions()), frames, (30, 30, 20, 20)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_tracker_starts_anew_without_memory(tracker, engine):
    frames = [noise(seed) for seed in range(6)]
    follow(tracker, frames[::-1], (60, 40, 30, 20))
    again = follow(tracker, frames, (30, 30, 20, 20))
    assert again == follow(Tracker(engine, BoxHeadOptions()), frames, (30, 30, 20, 20))


def test_two_trackers_on_one_engine_never_touch(engine):
    frames = [noise(seed) for seed in range(6)]
    boxes = [(30, 30, 20, 20), (70, 20, 24, 40)]
    alone = [follow(Tracker(engine, BoxHeadOptions()), frames, box) for box in boxes]
    a, b = (Tracker(engine, BoxHeadOptions()) for _ in boxes)
    mixed = [[a.init(frames[0], boxes[0])], [b.init(frames[0], boxes[1])]]
    for frame in frames[1:]:
        mixed[1].append(b.update(frame))
        mixed[0].append(a.update(frame))
    assert mixed == alone


def test_the_state_is_a_snapshot(tracker):
    tracker.init(noise(), (10, 10, 20, 20))
    state = tracker.state
    box = state.box_xywh.copy()
    tracker.update(noise(1))
    np.testing.assert_array_equal(state.box_xywh, box)
    assert pickle.loads(pickle.dumps(state)).frame_wh == (120, 90)


def test_a_frame_of_the_same_aspect_is_another_resolution(tracker):
    tracker.init(noise(), (20, 30, 40, 30))
    tracker.update(noise(1, size=(180, 240)))
    assert tracker.state.frame_wh == (240, 180)
    with pytest.raises(
        InvalidFrameError, match="frame is 100x180, the target was tracked in 240x180"
    ):
        tracker.update(noise(1, size=(180, 100)))


class Broken:
    """An engine whose network diverged."""

    def __init__(self, engine, value):
        self.config, self._engine, self.value = engine.config, engine, value

    def embed_exemplar(self, crops, boxes):
        return self._engine.embed_exemplar(crops, boxes)

    def track(self, exemplar, crops):
        good = self._engine.track(exemplar, crops)
        return replace(good, ltrb_px=good.ltrb_px * self.value)


@pytest.mark.parametrize("online_filter", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_from_the_network_does_not_move_the_box(engine, value, online_filter, caplog):
    # Any score but 0 is good enough here, so that the status tells whether it was the score's.
    options = BoxHeadOptions(
        tracked_above=1e-9, lost_below=0.0, online_filter=online_filter, look_around_below=0.0
    )
    broken = Broken(engine, 1.0)
    tracker = Tracker(broken, options)
    tracker.init(noise(), (10, 20, 30, 40))
    before, broken.value = tracker.state, value
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        result = tracker.update(noise(1))
    assert result.box == (10, 20, 30, 40) and result.score == 0
    assert result.status == "uncertain"
    assert "the last box is kept" in caplog.text
    assert tracker.state.online_filter is before.online_filter
    assert tracker.state.similarity == before.similarity
    broken.value = 1.0
    assert tracker.update(noise(1)).score > 0, "nothing that is not a number is remembered"


def test_nan_on_the_first_frame_is_refused(engine):
    tracker = Tracker(Broken(engine, np.nan), BoxHeadOptions())
    with pytest.raises(EngineError, match="not finite on the first frame"):
        tracker.init(noise(), (10, 20, 30, 40))


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((30, 30, 20, 20), "flat in and around"),
        ((-16, 30, 20, 20), "only 20.0 % of the box"),
        ((60, 30, 20, 20), None),
    ],
)
def test_boxes_that_hardly_show_a_target_are_warned_of(tracker, box, told, caplog):
    frame = np.full((90, 120, 3), 40, np.uint8)
    frame[35:45, 65:75] = 200
    frame[::2, :8] = 90
    tracker.init(frame, box)
    assert (told in caplog.text) if told else not caplog.text


def test_faint_sensor_noise_is_still_flat(tracker, caplog):
    frame = np.random.default_rng(0).normal(60, 1.5, (90, 120, 3)).round().astype(np.uint8)
    tracker.init(frame, (30, 20, 40, 40))
    assert "flat in and around" in caplog.text


def test_options_without_a_method_are_refused(engine):
    with pytest.raises(TypeError, match="TrackerOptions"):
        Tracker(engine, TrackerOptions())


def test_siamfc_keeps_the_aspect():
    torch.manual_seed(0)
    tracker = Tracker(TorchEngine(SiamFC(), "cpu"), ScalePyramidOptions())
    results = follow(tracker, [noise(seed) for seed in range(4)], (30, 30, 40, 20))
    for result in results:
        assert result.box[2] / result.box[3] == pytest.approx(2, rel=1e-6)


def test_the_bundled_weights_track(scene):
    frames, boxes = scene
    results = follow(siamtrack.load(device="cpu"), frames, boxes[0])
    overlaps = iou([r.box for r in results[1:]], boxes[1:])
    assert overlaps.mean() > 0.6 and overlaps.min() > 0.3


def test_channel_order_matters(scene):
    """RGB frames where BGR is meant are another video: the crops' channels are not symmetric."""
    frames, boxes = scene
    swapped = [f[..., ::-1].copy() for f in frames[:3]]
    straight = follow(siamtrack.load(device="cpu"), frames[:3], boxes[0])
    assert follow(siamtrack.load(device="cpu"), swapped, boxes[0])[-1] != straight[-1]


def test_load_refuses_by_name():
    with pytest.raises(
        ConfigError, match=r"unknown tracker option 'window_influense'.*did you mean"
    ):
        siamtrack.load(window_influense=0.3)
    with pytest.raises(ConfigError, match="unknown engine 'torhc'; did you mean 'torch'"):
        siamtrack.load(engine="torhc")
    with pytest.raises(WeightsError, match="siamtrack-lite0"):
        siamtrack.load("siamtrack-lite")
    with pytest.raises(DeviceError, match="not a device"):
        siamtrack.load(device="gpu")
    with pytest.raises(DeviceError, match="not on this machine"):
        siamtrack.load(device="cuda:7")


def test_load_takes_options_from_the_card_and_the_caller_overrides_them(tmp_path):
    network = SiamTrackLite0(Lite0Config(exemplar_size_px=64, search_size_px=128))
    path = tmp_path / "mine.safetensors"
    save_network(
        network, path, training_data=["none"], license="none",
        tracker={"size_lr": 0.6, "window_influence": 0.1},
    )  # fmt: skip
    options = siamtrack.load(path, device="cpu", window_influence=0.2).options
    assert (options.size_lr, options.window_influence) == (0.6, 0.2)


def test_load_reads_foreign_siamfc_checkpoints(tmp_path):
    torch.manual_seed(0)
    network = SiamFC()
    state = {k: v for k, v in network.state_dict().items() if k.startswith("backbone.")}
    torch.save(state, tmp_path / "port.pth")
    tracker = siamtrack.load(tmp_path / "port.pth", device="cpu", scale_num=1)
    assert isinstance(tracker.options, ScalePyramidOptions)
    assert len(follow(tracker, [noise(s) for s in range(2)], (30, 30, 20, 20))) == 2


def test_set_state_continues_from_an_earlier_frame(tracker):
    frames = [noise(seed) for seed in range(4)]
    tracker.init(frames[0], (30, 30, 20, 20))
    tracker.update(frames[1])
    state = tracker.state
    results = [tracker.update(f) for f in frames[2:]]
    tracker.set_state(state)
    assert [tracker.update(f) for f in frames[2:]] == results


def test_move_to_searches_around_that_box_as_if_nothing_was_lost(engine):
    tracker = Tracker(engine, BoxHeadOptions(lost_below=0.99, tracked_above=1.0, lost_after=2))
    tracker.init(noise(size=(180, 240)), (20, 20, 30, 30))
    while tracker.update(noise(size=(180, 240))).status != "lost":
        pass
    assert len(tracker.crop_search_windows(noise(size=(180, 240)))[1]) > 1
    tracker.move_to((150, 90, 40, 20))
    assert tracker.state.status_filter == StatusFilter() and tracker.state.verification is None
    _, (window,) = tracker.crop_search_windows(noise(size=(180, 240)))
    middle = np.array(window.origin_xy) + window.size_px * window.scale / 2
    np.testing.assert_allclose(middle, (170, 100), atol=window.scale)
    # Not kept in the frame: windows of partly hidden targets are those of their true boxes.
    tracker.move_to((-30, 50, 40, 20))
    assert tracker.state.box_xywh.tolist() == [-30, 50, 40, 20]


def test_move_to_needs_a_target_and_a_box(tracker):
    with pytest.raises(NotInitializedError, match="call init"):
        tracker.move_to((1, 2, 3, 4))
    tracker.init(noise(), (10, 10, 20, 20))
    with pytest.raises(InvalidBoxError, match="not finite"):
        tracker.move_to((1, np.nan, 3, 4))


def test_old_method_names_warn_and_work(tracker):
    tracker.init(noise(), (30, 30, 20, 20))
    state = tracker.state
    with pytest.warns(FutureWarning, match="'look' is now 'crop_search_windows'"):
        crops, maps = tracker.look(noise(1))
    response = tracker.engine.track(tracker.exemplar, crops)
    with pytest.warns(FutureWarning, match="'conclude' is now 'update_from_response'"):
        result = tracker.conclude(response, maps)
    with pytest.warns(FutureWarning, match="'resume' is now 'set_state'"):
        tracker.resume(state)
    with pytest.warns(FutureWarning, match="'initialised' is now 'is_initialized'"):
        assert tracker.initialised
    assert tracker.update(noise(1)) == result
    with pytest.raises(AttributeError, match="'Tracker' object has no attribute 'nothing'"):
        tracker.nothing  # noqa: B018


STATUS_OPTIONS = BoxHeadOptions(tracked_above=0.5, lost_below=0.2, lost_after=3, found_after=2)


def statuses(scores):
    status_filter, out = StatusFilter(), []
    for score in scores:
        status_filter = status_filter.step(score, STATUS_OPTIONS)
        out.append(status_filter.status[0])
    return "".join(out)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.9], "tt"),
        ([0.9, 0.1, 0.9], "tut"),  # one bad frame is no loss
        ([0.1, 0.1, 0.1, 0.1], "uull"),
        ([0.1, 0.1, 0.3, 0.1, 0.1, 0.1], "uuuuul"),  # loss needs bad frames in a row
        ([0.1] * 3 + [0.9, 0.9], "uullt"),  # and recovery good ones
        ([0.1] * 3 + [0.9, 0.4, 0.9, 0.9], "uullllt"),
        ([0.3] * 6, "uuuuuu"),  # neither here nor there
    ],
)
def test_status_has_hysteresis(scores, expected):
    assert statuses(scores) == expected
