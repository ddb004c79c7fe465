"""Result files: the toolkit's formats byte for byte, whole or absent."""

from __future__ import annotations

import json
import math
import os
import resource
from dataclasses import replace

import numpy as np
import pytest
from got10k.experiments import ExperimentGOT10k, ExperimentOTB

from siamtrack.errors import EvaluationError, OutputError
from siamtrack.evaluation.datasets import open_benchmark
from siamtrack.evaluation.store import ResultStore
from siamtrack.evaluation.task import SequenceRun
from siamtrack.evaluation.trackers import TrackerEntry, TrackerSpec
from siamtrack.utils.files import atomic_write

ROWS = [[1.0, 2.0, 3.0, 4.0], [1 / 3, -2.0005, 1e3, 5.5]]
TIMES = [0.125, 1 / 3]


def toolkit_writes(experiment, folder):
    """Files that the toolkit's own experiment writes for the same run."""
    made = experiment.__new__(experiment)
    made._record(str(folder), np.array(ROWS), np.array(TIMES))


def test_files_equal_those_of_the_toolkit(otb, got10k, tmp_path, capsys):
    store = ResultStore(tmp_path / "out", open_benchmark("otb100", otb()))
    store.write("ope", "mine-1", "Deer", SequenceRun(ROWS, TIMES))
    toolkit_writes(ExperimentOTB, tmp_path / "theirs" / "Deer.txt")
    ours = tmp_path / "out" / "results" / "ope" / "OTB2015" / "mine-1"
    for name in ("Deer.txt", "times/Deer_time.txt"):
        assert (ours / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()

    store = ResultStore(tmp_path / "out", open_benchmark("got10k-val", got10k()))
    store.write("ope", "mine-1", "S", SequenceRun(ROWS, TIMES))
    toolkit_writes(ExperimentGOT10k, tmp_path / "got" / "S" / "S_001.txt")
    ours = tmp_path / "out" / "results" / "ope" / "GOT-10k" / "mine-1"
    for name in ("S/S_001.txt", "S/S_time.txt"):
        assert (ours / name).read_bytes() == (tmp_path / "got" / name).read_bytes()


def test_clips_keep_every_bit_of_a_box(clips, tmp_path):
    store = ResultStore(tmp_path / "out", open_benchmark("clips", clips()))
    assert not store.has("ope", "k", "walk")
    store.write("ope", "k", "walk", SequenceRun(ROWS, [0.1, math.nan]))
    assert store.has("ope", "k", "walk")
    back = store.read("ope", "k", "walk")
    assert back.rows == ROWS
    np.testing.assert_allclose(back.times_s, [0.1, np.nan])


def test_vot_has_codes_and_boxes(vot, tmp_path):
    store = ResultStore(tmp_path / "out", open_benchmark("vot2018", vot()))
    rows = [[1.0], [1.5, 2, 3, 4], [2.0], [0.0]]
    store.write("supervised", "k", "bag", SequenceRun(rows, [0.5] * 4))
    path = tmp_path / "out/results/supervised/VOT2018/k/baseline/bag/bag_001.txt"
    assert path.read_text() == "1\n1.5000,2.0000,3.0000,4.0000\n2\n0\n"
    assert store.read("supervised", "k", "bag").rows == rows
    assert "unsupervised" in str(store.boxes_path("ope", "k", "bag"))


def test_times_are_optional(clips, tmp_path):
    store = ResultStore(tmp_path / "out", open_benchmark("clips", clips()))
    store.write("ope", "k", "walk", SequenceRun(ROWS, TIMES))
    store.times_path("ope", "k", "walk").unlink()
    assert len(store.read("ope", "k", "walk").times_s) == 0


def test_describe_writes_the_identity_of_the_key(clips, tmp_path):
    store = ResultStore(tmp_path / "out", open_benchmark("clips", clips()))
    store.describe("ope", "k", {"weights_sha256": "abc"})
    assert '"abc"' in (tmp_path / "out/results/ope/clips/k.json").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2,x,4\n", r"walk.txt:1: '1,2,x,4' is not numeric"),
        ("1,2,3,4\n5,6\n", "in line 2"),
        ("", "line 1"),
    ],
)
def test_malformed_result_files_are_rejected(content, message, clips, tmp_path):
    store = ResultStore(tmp_path / "out", open_benchmark("clips", clips()))
    path = store.boxes_path("ope", "k", "walk")
    atomic_write(path, content)
    with pytest.raises(EvaluationError, match=message):
        store.read("ope", "k", "walk").boxes(path)


def test_a_missing_result_is_rejected(clips, tmp_path):
    store = ResultStore(tmp_path / "out", open_benchmark("clips", clips()))
    with pytest.raises(EvaluationError, match=r"walk.txt is missing"):
        store.read("ope", "k", "walk")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.txt"
    atomic_write(path, "old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"cannot write .*result.txt: No space left"):
        atomic_write(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result.txt"]


def test_a_full_disk_keeps_the_states_of_before(clips, tmp_path):
    benchmark = open_benchmark("clips", clips())
    store = ResultStore(tmp_path / "out", benchmark)
    for number in range(400):
        store.write("ope", "k", f"old-{number:03d}", SequenceRun([ROWS[0]], [0.5]), "s0")
    states = tmp_path / "out/results/ope/clips/k.states"
    before = states.read_bytes()
    # Room for the files of a sequence, and for a part of the line of its state.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 4, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*k\.states: File too large; give"):
            store.write("ope", "k", "walk", SequenceRun(ROWS, TIMES), "s1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert states.read_bytes() == before
    store.write("ope", "k", "walk", SequenceRun(ROWS, TIMES), "s2")
    again = ResultStore(tmp_path / "out", benchmark)
    assert again.has("ope", "k", "walk", "s2") and not again.has("ope", "k", "walk", "s1")
    assert again.has("ope", "k", "old-399", "s0")


def test_an_unusable_output_folder_is_rejected(clips, tmp_path):
    (tmp_path / "file").write_text("")
    benchmark = open_benchmark("clips", clips())
    with pytest.raises(OutputError, match="give another folder with --out"):
        ResultStore(tmp_path / "file", benchmark).describe("ope", "k", {})


def older_note(folder, key, **changes):
    """What siamtrack 0.1 wrote beside its results."""
    note = {"weights_sha256": "abc", "card_options": {}, "options": {"engine": "torch"},
            "code_sha256": "0123", **changes}  # fmt: skip
    atomic_write(folder / f"{key}.json", json.dumps(note))


def test_older_results_are_found_by_weights_and_options(clips, tmp_path):
    store = ResultStore(tmp_path / "out", open_benchmark("clips", clips()))
    identity = {"weights_sha256": "abc", "tracking_revision": 1}
    tracker = TrackerEntry(
        TrackerSpec("siamtrack", {"engine": "torch"}), "siamtrack", "siamtrack-1", identity
    )
    store.describe("ope", tracker.key, identity)
    assert store.older_keys("ope", tracker) == []
    folder = store.tracker_folder("ope", tracker.key).parent
    older_note(folder, "siamtrack-old")
    older_note(folder, "siamtrack-tuned", options={"engine": "torch", "framing": 0})
    older_note(folder, "siamtrack-trained", weights_sha256="def")
    assert store.older_keys("ope", tracker) == ["siamtrack-old"]
    tuned = TrackerSpec("siamtrack", {"engine": "torch", "box_correction": 0})
    assert store.older_keys("ope", replace(tracker, spec=tuned)) == ["siamtrack-tuned"]
