"""Whole runs in worker processes: what fails, what goes on, what is not done twice."""

from __future__ import annotations

import json
import os
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
from siamtrack.evaluation.evaluate import Running, prepare, run
from siamtrack.evaluation.task import Outcome, Setting, Unit
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.evaluation.worker import run_unit
from siamtrack.utils.workers import WorkerProcess


def evaluation_of(root, out, trackers, **options):
    return prepare("clips", root, [TrackerSpec.parse(t) for t in trackers], out, **options)


def result_files(out: Path) -> dict[str, bytes]:
    """Boxes by path; times differ from run to run."""
    found = (out / "results").rglob("*.txt")
    return {str(p.relative_to(out)): p.read_bytes() for p in found if "times" not in p.parts}


class Notes:
    """A watcher that remembers, and may stop the run."""

    def __init__(self, stop_after=None):
        self.frames, self.outcomes, self.stop_after = [], [], stop_after

    def on_frame(self, worker, unit, frame):
        self.frames.append((worker, unit.label, unit.sequence, frame))

    def on_outcome(self, worker, outcome):
        self.outcomes.append((outcome.unit.label, outcome.unit.sequence))
        if len(self.outcomes) == self.stop_after:
            raise OutputError("disk full; free some space")


def test_two_workers_give_what_one_gives_and_trackers_take_turns(clips, trackers_file, tmp_path):
    root = clips({"a": 7, "b": 12, "c": 9})
    trackers = [f"{trackers_file}:Drift", f"{trackers_file}:Follows"]
    alone, both = Notes(), Notes()
    for out, workers, notes in ((tmp_path / "one", 1, alone), (tmp_path / "two", 2, both)):
        assert run(evaluation_of(root, out, trackers), Running(workers=workers), notes) == []
    files = result_files(tmp_path / "one")
    assert len(files) == 6 and files == result_files(tmp_path / "two")
    labels = [label.rpartition(":")[2] for label, _ in alone.outcomes]
    sequences = [sequence for _, sequence in alone.outcomes]
    assert labels == ["Drift", "Follows"] * 3
    assert sequences == ["b", "b", "c", "c", "a", "a"]  # the longest first
    assert {worker for worker, *_ in both.frames} == {0, 1}


def test_results_do_not_depend_on_what_ran_before(clips, tmp_path):
    root = clips({"a": 6, "b": 5})
    run(evaluation_of(root, tmp_path / "all", ["opencv:mil"]), Running())
    run(evaluation_of(root, tmp_path / "alone", ["opencv:mil"], only=["b"]), Running())
    assert result_files(tmp_path / "alone").items() <= result_files(tmp_path / "all").items()


def test_what_fails_is_listed_and_the_rest_goes_on(clips, trackers_file, tmp_path):
    kinds = ["Raises", "NotANumber", "Dies", "Drift"]
    evaluation = evaluation_of(
        clips({"walk": 6}), tmp_path / "out", [f"{trackers_file}:{kind}" for kind in kinds]
    )
    failures = run(evaluation, Running(workers=1))
    reasons = {f.unit.label.rpartition(":")[2]: f.error for f in failures}
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
    evaluation = evaluation_of(clips({"walk": 6, "run": 5}), tmp_path / "out", trackers)
    failures = run(evaluation, Running(workers=1, frame_timeout_s=4.0))
    assert [f.unit.sequence for f in failures] == ["walk", "run"]
    assert {f.error for f in failures} == {"hung after frame 0: no answer for 4.5 s, killed"}
    assert len(result_files(tmp_path / "out")) == 4


def test_failed_sequences_are_tried_again_and_finished_ones_are_not(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6, "b": 7}), tmp_path / "out"
    trackers = [f"{trackers_file}:Drift"]
    run(evaluation_of(root, out, trackers, only=["a"]), Running())
    before = {path: path.stat().st_mtime_ns for path in (out / "results").rglob("*.txt")}
    notes = Notes()
    run(evaluation_of(root, out, trackers), Running(), notes)
    assert [sequence for _, sequence in notes.outcomes] == ["b"]
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def test_results_of_another_option_are_not_taken_for_these(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6}), tmp_path / "out"
    for tracker in (f"{trackers_file}:Drift", f"{trackers_file}:Drift@step=2"):
        notes = Notes()
        run(evaluation_of(root, out, [tracker]), Running(), notes)
        assert len(notes.outcomes) == 1
    assert len(set(result_files(out).values())) == 2


def test_a_run_stopped_by_an_error_keeps_what_is_done(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6, "b": 7, "c": 8}), tmp_path / "out"
    trackers = [f"{trackers_file}:Drift"]
    with pytest.raises(OutputError, match="disk full"):
        run(evaluation_of(root, out, trackers), Running(), Notes(stop_after=1))
    assert len(result_files(out)) == 1
    run(evaluation_of(root, out, trackers), Running())
    run(evaluation_of(root, tmp_path / "whole", trackers), Running())
    assert result_files(out) == result_files(tmp_path / "whole")


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from siamtrack.evaluation.evaluate import Running, prepare, run
    from siamtrack.evaluation.specs import TrackerSpec

    class Kill:
        def on_frame(self, worker, unit, frame): pass
        def on_outcome(self, worker, outcome):
            os.kill(os.getpid(), signal.SIGKILL)

    root, out, tracker = sys.argv[1:]
    evaluation = prepare("clips", Path(root), [TrackerSpec(tracker)], Path(out))
    run(evaluation, Running(workers=2), Kill())
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
    run(evaluation_of(root, tmp_path / "killed", [tracker]), Running(workers=2))
    run(evaluation_of(root, tmp_path / "whole", [tracker]), Running(workers=1))
    assert result_files(tmp_path / "killed") == result_files(tmp_path / "whole")
    assert done.items() <= result_files(tmp_path / "whole").items()


def test_a_result_counts_only_when_it_is_whole(clips, trackers_file, tmp_path, monkeypatch):
    root, out = clips({"a": 6}), tmp_path / "out"
    evaluation = evaluation_of(root, out, [f"{trackers_file}:Drift"])
    written = []

    def fails_at_boxes(path, content):
        written.append(path.name)
        if "time" not in path.name and path.suffix == ".txt":
            raise OutputError("disk full; free some space")
        write(path, content)

    write = store_module.atomic_write
    monkeypatch.setattr(store_module, "atomic_write", fails_at_boxes)
    with pytest.raises(OutputError):
        run(evaluation, Running())
    assert written[-2:] == ["a_time.txt", "a.txt"]
    assert len(evaluation.pending()) == 1


def test_every_variant_has_results_of_its_own(clips, trackers_file, tmp_path):
    root, out = clips({"a": 6}), tmp_path / "out"
    families = ["ope", "sre", "realtime"]
    evaluation = evaluation_of(root, out, [f"{trackers_file}:Drift"], families=families, fps=50)
    assert run(evaluation, Running(workers=2)) == []
    assert len(result_files(out)) == 1 + 12 + 1
    assert (out / "results" / "realtime-50").is_dir()


def test_trackers_may_print_what_they_like(clips, tmp_path):
    path = tmp_path / "chatty.py"
    path.write_text(
        "import os\n"
        "class Chatty:\n"
        "    def init(self, frame, box):\n"
        "        self.box = box; print('{\"beat\": 99}'); os.write(1, b'raw\\n')\n"
        "    def update(self, frame):\n"
        "        print('hello'); return self.box\n"
    )
    evaluation = evaluation_of(clips({"a": 6}), tmp_path / "out", [f"{path}:Chatty"])
    notes = Notes()
    assert run(evaluation, Running(), notes) == []
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
    evaluation = evaluation_of(clips({"a": 3}), tmp_path / "out", [f"{path}:Threads"])
    run(evaluation, Running(threads=3))
    (content,) = result_files(tmp_path / "out").values()
    assert content.decode().splitlines()[1] == "3.0,3.0,1.0,1.0"


def test_a_worker_that_cannot_start_is_an_outcome(clips, tmp_path, monkeypatch, trackers_file):
    evaluation = evaluation_of(clips({"a": 3}), tmp_path / "out", ["identity"])
    unit = evaluation.pending()[0][0]
    setting = Setting("clips", str(tmp_path / "clips"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    outcome = WorkerProcess(setting, tmp_path / "log").run(unit)
    assert outcome.run is None and "cannot be used" in outcome.error
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_a_retired_worker_starts_no_process(clips, tmp_path):
    evaluation = evaluation_of(clips({"a": 3}), tmp_path / "out", ["identity"])
    process = WorkerProcess(Setting("clips", str(tmp_path / "clips")), tmp_path / "log")
    process.retire()
    outcome = process.run(evaluation.pending()[0][0])
    assert "stopped" in outcome.error


def test_a_data_set_that_is_gone_fails_its_units(clips, tmp_path):
    evaluation = evaluation_of(clips({"a": 3}), tmp_path / "out", ["identity"])
    process = WorkerProcess(Setting("clips", str(tmp_path / "nowhere")), tmp_path / "log")
    outcome = process.run(evaluation.pending()[0][0])
    process.close()
    assert outcome.run is None and "does not exist" in outcome.error


def test_a_worker_ends_with_its_parent(clips, trackers_file, tmp_path):
    evaluation = evaluation_of(clips({"a": 3}), tmp_path / "out", [f"{trackers_file}:Hangs"])
    unit = evaluation.pending()[0][0]
    worker = subprocess.Popen(
        [sys.executable, "-m", "siamtrack.evaluation.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    setting = json.dumps({"benchmark": "clips", "root": str(tmp_path / "clips")})
    worker.stdin.write(f"{setting}\n{json.dumps(unit.to_json())}\n")
    worker.stdin.flush()
    assert json.loads(worker.stdout.readline()) == {"beat": 0}
    worker.stdin.close()  # what the end of the parent looks like
    assert worker.wait(30) == 0
    worker.stdout.close()
    assert not os.path.exists(f"/proc/{worker.pid}/status")


def test_protocols_that_do_not_apply_are_refused(clips, got10k, tmp_path):
    with pytest.raises(ConfigError, match="supervised is VOT's protocol"):
        evaluation_of(clips(), tmp_path / "out", ["identity"], families=["supervised"])
    root = got10k("test", {"GOT-10k_Test_000001": 5})
    with pytest.raises(ConfigError, match="withheld"):
        prepare("got10k-test", root, [TrackerSpec("identity")], tmp_path / "out", families=["sre"])


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
    units = [
        Unit(sequence, "ope", spec.name, spec.options, "key", str(spec), 9)
        for sequence in benchmark.names[:2]
        for spec in specs
    ]
    alone = [run_unit(benchmark, unit).run.rows for unit in units]
    monkeypatch.setattr(TrackerSpec, "build", counting)
    kept = {}
    together = [run_unit(benchmark, unit, kept=kept).run.rows for unit in units]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(built) == sorted([*map(str, specs), "identity"])
