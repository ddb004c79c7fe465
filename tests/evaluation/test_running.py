"""Whole runs in worker processes: what fails, what goes on, what is not done twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from siamtrack.errors import ConfigError, OutputError
from siamtrack.evaluation import store as store_module
from siamtrack.evaluation.datasets import open_benchmark
from siamtrack.evaluation.evaluate import prepare, run
from siamtrack.evaluation.task import RunConfig, Task
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


def test_two_workers_give_what_one_gives_and_trackers_take_turns(clips, trackers_file, tmp_path):
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


def test_results_do_not_depend_on_what_ran_before(clips, tmp_path):
    root = clips({"a": 6, "b": 5})
    run(evaluation_of(root, tmp_path / "all", ["opencv:mil"]))
    run(evaluation_of(root, tmp_path / "alone", ["opencv:mil"], only=["b"]))
    assert result_files(tmp_path / "alone").items() <= result_files(tmp_path / "all").items()


def test_what_fails_is_listed_and_the_rest_goes_on(clips, trackers_file, tmp_path):
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


def test_a_tracker_that_hangs_is_killed_and_the_rest_goes_on(clips, trackers_file, tmp_path):
    # Two of them, so that one hangs in a process that has just answered for another unit.
    trackers = [f"{trackers_file}:{kind}" for kind in ("Drift", "Hangs", "Follows")]
    root = clips({"walk": 6, "run": 5})
    failures = run(evaluation_of(root, tmp_path / "out", trackers, frame_timeout_s=4.0))
    assert [f.task.sequence for f in failures] == ["walk", "run"]
    assert {f.error for f in failures} == {"hung after frame 0: no answer for 4.5 s, killed"}
    assert len(result_files(tmp_path / "out")) == 4


def test_failed_sequences_are_tried_again_and_finished_ones_are_not(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6, "b": 7}), tmp_path / "out"
    trackers = [f"{trackers_file}:Drift"]
    run(evaluation_of(root, out, trackers, only=["a"]))
    before = {path: path.stat().st_mtime_ns for path in (out / "results").rglob("*.txt")}
    notes = Notes()
    run_noted(evaluation_of(root, out, trackers), notes)
    assert [sequence for _, sequence in notes.results] == ["b"]
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def test_results_of_another_option_are_not_taken_for_these(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6}), tmp_path / "out"
    for tracker in (f"{trackers_file}:Drift", f"{trackers_file}:Drift@step=2"):
        notes = Notes()
        run_noted(evaluation_of(root, out, [tracker]), notes)
        assert len(notes.results) == 1
    assert len(set(result_files(out).values())) == 2


def test_a_run_stopped_by_an_error_keeps_what_is_done(clips, trackers_file, tmp_path):
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


def test_killed_and_resumed_gives_the_same_bytes_as_never_killed(clips, trackers_file, tmp_path):
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


def test_a_result_counts_only_when_it_is_whole(clips, trackers_file, tmp_path, monkeypatch):
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


def test_trackers_may_print_what_they_like(clips, tmp_path):
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


def test_a_tracker_gets_the_threads_that_were_asked_for(clips, tmp_path):
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


def test_a_data_set_that_is_gone_fails_its_tasks(clips, tmp_path):
    root = clips({"a": 3})
    evaluation = evaluation_of(root, tmp_path / "out", ["identity"])
    root.rename(tmp_path / "elsewhere")
    (failure,) = run(evaluation)
    assert failure.run is None and "does not exist" in failure.error


def test_protocols_that_do_not_apply_are_refused(clips, got10k, tmp_path):
    with pytest.raises(ConfigError, match="supervised is VOT's protocol"):
        evaluation_of(clips(), tmp_path / "out", ["identity"], protocols=("supervised",))
    root = got10k("test", {"GOT-10k_Test_000001": 5})
    with pytest.raises(ConfigError, match="withheld"):
        prepare(
            RunConfig("got10k-test", root, tmp_path / "out", (TrackerSpec("identity"),), ("sre",))
        )


def test_sequences_are_chosen_by_patterns(clips, tmp_path):
    root = clips({"walk": 4, "wave": 4, "run": 4})
    chosen = evaluation_of(root, tmp_path / "out", ["identity"], only=["wa*", "run"])
    assert list(chosen.sequences) == ["run", "walk", "wave"]
    with pytest.raises(ConfigError, match="did you mean 'walk'"):
        evaluation_of(root, tmp_path / "out", ["identity"], only=["wallk"])


def test_a_worker_compiles_our_network_once_and_starts_every_sequence_afresh(clips, monkeypatch):
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
