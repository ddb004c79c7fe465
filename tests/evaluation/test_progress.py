"""Progress on stderr."""

from __future__ import annotations

import io

from siamtrack.evaluation.evaluate import BarsWatcher
from siamtrack.evaluation.runs import Run
from siamtrack.evaluation.task import Outcome, Unit


class Terminal(io.StringIO):
    def isatty(self):
        return True


def units():
    return [Unit(name, "ope", "identity", {}, "k", "identity", 10) for name in ("a", "b", "c")]


def test_every_worker_has_a_line_and_frames_add_up():
    terminal = Terminal()
    first, second, third = units()
    with BarsWatcher([(first, second), (third,)], 2, terminal) as bars:
        bars.on_frame(0, first, 4)
        bars.on_frame(1, third, 2)
        bars.on_frame(0, first, 6)
        assert bars._total.n == 8
        bars.on_outcome(0, Outcome(first, Run([], [])))
        bars.on_frame(0, second, 3)
        bars.on_outcome(0, Outcome(second, None, "hung"))
        bars.on_outcome(1, Outcome(third, Run([], [])))
        assert bars._total.n == 30
    shown = terminal.getvalue()
    assert "worker 2: identity on c, frame 2 of 10" in shown
    assert "3 of 3 runs, 1 failed" in shown


def test_results_from_elsewhere_count_too_and_a_log_gets_no_worker_lines():
    log = io.StringIO()
    with BarsWatcher([tuple(units())], 0, log) as bars:
        bars.on_frame(0, units()[0], 3)
        for unit in units():
            bars.on_outcome(0, Outcome(unit, Run([], [])))
        assert bars._total.n == 30
    assert "worker" not in log.getvalue() and "3 of 3 runs" in log.getvalue()


def test_units_are_named_for_people():
    unit = Unit("walk", "sre-left", "identity", {}, "k", "identity", 10)
    assert str(unit) == "identity on walk (sre-left)"
