"""`siamtrack.track`: a whole video in one loop, wherever the loop runs."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import siamtrack
from siamtrack.data.synthetic import small_scene
from siamtrack.errors import ConfigError, DatasetError, InvalidBoxError, VideoError
from siamtrack.geometry import iou
from siamtrack.video.video_writer import VideoSink

COUNT = 10
BOX, OTHER = (36.0, 30.0, 40.0, 40.0), (90.0, 60.0, 30.0, 30.0)
FAST = {"engine": "onnx", "threads": 1}


@pytest.fixture(scope="module")
def scene() -> list[Any]:
    return list(small_scene(frame_count=COUNT))


@pytest.fixture(scope="module")
def clip(scene: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("track") / "clip.mp4"
    with VideoSink(path, 25.0, (160, 120)) as sink:
        for frame in scene:
            sink.write(frame.image_bgr)
    return path


@pytest.fixture(scope="module")
def box(scene: list[Any]) -> tuple[float, ...]:
    return tuple(scene[0].box_xywh.tolist())


@pytest.fixture(scope="module")
def many() -> siamtrack.MultiTracker:
    """A tracker that the tests share; making one takes longer than they do."""
    return siamtrack.load_multi(**FAST)


Rows = list[tuple[int, float, dict[int, dict[str, Any]]]]


def rows_of(path: Path, box: tuple[float, ...], **options: Any) -> Rows:
    """Everything that tracking gives, in plain values; also run in other processes."""
    return [
        (frame.index, frame.time_s, {k: r.to_dict() for k, r in results.items()})
        for frame, results in siamtrack.track(path, box, **(options or FAST))
    ]


@pytest.fixture(scope="module")
def expected(clip: Path, box: tuple[float, ...], many: siamtrack.MultiTracker) -> Rows:
    """The loop written out."""
    many.reset()
    rows: Rows = []
    with siamtrack.open_source(clip) as frames:
        assert many.add(next(frames).image, box) == 0
        rows.append((0, 0.0, {0: siamtrack.Result(box, 1.0, "tracked").to_dict()}))
        for frame in frames:
            result = many.update(frame.image)[0]
            rows.append((frame.index, frame.time_s, {0: result.to_dict()}))
    return rows


def test_the_generator_gives_what_the_loop_gives(
    clip: Path, box: tuple[float, ...], many: Any, expected: Rows
) -> None:
    rows = rows_of(clip, box, tracker=many)
    assert rows == expected
    assert rows[0][2][0] == {**rows[0][2][0], "score": 1.0, "status": "tracked"}
    # The same of an open source, which stays open, and of the pictures themselves.
    with siamtrack.open_source(clip) as source:
        assert rows_of(source, box, tracker=many, end_frame=5) == expected[:6]
        assert source[-1].index == COUNT - 1
        pictures = [frame.image for frame in (source[k] for k in range(6))]
    assert rows_of(iter(pictures), box, tracker=many, source_options={"fps": 25}) == [
        (index, pytest.approx(time_s), results) for index, time_s, results in expected[:6]
    ]


def test_parts_and_directions_keep_the_numbers_of_frames(
    clip: Path, scene: list[Any], box: tuple[float, ...], many: Any
) -> None:
    assert [row[0] for row in rows_of(clip, box, tracker=many, every=4)] == [0, 4, 8]
    last = tuple(scene[-1].box_xywh.tolist())
    backwards = rows_of(clip, last, tracker=many, reverse=True, start_frame=3)
    assert [row[0] for row in backwards] == list(range(COUNT - 1, 2, -1))
    for index, _, results in backwards:
        found = [results[0][name] for name in "xywh"]
        assert iou(np.array(found), scene[index].box_xywh) > 0.5


def test_targets_begin_and_are_corrected_on_any_frame(
    clip: Path, box: tuple[float, ...], many: Any, expected: Rows, tmp_path: Path
) -> None:
    given = {0: {3: box}, 6: {3: OTHER, 5: BOX}}
    table = tmp_path / "boxes.csv"
    lines = [
        f"{frame},{target},{','.join(map(str, one))}"
        for frame, targets in given.items()
        for target, one in targets.items()
    ]
    table.write_text("\n".join(["frame,target,x,y,w,h", *lines]))
    for boxes in (given, table, str(table)):
        found = list(siamtrack.track(clip, boxes=boxes, end_frame=8, tracker=many))
        assert [sorted(results) for _, results in found] == [[3]] * 6 + [[3, 5]] * 3
        before = [results[3].to_dict() for _, results in found[:6]]
        assert before == [results[0] for _, _, results in expected[:6]]
        assert (found[6][1][3].box, found[6][1][3].score) == (OTHER, 1.0)
        assert (found[6][1][5].box, found[6][1][5].status) == (BOX, "tracked")


def test_closing_it_early_releases_everything(
    clip: Path, box: tuple[float, ...], many: Any
) -> None:
    def is_open() -> bool:
        files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return any(os.path.exists(f) and os.path.samefile(f, clip) for f in files)

    def reading() -> list[str]:
        names = [thread.name for thread in threading.enumerate()]
        return [name for name in names if name.startswith("siamtrack")]

    generator = siamtrack.track(clip, box, tracker=many)
    assert len(list(islice(generator, 3))) == 3
    assert is_open() and reading()
    generator.close()
    assert not is_open() and not reading()


def test_it_runs_in_threads(clip: Path, box: tuple[float, ...], expected: Rows) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(rows_of, [clip] * 2, [box] * 2)) == [expected] * 2


@pytest.mark.usefixtures("no_garbage_collection")
def test_it_runs_in_a_process_that_is_spawned(
    clip: Path, box: tuple[float, ...], expected: Rows
) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        rows = pool.apply(rows_of, (clip, box))
    for (index, time_s, there), (index_here, time_here_s, here) in zip(rows, expected, strict=True):
        assert (index, time_s) == (index_here, time_here_s)
        boxes = [[results[0][name] for name in "xywh"] for results in (there, here)]
        assert boxes[0] == pytest.approx(boxes[1], abs=0.01)


def test_it_runs_beside_an_event_loop(
    clip: Path, box: tuple[float, ...], many: Any, expected: Rows
) -> None:
    async def every_frame() -> Rows:
        generator, rows = siamtrack.track(clip, box, tracker=many), []
        while (step := await asyncio.to_thread(next, generator, None)) is not None:
            frame, results = step
            rows.append((frame.index, frame.time_s, {0: results[0].to_dict()}))
        return rows

    assert asyncio.run(every_frame()) == expected


def test_it_runs_in_a_cell_of_a_notebook(
    clip: Path, box: tuple[float, ...], many: Any, expected: Rows
) -> None:
    """A cell is compiled by itself, and runs in the main thread while an event loop runs there."""
    cells = [
        "import siamtrack\nframes = siamtrack.track(clip, box, tracker=many)",
        "indices = [next(frames)[0].index]",
        "indices += [frame.index for frame, _ in frames]",
    ]

    async def kernel() -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "__main__", "clip": clip, "box": box, "many": many}
        for number, cell in enumerate(cells):
            exec(compile(cell, f"<cell {number}>", "exec"), names)
        return names

    assert asyncio.run(kernel())["indices"] == [row[0] for row in expected]


def pictures_of(*given: Any) -> Iterator[Any]:
    yield from given


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({}, ConfigError, "neither box nor boxes is given"),
        ({"box": BOX, "boxes": [BOX]}, ConfigError, "both box and boxes are given"),
        ({"boxes": []}, ConfigError, r"boxes is \[\]; give at least one box"),
        ({"boxes": {0: BOX}}, ConfigError, "give at least one box, or {frame: {target: box}}"),
        ({"boxes": 5}, ConfigError, "boxes is 5; give at least one box"),
        ({"boxes": {0: {}}}, ConfigError, "give at least one box, or {frame: {target: box}}"),
        ({"boxes": {"0": {0: BOX}}}, ConfigError, "has the frame '0'; give whole numbers from 0"),
        ({"boxes": {0.5: {0: BOX}}}, ConfigError, "has the frame 0.5; give whole numbers"),
        ({"box": BOX, "every": 0}, ConfigError, "every is 0"),
        ({"box": BOX, "tracker": 1, "engine": "onnx"}, ConfigError, "tracker and engine are given"),
        ({"box": BOX, "tracker": 1}, ConfigError, "tracker is 1; give one that load_multi made"),
        ({"boxes": {-1: {0: BOX}}}, ConfigError, "has the frame -1; give whole numbers"),
        ({"boxes": {True: {0: BOX}}}, ConfigError, "has the frame True; give whole numbers"),
        ({"boxes": {0: {"1": BOX}}}, ConfigError, "has the target '1'; give whole numbers"),
        ({"box": BOX, "source_options": {"fp": 3}}, ConfigError, "'fp'; did you mean 'fps'?"),
        ({"box": BOX, "source_options": [3]}, ConfigError, r"source_options is \[3\]; give a dict"),
        ({"boxes": "gone.csv"}, DatasetError, r"gone\.csv cannot be read"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(
    arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        siamtrack.track("clip.mp4", **arguments)


def test_numbers_of_a_data_frame_are_numbers(clip: Path, many: Any) -> None:
    boxes = {np.int64(0): {np.int64(2): BOX, np.uint8(5): OTHER}, np.float64(1): {np.int64(2): BOX}}
    plain = {0: {2: BOX, 5: OTHER}, 1: {2: BOX}}
    found = [
        list(siamtrack.track(clip, boxes=given, end_frame=2, tracker=many))
        for given in (boxes, plain)
    ]
    assert [results for _, results in found[0]] == [results for _, results in found[1]]
    assert {type(target) for target in found[0][0][1]} == {int}
    many.reset()
    assert many.add(found[0][0][0].image, BOX, target=np.int64(3)) == 3


def test_options_of_a_source_that_is_open_are_refused(clip: Path, many: Any) -> None:
    with (
        siamtrack.open_source(clip) as source,
        pytest.raises(ConfigError, match="source is open already and fps is given"),
    ):
        siamtrack.track(source, BOX, source_options={"fps": 10}, tracker=many)


def test_what_is_wrong_with_the_video_is_said_by_the_first_step(clip: Path, many: Any) -> None:
    with pytest.raises(VideoError, match=r"gone\.mp4"):
        next(siamtrack.track("gone.mp4", BOX, tracker=many))
    with pytest.raises(InvalidBoxError, match="given for frame 99, which was not among"):
        list(siamtrack.track(clip, boxes={0: {0: BOX}, 99: {0: BOX}}, end_frame=1, tracker=many))


@pytest.mark.parametrize(
    ("pictures", "error", "told"),
    [
        (pictures_of(), VideoError, "holds no picture"),
        (np.zeros((20, 30, 3), np.uint8), ConfigError, r"one picture of shape \(20, 30, 3\)"),
        (pictures_of("a.png"), ConfigError, "picture 0 of the source is 'a.png'; give arrays"),
        ([np.zeros((20, 30, 5))], ConfigError, r"an array of shape \(20, 30, 5\)"),
    ],
)
def test_pictures_that_are_none_are_refused(
    pictures: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        siamtrack.open_source(pictures)


def test_arrays_are_a_source() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), np.uint8)
    with siamtrack.open_source(stack, fps=10) as source:
        assert (source.fps, source.frame_wh, source.frame_count) == (10, (30, 20), 4)
        frames = list(source)
        assert [frame.time_s for frame in frames] == [0, 0.1, 0.2, 0.3]
        frames[1].image[:] = 0  # the caller's own
        assert (source[1].image == stack[1]).all()
        assert (source[-1].image == stack[3]).all()
    gray = pictures_of(*stack[..., 0])
    with siamtrack.open_source(gray) as source:
        assert source.frame_count is None
        for frame, one in zip(source, stack[..., 0], strict=True):
            assert (frame.image == one[..., None]).all()
    next(stack_generator := pictures_of(*stack))
    with siamtrack.open_source(stack_generator) as source:
        next(source)
    assert next(stack_generator, None) is None  # closed with the source
