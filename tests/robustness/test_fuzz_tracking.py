"""Any frame, box or option gives a result or a SiamTrackError; a refused one changes nothing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from siamtrack.errors import InvalidFrameError, SiamTrackError
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.tracker import Tracker
from tests.robustness.common import BOX, check_result, robustness, scene

OPTIONS = BoxHeadOptions()
FIRST = scene(0)

numbers = st.one_of(
    st.floats(), st.floats(-200, 200), st.integers(-(2**70), 2**70), st.integers(-100, 200)
)
anything = st.one_of(
    numbers, st.none(), st.booleans(), st.text(max_size=6), st.binary(max_size=6),
    st.complex_numbers(), st.lists(numbers, max_size=5),
    st.dictionaries(st.text(max_size=2), numbers, max_size=2),
)  # fmt: skip
boxes = st.one_of(
    st.tuples(*[st.floats(-50, 150)] * 4),
    st.tuples(*[numbers] * 4),
    st.tuples(*[numbers] * 4).map(np.array),
    st.tuples(*[anything] * 4).map(list),
    anything,
)


@st.composite
def good_frames(draw: st.DrawFn) -> np.ndarray:
    """uint8 (H, W, 3) of any size and content, also views with any strides."""
    height, width = draw(st.integers(1, 130)), draw(st.integers(1, 130))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["flat", "noise", "scene", "flipped", "strided", "fortran"]))
    if kind == "scene":
        return scene(draw(st.integers(0, 10**6)))
    if kind == "flat":
        return np.full((height, width, 3), draw(st.integers(0, 255)), np.uint8)
    frame = rng.integers(0, 256, (2 * height, 2 * width, 3), np.uint8)
    views = {"flipped": frame[::-1, ::-1, ::-1], "strided": frame[::2, ::2]}
    return np.asfortranarray(frame) if kind == "fortran" else views.get(kind, frame)


shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=20)
dtypes = st.sampled_from(["u1", "i1", "u2", "i4", "f4", "f8", "?", "c8", "O", "U3", "M8[s]"])
odd_frames = st.one_of(
    anything,
    st.tuples(shapes, dtypes).map(lambda pair: np.zeros(*pair)),
    good_frames().map(lambda frame: frame.astype(np.float32) / 255),
    good_frames().map(lambda frame: frame[..., :1]),
    good_frames().map(lambda frame: np.ma.masked_array(frame)),
    good_frames().map(lambda frame: np.dstack([frame, frame[..., 0]])),
)
frames = st.one_of(good_frames(), odd_frames)


@robustness
@given(frame=frames, box=boxes)
@example(frame=FIRST, box=(0.0, 0.0, 1e160, 1e160))  # whose area is too large a number
def test_first_frame(engine: Any, frame: Any, box: Any) -> None:
    tracker = Tracker(engine, OPTIONS)
    try:
        result = tracker.init(frame, box)
    except SiamTrackError as error:
        assert "\n" not in str(error)
    else:
        check_result(result, np.asarray(frame))


@robustness
@given(seen=st.lists(frames, min_size=1, max_size=3))
def test_later_frames(engine: Any, seen: list[Any]) -> None:
    """A twin that never sees the refused frames gives the same boxes."""
    tracker, twin = Tracker(engine, OPTIONS), Tracker(engine, OPTIONS)
    tracker.init(FIRST, BOX)
    twin.init(FIRST, BOX)
    for frame in [*seen, scene(1), scene(2)]:
        try:
            result = tracker.update(frame)
        except SiamTrackError as error:
            assert "\n" not in str(error)
        else:
            check_result(result, np.asarray(frame))
            assert twin.update(frame) == result


# Text and numbers for every option, most of them out of range.
values = st.one_of(numbers, st.floats(0, 1), st.integers(0, 20), st.booleans(), anything)
options = st.dictionaries(
    st.sampled_from([f.name for f in fields(BoxHeadOptions)]), values, max_size=6
)


@robustness
@given(given_options=options)
def test_options(engine: Any, given_options: dict[str, Any]) -> None:
    try:
        built = BoxHeadOptions.from_mapping(given_options)
    except SiamTrackError as error:
        assert "\n" not in str(error)
        return
    tracker = Tracker(engine, built)
    check_result(tracker.init(FIRST, BOX), FIRST)
    for index in (1, 2, 60):
        check_result(tracker.update(scene(index)), scene(index))


calls = st.one_of(
    st.tuples(st.just("add"), frames, boxes),
    st.tuples(st.just("reinit"), st.integers(0, 4), frames, boxes),
    st.tuples(st.just("remove"), st.integers(-1, 4)),
    st.tuples(st.just("update"), frames),
    st.tuples(st.just("reset")),
)


@robustness
@given(made=st.lists(calls, max_size=6))
def test_several_targets_in_any_order_of_calls(engine: Any, made: list[Any]) -> None:
    tracker = MultiTracker(lambda: Tracker(engine, OPTIONS))
    tracker.add(FIRST, BOX)
    for name, *arguments in made:
        before = tracker.targets
        try:
            getattr(tracker, name)(*arguments)
        except SiamTrackError as error:
            assert "\n" not in str(error)
            assert tracker.targets == before
    try:
        results = tracker.update(scene(3))
    except InvalidFrameError:  # the only target left was given on a frame of another shape
        return
    assert tuple(results) == tracker.targets
    for result in results.values():
        check_result(result, scene(3))


@pytest.mark.parametrize("call", ["update", "init"])
def test_nothing_is_written_into_a_frame(engine: Any, call: str) -> None:
    """Frames of cameras and memory maps may be read-only."""
    frame = scene(0)
    frame.setflags(write=False)
    tracker = Tracker(engine, OPTIONS)
    tracker.init(frame, BOX)
    if call == "update":
        tracker.update(frame)
    assert np.array_equal(frame, scene(0))
