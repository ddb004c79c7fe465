"""Stages of a frame, turns, the physical limit, the report and the command of the benchmark."""

import itertools
import json

import cv2
import numpy as np
import pytest
import torch

import siamtrack
from siamtrack.bench.report import BenchConfig, BenchRow, benchmark, report_text, report_to_dict
from siamtrack.bench.stages import (
    STAGES,
    TURN_FRAMES,
    VIDEO_STAGES,
    WARM_FRAMES,
    Clip,
    EngineRun,
    TargetsRun,
    TimedRun,
    Timing,
    VideoRun,
    count_macs,
    cpu_threads,
    make_clip,
    matmul_peak,
    parse_size,
    read_clip,
    run_interleaved,
    spread_boxes,
    summarize,
)
from siamtrack.cli import main
from siamtrack.engines.torch_engine import TorchEngine
from siamtrack.errors import ConfigError, EngineError, InvalidBoxError, VideoError
from siamtrack.evaluation.trackers import IdentityTracker, TrackerSpec
from siamtrack.export.onnx import ExemplarGraph
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.weights import save_network
from siamtrack.tracking.box_correction import SHIFTS
from siamtrack.tracking.online_filter import AUGMENTATIONS
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.tracker import Tracker

SMALL = Lite0Config(exemplar_size_px=64, search_size_px=128)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("bench") / "clip.mp4", (96, 64), 5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights without graphs: only torch runs them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bench") / "small.safetensors"
    save_network(SiamTrackLite0(SMALL), path, training_data=["none"], license="none")
    return path


def seconds():
    """A clock that advances by one second at every reading."""
    return itertools.count().__next__


class FakeRun:
    def __init__(self, name, log, threads=1):
        self.name, self.threads, self.log = name, threads, log

    def step(self):
        self.log.append((self.name, torch.get_num_threads(), cv2.getNumThreads()))
        return {"update": 1.0}


def test_runs_take_turns_and_warm_up():
    log = []
    taken = run_interleaved([FakeRun("a", log), FakeRun("b", log)], TURN_FRAMES + 4)
    assert [len(times) for times in taken] == [TURN_FRAMES + 4] * 2
    turns = [(name, len(list(run))) for name, run in itertools.groupby(x[0] for x in log)]
    first, second = WARM_FRAMES + TURN_FRAMES, WARM_FRAMES + 4
    # The second round goes backwards, so b's two turns follow each other.
    assert turns == [("a", first), ("b", first + second), ("a", second)]


def test_a_run_sets_its_threads_and_restores_them():
    before, log = (torch.get_num_threads(), cv2.getNumThreads()), []
    run_interleaved([FakeRun("a", log, threads=2)], 1)
    assert set(log) == {("a", 2, 2)}
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before
    with pytest.raises(ZeroDivisionError), cpu_threads(2):
        _ = 1 / 0
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_timing_is_median_and_p95_in_ms():
    times = [{"crop": k / 1000, "update": 1.0} for k in range(101)]
    assert summarize(times) == {"crop": Timing(50.0, 95.0), "update": Timing(1000.0, 1000.0)}


def engine_run(clip, **options):
    torch.manual_seed(0)
    engine = TorchEngine(SiamTrackLite0(SMALL), "cpu")
    return EngineRun(engine, BoxHeadOptions(), clip, threads=1, **options)


def test_the_stages_of_a_frame_add_up_to_its_update(clip):
    times = engine_run(clip).step()
    assert tuple(times) == STAGES
    assert min(times.values()) > 0
    assert sum(times[stage] for stage in STAGES[:-1]) == pytest.approx(times["update"])


def test_every_stage_is_the_time_between_two_clock_readings(clip):
    """Readings: start, prepare begins, prepare ends, infer begins, infer ends, end."""
    times = engine_run(clip, clock=seconds()).step()
    assert times == {"crop": 1, "pre-process": 1, "network": 1, "post-process": 2, "update": 5}


def test_timing_changes_no_result(clip, monkeypatch):
    seen = []
    update = Tracker.update
    monkeypatch.setattr(
        Tracker, "update", lambda self, image: seen.append(update(self, image)) or seen[-1]
    )
    run = engine_run(clip)
    assert run.name == "torch f32"
    for _ in range(8):  # two laps of the four frames after the first
        run.step()
    torch.manual_seed(0)
    plain = Tracker(TorchEngine(SiamTrackLite0(SMALL), "cpu"), BoxHeadOptions())
    plain.init(clip.images[0], clip.box)
    expected = [update(plain, image) for image in clip.images[1:]]
    assert seen == [*expected, *expected]


def test_near_windows_are_timed_as_they_are_tracked(tmp_path, monkeypatch):
    """Most frames of a steady target; timing must not send the tracker to the whole windows."""
    clip = make_clip(tmp_path / "clip.mp4", (320, 240), 10)
    engine = siamtrack.load("siamtrack-nano", device="cpu", engine="onnx").engine
    prepare, sides = engine.prepare, []
    monkeypatch.setattr(
        engine, "prepare", lambda crops: sides.append(len(crops[0])) or prepare(crops)
    )

    def looked(tracker):
        sides.clear()
        tracker.init(clip.images[0], clip.box)
        for image in clip.images[1:]:
            tracker.update(image)
        return list(sides)

    plain = looked(Tracker(engine, BoxHeadOptions()))
    assert engine.config.near_size_px in plain  # a premise
    assert looked(EngineRun(engine, BoxHeadOptions(), clip, threads=1)._tracker) == plain


def test_another_tracker_has_its_update_timed(clip):
    other = TimedRun("identity", IdentityTracker(), clip, threads=1, clock=seconds())
    assert other.step() == {"update": 1}


def test_the_video_is_read_again_at_its_end(clip, tmp_path):
    written = tmp_path / "written.mp4"
    with VideoRun(clip, written, threads=1, clock=seconds()) as video:
        for _ in range(2 * len(clip.images) + 1):
            assert video.step() == dict.fromkeys(VIDEO_STAGES, 1)
    with pytest.raises(VideoError):
        next(video._source)
    assert len(read_clip(written, [8, 8, 16, 16], 99).images) == 2 * len(clip.images) + 1


def test_multiplications_are_counted():
    """Against every layer's weights times the positions it is applied at."""
    network = SiamTrackLite0(SMALL).eval()
    counted = []

    def count(module, inputs, output):
        counted.append(module.weight.numel() * output.shape[-1] * output.shape[-2])

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    total = count_macs(network)
    both = sum(counted)
    counted.clear()
    with torch.no_grad():
        ExemplarGraph(network)(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), torch.ones(1, 1, 4, 4))
    layers = both - sum(counted)
    # The correlation is no layer, and small.
    assert layers <= total < 1.1 * layers


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_the_peak_is_that_of_the_fastest_product(precision):
    ticks = iter([0.0, 4.0, 4.0, 6.0, 6.0, 9.0])
    peak = matmul_peak(precision, 1, size=10, repeats=3, clock=lambda: next(ticks))
    assert peak == 1000 / 2.0


def test_the_limit_is_the_work_over_the_peak():
    stages = {"network": Timing(8.0, 9.0), "update": Timing(10.0, 11.0)}
    row = BenchRow("torch f32", 1, stages, limit_ms=2.0)
    assert (row.fps, row.share_of_limit) == (100.0, 0.25)
    assert BenchRow("identity", 1, {"update": Timing(0.0, 0.0)}).fps > 0


@pytest.fixture
def quick_peak(monkeypatch):
    monkeypatch.setattr(
        "siamtrack.bench.report.matmul_peak", lambda precision, threads: 1e9 * threads
    )


def test_every_engine_that_can_run_is_measured(clip, weights, tmp_path, quick_peak):
    turns = []
    config = BenchConfig(
        str(weights), threads=(1, 2), trackers=(TrackerSpec("identity"),), frames=4
    )
    report = benchmark(config, clip, tmp_path, turns.append)
    assert turns == [5] * 5
    rows = [(row.name, row.threads) for row in report.rows]
    assert rows == [("torch f32", 1), ("torch f32", 2), ("identity", 1), ("identity", 2)]
    assert list(report.skipped) == [
        "openvino:int8",
        "openvino:bf16",
        "openvino:f32",
        "onnx:int8",
        "onnx",
    ]
    assert report.peaks == {("f32", 1): 1e9, ("f32", 2): 2e9}
    assert report.rows[1].limit_ms == pytest.approx(report.macs / 2e6)
    data = report_to_dict(report)
    assert json.loads(json.dumps(data)) == data
    assert data["trackers"][0]["limit_ms"] == pytest.approx(report.macs / 1e6)
    assert data["trackers"][2]["stages"].keys() == {"update"}
    text = report_text(report)
    assert "not run: onnx: there is no graph" in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("identity")] == [
        ["identity", "1"],
        ["identity", "2"],
    ]


def test_trackers_are_built_with_the_threads_of_their_row(
    clip, weights, tmp_path, quick_peak, monkeypatch
):
    built = []
    monkeypatch.setattr(
        TrackerSpec, "build", lambda spec: built.append(cv2.getNumThreads()) or IdentityTracker()
    )
    trackers = (TrackerSpec("identity"),)
    config = BenchConfig(str(weights), ("torch",), threads=(1, 2), trackers=trackers, frames=1)
    benchmark(config, clip, tmp_path)
    assert built == [1, 2]


def test_ours_is_given_the_threads_of_its_row(clip, weights, tmp_path, quick_peak, monkeypatch):
    given = []
    monkeypatch.setattr(
        TrackerSpec,
        "build",
        lambda spec: given.append((spec.name, spec.options)) or IdentityTracker(),
    )
    trackers = (TrackerSpec("siamtrack"), TrackerSpec("siamtrack-nano", {"threads": 3}))
    config = BenchConfig(str(weights), ("torch",), threads=(1, 2), trackers=trackers, frames=1)
    benchmark(config, clip, tmp_path)
    assert given[:2] == [("siamtrack", {"threads": 1}), ("siamtrack", {"threads": 2})]
    assert given[2:] == [("siamtrack-nano", {"threads": 3})] * 2


def test_a_named_engine_that_cannot_run_is_an_error(clip, weights, tmp_path):
    with pytest.raises(EngineError, match="siamtrack export"):
        benchmark(BenchConfig(str(weights), ("onnx",)), clip, tmp_path)


def test_clips_that_cannot_be_used_are_refused(clip, tmp_path):
    with pytest.raises(VideoError, match="at least two"):
        Clip(tmp_path, clip.images[:1], clip.box)
    with pytest.raises(ConfigError, match="give at least 2"):
        make_clip(tmp_path / "a.mp4", (96, 64), 1)
    with pytest.raises(InvalidBoxError):
        read_clip(clip.path, [500, 500, 10, 10], 3)
    with pytest.raises(ConfigError, match="640x480"):
        parse_size("640")
    assert parse_size("1920X1080") == (1920, 1080)


def test_the_command_renders_a_clip_and_prints_json(weights, capsys, quick_peak):
    arguments = ["bench", "--weights", str(weights), "--size", "96x64", "--clip-frames", "4"]
    assert main([*arguments, "--frames", "3", "--threads", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["frame_wh"] == [96, 64]
    assert set(data["video"]) == set(VIDEO_STAGES)
    assert [row["name"] for row in data["trackers"]] == ["torch f32"]


def test_the_command_takes_a_clip(clip, weights, capsys, quick_peak):
    box = ",".join(map(str, np.round(clip.box, 2)))
    arguments = ["bench", str(clip.path), "--box", box, "--weights", str(weights)]
    assert main([*arguments, "--frames", "2", "--engine", "torch", "--tracker", "identity"]) == 0
    printed = capsys.readouterr().out
    assert "2 frames of 96x64 px each" in printed
    assert "identity" in printed


def test_the_old_option_for_trackers_works_and_warns(clip, weights, capsys, quick_peak):
    box = ",".join(map(str, np.round(clip.box, 2)))
    arguments = ["bench", str(clip.path), "--box", box, "--weights", str(weights)]
    assert main([*arguments, "--frames", "1", "--engine", "torch", "--rival", "identity"]) == 0
    printed = capsys.readouterr()
    assert "identity" in printed.out
    assert "siamtrack: warning: option '--rival' is now '--tracker'" in printed.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["clip.mp4"], 2, "add --box"),
        (["--box", "1,2,3,4"], 2, "--box is a target in CLIP"),
        (["--size", "wide"], 2, "not WIDTHxHEIGHT"),
        (["--size", "31x20"], 2, "frame_wh"),
        (["--threads", "0"], 2, "--threads"),
        (["--engine", "tensorrt", "--size", "64x64"], 2, "unknown engine"),
        (["--tracker", "opencv:nano", "--size", "64x64"], 2, "needs its model files"),
        (["missing.mp4", "--box", "1,2,3,4"], 3, "missing.mp4 cannot be opened"),
    ],
)
def test_arguments_that_cannot_be_used_are_explained(arguments, code, message, weights, capsys):
    assert main(["bench", "--weights", str(weights), "--clip-frames", "2", *arguments]) == code
    assert message in capsys.readouterr().err


def test_boxes_spread_over_the_frame():
    own = (10.0, 5.0, 20.0, 10.0)
    for count in (1, 2, 4, 8, 16, 32):
        boxes = spread_boxes(own, (96, 64), count)
        assert boxes[0] == own and len(set(boxes)) == len(boxes) == count
        for x, y, w, h in boxes:
            assert (w, h) == own[2:] and 0 <= x <= 76 and 0 <= y <= 54


def test_many_targets_are_timed_together(clip):
    torch.manual_seed(0)
    engine = TorchEngine(SiamTrackLite0(SMALL), "cpu")
    options = BoxHeadOptions(tracked_above=1.0, lost_below=1.0, lost_after=1, box_correction=0.0)
    sizes = []
    track = engine.track
    engine.track = lambda exemplar, crops: sizes.append(len(crops)) or track(exemplar, crops)
    many = TargetsRun(engine, options, clip, targets=5, threads=1, clock=seconds())
    assert [many.step() for _ in range(6)] == [{"update": 1}] * 6
    # Over the end of the clip, where all start anew, and lost or not.
    starts = [len(SHIFTS) + len(AUGMENTATIONS)] * 5
    assert sizes == [*starts, *[5] * 4, *starts, *[5] * 2]


def test_the_command_compares_numbers_of_targets(weights, capsys):
    command = ["bench", "--weights", str(weights), "--engine", "torch", "--threads", "1"]
    command += ["--size", "96x64", "--clip-frames", "4", "--frames", "3", "--targets"]
    assert main([*command, "1,3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["targets"] for row in rows] == [1, 3]
    assert rows[0]["ratio"] == 1.0
    assert rows[1]["per_target_ms"] == pytest.approx(rows[1]["median_ms"] / 3)
    assert rows[1]["ratio"] == pytest.approx(rows[1]["median_ms"] / rows[0]["median_ms"])
    assert main([*command, "2"]) == 0
    assert "a target" in capsys.readouterr().out
    for wrong in ("0", "x", "1,,2", "-1"):
        assert main([*command, wrong]) == 2
        assert "give numbers of targets" in capsys.readouterr().err
