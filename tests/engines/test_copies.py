"""Trackers and their states in every engine: pickled, copied, resumed, and in forked children."""

import copy
import multiprocessing
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest

import siamtrack
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.weights import find_weights, load_network

ENGINES = ["onnx", "openvino:f32", "torch"]
RNG = np.random.default_rng(5)
FRAMES = [np.roll(RNG.integers(0, 256, (120, 160, 3), np.uint8), 0, 1)]
FRAMES += [np.roll(FRAMES[0], (k, 2 * k), (0, 1)) for k in range(1, 6)]
BOX, OTHER = (50, 40, 30, 30), (90, 60, 30, 30)


@pytest.fixture
def exported():
    return find_weights("siamtrack-nano")


def copies(value):
    return {"pickle": pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy(value)}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_copied_tracker_goes_on_with_the_same_boxes(exported, engine):
    tracker = siamtrack.load(exported, engine=engine, device="cpu")
    tracker.init(FRAMES[0], BOX)
    tracker.update(FRAMES[1])
    made = copies(tracker)
    resumed = siamtrack.load(exported, engine=engine, device="cpu")
    resumed.set_state(pickle.loads(pickle.dumps(tracker.state)))
    for frame in FRAMES[2:]:
        expected = tracker.update(frame)
        for other in (*made.values(), resumed):
            assert other.update(frame) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_copied_multi_tracker_goes_on_with_the_same_boxes(exported, engine):
    tracker = siamtrack.load_multi(exported, engine=engine, device="cpu", budget_ms=1e6)
    tracker.add(FRAMES[0], BOX)
    tracker.remove(tracker.add(FRAMES[0], OTHER))
    tracker.add(FRAMES[0], OTHER)
    tracker.update(FRAMES[1])
    made = copies(tracker)
    resumed = siamtrack.load_multi(exported, engine=engine, device="cpu")
    resumed.set_state(pickle.loads(pickle.dumps(tracker.state)))
    for frame in FRAMES[2:]:
        expected = tracker.update(frame)
        for other in (*made.values(), resumed):
            assert other.update(frame) == expected
    assert resumed.add(FRAMES[-1], BOX) == tracker.add(FRAMES[-1], BOX) == 3


def test_a_state_of_another_network_or_none_is_refused(exported):
    tracker = siamtrack.load(exported, engine="torch", device="cpu")
    tracker.init(FRAMES[0], BOX)
    state = tracker.state
    other = siamtrack.load(exported, engine="onnx", device="cpu")
    with pytest.raises(ConfigError, match=r'engine "torch".*runs engine "onnx"'):
        other.set_state(state)
    changed = load_network(exported)
    for parameter in changed.parameters():
        parameter.data += 1.0
    with pytest.raises(ConfigError, match="the state comes from"):
        type(tracker)(TorchEngine(changed, "cpu"), tracker.options).set_state(state)
    for wrong in ("x", 5, replace(state, box_xywh="x"), replace(state, frame_wh=None)):
        with pytest.raises(ConfigError, match="state"):
            tracker.set_state(wrong)
    with pytest.raises(ConfigError, match="another version"):
        tracker.set_state(replace(state, exemplar=None))
    tracker.set_state(None)
    assert not tracker.is_initialized


def test_a_state_of_many_targets_is_checked(exported):
    tracker = siamtrack.load_multi(exported, engine="torch", device="cpu")
    tracker.add(FRAMES[0], BOX)
    state = tracker.state
    for wrong in (
        None,
        replace(state, trackers=None),
        replace(state, trackers={0: None}),
        replace(state, next_target=0),
        replace(state, centers={7: ()}),
    ):
        with pytest.raises(ConfigError, match="state"):
            tracker.set_state(wrong)
    assert tracker.targets == (0,)
    with pytest.raises(ConfigError, match="the state comes from"):
        siamtrack.load_multi(exported, engine="onnx", device="cpu").set_state(state)


def _update(tracker, queue):
    queue.put(tracker.update(FRAMES[1]))


@pytest.mark.skipif(sys.platform != "linux", reason="fork is safe nowhere else")
@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_forked_child_goes_on(exported, engine):
    tracker = siamtrack.load_multi(exported, engine=engine, device="cpu")
    for box in (BOX, OTHER):
        tracker.add(FRAMES[0], box)
    tracker.update(FRAMES[0])  # starts the engine's threads
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_update, args=(tracker, queue), daemon=True)
    child.start()
    try:
        found = queue.get(timeout=60)
    finally:
        child.join(10)
        child.kill()  # one that hangs would hold this process's pipes for ever
    for target, expected in tracker.update(FRAMES[1]).items():
        np.testing.assert_allclose(found[target].box, expected.box, atol=0.01)


def test_a_gpu_tracker_says_what_to_do_in_a_forked_child(exported, monkeypatch):
    tracker = siamtrack.load(exported, engine="torch", device="cpu")
    tracker.engine.device = "cuda"
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(EngineError, match="spawn"):
        tracker.init(FRAMES[0], BOX)
