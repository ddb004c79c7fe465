"""The `siamtrack` command.

Reading order: this file (table of commands, exit codes, log lines, signals), `options` (what
commands share), then the commands:

- `track`, `batch`, `demo`, `studio`, `compare`, `info`, `bench`, `eval`, `vot` and `export`:
  one command each;
- `convert`, and `datasets`: prepare, pack-cache, check-dataset, make-synthetic, pseudo-label;
- `train`: finetune, train, show-pairs, compare-losses, throughput, average-weights, slim;
- `weights`: import-weights, calibrate, tune, absence, key-frames, gallery.

A module is imported when its command is asked for. It imports numpy, torch and OpenCV inside its
functions, which keeps `--help` fast.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO, cast

import click
from click.shell_completion import shell_complete

from siamtrack._version import __version__
from siamtrack.errors import ConfigError, SiamTrackError, missing_package, with_notes
from siamtrack.utils.config import RenamedWarning
from siamtrack.utils.opencv import SILENT, set_log_level

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as in shells."""
NOBODY_READS = 141
"""Exit code when the reader of standard output has ended: 128 + SIGPIPE."""
COMPLETION = "_SIAMTRACK_COMPLETE"
"""Variable that asks for the completion of a shell: bash_source, zsh_source or fish_source."""

# heading -> name on the command line -> (module.attribute in this folder, one line for --help)
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Track and look": {
        "track": ("track.command", "Follow objects through a video, a camera or a stream."),
        "batch": ("batch.command", "Track thousands of clips, here or on a cluster."),
        "demo": ("demo.command", "Track an object in a clip made on the spot."),
        "studio": ("studio.command", "Draw and correct the boxes of a clip in the browser."),
        "compare": ("compare.command", "Show several trackers side by side on one video."),
        "info": ("info.command", "Show versions, devices, engines, windows and weights."),
        "bench": ("bench.command", "Show where each millisecond of a frame goes."),
    },
    "Evaluate": {
        "eval": ("eval.command", "Evaluate trackers on a data set with ground truth."),
        "vot": ("vot.command", "Track for the VOT toolkit, over TraX."),
        "absence": ("weights.absence", "Measure how reliably lost targets are reported."),
        "key-frames": ("weights.key_frames", "Count the boxes a person must draw in the studio."),
        "gallery": ("weights.gallery", "Draw what the tracker saw where it failed."),
    },
    "Weights": {
        "export": ("export.command", "Write the ONNX graphs of weights, for the fast engines."),
        "import-weights": ("weights.import_weights", "Convert a SiamFC checkpoint."),
        "average-weights": ("train.average_weights", "Average the weights of several runs."),
        "slim": ("train.slim", "Make the backbone of weights narrower and faster."),
        "calibrate": ("weights.calibrate", "Fit the score to sequences with ground truth."),
        "tune": ("weights.tune", "Search the tracker options on sequences with ground truth."),
    },
    "Data": {
        "convert": ("convert.command", "Convert boxes between annotation formats."),
        "prepare": ("datasets.prepare", "Crop data sets once, for training."),
        "pack-cache": ("datasets.pack_cache", "Pack a training cache into one small file."),
        "check-dataset": ("datasets.check_dataset", "List everything wrong with data sets."),
        "make-synthetic": ("datasets.make_synthetic", "Render clips with exact boxes."),
        "pseudo-label": ("datasets.pseudo_label", "Make boxes for clips that have none."),
        "show-pairs": ("train.show_pairs", "Draw training pairs with their labels."),
    },
    "Train": {
        "finetune": ("train.finetune", "Train weights further on a folder of clips."),
        "train": ("train.train", "Train a tracker."),
        "compare-losses": ("train.compare_losses", "Train with each loss and compare."),
        "throughput": ("train.throughput", "Measure training pairs per second."),
    },
}


# -- The command line


class LazyGroup(click.Group):
    """The commands of `COMMANDS`, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of the help text."""
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None when there is none of that name."""
        locations = {k: v[0] for commands in COMMANDS.values() for k, v in commands.items()}
        if cmd_name not in locations:
            return None
        module, attribute = locations[cmd_name].split(".")
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        if not any(parameter.name == "debug" for parameter in command.params):
            command.params.append(_debug_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with, or suggest the nearest name."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise ConfigError.unknown("command", args[0], self.list_commands(ctx))
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _refuse_repeated(click.Context(command, ctx, name), rest)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, without importing any of them."""
        width = max(map(len, self.list_commands(ctx)))
        for heading, commands in COMMANDS.items():
            rows = [(f"{name:<{width}}", text) for name, (_, text) in commands.items()]
            with formatter.section(heading):
                formatter.write_dl(rows)


def _refuse_repeated(ctx: click.Context, args: Sequence[str]) -> None:
    """Raise if an option of a command that takes one value is there twice: click takes the last."""
    _, _, given = ctx.command.make_parser(ctx).parse_args(list(args))
    for option in given:
        once = isinstance(option, click.Option) and not (option.multiple or option.is_flag)
        if once and given.count(option) > 1:
            raise click.UsageError(f"{option.opts[-1]} is given twice; give it once", ctx)


def _debug_option() -> click.Option:
    """`--debug`, which has the same effect before and after the command's name."""

    def note(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        root = ctx.find_root()
        root.obj = bool(root.obj) or value
        if root.obj:
            logging.getLogger("siamtrack").setLevel(logging.DEBUG)

    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=note,
        help="Log more, and add the traceback to an error.",
    )


@click.group(
    "siamtrack",
    cls=LazyGroup,
    epilog="Exit codes: 0 done, 1 clips of a batch failed, 2 wrong usage, 3 input that cannot be "
    "used, 4 no display, 129 after SIGHUP, 130 after Ctrl-C, 141 when nobody reads the output, "
    "143 after SIGTERM.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="siamtrack")
def cli() -> None:
    """Draw a box around an object once; siamtrack follows it through the video."""


cli.params.append(_debug_option())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`argv` without the program's name) and return the exit code.

    Args:
        argv: None for those of the process, which is then expected to end.

    Returns:
        0 done, 1 clips of a batch failed, 2 wrong usage, 3 input that cannot be used, 4 no display,
        129 after SIGHUP, 130 after Ctrl-C, 141 when nobody reads the output, 143 after SIGTERM.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    debug, command = False, None
    with forgiving_stderr(), log_to_stderr(), signals_raise(for_good=argv is None) as received:
        try:
            if instruction := os.environ.get(COMPLETION):
                return shell_complete(cli, {}, "siamtrack", COMPLETION, instruction)
            with cli.make_context("siamtrack", arguments or ["--help"]) as ctx:
                try:
                    code = cli.invoke(ctx)
                finally:
                    debug = bool(ctx.obj)  # --debug, before or after the command's name
                    command = ctx.invoked_subcommand
            return code if isinstance(code, int) else 0
        except click.exceptions.Exit as done:
            return done.exit_code
        except (KeyboardInterrupt, click.Abort) as stopped:
            code = getattr(stopped, "exit_code", INTERRUPTED)
            click.echo(
                f"siamtrack: {'interrupted' if code == INTERRUPTED else 'stopped'}", err=True
            )
            return code
        except BrokenPipeError:
            drop_output(sys.stdout)
            return NOBODY_READS
        except (click.ClickException, SiamTrackError, OSError, ModuleNotFoundError) as error:
            if isinstance(error, ModuleNotFoundError) and not isinstance(error, SiamTrackError):
                if not error.name or error.name.startswith("siamtrack"):
                    raise
                error = missing_package(error.name, f"siamtrack {command or ''}".strip())
            message, exit_code = str(error), getattr(error, "exit_code", SiamTrackError.exit_code)
            if isinstance(error.__cause__, BrokenPipeError):  # of a table written into a pipe
                exit_code = NOBODY_READS
            if isinstance(error, click.ClickException):
                message = error.format_message()
            message = with_notes(error, message)
            if isinstance(error, click.UsageError) and error.ctx is not None:
                message = f"{message.rstrip('.')} (see {error.ctx.command_path} --help)"
            if debug:
                click.echo(traceback.format_exc(), err=True, nl=False)
            click.echo(f"siamtrack: error: {' '.join(message.split())}", err=True)
            return exit_code
        except Exception:
            # A signal to the whole group also ends our worker processes, which libraries report.
            if not received:
                raise
            click.echo("siamtrack: stopped", err=True)
            return 128 + received[0]


# -- Log lines, warnings and signals


class StderrHandler(logging.Handler):
    """Writes log records to stderr as `siamtrack: warning: ...`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line, above a progress bar if there is one."""
        line = f"siamtrack: {record.levelname.lower()}: {record.getMessage()}"
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            click.echo(line, err=True)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Print the package's log while the block runs: warnings and errors, and uses of old names.

    Each use of an old name becomes one plain line, however often it is used.
    """
    # What decoders say of damaged pictures is said by this package, in one line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    set_log_level(SILENT)
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    logger, handler, shown = logging.getLogger("siamtrack"), StderrHandler(), set[str]()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    with warnings.catch_warnings():
        show_as_usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, RenamedWarning):
                show_as_usual(message, category, *place, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                logger.warning("%s", message)

        warnings.simplefilter("always", RenamedWarning)
        warnings.showwarning = show
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class ForgivingStream:
    """A text stream that drops what cannot be written: the disk is full, nobody reads it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text and all that follows."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            drop_output(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what waits and all that follows."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            drop_output(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def drop_output(stream: TextIO) -> None:
    """Send the rest of a stream nowhere, so that Python can flush it when the process ends."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@contextmanager
def forgiving_stderr() -> Iterator[None]:
    """Work without a stderr that can be written to, and without standard streams at all."""
    # A file that is opened later must not take the number of a stream that is closed.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number < 2 else os.O_WRONLY)
    before = sys.stderr
    if before is None:
        with open(os.devnull, "w") as null:
            sys.stderr = null
            try:
                yield
            finally:
                sys.stderr = before
        return
    sys.stderr = cast(TextIO, ForgivingStream(before))
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived. The run ends as after Ctrl-C and closes its files."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def signals_raise(*, for_good: bool) -> Iterator[list[int]]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into an exception, and ignore those that follow.

    The run is ending then, and another exception would keep it from finishing its files. Signals
    that the process ignores (nohup) stay ignored. Outside the main thread this does nothing.

    Args:
        for_good: the process ends after the block; signals stay ignored if there was one.

    Yields:
        The signal that was received, once there is one.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    numbers = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        if not (received and for_good):
            for number, handler in before.items():
                signal.signal(number, handler)
