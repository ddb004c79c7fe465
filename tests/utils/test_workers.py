"""The pool of worker processes: what hangs or crashes costs one task, and nothing outlives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from siamtrack.utils.workers import WorkerPool

TARGET = '''
import os
import sys
from dataclasses import dataclass

from siamtrack.errors import ConfigError

calls = 0


@dataclass
class Answer:
    pid: int
    calls: int


def work(setup, task, heartbeat):
    """Do what the task says."""
    global calls
    calls += 1
    heartbeat(0)
    if task == "crash":
        print("out of memory", file=sys.stderr)
        os._exit(7)
    if task == "hang":
        while True:
            pass
    if task == "refuse":
        raise ConfigError("not this one")
    if task == "print":
        print('{"heartbeat": 99}')
        os.write(1, b"raw\\n")
    if task == "threads":
        return int(os.environ["OMP_NUM_THREADS"])
    if task == "setup":
        return setup
    return Answer(os.getpid(), calls)
'''


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """Makes pools whose processes find the target above."""
    (tmp_path / "target.py").write_text(TARGET)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))

    def make(setup=None, *, workers=1, **options):
        return WorkerPool("target:work", setup, workers=workers, logs=tmp_path / "logs", **options)

    return make


def results_of(pool, groups, **options):
    """(worker, task, result, error) of every task, in the order of their ends."""
    results = []

    def store(worker, task, result, failure):
        results.append((worker, task, result, str(failure or "")))

    pool.run(groups, on_result=store, **options)
    return results


def test_a_crash_or_an_error_fails_one_task(pool):
    with pool() as workers:
        results = results_of(workers, [["a", "crash", "refuse", "b"]])
    errors = {task: error for _, task, _, error in results}
    assert errors == {
        "a": "",
        "crash": "its process died after frame 0 (exit code 7): out of memory",
        "refuse": "not this one",
        "b": "",
    }
    first, last = results[0][2], results[3][2]
    assert first["pid"] != last["pid"] and last["calls"] == 2  # "refuse" left its process alive


def test_a_task_without_heartbeats_is_killed(pool):
    with pool(task_timeout_s=0.01) as workers:
        ((*_, error), (*_, good, _)) = results_of(workers, [["hang", "a"]])
    assert error == "hung after frame 0: no answer for 0.51 s, killed"
    assert good["calls"] == 1
    with pool(start_timeout_s=0.001) as workers:
        ((*_, error),) = results_of(workers, [["a"]])
    assert error == "hung before its first frame: no answer for 0.001 s, killed"


def test_processes_are_reused_and_pinned_groups_keep_their_worker(pool):
    groups = [["a"], ["b"], ["c"]]
    with pool(workers=2) as workers:
        runs = [results_of(workers, groups, pinned=True) for _ in range(2)]
    placed = [{task: (worker, result["pid"]) for worker, task, result, _ in run} for run in runs]
    assert placed[0] == placed[1]
    assert {task: worker for task, (worker, _) in placed[0].items()} == {"a": 0, "b": 1, "c": 0}


def test_a_fresh_task_gets_a_new_process(pool):
    with pool(fresh=lambda task: task == "fresh") as workers:
        results = results_of(workers, [["fresh", "a", "fresh", "b"]])
    assert [result["calls"] for _, _, result, _ in results] == [1, 2, 1, 2]


def test_setup_and_threads_reach_the_process_and_output_the_log(pool, tmp_path):
    with pool({"root": Path("/data")}, threads=3) as workers:
        results = results_of(workers, [["setup", "threads", "print"]])
    assert [result for _, _, result, _ in results[:2]] == [{"root": "/data"}, 3]
    assert results[2][3] == ""
    assert "raw" in (tmp_path / "logs" / "worker-1.log").read_text()


def test_an_error_in_a_callback_stops_the_run_and_its_processes(pool):
    pids = []

    def interrupt(worker, task, result, error):
        pids.append(result["pid"])
        raise KeyboardInterrupt

    with pool(workers=2) as workers:
        with pytest.raises(KeyboardInterrupt):
            workers.run([["a"], ["hang"]], on_result=interrupt)
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
        ((*_, error),) = results_of(workers, [["b"]])
    assert "the run was stopped" in error


def test_heartbeats_are_reported(pool):
    frames = []
    with pool() as workers:
        workers.run([["a", "b"]], on_progress=lambda *progress: frames.append(progress))
    assert frames == [(0, "a", 0), (0, "b", 0)]


def test_a_missing_interpreter_fails_the_task(pool, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pool() as workers:
        ((*_, error),) = results_of(workers, [["a"]])
    assert error.startswith("the worker process cannot be used: ")


def test_without_a_log_a_crash_has_no_last_line(pool, monkeypatch):
    with pool() as workers:
        workers._processes[0]._log = None
        ((*_, error),) = results_of(workers, [["crash"]])
    assert error == "its process died after frame 0 (exit code 7)"


def test_a_process_ends_with_its_parent(pool, tmp_path):
    worker = subprocess.Popen(
        [sys.executable, "-m", "siamtrack.utils.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    worker.stdin.write(json.dumps({"target": "target:work", "setup": None}) + '\n"hang"\n')
    worker.stdin.flush()
    assert json.loads(worker.stdout.readline()) == {"heartbeat": 0}
    worker.stdin.close()  # what the end of the parent looks like
    assert worker.wait(30) == 0
    worker.stdout.close()
