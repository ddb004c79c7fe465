"""The stored study: resumed, extended, and never mixed with another search."""

import json
import subprocess
import sys

import optuna
import pytest

from siamtrack.errors import ConfigError, OutputError
from siamtrack.tuning.ranges import Range
from siamtrack.tuning.study import STUDY, Search, differences

RANGES = {"window_influence": Range(0.0, 1.0), "lost_after": Range(2, 10, 4)}
PRESENT = {"window_influence": 0.4, "lost_after": 6, "size_lr": 0.3}
IDENTITY = {"weights": "abc", "sequences": {"a": "1", "b": "2"}, "max_frames": 0}


class KilledError(BaseException):
    """Stands for a kill: the search handles no BaseException."""


class PeakObjective:
    """Highest AUC at window_influence = 0.7; counts its calls and raises after `lives`."""

    def __init__(self, lives=1000):
        self.calls, self.lives = 0, lives

    def __call__(self, options):
        if self.calls == self.lives:
            raise KilledError
        self.calls += 1
        miss = abs(options["window_influence"] - 0.7)
        return {"a": 1 - miss, "b": 0.5 - miss / 2}


def ignore():
    pass


def run(out, objective, trials):
    search = Search(out, RANGES, IDENTITY)
    search.begin(PRESENT, objective)
    search.run(objective, trials, ignore)
    return search.trials


def test_trials_store_options_and_auc_by_sequence(tmp_path):
    trials = run(tmp_path, PeakObjective(), 25)
    assert [t.number for t in trials] == list(range(26))
    assert trials[0].options == {"window_influence": 0.4, "lost_after": 6}
    assert trials[0].objective == pytest.approx((0.7 + 0.35) / 2)
    for trial in trials:
        assert trial.aucs == PeakObjective()(trial.options)
        assert 0 <= trial.options["window_influence"] <= 1
        assert trial.options["lost_after"] in (2, 6, 10)
    later = [abs(t.options["window_influence"] - 0.7) for t in trials[15:]]
    assert min(later) < 0.05 and sum(later) / len(later) < 0.25


def test_a_resumed_search_equals_an_uninterrupted_one(tmp_path):
    whole = run(tmp_path / "whole", PeakObjective(), 14)
    for lives in (0, 1, 5, 4):
        with pytest.raises(KilledError):
            run(tmp_path / "parts", PeakObjective(lives), 14)
    objective = PeakObjective()
    assert run(tmp_path / "parts", objective, 14) == whole
    assert objective.calls == 15 - 10


def test_more_trials_extend_a_search(tmp_path):
    eight, objective = run(tmp_path, PeakObjective(), 8), PeakObjective()
    assert run(tmp_path, objective, 8) == eight and objective.calls == 0
    assert run(tmp_path, objective, 11)[:9] == eight and objective.calls == 3


def test_a_study_opens_after_sigkill(tmp_path):
    """SIGKILL in the middle of a trial, with the file as that leaves it."""
    code = (
        "import os, signal; from siamtrack.tuning.ranges import Range\n"
        "from siamtrack.tuning.study import Search\n"
        f"search = Search(__import__('pathlib').Path({str(tmp_path)!r}), "
        f"{RANGES!r}, {IDENTITY!r})\n"
        "calls = []\n"
        "def objective(options):\n"
        "    calls.append(1)\n"
        "    len(calls) > 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return {'a': 0.5, 'b': 0.25}\n"
        f"search.begin({PRESENT!r}, objective)\n"
        "search.run(objective, 9, lambda: None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert len(Search(tmp_path, RANGES, IDENTITY).trials) == 3
    assert len(run(tmp_path, PeakObjective(), 4)) == 5


def test_present_options_outside_the_ranges_stay_the_baseline(tmp_path):
    search = Search(tmp_path, {"window_influence": Range(0.5, 1.0)}, IDENTITY)
    search.begin(PRESENT, PeakObjective())
    search.run(PeakObjective(), 3, ignore)
    assert search.trials[0].options == {"window_influence": 0.4}
    assert all(t.options["window_influence"] >= 0.5 for t in search.trials[1:])
    assert len(search.trials) == 4


def test_contradictory_options_are_skipped(tmp_path, caplog):
    def objective(options):
        if options["window_influence"] > 0.5:
            raise ConfigError("too much")
        return PeakObjective()(options)

    trials = run(tmp_path, objective, 12)
    assert 1 < len(trials) < 13
    assert all(t.options["window_influence"] <= 0.5 for t in trials)
    assert [t.number for t in trials] == list(range(len(trials)))
    assert "trial left out: too much" in caplog.text


def test_only_contradictory_options_is_an_error(tmp_path):
    def objective(options):
        if options != {"window_influence": 0.4, "lost_after": 6}:
            raise ConfigError("never")
        return {"a": 0.5}

    with pytest.raises(ConfigError, match="never"):
        run(tmp_path, objective, 3)


def test_repeated_options_are_evaluated_once(tmp_path):
    ranges = {"lost_after": Range(6, 8)}
    search, objective = Search(tmp_path, ranges, IDENTITY), PeakObjective()
    calls = []

    def counting(options):
        calls.append(options["lost_after"])
        return objective({"window_influence": 0.1})

    search.begin(PRESENT, counting)
    search.run(counting, 12, ignore)
    assert len(search.trials) == 13 and sorted(calls) == sorted(set(calls))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights": "xyz"}, "other weights;"),
        ({"sequences": {"a": "1", "b": "3"}}, r"other sequences \(b\);"),
        ({"sequences": {"a": "1"}, "max_frames": 5}, r"other max_frames, sequences \(b\);"),
        ({"ranges": {"size_lr": [0, 1]}}, "other ranges;"),
    ],
)
def test_a_folder_with_another_search_is_rejected(tmp_path, changed, said):
    Search(tmp_path, RANGES, IDENTITY)
    with pytest.raises(OutputError, match=said):
        Search(tmp_path, RANGES, {**IDENTITY, **changed})
    Search(tmp_path, RANGES, IDENTITY)


def test_long_differences_are_shortened():
    known = {"sequences": {str(k): 0 for k in range(9)}}
    assert differences(known, {"sequences": {}}) == ["sequences (0, 1, 2, ...)"]
    assert differences(known, json.loads(json.dumps(known))) == []


def test_an_unusable_folder_is_rejected(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be used"):
        Search(tmp_path / "file", RANGES, IDENTITY)
    (tmp_path / STUDY).write_bytes(b"not a database, but long enough to be looked at " * 40)
    with pytest.raises(OutputError, match=f"{STUDY} cannot be used"):
        Search(tmp_path, RANGES, IDENTITY)


def test_missing_optuna_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"siamtrack\[tune\]"):
        Search(tmp_path, RANGES, IDENTITY)


def test_the_present_options_are_an_optuna_trial(tmp_path):
    """Its sampler and its dashboard count them among the trials."""
    search = Search(tmp_path, RANGES, IDENTITY)
    search.begin({**PRESENT, "window_influence": 0.7}, PeakObjective())
    search.run(PeakObjective(), 2, ignore)
    study = optuna.load_study(study_name="tuning", storage=f"sqlite:///{tmp_path / STUDY}")
    assert study.best_params == {"window_influence": 0.7, "lost_after": 6}
    assert study.best_value == pytest.approx(0.75) and len(study.trials) == 3
