"""Our figures against the toolkit's own experiments, on the same result files.

The experiments are constructed by the toolkit itself, on its own readers; only its downloads and
its list of OTB's sequences are replaced.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from got10k import datasets, experiments
from got10k.trackers import IdentityTracker as ToolkitIdentity

from siamtrack import to_got10k
from siamtrack.data.formats import benchmarks
from siamtrack.errors import ConfigError, DatasetError, EvaluationError
from siamtrack.evaluation.datasets import open_benchmark
from siamtrack.evaluation.evaluate import prepare
from siamtrack.evaluation.got10k_toolkit import toolkit_module
from siamtrack.evaluation.runs import TimedTracker, run_variant, variant_named
from siamtrack.evaluation.scores import score_all
from siamtrack.evaluation.store import StoredRun
from siamtrack.evaluation.task import RunConfig, SequenceRun
from siamtrack.evaluation.trackers import (
    ToolkitTrackerAdapter,
    TrackerSpec,
    is_toolkit_tracker,
)
from siamtrack.evaluation.verify import experiment_for, verify
from siamtrack.evaluation.vot import accuracy_and_robustness, score_supervised

pytestmark = pytest.mark.filterwarnings(
    # The toolkit leaves pictures open and draws with pyplot.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::UserWarning",
    "ignore::RuntimeWarning",
)


@pytest.fixture
def small_otb(otb, monkeypatch):
    """OTB with two sequences, one of them with two targets."""
    names = {version: ["Deer", "Jogging"] for version in (2013, 2015, "tb50")}
    monkeypatch.setattr(datasets.OTB, "_OTB__version_dict", names)
    root = otb({"Deer": 14, "Jogging": 9})
    single = root / "Jogging" / "groundtruth_rect.txt"
    rows = single.read_text()
    (root / "Jogging" / "groundtruth_rect.1.txt").write_text(rows)
    (root / "Jogging" / "groundtruth_rect.2.txt").write_text(rows.replace("\t16\t", "\t13\t"))
    single.unlink()
    return root


def wobbly(evaluation, rng, variant="ope", decimals=2):
    """Store results that are right, wrong, outside, tiny and tied with thresholds."""
    for entry in evaluation.trackers:
        for name, sequence in evaluation.sequences.items():
            boxes = np.nan_to_num(sequence.truth.boxes_xywh, nan=5.0)
            boxes = boxes + rng.normal(0, 4, boxes.shape) * (rng.random((len(boxes), 1)) < 0.7)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], 0.5)
            rows = np.round(boxes, decimals).tolist()
            times = rng.uniform(0.001, 0.02, len(rows)).tolist()
            evaluation.store.write(variant, entry.key, name, SequenceRun(rows, times))


def evaluation_of(name, root, out, **options):
    trackers = (TrackerSpec("identity"), TrackerSpec("opencv:mil"))
    return prepare(RunConfig(name, root, out, trackers, **options))


def assert_equal(ours, theirs):
    assert np.max(np.abs(np.asarray(ours) - np.asarray(theirs))) <= 1e-9


def test_otb_figures_are_those_of_experiment_otb(small_otb, tmp_path, rng, capsys):
    evaluation = evaluation_of("otb100", small_otb, tmp_path / "out")
    assert list(evaluation.sequences) == ["Deer", "Jogging.1", "Jogging.2"]
    wobbly(evaluation, rng)
    scores = score_all(evaluation)["ope"]
    experiment = experiments.ExperimentOTB(
        str(small_otb), 2015, str(evaluation.store.toolkit_results("ope")), str(tmp_path / "rep")
    )
    keys = [entry.key for entry in evaluation.trackers]
    theirs = experiment.report(keys)
    for tracker in scores:
        overall = theirs[tracker.entry.key]["overall"]
        assert_equal(tracker.summary.curves["success"], overall["success_curve"])
        assert_equal(tracker.summary.curves["precision"], overall["precision_curve"])
        figures = tracker.summary.figures
        assert_equal(figures["success_auc"].value, overall["success_score"])
        assert_equal(figures["precision_20px"].value, overall["precision_score"])
        assert_equal(figures["success_rate_50"].value, overall["success_rate"])
        rates = [score.toolkit_fps for score in tracker.sequences.values()]
        assert_equal(np.mean(rates), overall["speed_fps"])
        for name, row in theirs[tracker.entry.key]["seq_wise"].items():
            assert_equal(tracker.sequences[name].figures["success_auc"], row["success_score"])
            assert_equal(tracker.sequences[name].figures["precision_20px"], row["precision_score"])
    assert verify(evaluation, {"ope": scores}) <= 1e-9


def test_got10k_figures_are_those_of_experiment_got10k(got10k, tmp_path, rng, capsys):
    root = got10k()
    evaluation = evaluation_of("got10k", root, tmp_path / "out")
    wobbly(evaluation, rng, decimals=3)
    scores = score_all(evaluation)["ope"]
    experiment = experiments.ExperimentGOT10k(
        str(root), "val", str(evaluation.store.toolkit_results("ope")), str(tmp_path / "rep")
    )
    theirs = experiment.report([entry.key for entry in evaluation.trackers])
    for tracker in scores:
        overall = theirs[tracker.entry.key]["overall"]
        assert_equal(tracker.summary.figures["average_overlap"].value, overall["ao"])
        assert_equal(tracker.summary.figures["success_rate_50"].value, overall["sr"])
        assert_equal(tracker.summary.curves["success"], overall["succ_curve"])
        for name, row in theirs[tracker.entry.key]["seq_wise"].items():
            assert_equal(tracker.sequences[name].figures["average_overlap"], row["ao"])
    assert verify(evaluation, {"ope": scores}) <= 1e-9


def test_the_clipping_quirk_is_in_got10k_figures(got10k, tmp_path):
    evaluation = evaluation_of("got10k", got10k(), tmp_path / "out")
    name, sequence = next(iter(evaluation.sequences.items()))
    outside = sequence.truth.boxes_xywh.copy()
    assert (outside[:, 0] < 0).any()
    cut = outside.copy()
    cut[:, 0] = np.maximum(cut[:, 0], 0)
    cut[:, 2] -= cut[:, 0] - outside[:, 0]
    key = evaluation.trackers[0].key
    evaluation.store.write(
        "ope", key, name, SequenceRun(np.maximum(cut, 0).tolist(), [1.0] * len(cut))
    )
    score = score_all(evaluation)["ope"][0].sequences[name]
    assert (
        score.figures["average_overlap"] < 0.9
    )  # the visible part of the target, exactly, is no full hit


def test_vot_runs_and_figures_are_those_of_experiment_vot(vot, tmp_path, monkeypatch, capsys):
    root = vot()
    evaluation = evaluation_of("vot2018", root, tmp_path / "out")
    assert [variant.name for variant in evaluation.variants] == ["supervised"]

    class Leaves:
        """Goes astray faster than the target walks."""

        def init(self, frame_bgr, box):
            self.box = np.array(box)

        def update(self, frame_bgr):
            self.box = self.box + np.array([3.1, -0.4, 0.2, 0.1])
            return tuple(self.box)

    key = evaluation.trackers[0].key
    for name, sequence in evaluation.sequences.items():
        run = run_variant(TimedTracker(Leaves()), sequence, variant_named("supervised"))
        assert [2.0] in run.rows and [0.0] in run.rows
        evaluation.store.write("supervised", key, name, run)
    monkeypatch.setattr(datasets.VOT, "_download", lambda *_: None)
    vot_module = toolkit_module("experiments.vot")
    theirs = tmp_path / "theirs"
    experiment = vot_module.ExperimentVOT(
        str(root), 2018, experiments="supervised", result_dir=str(theirs), report_dir=str(tmp_path)
    )
    experiment.run(to_got10k(Leaves(), key, first_pixel=0))
    for name in evaluation.sequences:
        path = evaluation.store.boxes_path("supervised", key, name)
        other = theirs / path.relative_to(evaluation.store.toolkit_results("supervised"))
        assert path.read_text().strip() == other.read_text().strip()
    overall = experiment.report([key])[key]
    figures = score_all(evaluation)["supervised"][0].summary.figures
    assert figures["robustness"].value > 1
    assert_equal(figures["accuracy"].value, overall["accuracy"])
    assert_equal(figures["robustness"].value, overall["robustness"])
    alone = {"supervised": score_all(evaluation)["supervised"][:1]}
    assert verify(evaluation, alone) <= 1e-9


def test_a_figure_that_differs_is_found(small_otb, tmp_path, rng):
    evaluation = evaluation_of("otb100", small_otb, tmp_path / "out")
    wobbly(evaluation, rng)
    scores = score_all(evaluation)
    key = evaluation.trackers[0].key
    run = evaluation.store.read("ope", key, "Deer")
    moved = [[x + 9, y, w, h] for x, y, w, h in run.rows]
    evaluation.store.write("ope", key, "Deer", SequenceRun(moved, run.times_s.tolist()))
    with pytest.raises(EvaluationError, match=r"here and .* in the got10k toolkit"):
        verify(evaluation, scores)


def test_data_sets_unknown_to_the_toolkit_cannot_be_verified(clips, tmp_path, rng):
    evaluation = evaluation_of("clips", clips(), tmp_path / "out")
    with pytest.raises(ConfigError, match="scores no clips"):
        wobbly(evaluation, rng)
        verify(evaluation, score_all(evaluation))
    with pytest.raises(ConfigError, match="add --protocol ope"):
        verify(evaluation, {})


def test_the_toolkits_tracker_contract_in_both_directions(clips, tmp_path):
    sequence = open_benchmark("clips", clips({"walk": 6})).load("walk")

    class Looks(ToolkitIdentity):
        """The toolkit's identity tracker, noting what it is given."""

        def init(self, image, box):
            self.seen = [np.asarray(image)]
            super().init(image, box)

        def update(self, image):
            self.seen.append(np.asarray(image))
            return super().update(image)

    theirs = Looks()
    assert is_toolkit_tracker(theirs) and not is_toolkit_tracker(object())
    run = run_variant(TimedTracker(ToolkitTrackerAdapter(theirs)), sequence, variant_named("ope"))
    np.testing.assert_allclose(run.rows, np.tile(sequence.boxes_xywh[0], (6, 1)))
    np.testing.assert_allclose(theirs.box, sequence.boxes_xywh[0] + [1, 1, 0, 0])
    bgr = list(sequence.frames.iterate(range(6)))
    np.testing.assert_array_equal(theirs.seen[3], bgr[3][..., ::-1])

    class Ours:
        def init(self, frame_bgr, box):
            self.first, self.box = frame_bgr, box

        def update(self, frame_bgr):
            return self.box

    ours = Ours()
    dressed = to_got10k(ours, "ours-123")
    files = [str(sequence.frames.path(index)) for index in range(6)]
    boxes, times = dressed.track(files, np.array([11.0, 13.0, 16.0, 14.0]))
    assert dressed.name == "ours-123" and len(times) == 6
    assert ours.box == (10.0, 12.0, 16.0, 14.0) and ours.first.flags.c_contiguous
    np.testing.assert_allclose(boxes, np.tile([11.0, 13.0, 16.0, 14.0], (6, 1)))
    assert np.abs(ours.first.astype(int) - bgr[0]).max() <= 2  # another JPEG decoder


@pytest.mark.parametrize(
    "rows", [[[1.0]] * 29, [[1.0], [2.0, 3.0]] * 15, [[1.0, 2.0, 3.0, 4.0, 5.0]] * 30]
)
def test_supervised_results_that_are_none_are_refused(rows, vot, tmp_path):
    evaluation = evaluation_of("vot2018", vot({"bag": 30}), tmp_path / "out")
    run = StoredRun([list(map(float, row)) for row in rows], np.array([]))
    with pytest.raises(EvaluationError, match="neither a box nor a code"):
        score_supervised(evaluation.sequences["bag"], run, (80, 60))
    with pytest.raises(EvaluationError, match="no sequence was scored"):
        accuracy_and_robustness([], np.random.default_rng(0))


def test_a_missing_toolkit_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "got10k.utils.metrics", None)
    with pytest.raises(EvaluationError, match="pip install got10k six wget shapely"):
        toolkit_module("utils.metrics")


def test_withheld_truth_and_sets_without_experiment_cannot_be_verified(got10k, tmp_path):
    benchmark = open_benchmark("got10k-test", got10k("test", {"GOT-10k_Test_000001": 4}))
    with pytest.raises(ConfigError, match="scores no got10k-test"):
        experiment_for(benchmark, benchmark.names, tmp_path, tmp_path)


def test_an_incomplete_data_set_is_refused_with_everything_that_is_wrong(
    small_otb, got10k, tmp_path
):
    (small_otb / "Deer" / "img" / "0003.jpg").unlink()
    (small_otb / "Jogging" / "groundtruth_rect.2.txt").write_text("1,1,0,0\n" * 9)
    with pytest.raises(DatasetError) as caught:
        evaluation_of("otb100", small_otb, tmp_path / "out")
    assert "2 found" in str(caught.value) and "--partial" in str(caught.value)
    assert "Deer" in str(caught.value) and "13 pictures" in str(caught.value)
    assert "Jogging.2: the first box is [1.0, 1.0, 0.0, 0.0]" in str(caught.value)
    partial = evaluation_of("otb100", small_otb, tmp_path / "out", partial=True)
    assert list(partial.sequences) == ["Jogging.1"] and len(partial.left_out) == 2


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda s: (s / "cover.label").write_text("1\n"), "cover.label has 1 flags, 12 are needed"),
        (lambda s: (s / "cover.label").unlink(), "labels in .* cannot be read"),
        (
            lambda s: (s / "meta_info.ini").write_text("[METAINFO]\nresolution: big\n"),
            "resolution 'big'",
        ),
    ],
)
def test_broken_labels_of_got10k_are_said(break_it, message, got10k, tmp_path):
    root = got10k()
    break_it(root / "val" / "GOT-10k_Val_000001")
    with pytest.raises(DatasetError, match=message):
        evaluation_of("got10k", root, tmp_path / "out")


def test_a_data_set_without_a_usable_sequence_is_refused(got10k, tmp_path):
    root = got10k("val", {"GOT-10k_Val_000001": 5})
    (root / "val" / "GOT-10k_Val_000001" / "cover.label").unlink()
    with pytest.raises(DatasetError, match="no usable sequence"):
        evaluation_of("got10k", root, tmp_path / "out", partial=True)


def test_roots_and_names_that_are_none_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        open_benchmark("got10k", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="unknown data set 'otb101'; did you mean 'otb100'"):
        open_benchmark("otb101", tmp_path)


def test_uav123_figures_are_those_of_experiment_uav123(uav123, tmp_path, rng, monkeypatch, capsys):
    metas = {"UAV123": {"bike1": {"folder_name": "bike1", "start_frame": 1, "end_frame": 9}}}
    monkeypatch.setattr(benchmarks, "_toolkit_table", lambda name: metas)
    theirs = SimpleNamespace(load=lambda file: metas)
    monkeypatch.setattr(toolkit_module("datasets.uav123"), "json", theirs)
    evaluation = evaluation_of("uav123", uav123, tmp_path / "out")
    wobbly(evaluation, rng)
    scores = score_all(evaluation)["ope"]
    assert scores[0].sequences["bike1"].frames == 7
    experiment = experiments.ExperimentUAV123(
        str(uav123), "UAV123", str(evaluation.store.toolkit_results("ope")), str(tmp_path / "rep")
    )
    monkeypatch.setattr(experiment, "plot_curves", lambda names: None)
    theirs = experiment.report([scores[0].entry.key])[scores[0].entry.key]["overall"]
    assert_equal(scores[0].summary.curves["success"], theirs["success_curve"])
    assert_equal(scores[0].summary.curves["precision"], theirs["precision_curve"])
