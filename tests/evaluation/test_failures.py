"""The failure gallery: when a tracker failed, what it saw then, and the pictures of it."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.api import load
from siamtrack.cli import main
from siamtrack.data.datasets import open_dataset
from siamtrack.data.sequence import VideoSequence
from siamtrack.data.synthetic import small_scene
from siamtrack.engines.base import Exemplar, Response
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation.report.failures import (
    cell_at,
    contains,
    diagnose_failure,
    draw_trace,
    lasting_failures,
    shown_failures,
    trace_sequence,
    write_gallery,
)
from siamtrack.evaluation.runs import overlaps_of, success_auc, track_sequence
from siamtrack.geometry import CropMap
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.tracking.options import ScalePyramidOptions
from siamtrack.tracking.tracker import Tracker

ROOT = Path(__file__).resolve().parents[2]
NAN = float("nan")


@pytest.fixture(scope="module")
def tracker():
    """The bundled one."""
    return load(engine="torch", device="cpu")


@pytest.fixture(scope="module")
def clips(tmp_path_factory, write_clips):
    """Two clips with a bright square; in the second the truth leaves the square in frame 12."""
    folder = write_clips(tmp_path_factory.mktemp("gallery") / "clips", {"good": 14, "bad": 24})
    boxes = np.loadtxt(folder / "bad.txt", delimiter=",")
    boxes[12:, 1] = 44.0
    boxes[20] = NAN
    np.savetxt(folder / "bad.txt", boxes, delimiter=",")
    return open_dataset(f"folder:{folder}")


def test_lasting_failures_have_a_start_and_a_length():
    overlaps = np.array(
        [NAN, 0.8, 0.0, 0.0, 0.7, *[0.05] * 5, 0.5, 0.0, NAN, *[0.0] * 6, 0.6, *[0.0] * 4]
    )
    assert lasting_failures(overlaps) == [(5, 5), (11, 7)]
    assert lasting_failures(np.full(9, 0.1)) == [] and lasting_failures(np.zeros(5)) == [(0, 5)]


def test_the_longest_failures_are_shown_in_order_or_the_worst_frame():
    overlaps = np.concatenate([[NAN], *([*[0.0] * n, 0.9] for n in (9, 5, 12, 7))])
    assert shown_failures(overlaps) == [1, 17]
    assert shown_failures(np.array([NAN, 0.8, 0.3, NAN, 0.6])) == [2]


def test_tracing_changes_nothing(tracker, clips):
    sequence = clips["bad"]
    trace = trace_sequence(tracker, sequence)
    first, results = track_sequence(tracker, sequence)
    assert (trace.first, trace.results) == (first, results)
    overlaps = overlaps_of(sequence, first, results)
    assert np.array_equal(trace.overlaps, overlaps, equal_nan=True)
    assert np.flatnonzero(np.isnan(overlaps)).tolist() == [0, 20]
    assert trace.success_auc == success_auc(overlaps)
    assert len(trace_sequence(tracker, sequence, 5).results) == 5


class Pictures(list):
    """Frames in memory."""

    def iterate(self, indices):
        return (self[k] for k in indices)


def test_tracing_changes_nothing_where_the_tracker_looks_around():
    """The target jumps out of its window, which is shown with the four around it."""
    scene = small_scene(frame_wh=(480, 360), frame_count=1, target_size=(0.1, 0.12))[0]
    x, y, w, h = (round(v) for v in scene.box_xywh)
    thing = scene.image_bgr[y : y + h, x : x + w]
    pictures, boxes = Pictures(), []
    for left, top in [(100, 60)] * 4 + [(100 + 2 * w + w // 2, 60 + 2 * h + h // 2)] * 4:
        picture = np.full_like(scene.image_bgr, 120)
        picture[top : top + h, left : left + w] = thing
        pictures.append(picture)
        boxes.append((left, top, w, h))
    sequence = VideoSequence("jump", "video", pictures, np.array(boxes, float))
    # Looks around wherever the target is not seen for sure.
    tracker = load(engine="torch", device="cpu", look_around_below=0.5)
    trace = trace_sequence(tracker, sequence)
    assert track_sequence(tracker, sequence) == (trace.first, trace.results)
    windows = [len(frame.maps) for frame in trace.frames[1:]]
    assert windows[:4] == [1, 1, 1, 5]
    assert len(trace.frames[4].logits) == 5


def test_a_trace_holds_what_the_tracker_saw(tracker, clips):
    """Track by hand: the window around the last box, the network's answer to it."""
    sequence = clips["good"]
    trace = trace_sequence(tracker, sequence)
    frames = list(sequence.iter_frames())
    tracker.init(frames[0], sequence.boxes[0])
    for index in range(1, 4):
        crops, maps = tracker.crop_search_windows(frames[index], near=True)
        answer = tracker.engine.track(tracker.exemplar, crops)
        assert trace.frames[index].maps == tuple(maps)
        assert np.array_equal(trace.frames[index].logits, answer.score_logits)
        tracker.update_from_response(answer, maps)
    assert trace.frames[0] is None
    scores = trace.frames[1].scores(0)
    assert scores == pytest.approx(1 / (1 + np.exp(-trace.frames[1].logits[0])), abs=1e-6)


def test_the_window_that_decided_holds_the_box_and_has_the_highest_peak(tracker, clips):
    frame_trace = trace_sequence(tracker, clips["good"]).frames[3]
    box = np.array([40.0, 30, 10, 10])
    here, wider, away = (
        CropMap.around(c, s, 256) for c, s in (((45, 35), 60), ((45, 35), 90), ((200, 35), 60))
    )
    logits = np.zeros((3, 4, 4), np.float32)
    logits[0, 1, 1], logits[1, 2, 2], logits[2, 0, 0] = 1.0, 2.0, 9.0
    seen = replace(frame_trace, logits=logits, maps=(here, wider, away))
    assert seen.deciding_window(box) == 1
    assert replace(seen, maps=(away, away, away)).deciding_window(box) == 0


def test_cells_lie_where_the_decoder_reads_them(tracker):
    config = tracker.engine.config
    crop_map = CropMap((10.0, 20.0), 0.5, 256)
    cells = 256 // config.total_stride
    for row, column in ((0, 0), (3, 11), (cells - 1, cells - 1)):
        center = np.array([column + 0.5, row + 0.5]) * config.total_stride * 0.5 + (10, 20)
        for shift in (-3.0, 0.0, 3.0):
            assert cell_at(center + shift, crop_map, cells, config) == (row, column)
    assert cell_at(np.array([-900.0, 900.0]), crop_map, cells, config) == (cells - 1, 0)
    assert contains(crop_map, np.array([10.0, 147.9])) and not contains(
        crop_map, np.array([10.0, 148.0])
    )


def test_failures_are_diagnosed_by_numbers(tracker, clips):
    config = tracker.engine.config
    trace = trace_sequence(tracker, clips["good"])
    truth = trace.truth(3)
    center = truth[:2] + truth[2:] / 2
    cells = trace.frames[3].logits.shape[1]
    logits = np.full((1, cells, cells), -9.0, np.float32)

    def diagnosis(side, peak, box):
        crop_map = CropMap.around(center + 5, side, 256)
        row, column = cell_at(center, crop_map, cells, config)
        found = logits.copy()
        found[0, (row + peak) % cells, column] = 0.0
        frames_seen = [None] * 3 + [replace(trace.frames[3], logits=found, maps=(crop_map,))]
        results = [None] * 3 + [replace(trace.results[3], box=tuple(box))]
        return diagnose_failure(replace(trace, frames=frames_seen, results=results), 3, config)

    assert diagnosis(80.0, 7, truth) == "the response is 0.50 elsewhere and 0.00 on the target"
    small = [*truth[:2], truth[2] / 2, truth[3]]
    assert (
        diagnosis(80.0, 0, small)
        == "the peak is on the target (0.50); the box has 0.50 of its area"
    )
    behind = truth - np.array([0, 0.8 * truth[3], 0, 0])
    said = "the peak is on the target (0.50), the box 0.8 of its sizes away"
    assert diagnosis(80.0, 0, behind) == said
    aside = truth + np.array([2.5 * truth[2], 0, 0, 0])
    assert (
        diagnosis(8.0, 0, aside) == "the target is outside the search window, 2.5 of its sizes away"
    )
    assert diagnose_failure(trace, 0, config) == "there is nothing to compare with"


def test_a_gallery_shows_the_worst_with_frames_and_an_index(tracker, clips, tmp_path):
    index = write_gallery(tracker, clips, tmp_path / "out", worst=1)
    assert sorted(path.name for path in index.parent.iterdir()) == ["bad.png", "index.md"]
    text = index.read_text()
    trace = trace_sequence(tracker, clips["bad"])
    assert "The 1 worst of 2 sequences" in text
    assert f"| [bad](bad.png) | {trace.success_auc:.3f} |" in text
    assert "frame 12: " in text
    picture = cv2.imread(str(index.parent / "bad.png"))
    for bgr in ((90, 220, 60), (50, 60, 250), (0, 176, 255)):
        near = np.abs(picture.astype(int) - bgr).max(axis=2) < 12
        assert near.sum() > 100, bgr


def test_the_window_is_drawn_as_the_network_saw_it(tracker, clips):
    """The picture under the response is the crop itself, not another cut of the frame."""
    trace = trace_sequence(tracker, clips["bad"])
    figure = draw_trace(trace, tracker.engine.config)
    panels = [a for a in figure.axes if a.get_title().startswith("response up to")]
    assert len(panels) == 5
    shown = [
        int(a.get_title().split()[1].rstrip(","))
        for a in figure.axes
        if "IoU" in a.get_title() or "absent" in a.get_title()
    ]
    assert shown == [2, 9, 12, 17, 23]
    frames = list(clips["bad"].iter_frames())
    tracker.init(frames[0], clips["bad"].boxes[0])
    for index in range(1, 9):
        tracker.update(frames[index])
    (crop,), _ = tracker.crop_search_windows(frames[9], near=True)
    rgb = np.asarray(panels[1].images[0].get_array())
    assert np.array_equal(rgb[..., ::-1], crop)


def test_a_scale_pyramid_is_drawn_too(clips):
    """SiamFC's response covers the middle of the window, one of three scales."""

    class Engine:
        config = SiamFCConfig()

        def embed_exemplar(self, crops, boxes_xywh):
            return Exemplar((), 1)

        def track(self, exemplar, crops):
            logits = np.full((len(crops), 17, 17), -5.0, np.float32)
            logits[1, 8, 8] = 2.0
            return Response(logits, None, None)

    tracker = Tracker(Engine(), ScalePyramidOptions())
    trace = trace_sequence(tracker, clips["good"])
    figure = draw_trace(trace, Engine.config)
    titles = [a.get_title() for a in figure.axes]
    assert any("window 2 of 3" in title for title in titles)
    heat = next(a for a in figure.axes if a.get_title().startswith("response")).images[1]
    assert heat.get_extent() == [127.5 - 68, 127.5 + 68, 127.5 + 68, 127.5 - 68]


def test_what_cannot_be_drawn_is_refused(tracker, clips, tmp_path):
    with pytest.raises(ConfigError, match="worst is 0"):
        write_gallery(tracker, clips, tmp_path, worst=0)
    with pytest.raises(DatasetError, match="shows no target in two frames"):
        write_gallery(tracker, clips, tmp_path, max_frames=1)


@pytest.mark.slow
def test_the_command_prints_the_index_and_refuses_in_one_line(clips, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["gallery", str(out), clips.spec, "--worst", "2", "--max-frames", "6"]) == 0
    assert capsys.readouterr().out == (out / "index.md").read_text()
    assert len(list(out.glob("*.png"))) == 2
    for arguments, code, said in (
        ([clips.spec, "--set", "size_l=1"], 2, "did you mean 'size_lr'?"),
        ([f"folder:{tmp_path / 'none'}"], 3, "none"),
    ):
        assert main(["gallery", str(out), *arguments]) == code
        lines = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
        assert len(lines) == 1 and lines[0].startswith("siamtrack: error: ") and said in lines[0]
