from __future__ import annotations

import io
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import click
import pytest

import siamtrack
from siamtrack import cli
from siamtrack.cli import main
from siamtrack.cli.options import WordsCommand, WordsOption
from siamtrack.errors import SiamTrackError
from siamtrack.utils.config import warn_renamed


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
    printed = capsys.readouterr().out
    for heading, commands in cli.COMMANDS.items():
        section = printed.split(f"{heading}:\n")[1].split("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines()] == list(commands)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.cli.list_commands(click.Context(cli.cli)):
        assert main([name, "--help"]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"Usage: siamtrack {name}") and "--debug" in printed


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert siamtrack.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
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
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = error_lines(capsys)
    assert line.startswith("siamtrack: error: ") and message in line


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
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "siamtrack: interrupted"),
        (signal.SIGTERM, 143, "siamtrack: stopped"),
        (signal.SIGHUP, 129, "siamtrack: stopped"),
    ],
)
def test_signals_end_it_quietly(
    number: signal.Signals,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(number)
    command_that(monkeypatch, lambda: signal.raise_signal(number))
    assert main(["track"]) == code
    assert error_lines(capsys) == [message]
    assert signal.getsignal(number) is before


def test_signals_that_follow_the_first_change_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = []

    def run() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.raise_signal(number)
            finished.append(True)

    command_that(monkeypatch, run)
    assert main(["track"]) == 130
    assert finished
    assert error_lines(capsys) == ["siamtrack: interrupted"]


def test_signals_that_the_process_ignores_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        command_that(monkeypatch, lambda: signal.raise_signal(signal.SIGHUP))
        assert main(["track"]) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_breaks_after_a_signal_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:  # as torch says when the signal reached its worker processes, too
            raise RuntimeError("DataLoader worker is killed by signal: Terminated")

    command_that(monkeypatch, run)
    assert main(["track"]) == 143
    assert error_lines(capsys) == ["siamtrack: stopped"]


class Unwritable(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [None, Unwritable()])
def test_a_stderr_that_cannot_be_written_stops_nothing(
    stream: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> int:
        logging.getLogger("siamtrack").warning("lost")
        click.echo("lost, too", err=True)
        sys.stderr.flush()
        return 7

    command_that(monkeypatch, run)
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["track"]) == 7
    assert sys.stderr is stream
    assert main(["no-such-command"]) == 2


def test_closed_standard_streams_take_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: its standard streams are closed, and a file is written."""
    code = (
        "import os, sys\n"
        "from siamtrack.cli import forgiving_stderr\n"
        "with forgiving_stderr():\n"
        "    sys.exit(10 * (os.open(sys.executable, os.O_RDONLY) > 2) + (sys.stderr is None))"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    environment = {**os.environ, "PYTHONPATH": str(Path(siamtrack.__file__).parents[1])}
    assert subprocess.run(command, env=environment, check=False).returncode == 10


def test_an_output_that_nobody_reads_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["track"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", lambda *_: None)
    monkeypatch.setenv("_SIAMTRACK_COMPLETE", f"{shell}_source")
    assert main([]) == 0
    assert "_siamtrack_completion" in capsys.readouterr().out
    monkeypatch.setenv("_SIAMTRACK_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "siamtrack tra")
    monkeypatch.setenv("COMP_CWORD", "tra" if shell == "fish" else "1")
    assert main([]) == 0
    assert "track" in capsys.readouterr().out


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


HEAVY = {"torch", "cv2", "av", "numpy", "scipy", "matplotlib", "tqdm"}


def modules_after(code: str, folder: Path) -> set[str]:
    """Modules that a process of its own has loaded after running `code`."""
    code = (
        f"import sys; from siamtrack.cli import main\n{code}\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_the_list_of_commands_imports_none_of_them(tmp_path: Path) -> None:
    loaded = modules_after("main(['--help'])", tmp_path)
    assert not HEAVY.intersection(loaded)
    assert {name for name in loaded if name.startswith("siamtrack.cli")} == {"siamtrack.cli"}


def test_help_of_a_command_imports_nothing_heavy(tmp_path: Path) -> None:
    names = [name for commands in cli.COMMANDS.values() for name in commands]
    code = f"for name in {names}: main([name, '--help'])"
    assert not HEAVY.intersection(modules_after(code, tmp_path))


def test_an_old_name_is_one_plain_line_however_often_it_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def use_old_names() -> None:
        for _ in range(2):
            warn_renamed("tracker option", "framing", "box_correction")
        warn_renamed("tracker option", "hold_below", "min_peak")

    command_that(monkeypatch, use_old_names)
    assert main(["track"]) == 0
    first, second = error_lines(capsys)
    assert first.startswith("siamtrack: warning: tracker option 'framing' is now 'box_correction';")
    assert "'min_peak'" in second


def test_warnings_of_other_packages_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    command_that(monkeypatch, lambda: warnings.warn("changes in numpy 9", FutureWarning, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["track"]) == 0
    assert [str(warning.message) for warning in caught] == ["changes in numpy 9"]


NO_COMMANDS = {"models_page", "release"}  # of a checkout only
TOOLS = sorted((Path(__file__).resolve().parents[2] / "tools").glob("*.py"))
SCRIPTS = [path for path in TOOLS if path.stem not in NO_COMMANDS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_the_command_of_the_same_name(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script), run_name="__main__")
    assert done.value.code == 0
    name = {"evaluate": "eval", "presence": "absence"}.get(script.stem, script.stem)
    assert capsys.readouterr().out.startswith(f"Usage: siamtrack {name.replace('_', '-')} ")


def test_an_option_may_take_several_words() -> None:
    @click.command(cls=WordsCommand)
    @click.argument("out", nargs=-1)
    @click.option("--only", cls=WordsOption, multiple=True)
    @click.option("--steps", cls=WordsOption, multiple=True, type=int, default=(3, 0))
    @click.option("--quick", is_flag=True)
    def command(**arguments: object) -> dict[str, object]:
        return arguments

    def parsed(text: str) -> object:
        return command.main(text.split(), standalone_mode=False)

    plain = {"out": ("o",), "only": (), "steps": (3, 0), "quick": False}
    assert parsed("o") == plain
    assert parsed("o --only a b --quick") == {**plain, "only": ("a", "b"), "quick": True}
    assert parsed("--steps 1 2 4 --only=a o") == {**plain, "only": ("a",), "steps": (1, 2, 4)}
    assert parsed("--only a --only b -- o") == {**plain, "only": ("a", "b")}


@pytest.mark.parametrize(
    "line",
    ["track a.mp4 --csv a.csv --no-display --csv=b.csv", "eval x --out r --root a --root b"],
)
def test_an_option_with_one_value_is_refused_twice(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    (said,) = error_lines(capsys)
    assert re.search(
        r"--(csv|root) is given twice; give it once \(see siamtrack \w+ --help\)", said
    )


def test_options_that_may_be_repeated_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    command = click.Command(
        "track",
        params=[click.Option(["--box"], multiple=True), click.Option(["--quick"], is_flag=True)],
        callback=lambda **given: seen.append(given),
    )
    monkeypatch.setattr("siamtrack.cli.track.command", command)
    assert main("track --box 1 --quick --box 2 --quick".split()) == 0
    assert seen == [{"box": ("1", "2"), "quick": True}]


def test_a_package_that_is_not_installed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(monkeypatch, ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    assert main(["track"]) == 3
    assert error_lines(capsys) == [
        "siamtrack: error: siamtrack track needs torch, which is not installed; pip install torch"
    ]
    command_that(monkeypatch, ModuleNotFoundError("a bug", name="siamtrack.nothing"))
    with pytest.raises(ModuleNotFoundError, match="a bug"):
        main(["track"])
