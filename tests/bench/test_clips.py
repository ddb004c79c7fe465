"""Whole clips in turns: which frames count, what is timed, ratios and their interval."""

import itertools
import json
import math
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from siamtrack.bench import clips as bench_clips
from siamtrack.bench.clips import (
    ClipRun,
    benchmark_clips,
    median_interval,
    read_clips,
    take_turns,
)
from siamtrack.bench.report import BenchConfig
from siamtrack.cli import main
from siamtrack.data.synthetic import small_scene
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import DatasetError, EvaluationError
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.weights import save_network
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.tracker import StatusFilter, Tracker

SMALL = Lite0Config(exemplar_size_px=64, search_size_px=128)


def small_network():
    torch.manual_seed(0)
    return SiamTrackLite0(SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips; the target of the second comes into view in its third frame."""
    root = tmp_path_factory.mktemp("clips")
    for name, seed, hidden in (("set/one", 1, 0), ("set/two", 2, 2)):
        scene = small_scene(seed, frame_wh=(96, 64), frame_count=6)
        (root / name).mkdir(parents=True)
        rows = []
        for number, frame in enumerate(scene):
            cv2.imwrite(str(root / name / f"{number}.png"), frame.image_bgr)
            box = [math.nan] * 4 if number < hidden else frame.box_xywh.tolist()
            rows.append(",".join(map(str, box)))
        (root / f"{name}.txt").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "small.safetensors"
    save_network(small_network(), path, training_data=["none"], license="none")
    return path


class Logged:
    """Says which frames it gets, by their mean, and takes as many seconds as `cost`."""

    log: list = []  # noqa: RUF012
    now_s = 0.0
    made = 0

    def __init__(self, name="x", cost=1.0):
        Logged.made += 1
        self.name, self.cost = name, cost

    def init(self, image, box):
        Logged.log.append((self.name, "init", box))
        Logged.now_s += 10 * self.cost

    def update(self, image):
        Logged.log.append((self.name, "update", image.mean()))
        Logged.now_s += self.cost
        return 1, 2, 3, 4


@pytest.fixture
def logged(monkeypatch):
    """Trackers whose clock advances only while they work, two frames in a turn."""
    monkeypatch.setattr(Logged, "log", [])
    monkeypatch.setattr(Logged, "made", 0)
    monkeypatch.setattr(Logged, "now_s", 0.0)
    monkeypatch.setattr(bench_clips, "TURN_FRAMES", 2)
    monkeypatch.setattr(TrackerSpec, "build", lambda spec: Logged(**spec.options))
    return [
        ClipRun(name, TrackerSpec("m:C", {"name": name, "cost": cost}), threads=1, clock=clock)
        for name, cost in (("a", 1.0), ("b", 0.5))
    ]


def clock():
    return Logged.now_s


def test_a_clip_starts_at_its_first_box(folder):
    clips = read_clips(str(folder))
    assert [(clip.name, len(clip)) for clip in clips] == [("set/one", 6), ("set/two", 4)]
    scene = small_scene(2, frame_wh=(96, 64), frame_count=6)
    assert np.array_equal(next(clips[1].iter_frames()), scene[2].image_bgr)
    assert clips[1].boxes[0] == pytest.approx(scene[2].box_xywh)
    assert [len(clip) for clip in read_clips(f"folder:{folder}", 3)] == [3, 3]


def test_without_a_clip_to_track_it_says_what_is_needed(tmp_path):
    (tmp_path / "one").mkdir()
    cv2.imwrite(str(tmp_path / "one" / "0.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "one.txt").write_text("1,1,9,9")
    with pytest.raises(DatasetError, match="no clip of at least two frames"):
        read_clips(str(tmp_path))


def test_trackers_take_turns_on_every_frame_of_every_clip(folder, logged):
    turns = []
    take_turns(logged, "set", read_clips(str(folder)), turns.append)
    assert turns == [2 * (3 + 2)] * 10
    assert Logged.made == 4  # each of them anew for every clip
    names = [name for name, _ in itertools.groupby(entry[0] for entry in Logged.log)]
    # Turns of a, b in the first and then backwards, so that one of b follows another.
    assert names == ["a", "b", "a", "b", "a", "b"]
    for name in "ab":
        calls = [entry[1] for entry in Logged.log if entry[0] == name]
        assert calls == ["init", *["update"] * 5, "init", *["update"] * 3]


def test_speed_counts_the_start_and_ratios_are_to_the_first(folder, logged):
    report = take_turns(logged, "set", read_clips(str(folder)))
    a, b = report.rows
    assert a.clips_fps == {"set/one": 6 / 15, "set/two": 4 / 13}
    assert a.fps == pytest.approx((6 / 15 + 4 / 13) / 2)
    assert (a.ratio.value, b.ratio.value) == (1.0, pytest.approx(2.0))
    assert (a.init.calls, a.init.median_ms, a.update.calls, a.update.median_ms) == (2, 1e4, 8, 1e3)
    assert a.kinds == {}  # other trackers do not say which frames are lost


def test_frames_are_told_apart_by_what_the_tracker_did(folder):
    """Every score counts as bad, then every one as good."""
    clip = read_clips(str(folder))[0]
    engine = TorchEngine(small_network(), "cpu")
    bad = BoxHeadOptions(tracked_above=1.0, lost_below=1.0, lost_after=2)
    run = ClipRun("x", Tracker(engine, bad), threads=1)
    run.start(clip)
    run.step(clip.iter_frames())
    # Two bad frames lose the target; the search begins in the frame after.
    assert run.times.kinds == ["uncertain", "uncertain", "lost", "lost", "lost"]

    good = BoxHeadOptions(
        tracked_above=0.0, lost_below=0.0, redetect_score=0.0, redetect_similarity=0.0
    )
    tracker = Tracker(engine, good)
    run = ClipRun("x", tracker, threads=1)
    run.start(clip)
    images = list(clip.iter_frames())
    run.step(images[:3])
    tracker.set_state(replace(tracker.state, status_filter=StatusFilter("lost", high_frames=5)))
    run.step(images[3:])
    # Found again in one frame, which still searched, and then verified.
    assert run.times.kinds == ["followed", "followed", "lost", "verified", "verified"]
    assert len(run.times.frames_s) == 5


def test_a_tracker_that_fails_is_named_with_its_clip(folder, logged, monkeypatch):
    monkeypatch.setattr(Logged, "update", lambda self, image: None)
    with pytest.raises(EvaluationError, match="a on set/one: frame 1: update returned None"):
        take_turns(logged, "set", read_clips(str(folder)))


TRACKERS = """
import os


class Still:
    def __init__(self, log=""):
        self.log, self.frame = log, 0

    def init(self, image, box):
        self.box = box
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()}\\n")

    def update(self, image):
        self.frame += 1
        return self.box


class Fails(Still):
    def update(self, image):
        if self.frame == 1:
            raise RuntimeError("it broke")
        return super().update(image)


class Dies(Still):
    def update(self, image):
        os._exit(7)
"""


def test_every_tracker_has_a_process_of_its_own(folder, weights, tmp_path):
    (tmp_path / "mine.py").write_text(TRACKERS)
    log = tmp_path / "log.txt"
    two = (TrackerSpec(f"{tmp_path / 'mine.py'}:Still", {"log": str(log)}),) * 2
    report = benchmark_clips(BenchConfig(str(weights), trackers=two), str(folder))
    assert [row.update.calls for row in report.rows] == [8, 8, 8]
    first, second, again, other = log.read_text().split()  # two clips
    assert (first, second) in ((again, other), (other, again))
    assert len({first, second, str(os.getpid())}) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Fails", "Fails on set/one: frame 2: .*it broke"),
        ("Dies", "Dies on set/one: its process died .*exit code 7"),
    ],
)
def test_what_ends_a_tracker_in_its_process_is_told(name, message, folder, weights, tmp_path):
    (tmp_path / "mine.py").write_text(TRACKERS)
    broken = TrackerSpec(f"{tmp_path / 'mine.py'}:{name}")
    with pytest.raises(EvaluationError, match=message):
        benchmark_clips(BenchConfig(str(weights), trackers=(broken,)), str(folder))


def test_the_interval_of_the_median_covers_it_as_often_as_it_says():
    """Of normal values; for few values, 1 - 2 / 2**n by hand."""
    assert median_interval([3.0, 1.0, 2.0]).low is None
    rng = np.random.default_rng(0)
    intervals = [median_interval(rng.normal(size=15).tolist()) for _ in range(1000)]
    covered = np.mean([one.low <= 0 <= one.high for one in intervals])
    assert 0.94 < covered < 0.985  # the exact figure is 0.965


def test_the_command_prints_tables_and_json(folder, weights, capsys):
    command = ["bench", "--clips", str(folder), "--weights", str(weights), "--threads", "1"]
    command += ["--clip-frames", "3", "--tracker", "identity"]
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["frames"] == {"set/one": 3, "set/two": 3}
    assert [row["name"] for row in data["trackers"]] == ["small torch f32", "identity"]
    ours = data["trackers"][0]
    assert sum(kind["calls"] for kind in ours["kinds"].values()) == ours["update"]["calls"] == 4
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "2 clips, 6 frames" in printed and "set/two" in printed
    assert printed.count("identity") == 2


@pytest.mark.parametrize("other", [["clip.mp4", "--box", "1,2,3,4"], ["--targets", "1,2"]])
def test_clips_and_another_benchmark_are_not_mixed(other, folder, capsys):
    assert main(["bench", "--clips", str(folder), *other]) == 2
    assert "give one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [["--clips", "d", "--frames", "3"], ["--clips", "d", "--size", "9x9"],
     ["a.mp4", "--box", "1,2,3,4", "--size", "9x9"]],
)  # fmt: skip
def test_options_that_would_change_nothing_are_refused(line, capsys):
    assert main(["bench", *line]) == 2
    assert f"{line[-2]} would change nothing" in capsys.readouterr().err
