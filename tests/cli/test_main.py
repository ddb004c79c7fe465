from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

import siamtrack
from siamtrack import cli
from siamtrack.cli import main
from siamtrack.errors import SiamTrackError


def command_that(monkeypatch: pytest.MonkeyPatch, action: object) -> None:
    """Make `siamtrack track` do something else."""

    def run(**arguments: object) -> object:
        if isinstance(action, BaseException):
            raise action
        return action() if callable(action) else action

    replaced = click.Command("track", callback=run)
    monkeypatch.setattr("siamtrack.cli.track.command", replaced)


def error_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "track" in told and "info" in told and "_" not in told.split("Commands:")[1]


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.cli.list_commands(click.Context(cli.cli)):
        assert main([name, "--help"]) == 0
        told = capsys.readouterr().out
        assert told.startswith(f"Usage: siamtrack {name}") and "--debug" in told


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert siamtrack.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trak"], "did you mean 'track'"),
        (["track", "clip.mp4", "--bx", "1,2,3,4"], "--bx"),
        (["track"], "SOURCE"),
        (["--nonsense"], "--nonsense"),
        (["track", "clip.mp4", "--start-frame", "-1"], "--start-frame"),
        (["track", "clip.mp4", "--no-display"], "--box x,y,w,h"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = error_lines(capsys)
    assert line.startswith("siamtrack: error: ") and told in line


def all_errors() -> list[type[SiamTrackError]]:
    found, todo = [], [SiamTrackError]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return found


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_is_one_line_and_its_own_exit_code(
    kind: type[SiamTrackError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(monkeypatch, kind("the given thing\nis bad"))
    assert main(["track"]) == kind.exit_code
    assert kind.exit_code in {2, 3, 4}
    assert error_lines(capsys) == ["siamtrack: error: the given thing is bad"]


def test_an_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(monkeypatch, PermissionError(13, "Permission denied", "secret.mp4"))
    assert main(["track"]) == 3
    (line,) = error_lines(capsys)
    assert "secret.mp4" in line and "Permission denied" in line


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    command_that(monkeypatch, ZeroDivisionError("oops"))
    with pytest.raises(ZeroDivisionError):
        main(["track"])


@pytest.mark.parametrize("arguments", [["--debug", "track"], ["track", "--debug"]])
def test_debug_adds_the_traceback_wherever_it_stands(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(monkeypatch, SiamTrackError("too bad"))
    assert main(arguments) == 3
    lines = error_lines(capsys)
    assert lines[0].startswith("Traceback") and any("test_main.py" in line for line in lines)
    assert lines[-1] == "siamtrack: error: too bad"


def test_the_code_of_a_command_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    command_that(monkeypatch, 7)
    assert main(["track"]) == 7
    command_that(monkeypatch, None)
    assert main(["track"]) == 0


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGINT, 130, "siamtrack: interrupted"),
        (signal.SIGTERM, 143, "siamtrack: stopped"),
    ],
)
def test_signals_end_it_quietly(
    number: signal.Signals,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    command_that(monkeypatch, lambda: signal.raise_signal(number))
    assert main(["track"]) == code
    assert error_lines(capsys) == [told]
    assert signal.getsignal(signal.SIGTERM) is before


def test_warnings_of_the_package_are_shown_and_details_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def talk() -> None:
        logging.getLogger("siamtrack.video").debug("a detail")
        logging.getLogger("siamtrack.video").warning("two frames are %s", "missing")

    command_that(monkeypatch, talk)
    assert main(["track"]) == 0
    assert error_lines(capsys) == ["siamtrack: warning: two frames are missing"]
    assert main(["--debug", "track"]) == 0
    assert error_lines(capsys)[0] == "siamtrack: debug: a detail"
    assert not logging.getLogger("siamtrack").handlers, "nothing is left behind"


def test_the_module_runs_as_the_command_does(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "siamtrack", "track", "nothing.mp4", "--no-display"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_help_does_not_wait_for_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from siamtrack.cli import main\n"
        "for arguments in (['--help'], ['track', '--help'], ['info', '--help']):\n"
        "    main(arguments)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not {"torch", "cv2", "av", "numpy"}.intersection(done.stderr.split())
