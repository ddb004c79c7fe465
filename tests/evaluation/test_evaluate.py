"""Whole evaluations in worker processes: what fails, what goes on, progress, archives."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from siamtrack.errors import ConfigError, EvaluationError, OutputError
from siamtrack.evaluation import evaluate as evaluate_module
from siamtrack.evaluation import store as store_module
from siamtrack.evaluation.datasets import open_benchmark
from siamtrack.evaluation.evaluate import (
    EvaluationProgress,
    prepare,
    run,
    with_older_results,
    write_submission,
)
from siamtrack.evaluation.task import RunConfig, SequenceRun, Task, TaskResult
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.evaluation.worker import TaskRunner


def evaluation_of(root, out, trackers, **options):
    specs = tuple(TrackerSpec.parse(t) for t in trackers)
    return prepare(RunConfig("clips", root, out, specs, **options))


def result_files(out: Path) -> dict[str, bytes]:
    """Boxes by path; times differ from run to run."""
    found = (out / "results").rglob("*.txt")
    return {str(p.relative_to(out)): p.read_bytes() for p in found if "times" not in p.parts}


class Notes:
    """Callbacks that remember, and may stop the run."""

    def __init__(self, stop_after=None):
        self.frames, self.results, self.stop_after = [], [], stop_after

    def on_frame(self, worker, task, frame):
        self.frames.append((worker, task.label, task.sequence, frame))

    def on_result(self, worker, result):
        self.results.append((result.task.label, result.task.sequence))
        if len(self.results) == self.stop_after:
            raise OutputError("disk full; free some space")


def run_noted(evaluation, notes):
    return run(evaluation, notes.on_frame, notes.on_result)


def test_two_workers_equal_one_and_trackers_take_turns(clips, trackers_file, tmp_path):
    root = clips({"a": 7, "b": 12, "c": 9})
    trackers = [f"{trackers_file}:Drift", f"{trackers_file}:Follows"]
    alone, both = Notes(), Notes()
    for out, workers, notes in ((tmp_path / "one", 1, alone), (tmp_path / "two", 2, both)):
        evaluation = evaluation_of(root, out, trackers, workers=workers)
        assert run_noted(evaluation, notes) == []
    files = result_files(tmp_path / "one")
    assert len(files) == 6 and files == result_files(tmp_path / "two")
    labels = [label.rpartition(":")[2] for label, _ in alone.results]
    sequences = [sequence for _, sequence in alone.results]
    assert labels == ["Drift", "Follows"] * 3
    assert sequences == ["b", "b", "c", "c", "a", "a"]  # the longest first
    assert {worker for worker, *_ in both.frames} == {0, 1}


def test_results_do_not_depend_on_earlier_tasks(clips, tmp_path):
    root = clips({"a": 6, "b": 5})
    run(evaluation_of(root, tmp_path / "all", ["opencv:mil"]))
    run(evaluation_of(root, tmp_path / "alone", ["opencv:mil"], only=["b"]))
    assert result_files(tmp_path / "alone").items() <= result_files(tmp_path / "all").items()


def test_failures_are_listed_and_other_tasks_continue(clips, trackers_file, tmp_path):
    kinds = ["Raises", "NotANumber", "Dies", "Drift"]
    evaluation = evaluation_of(
        clips({"walk": 6}), tmp_path / "out", [f"{trackers_file}:{kind}" for kind in kinds]
    )
    failures = run(evaluation)
    reasons = {f.task.label.rpartition(":")[2]: f.error for f in failures}
    assert set(reasons) == set(kinds) - {"Drift"}
    assert reasons["Raises"] == "frame 1: update raised ValueError: no idea"
    assert "nan" in reasons["NotANumber"]
    assert reasons["Dies"] == "its process died after frame 0 (signal 9)"
    listed = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert [entry["reason"] for entry in listed] == [f.error for f in failures]
    assert len(result_files(tmp_path / "out")) == 1


def test_a_hung_tracker_is_killed_and_other_tasks_continue(clips, trackers_file, tmp_path):
    # Two of them, so that one hangs in a process that has just answered for another unit.
    trackers = [f"{trackers_file}:{kind}" for kind in ("Drift", "Hangs", "Follows")]
    root = clips({"walk": 6, "run": 5})
    failures = run(evaluation_of(root, tmp_path / "out", trackers, frame_timeout_s=4.0))
    assert [f.task.sequence for f in failures] == ["walk", "run"]
    assert {f.error for f in failures} == {"hung after frame 0: no answer for 4.5 s, killed"}
    assert len(result_files(tmp_path / "out")) == 4


def test_a_rerun_repeats_failed_sequences_only(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6, "b": 7}), tmp_path / "out"
    trackers = [f"{trackers_file}:Drift"]
    run(evaluation_of(root, out, trackers, only=["a"]))
    before = {path: path.stat().st_mtime_ns for path in (out / "results").rglob("*.txt")}
    notes = Notes()
    run_noted(evaluation_of(root, out, trackers), notes)
    assert [sequence for _, sequence in notes.results] == ["b"]
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


@pytest.mark.parametrize("changed", ["boxes", "pictures"])
def test_results_of_what_was_changed_since_are_made_anew(
    clips, trackers_file, tmp_path, caplog, changed
):
    root, out = clips({"a": 6, "b": 7}), tmp_path / "out"
    trackers = [f"{trackers_file}:Drift", f"{trackers_file}:Follows"]
    run(evaluation_of(root, out, trackers))
    old = result_files(out)
    if changed == "boxes":
        rows = np.loadtxt(root / "b.txt", delimiter=",")
        rows[:, 0] += 3
        np.savetxt(root / "b.txt", rows, delimiter=",", fmt="%g")
    else:
        picture = next(path for path in (root / "b").iterdir() if path.is_file())
        os.utime(picture, (0, 0))
    assert not caplog.records
    evaluation, notes = evaluation_of(root, out, trackers), Notes()
    assert "1 sequence(s) have changed since their results were made, first of b" in caplog.text
    run_noted(evaluation, notes)
    assert {sequence for _, sequence in notes.results} == {"b"}
    assert len(notes.results) == 2
    assert (result_files(out) == old) == (changed == "pictures")
    assert evaluation_of(root, out, trackers).pending() == []


def test_other_options_have_results_of_their_own(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6}), tmp_path / "out"
    for tracker in (f"{trackers_file}:Drift", f"{trackers_file}:Drift@step=2"):
        notes = Notes()
        run_noted(evaluation_of(root, out, [tracker]), notes)
        assert len(notes.results) == 1
    assert len(set(result_files(out).values())) == 2


def test_an_aborted_run_keeps_finished_results(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6, "b": 7, "c": 8}), tmp_path / "out"
    trackers = [f"{trackers_file}:Drift"]
    with pytest.raises(OutputError, match="disk full"):
        run_noted(evaluation_of(root, out, trackers), Notes(stop_after=1))
    assert len(result_files(out)) == 1
    run(evaluation_of(root, out, trackers))
    run(evaluation_of(root, tmp_path / "whole", trackers))
    assert result_files(out) == result_files(tmp_path / "whole")


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from siamtrack.evaluation.evaluate import prepare, run
    from siamtrack.evaluation.task import RunConfig
    from siamtrack.evaluation.trackers import TrackerSpec

    def kill(worker, result):
        os.kill(os.getpid(), signal.SIGKILL)

    root, out, tracker = sys.argv[1:]
    config = RunConfig("clips", Path(root), Path(out), (TrackerSpec(tracker),), workers=2)
    run(prepare(config), on_result=kill)
"""


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(clips, trackers_file, tmp_path):
    root = clips({"a": 14, "b": 11, "c": 8, "d": 6})
    tracker = f"{trackers_file}:Drift"
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    killed = subprocess.run(
        [sys.executable, str(script), str(root), str(tmp_path / "killed"), tracker], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    done = result_files(tmp_path / "killed")
    assert len(done) == 1
    run(evaluation_of(root, tmp_path / "killed", [tracker], workers=2))
    run(evaluation_of(root, tmp_path / "whole", [tracker], workers=1))
    assert result_files(tmp_path / "killed") == result_files(tmp_path / "whole")
    assert done.items() <= result_files(tmp_path / "whole").items()


def test_a_partly_written_result_does_not_count(clips, trackers_file, tmp_path, monkeypatch):
    root, out = clips({"a": 6}), tmp_path / "out"
    evaluation = evaluation_of(root, out, [f"{trackers_file}:Drift"])
    written = []

    def fails_at_boxes(path, content, advice):
        written.append(path.name)
        if "time" not in path.name and path.suffix == ".txt":
            raise OutputError("disk full; free some space")
        write(path, content, advice)

    write = store_module.atomic_write
    monkeypatch.setattr(store_module, "atomic_write", fails_at_boxes)
    with pytest.raises(OutputError):
        run(evaluation)
    assert written[-2:] == ["a_time.txt", "a.txt"]
    assert len(evaluation.pending()) == 1


def test_every_variant_has_results_of_its_own(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6}), tmp_path / "out"
    protocols = ("ope", "sre", "realtime")
    evaluation = evaluation_of(
        root, out, [f"{trackers_file}:Drift"], protocols=protocols, realtime_fps=50, workers=2
    )
    assert run(evaluation) == []
    assert len(result_files(out)) == 1 + 12 + 1
    assert (out / "results" / "realtime-50").is_dir()


def test_output_of_trackers_goes_to_the_log(clips, tmp_path):
    path = tmp_path / "chatty.py"
    path.write_text(
        "import os\n"
        "class Chatty:\n"
        "    def init(self, frame, box):\n"
        "        self.box = box; print('{\"heartbeat\": 99}'); os.write(1, b'raw\\n')\n"
        "    def update(self, frame):\n"
        "        print('hello'); return self.box\n"
    )
    evaluation = evaluation_of(clips({"a": 6}), tmp_path / "out", [f"{path}:Chatty"])
    notes = Notes()
    assert run_noted(evaluation, notes) == []
    assert "hello" in (tmp_path / "out" / "logs" / "worker-1.log").read_text()
    assert all(frame < 6 for *_, frame in notes.frames)


def test_threads_reach_the_tracker(clips, tmp_path):
    path = tmp_path / "threads.py"
    path.write_text(
        "import os, cv2\n"
        "class Threads:\n"
        "    def init(self, frame, box): pass\n"
        "    def update(self, frame):\n"
        "        return (cv2.getNumThreads(), int(os.environ['OMP_NUM_THREADS']), 1, 1)\n"
    )
    run(evaluation_of(clips({"a": 3}), tmp_path / "out", [f"{path}:Threads"], threads=3))
    (content,) = result_files(tmp_path / "out").values()
    assert content.decode().splitlines()[1] == "3.0,3.0,1.0,1.0"


def test_a_worker_that_cannot_start_is_a_failure(clips, tmp_path, monkeypatch):
    evaluation = evaluation_of(clips({"a": 3}), tmp_path / "out", ["identity"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    (failure,) = run(evaluation)
    assert failure.run is None and "cannot be used" in failure.error


def test_a_removed_data_set_fails_its_tasks(clips, tmp_path):
    root = clips({"a": 3})
    evaluation = evaluation_of(root, tmp_path / "out", ["identity"])
    root.rename(tmp_path / "elsewhere")
    (failure,) = run(evaluation)
    assert failure.run is None and "does not exist" in failure.error


def test_protocols_that_do_not_apply_are_rejected(clips, got10k, tmp_path):
    with pytest.raises(ConfigError, match="supervised is VOT's protocol"):
        evaluation_of(clips(), tmp_path / "out", ["identity"], protocols=("supervised",))
    root = got10k("test", {"GOT-10k_Test_000001": 5})
    with pytest.raises(ConfigError, match="withheld"):
        prepare(
            RunConfig("got10k-test", root, tmp_path / "out", (TrackerSpec("identity"),), ("sre",))
        )


def test_picks_need_a_tracker_whose_box_can_be_set(clips, tmp_path):
    root, options = clips(), {"protocols": ("ope", "picks")}
    with pytest.raises(ConfigError, match=r"identity has no move_to\(box\); give a siamtrack"):
        evaluation_of(root, tmp_path / "out", ["identity"], **options)
    ours = evaluation_of(root, tmp_path / "out", ["siamtrack@engine=torch"], **options)
    assert [variant.name for variant in ours.variants] == ["ope", "picks"]


def test_patterns_select_sequences(clips, tmp_path):
    root = clips({"walk": 4, "wave": 4, "run": 4})
    chosen = evaluation_of(root, tmp_path / "out", ["identity"], only=["wa*", "run"])
    assert list(chosen.sequences) == ["run", "walk", "wave"]
    with pytest.raises(ConfigError, match="did you mean 'walk'"):
        evaluation_of(root, tmp_path / "out", ["identity"], only=["wallk"])


def test_a_worker_builds_our_tracker_once_and_resets_it_per_task(clips, monkeypatch):
    built = []
    build = TrackerSpec.build

    def counting(spec):
        built.append(str(spec))
        return build(spec)

    benchmark = open_benchmark("clips", clips())
    names = ["siamtrack@engine=torch", "siamtrack@engine=torch,window_influence=0.5", "identity"]
    specs = [TrackerSpec.parse(name) for name in names]
    tasks = [
        Task(sequence, "ope", spec, "key", str(spec), 9)
        for sequence in benchmark.names[:2]
        for spec in specs
    ]
    alone = [TaskRunner(benchmark).run(task).rows for task in tasks]
    monkeypatch.setattr(TrackerSpec, "build", counting)
    runner = TaskRunner(benchmark)
    together = [runner.run(task).rows for task in tasks]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(built) == sorted([*map(str, specs), "identity"])


class Terminal(io.StringIO):
    def isatty(self):
        return True


IDENTITY = TrackerSpec("identity")


def tasks():
    return [Task(name, "ope", IDENTITY, "k", "identity", 10) for name in ("a", "b", "c")]


def test_every_worker_has_a_line_and_frames_add_up():
    terminal = Terminal()
    first, second, third = tasks()
    with EvaluationProgress([(first, second), (third,)], 2, terminal) as bars:
        bars.on_frame(0, first, 4)
        bars.on_frame(1, third, 2)
        bars.on_frame(0, first, 6)
        assert bars._total.n == 8
        bars.on_result(0, TaskResult(first, SequenceRun([], [])))
        bars.on_frame(0, second, 3)
        bars.on_result(0, TaskResult(second, None, "hung"))
        bars.on_result(1, TaskResult(third, SequenceRun([], [])))
        assert bars._total.n == 30
    shown = terminal.getvalue()
    assert "worker 2: identity on c, frame 2 of 10" in shown
    assert "3 of 3 runs, 1 failed" in shown


def test_cluster_results_count_and_a_log_gets_no_worker_lines():
    log = io.StringIO()
    with EvaluationProgress([tuple(tasks())], 0, log) as bars:
        bars.on_frame(0, tasks()[0], 3)
        for task in tasks():
            bars.on_result(0, TaskResult(task, SequenceRun([], [])))
        assert bars._total.n == 30
    assert "worker" not in log.getvalue() and "3 of 3 runs" in log.getvalue()


def test_task_as_text():
    task = Task("walk", "sre-left", IDENTITY, "k", "identity", 10)
    assert str(task) == "identity on walk (sre-left)"


NAMES = {"GOT-10k_Test_000001": 7, "GOT-10k_Test_000002": 5}


@pytest.fixture
def evaluation(got10k, trackers_file, tmp_path):
    root = got10k("test", NAMES)
    spec = TrackerSpec(f"{trackers_file}:Drift")
    return prepare(RunConfig("got10k-test", root, tmp_path / "out", (spec,)))


def test_submission_has_the_layout_of_the_server(evaluation):
    assert run(evaluation) == []
    path = write_submission(evaluation, evaluation.trackers[0])
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(
            f"{name}/{name}_{part}.txt" for name in NAMES for part in ("001", "time")
        )
        rows = archive.read("GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt").decode().split()
    first = evaluation.sequences["GOT-10k_Test_000001"].truth.boxes_xywh[0]
    assert len(rows) == 7 and rows[0] == ",".join(f"{v:.3f}" for v in first)
    before = path.read_bytes()
    assert write_submission(evaluation, evaluation.trackers[0]).read_bytes() == before


def test_an_incomplete_submission_is_rejected(evaluation):
    with pytest.raises(EvaluationError, match="no result for 2 of 2 sequences"):
        write_submission(evaluation, evaluation.trackers[0])


@pytest.fixture
def older(clips, tmp_path):
    """An evaluation of ours whose output folder has results of siamtrack 0.1."""
    evaluation = evaluation_of(clips({"a": 3}), tmp_path / "out", ["siamtrack@engine=torch"])
    (tracker,) = evaluation.trackers
    note = {
        "weights_sha256": tracker.identity["weights_sha256"],
        "card_options": {},
        "options": {"engine": "torch"},
        "code_sha256": "0123",
    }
    evaluation.store.describe("ope", "siamtrack-old", note)
    run = SequenceRun([[1.0, 2.0, 3.0, 4.0]] * 3, [0.1] * 3)
    evaluation.store.write("ope", "siamtrack-old", "a", run)
    return evaluation


def test_a_report_uses_older_results_if_there_are_no_others(older):
    (tracker,) = with_older_results(older).trackers
    assert tracker.key == "siamtrack-old"
    newer = older.trackers[0].key
    older.store.write("ope", newer, "a", older.store.read("ope", tracker.key, "a"))
    assert with_older_results(older).trackers[0].key == newer


def test_a_run_warns_that_older_results_are_not_used(older, monkeypatch, caplog):
    monkeypatch.setattr(evaluate_module, "run_groups", lambda *_, **__: None)
    run(older)
    assert "older siamtrack stay in" in caplog.text and "siamtrack-old" in caplog.text
    assert len(older.pending()) == 1
