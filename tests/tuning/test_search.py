"""`siamtrack tune` with the bundled tracker on clips made by code, and the processes behind it."""

import json
import os
import shutil
import signal
import subprocess

import cv2
import numpy as np
import pytest

from siamtrack.api import DEFAULT_WEIGHTS, load
from siamtrack.cli import main, weights
from siamtrack.data.datasets import open_dataset
from siamtrack.errors import EvaluationError
from siamtrack.models.weights import find_weights
from siamtrack.tuning.objective import (
    CachedFrames,
    Objective,
    ObjectivePool,
    TuneConfig,
    split_by_length,
)


def refused(capsys, *arguments):
    """Exit code and the one line that says why."""
    code = main(["tune", *(str(argument) for argument in arguments)])
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("siamtrack: error: ")]
    assert said.out == "" and len(errors) == 1, said.err
    return code, errors[0]


@pytest.mark.slow
def test_tune_from_clips_to_recommendation(scenes, tmp_path, capsys):
    out = tmp_path / "search"
    command = ["tune", str(out), scenes, "--folds", "3", "--range", "window_influence=0.1:0.9"]
    assert main([*command, "--trials", "2", "--workers", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed == (out / "tuning.md").read_text()
    assert "2 trials on 3 sequences, 3 folds" in printed
    assert "compared with the options before: 2." in printed and "| their lead | +" in printed
    data = json.loads((out / "trials.json").read_text())
    assert [trial["number"] for trial in data["trials"]] == [0, 1, 2]
    assert data["candidates"] == 2 and "views" not in data["searched"]
    assert list(data["trials"][1]["aucs"]) == ["clip0", "clip1", "clip2"]
    assert f"{data['verdict']['optimistic']['value']:.4f}" in printed
    picture = cv2.imread(str(out / "tuning.png"))
    assert picture is not None and picture.std() > 5
    # What is said of a trial is what a tracker with these options does.
    trial = data["trials"][2]
    tracker = load(DEFAULT_WEIGHTS, **trial["options"])
    sequence = open_dataset(scenes)["clip1"]
    frames = list(sequence.iter_frames())
    tracker.init(frames[0], sequence.boxes[0])
    pairs = zip(frames[1:], sequence.boxes[1:], strict=True)
    overlaps = np.array([overlap(tracker.update(frame).box, truth) for frame, truth in pairs])
    auc = np.mean([np.mean(overlaps > threshold) for threshold in np.linspace(0, 1, 21)])
    assert trial["aucs"]["clip1"] == pytest.approx(auc)
    # It goes on with another number of processes, and not with other sequences.
    assert main([*command, "--trials", "3", "--workers", "1"]) == 0
    again = json.loads((out / "trials.json").read_text())
    assert again["trials"][:3] == data["trials"] and len(again["trials"]) == 4
    assert "3 trials on 3 sequences" in capsys.readouterr().out
    code, said = refused(capsys, *command[1:], "--max-frames", "4")
    assert code == 3 and "other max_frames;" in said


@pytest.mark.slow
def test_views_and_groups_reach_the_search(scenes, tmp_path, capsys):
    clips = shutil.copytree(scenes.removeprefix("folder:"), tmp_path / "clips")
    entries = {f"clip{number}": {"group": "xyy"[number]} for number in range(3)}
    entries["clip0"]["tuned_before"] = True
    (clips / "groups.json").write_text(json.dumps(entries))
    command = ["tune", str(tmp_path / "search"), f"folder:{clips}", "--trials", "1",
               "--range", "window_influence=0.1:0.9"]  # fmt: skip
    views = ["--views", "start,reverse"]
    code, said = refused(capsys, *command[1:], *views, "--folds", "3")
    assert code == 2 and "3 sequence(s) in 2 group(s) cannot be split into 3 folds" in said
    assert main([*command, *views, "--folds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "3 sequences in 2 groups, means of 2 views (start, reverse), 2 folds" in printed
    assert "its gain on 1 sequences that chose options before" in printed
    assert "its gain on 2 sequences that did not" in printed
    data = json.loads((tmp_path / "search" / "trials.json").read_text())
    assert data["searched"]["views"] == ["start", "reverse"] and data["candidates"] == 1
    # An AUC is the mean over both views.
    aucs = []
    for frames, boxes in views_by_hand(open_dataset(f"folder:{clips}")["clip1"]):
        tracker = load(DEFAULT_WEIGHTS, **data["trials"][1]["options"])
        tracker.init(frames[0], boxes[0])
        pairs = zip(frames[1:], boxes[1:], strict=True)
        overlaps = np.array([overlap(tracker.update(frame).box, truth) for frame, truth in pairs])
        aucs.append(np.mean([np.mean(overlaps > t) for t in np.linspace(0, 1, 21)]))
    assert data["trials"][1]["aucs"]["clip1"] == pytest.approx(np.mean(aucs))
    # The same folder is not continued in another view, and a damaged file is one line.
    code, said = refused(capsys, *command[1:], "--views", "start,half", "--folds", "2")
    assert code == 3 and "other views;" in said
    (clips / "groups.json").write_text("{}")
    code, said = refused(capsys, *command[1:], *views, "--folds", "2")
    assert code == 3 and "has no entry for clip0" in said


def views_by_hand(sequence):
    """Frames and boxes forwards and backwards."""
    frames = list(sequence.iter_frames())
    return (frames, sequence.boxes), (frames[::-1], sequence.boxes[::-1])


def overlap(box, truth):
    """Intersection over union of two boxes, in plain arithmetic."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = box, truth
    w = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    h = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    return w * h / (aw * ah + bw * bh - w * h)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--folds", "4"], 2, "3 sequence(s) cannot be split into 4 folds"),
        (["--folds", "1"], 2, "give 2 or more"),
        (["--range", "windowinfluence=0:1"], 2, "did you mean 'window_influence'?"),
        (["--range", "window_influence=0.9:0.1"], 2, "give low below high"),
        (["--set", "size_l=0.5"], 2, "did you mean 'size_lr'?"),
        (["--set", "size_lr"], 2, "write name=value"),
        (["--weights", "siamtrack-lite"], 3, "did you mean 'siamtrack-lite0'?"),
        (["--trials", "0"], 2, "trials is 0; give 1 or more"),
        (["--workers", "0"], 2, "workers is 0; give 1 or more"),
        (["--memory-mb", "-1"], 2, "memory_mb is -1; give 0 or more"),
        (["--max-frames", "1"], 3, "shows no target in two frames"),
        (["--views", "start,mirrored"], 2, "unknown view 'mirrored'; did you mean 'mirror'?"),
    ],
)
def test_invalid_arguments_are_one_line(scenes, tmp_path, capsys, arguments, code, said):
    found, line = refused(capsys, tmp_path / "out", scenes, *arguments)
    assert found == code and said in line
    assert not (tmp_path / "out").exists()


def test_a_missing_data_set_is_one_line(tmp_path, capsys):
    code, line = refused(capsys, tmp_path / "out", f"folder:{tmp_path / 'none'}")
    assert code == 3 and "none" in line


@pytest.mark.slow
def test_a_failed_or_killed_process_is_reported(scenes, tmp_path):
    with ObjectivePool(TuneConfig(DEFAULT_WEIGHTS, scenes), {"clip0": 6}, workers=3) as pool:
        children = worker_processes()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(EvaluationError, match=r"the same command continues after the last"):
            pool.evaluate({})
    with pytest.raises(EvaluationError, match="no weights"):
        ObjectivePool(
            TuneConfig(str(tmp_path / "none.safetensors"), scenes), {"clip0": 6}, workers=1
        )


def worker_processes():
    """Process numbers of this process's children that run tasks."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "siamtrack.utils.workers"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize("memory_mb", [0.0, 0.4, 100.0])
def test_cached_frames_do_not_change_results(scenes, memory_mb):
    objective = Objective(TuneConfig(DEFAULT_WEIGHTS, scenes), ["clip0", "clip2"], memory_mb)
    kept = [isinstance(sequence.frames, CachedFrames) for sequence in objective.sequences]
    assert kept == {0.0: [False, False], 0.4: [True, False], 100.0: [True, True]}[memory_mb]
    first = objective.evaluate({"window_influence": 0.2})
    assert objective.evaluate({"window_influence": 0.2}) == first
    free = Objective(TuneConfig(DEFAULT_WEIGHTS, scenes), ["clip0", "clip2"], 0.0)
    assert isinstance(first["clip0"], float)
    assert free.evaluate({"window_influence": 0.2}) == first


def test_cached_frames_are_decoded_once(scenes):
    sequence = open_dataset(scenes)["clip0"]
    decoded = []

    class Counting:
        path = key = None

        def __len__(self):
            return len(sequence)

        def iterate(self, indices):
            for index in indices:
                decoded.append(index)
                yield sequence.read(index)

    kept = CachedFrames(Counting())
    wanted = [2, 3, 4], [0, 1, 2, 3, 4, 5], [5, 0]
    for indices in wanted:
        for index, image in zip(indices, kept.iterate(indices), strict=True):
            assert np.array_equal(image, sequence.read(index))
    assert np.array_equal(kept.read(3), sequence.read(3)) and len(kept) == 6
    assert sorted(decoded) == list(range(6))


def test_split_by_length_balances_frames():
    frames = {"a": 100, "b": 90, "c": 50, "d": 40, "e": 10}
    shares = split_by_length(frames, 2)
    assert sorted([*shares[0], *shares[1]]) == sorted(frames)
    assert sorted(sum(frames[name] for name in share) for share in shares) == [140, 150]
    assert split_by_length({"a": 1, "b": 1}, 5) == [["a"], ["b"]]


def test_commands_default_to_the_bundled_weights():
    assert find_weights(DEFAULT_WEIGHTS).is_file()
    for command in (weights.tune, weights.gallery):
        assert [p.default for p in command.params if p.name == "weights"] == [DEFAULT_WEIGHTS]
