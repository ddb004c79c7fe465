"""Progress on stderr."""

from __future__ import annotations

import io

from siamtrack.evaluation.evaluate import EvaluationProgress
from siamtrack.evaluation.task import SequenceRun, Task, TaskResult
from siamtrack.evaluation.trackers import TrackerSpec


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


def test_results_from_elsewhere_count_too_and_a_log_gets_no_worker_lines():
    log = io.StringIO()
    with EvaluationProgress([tuple(tasks())], 0, log) as bars:
        bars.on_frame(0, tasks()[0], 3)
        for task in tasks():
            bars.on_result(0, TaskResult(task, SequenceRun([], [])))
        assert bars._total.n == 30
    assert "worker" not in log.getvalue() and "3 of 3 runs" in log.getvalue()


def test_tasks_are_named_for_people():
    task = Task("walk", "sre-left", IDENTITY, "k", "identity", 10)
    assert str(task) == "identity on walk (sre-left)"
