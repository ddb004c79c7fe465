"""`siamtrack eval` from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.cli import eval as cli_eval
from siamtrack.cli import main
from siamtrack.evaluation import evaluate
from siamtrack.evaluation.report import report as writing

TRACKER = """
class Still:
    def init(self, frame_bgr, box):
        self.box = box
    def update(self, frame_bgr):
        return self.box

class Raises(Still):
    def update(self, frame_bgr):
        raise ValueError("no idea")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two clips of grey pictures with a target that stands still."""
    for name in ("walk", "run"):
        folder = tmp_path / "clips" / name
        folder.mkdir(parents=True)
        for number in range(5):
            cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 50, 3), 90, np.uint8))
        (tmp_path / "clips" / f"{name}.txt").write_text("10,10,8,8\n" * 5)
    return tmp_path / "clips"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder one stands in, with a module of trackers."""
    (tmp_path / "mytrackers.py").write_text(TRACKER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of a report, and tested elsewhere."""
    monkeypatch.setattr(writing, "draw_all", lambda content: {})


def call(root: Path, out: Path, *more: str) -> int:
    return main(["eval", "clips", "--root", str(root), "--out", str(out), *more])


def test_eval_writes_a_report_and_prints_the_table(root: Path, here: Path, capfd) -> None:
    code = call(root, here / "out", "--tracker", "mytrackers:Still", "--tracker", "identity")
    printed = capfd.readouterr()
    assert code == 0
    assert printed.out.startswith("| tracker | AUC | AO | P 20 px | norm. P | fps | sequences |")
    assert "mytrackers:Still | **0.952" in printed.out  # 20 of 21 thresholds: strictly above
    assert f"report in {here / 'out' / 'report.html'}" in printed.err
    content = json.loads((here / "out" / "report.json").read_text())
    assert content["dataset"]["sequences"] == 2 and content["failures"] == []


def test_views_and_failures_are_printed_with_the_paired_difference(
    no_plots, root: Path, here: Path, capfd
) -> None:
    trackers = ("--tracker", "identity", "--tracker", "mytrackers:Still")
    more = ("--views", "start,half", "--max-frames", "4", "--protocol", "ope")
    command = (*trackers, *more, "--protocol", "failures")
    assert call(root, here / "out", *command, "--format", "md", "--format", "latex") == 0
    printed = capfd.readouterr().out
    assert printed.startswith("ope, means of 2 runs: all, 2 sequences\n\n| tracker | AUC |")
    assert (
        "failures, means of 2 runs: all, 2 sequences\n\n| tracker | failures per 1,000" in printed
    )
    assert "| identity | **0.0 [0.0, 0.0]** | **1.000 [1.000, 1.000]** |" in printed
    assert (
        "| identity minus mytrackers:Still | failures, all | failures per 1,000 | "
        "+0.0 [+0.0, +0.0] | 1.0000 | 0, 2, 0 |"
    ) in printed
    assert "% ope, means of 2 runs: all, 2 sequences\n\\begin{tabular}" in printed
    stored = sorted(path.name for path in (here / "out" / "results").iterdir())
    assert stored == [
        "failures+first4", "failures+half+first4", "ope+first4", "ope+half+first4",
    ]  # fmt: skip


def test_a_second_call_uses_stored_results(
    no_plots, root: Path, here: Path, capfd, monkeypatch
) -> None:
    assert call(root, here / "out", "--tracker", "identity") == 0
    monkeypatch.setattr(evaluate, "run_groups", lambda *_, **__: pytest.fail("ran again"))
    assert call(root, here / "out", "--tracker", "identity", "--format", "latex") == 0
    assert call(root, here / "out", "--tracker", "identity", "--no-run") == 0
    assert r"\begin{tabular}" in capfd.readouterr().out


def test_failures_are_listed_at_the_end_and_the_exit_code_is_3(
    no_plots, root: Path, here: Path, capfd
) -> None:
    trackers = ("--tracker", "identity", "--tracker", "mytrackers:Raises")
    assert call(root, here / "out", *trackers) == 3
    printed = capfd.readouterr()
    lines = [line for line in printed.err.splitlines() if "siamtrack: failed:" in line]
    assert len(lines) == 2
    assert lines[0].endswith("update raised ValueError: no idea")
    assert "2 of the runs failed" in printed.err
    assert "| mytrackers:Raises | - | - | - | - | - | 0/2 |" in printed.out


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ("1,2,3,4\n", "results of shape (1, 4) for a truth of shape (5, 4)"),
        ("10,10,8,8\n" * 4 + "nan,10,8,8\n", "the box of frame 4 is [nan, 10.0, 8.0, 8.0]"),
        ("10,10,8,8\n" * 4 + "left\n", "'left' is not numeric"),
    ],
)
def test_unreadable_result_files_are_failures(no_plots, spoilt, message, root, here, capfd) -> None:
    assert call(root, here / "out", "--tracker", "identity") == 0
    (result,) = (here / "out" / "results" / "ope" / "clips").glob("identity-*/walk.txt")
    result.write_text(spoilt)
    capfd.readouterr()
    assert call(root, here / "out", "--tracker", "identity") == 3
    printed = capfd.readouterr()
    assert message in printed.err and str(result) in printed.err
    assert "| 1/2 |" in printed.out


def test_long_lists_of_failures_are_cut(no_plots, root, here, capfd, monkeypatch) -> None:
    monkeypatch.setattr(cli_eval, "SHOWN_FAILURES", 1)
    assert call(root, here / "out", "--tracker", "identity", "--no-run") == 3
    assert "siamtrack: and 1 more" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["eval", "otto", "--root", ".", "--out", "o"], 2, "unknown data set 'otto'; did you mean"),
        (["eval", "clips", "--root", "gone", "--out", "o"], 3, "gone"),
        (["eval", "clips", "--out", "o"], 2, "--root"),
        (["eval", "clips", "--root", "clips", "--out", "o", "--tracker", "opencv:nan"], 2, "nano"),
        (
            ["eval", "clips", "--root", "clips", "--out", "o", "--tracker", "opencv:nano",
             "--backbone", "gone.onnx", "--head", "gone.onnx"],
            3, "model file gone.onnx of opencv:nano does not exist",
        ),
        (["eval", "clips", "--root", "clips", "--out", "o", "--only", "wall",
          "--tracker", "identity"], 2, "did you mean 'walk'"),
        (["eval", "clips", "--root", "clips", "--out", "o", "--tracker", "identity",
          "--protocol", "supervised"], 2, "VOT's protocol"),
        (["eval", "clips", "--root", "clips", "--out", "o", "--tracker", "identity",
          "--verify"], 2, "scores no clips"),
        (["eval", "clips", "--root", "clips", "--out", "o", "--tracker", "identity",
          "--verify", "--views", "third"], 2, "with the view start"),
        (["eval", "clips", "--root", "clips", "--out", "o", "--tracker", "identity",
          "--views", "start,thrid"], 2, "unknown view 'thrid'; did you mean 'third'"),
        (["eval", "clips", "--root", "clips", "--out", "o", "--tracker", "identity",
          "--max-frames", "-1"], 2, "max_frames is -1"),
        (["eval", "clips", "--root", "clips", "--out", "o", "--tracker", "identity",
          "--protocol", "picks"], 2, "has no move_to"),
        (["eval", "clips", "--root", "clips", "--out", "clips/walk.txt/o", "--tracker",
          "identity"], 3, "cannot write"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_one_line(
    no_plots, arguments, code, message, root, here, capfd
) -> None:
    assert main(arguments) == code
    errors = [
        line for line in capfd.readouterr().err.splitlines() if line.startswith("siamtrack: error")
    ]
    assert len(errors) == 1 and message in errors[0]


def test_an_incomplete_data_set_lists_all_problems_and_runs_with_partial(
    no_plots, root, here, capfd
) -> None:
    (root / "run" / "3.png").unlink()
    (root / "stray.txt").write_text("1,1,5,5\n")
    assert call(root, here / "out", "--tracker", "identity") == 3
    error = capfd.readouterr().err.splitlines()[-1]
    assert "2 found" in error and "stray.txt" in error and "run" in error
    assert call(root, here / "out", "--tracker", "identity", "--partial") == 0
    assert "Left out of the data set" in (here / "out" / "report.html").read_text()


STUCK = """
import os
class Stuck:
    def init(self, frame_bgr, box): pass
    def update(self, frame_bgr):
        with open("tell", "w") as pipe:
            pipe.write(str(os.getpid()))
        while True: pass
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ctrl_c_during_a_frame_ends_all_processes(root: Path, here: Path) -> None:
    os.mkfifo(here / "tell")
    (here / "stuck.py").write_text(STUCK)
    arguments = [
        "clips",
        "--root",
        str(root),
        "--out",
        str(here / "out"),
        "--tracker",
        "stuck:Stuck",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "siamtrack", "eval", *arguments], stderr=subprocess.PIPE, text=True
    )
    worker = int((here / "tell").read_text())
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "the same command resumes the run" in said
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_ctrl_c_names_the_kept_results(no_plots, root, here, capfd, monkeypatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "run", interrupted)
    assert call(root, here / "out", "--tracker", "identity") == 130
    assert "the same command resumes the run" in capfd.readouterr().err


@pytest.fixture
def got10k(tmp_path: Path) -> Path:
    """One sequence of GOT-10k's val and the same one as its test."""
    for subset, rows in (("val", 5), ("test", 1)):
        sequence = tmp_path / "GOT-10k" / subset / "S1"
        sequence.mkdir(parents=True)
        for number in range(1, 6):
            cv2.imwrite(str(sequence / f"{number:08d}.jpg"), np.full((40, 50, 3), 90, np.uint8))
        (sequence / "groundtruth.txt").write_text("11.5,11,8,8\n" * rows)
        for label, value in (("cover", 8), ("absence", 0), ("cut_by_image", 0)):
            (sequence / f"{label}.label").write_text(f"{value}\n" * 5)
        (sequence / "meta_info.ini").write_text("[METAINFO]\nresolution: (50, 40)\n")
        (sequence.parent / "list.txt").write_text("S1\n")
    return tmp_path / "GOT-10k"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning")
def test_verify_agrees_with_the_toolkit(no_plots, got10k, here, capfd) -> None:
    common = ["--root", str(got10k), "--out", str(here / "out"), "--tracker", "identity"]
    assert main(["eval", "got10k", *common, "--verify"]) == 0
    printed = capfd.readouterr()
    assert "the got10k toolkit gives the same figures" in printed.err
    assert "| identity | **1.000**" in printed.out


def test_withheld_truth_writes_a_submission(no_plots, got10k, here, capfd) -> None:
    trackers = ("--tracker", "mytrackers:Still", "--tracker", "mytrackers:Raises")
    common = ["--root", str(got10k), "--out", str(here / "out"), *trackers]
    assert main(["eval", "got10k-test", *common]) == 3
    (archive,) = (here / "out").glob("submission-*.zip")
    printed = capfd.readouterr().err
    assert f"mytrackers:Still: submit {archive}" in printed
    assert "failed: mytrackers:Raises on S1" in printed
    assert not (here / "out" / "report.html").exists()


def test_a_dataset_without_a_folder_says_how_to_give_it(capsys):
    assert main(["eval", "clips", "--out", "runs"]) == 2
    assert "where is clips? add --root DIR" in capsys.readouterr().err


def test_the_folder_may_stand_behind_the_name(tmp_path, capsys):
    for written in (f"folder:{tmp_path / 'none'}", f"clips:{tmp_path / 'none'}"):
        assert main(["eval", written, "--out", str(tmp_path / "runs")]) == 3
        assert f"{tmp_path / 'none'}: does not exist" in capsys.readouterr().err
