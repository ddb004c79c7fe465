"""Views of a sequence: which frames, in which order, with which boxes."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrack.data.datasets import open_dataset
from siamtrack.data.sequence import VideoSequence
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.evaluation import chosen_frames
from siamtrack.evaluation.chosen_frames import ViewFrames
from siamtrack.evaluation.datasets import open_benchmark
from siamtrack.evaluation.evaluate import prepare, run
from siamtrack.evaluation.runs import TimedTracker, run_variant, variant_named, variants_of
from siamtrack.evaluation.scores import score_all
from siamtrack.evaluation.task import RunConfig
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.evaluation.views import VIEWS, parse_views, view_frames, view_of
from siamtrack.video.video_writer import VideoSink

SEEN = np.array([True] * 3 + [False] * 3 + [True] * 4)


@pytest.mark.parametrize(
    ("view", "max_frames", "numbers"),
    [
        ("start", 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("start", 4, [0, 1, 2, 3]),
        ("third", 0, [6, 7, 8, 9]),  # a third of ten frames is frame 3, which shows no target
        ("mirror", 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("reverse", 3, [9, 8, 7]),
        ("half", 0, [0, 2, 4, 6, 8]),
    ],
)
def test_frames_of_a_view(view, max_frames, numbers):
    assert view_frames(view, SEEN, max_frames).tolist() == numbers


def test_a_view_begins_where_the_target_is_in_view():
    late = np.array([False, False, False, True, False, True, False])
    first = {view: view_frames(view, late)[:2].tolist() for view in VIEWS}
    assert first == {
        "start": [3, 4], "third": [3, 4], "mirror": [3, 4], "reverse": [5, 4], "half": [],
    }  # fmt: skip


class Numbered:
    """Frames that hold their number, in one more column each; notes the order of decoding."""

    def __init__(self, count):
        self.count, self.decoded = count, []

    def __len__(self):
        return self.count

    def read(self, index):
        return next(self.iterate([index]))

    def iterate(self, indices):
        for index in indices:
            self.decoded.append(index)
            image = np.zeros((4, 20, 3), np.uint8)
            image[:, :5], image[0, 0] = 200, index
            yield image

    def path(self, index):
        return f"clip/{index}"

    def key(self, index):
        return f"clip#{index}"


def test_backwards_is_decoded_forwards_in_blocks(monkeypatch):
    monkeypatch.setattr(chosen_frames, "BLOCK_FRAMES", 3)
    frames = Numbered(7)
    view = ViewFrames(frames, np.arange(7)[::-1])
    assert [int(image[0, 0, 0]) for image in view.iterate(range(7))] == [6, 5, 4, 3, 2, 1, 0]
    assert frames.decoded == [4, 5, 6, 1, 2, 3, 0]
    assert len(view) == 7 and view.read(1)[0, 0, 0] == 5
    assert (view.path(2), view.key(2)) == ("clip/4", "clip#4")


def test_mirrored_frames_and_boxes_stay_together():
    boxes = np.tile([0.0, 0.0, 5.0, 4.0], (3, 1))
    boxes[1] = np.nan
    view = view_of(VideoSequence("a", "video", Numbered(3), boxes), "mirror")
    assert view.boxes[0].tolist() == [15.0, 0.0, 5.0, 4.0] and not view.visible[1]
    image = view.read(2)
    assert (image[1, 15:] == 200).all() and (image[1, :15] == 0).all()
    assert image.flags.c_contiguous and view.image_key(0) != "clip#0"


def test_a_clip_backwards_has_the_same_pictures(tmp_path):
    with VideoSink(tmp_path / "clip.mp4", 30, (64, 48)) as sink:
        for number in range(50):
            sink.write(np.full((48, 64, 3), 4 * number, np.uint8))
    boxes = np.tile([1.0, 2.0, 9.0, 8.0], (50, 1)) + np.arange(50)[:, None] * [0.5, 0, 0, 0]
    np.savetxt(tmp_path / "clip.txt", boxes, delimiter=",")
    clip = open_dataset(f"folder:{tmp_path}")["clip"]
    forwards = list(clip.iter_frames())
    view = view_of(clip, "reverse")
    for image, expected in zip(view.iter_frames(), reversed(forwards), strict=True):
        np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(view.boxes, clip.boxes[::-1])


class Memory:
    """Answers with the first box; remembers where the bright square was."""

    def __init__(self):
        self.columns = []

    def init(self, frame_bgr, box):
        self.box = box
        self.update(frame_bgr)

    def update(self, frame_bgr):
        self.columns.append(int(np.nonzero(frame_bgr[..., 1] > 150)[1].min()))
        return self.box


@pytest.mark.parametrize("view", VIEWS)
def test_a_tracker_gets_the_view_and_its_first_box(clips, otb, view):
    for sequence in (
        open_benchmark("clips", clips({"walk": 9})).load("walk"),
        open_benchmark("otb100", otb({"Deer": 9})).load("Deer"),  # first pixel 1 in files
    ):
        variant, tracker = variant_named("ope").with_view(view), Memory()
        result = run_variant(TimedTracker(tracker), sequence, variant)
        truth = variant.view_of(sequence)
        assert tracker.columns == truth.boxes_xywh[:, 0].tolist()
        assert tracker.box == tuple(truth.boxes_xywh[0])
        np.testing.assert_array_equal(result.rows[0], truth.truth.boxes_xywh[0])
        assert len(result.rows) == len(variant.view_frames(sequence)) == len(truth)


@pytest.mark.parametrize("family", ["ope", "sre", "tre", "realtime", "corruptions"])
def test_variants_with_views_are_found_by_name(family):
    found = variants_of(family, fps=29.97, views=VIEWS, max_frames=250)
    assert len({v.name for v in found}) == len(found) == 5 * len(variants_of(family))
    for variant in found:
        assert variant_named(variant.name) == variant
    assert variant_named("ope+first250+third") == variant_named("ope").with_view("third", 250)


def test_unknown_views_are_refused():
    with pytest.raises(ConfigError, match="unknown view 'mirrored'; did you mean 'mirror'"):
        parse_views(["start", "mirrored"])
    with pytest.raises(ConfigError, match="no view is given"):
        parse_views([])
    with pytest.raises(ConfigError, match="unknown view 'thrid'"):
        variant_named("ope+thrid")
    with pytest.raises(ConfigError, match="max_frames is -1"):
        variants_of("ope", max_frames=-1)
    assert parse_views(["third", "start", "third"]) == ("third", "start")


def evaluation_of(root, out, *trackers, dataset="clips", **options):
    return prepare(RunConfig(dataset, root, out, tuple(map(TrackerSpec, trackers)), **options))


def test_every_view_is_stored_resumed_and_scored(clips, tmp_path):
    options = {"views": ("start", "reverse", "half"), "max_frames": 6}
    root = clips({"walk": 9})
    evaluation = evaluation_of(root, tmp_path / "out", "identity", **options)
    frames = {task.variant: task.frames for group in evaluation.pending() for task in group}
    assert frames == {"ope+first6": 6, "ope+reverse+first6": 6, "ope+half+first6": 5}
    assert run(evaluation) == [] and evaluation.pending() == []
    more = evaluation_of(root, tmp_path / "out", "identity", views=VIEWS)
    assert len(more.pending()) == 5  # whole views are other results than their first frames
    scores = score_all(evaluation)
    boxes = evaluation.sequences["walk"].boxes_xywh
    for name, order in {
        "ope+first6": [0, 1, 2, 3, 4, 5],
        "ope+reverse+first6": [8, 7, 6, 5, 4, 3],
        "ope+half+first6": [0, 2, 4, 6, 8],
    }.items():
        expected = np.mean([overlap(boxes[order[0]], boxes[number]) for number in order[1:]])
        found = scores[name][0].sequences["walk"].figures["average_overlap"]
        assert found == pytest.approx(expected)


def overlap(a, b):
    """Intersection over union in plain arithmetic."""
    w = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def test_a_view_without_the_target_is_a_problem_of_the_data_set(clips, tmp_path):
    root = clips({"walk": 9, "run": 9})
    lines = (root / "walk.txt").read_text().splitlines()
    (root / "walk.txt").write_text("\n".join(lines[:2] + ["nan,nan,nan,nan"] * 6 + lines[8:]))
    options = {"views": ("start", "third", "half")}
    with pytest.raises(DatasetError, match=r"fewer than two frames of third"):
        evaluation_of(root, tmp_path / "out", "identity", **options)
    partial = evaluation_of(root, tmp_path / "out", "identity", partial=True, **options)
    assert list(partial.sequences) == ["run"] and "third" in partial.left_out[0]


def test_views_that_do_not_apply_are_refused(vot, got10k, tmp_path):
    with pytest.raises(ConfigError, match="supervised is VOT's figure of whole sequences"):
        evaluation_of(vot(), tmp_path, "identity", dataset="vot2018", views=("mirror",))
    root = got10k("test", {"GOT-10k_Test_000001": 5})
    with pytest.raises(ConfigError, match="whole sequences from the start"):
        evaluation_of(root, tmp_path, "identity", dataset="got10k-test", max_frames=3)


def test_frames_that_have_gone_leave_a_mirrored_result_without_a_score(clips, tmp_path):
    evaluation = evaluation_of(clips({"walk": 5}), tmp_path / "out", "identity", views=("mirror",))
    assert run(evaluation) == []
    (evaluation.benchmark.root / "walk" / "0001.jpg").unlink()
    (scores,) = score_all(evaluation)["ope+mirror"]
    assert scores.summary is None and "0001.jpg" in scores.missing["walk"]
