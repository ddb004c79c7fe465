"""The `siamtrack` command.

Every public module in this folder holds one subcommand, a click command named `command`. Modules
are imported when their command is asked for, and they import what is heavy only when they run, so
that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
import traceback
from collections.abc import Sequence

import click

from siamtrack._version import __version__
from siamtrack.cli._terminal import TerminalHandler, Terminated, terminable
from siamtrack.errors import ConfigError, SiamTrackError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""


class LazyGroup(click.Group):
    """A group whose commands are the modules beside this one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in alphabetical order."""
        found = (module.name for module in pkgutil.iter_modules(__path__))
        return sorted(name for name in found if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None when there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        if not any(parameter.name == "debug" for parameter in command.params):
            command.params.append(_debug_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with.

        Raises:
            ConfigError: there is no such command; the message says which comes nearest.
        """
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise ConfigError.unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def _debug_option() -> click.Option:
    """`--debug`, which counts wherever it stands on the command line."""

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
    epilog="Exit codes: 0 done, 2 wrong usage, 3 input that cannot be used, 4 no display.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="siamtrack")
def cli() -> None:
    """Draw a box around an object once; siamtrack follows it through the video."""


cli.params.append(_debug_option())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None for those of this process.

    Returns:
        The exit code: 0 done, 2 wrong usage, 3 input that cannot be used, 4 no display, 130 after
        Ctrl-C, 143 after SIGTERM.
    """
    context: list[click.Context] = []
    with TerminalHandler.installed(), terminable():
        try:
            return _invoke(argv, context)
        except click.exceptions.Exit as done:
            return done.exit_code
        except click.ClickException as error:
            return _fail(_one_line(error), error.exit_code, context)
        except SiamTrackError as error:
            return _fail(str(error), error.exit_code, context)
        except OSError as error:
            return _fail(str(error), SiamTrackError.exit_code, context)
        except Terminated as stopped:
            click.echo("siamtrack: stopped", err=True)
            return stopped.exit_code
        except (KeyboardInterrupt, click.Abort):
            click.echo("siamtrack: interrupted", err=True)
            return INTERRUPTED


def _invoke(argv: Sequence[str] | None, context: list[click.Context]) -> int:
    arguments = list(argv) if argv is not None else sys.argv[1:]
    with cli.make_context("siamtrack", arguments or ["--help"]) as ctx:
        context.append(ctx)
        code = cli.invoke(ctx)
    return code if isinstance(code, int) else 0


def _fail(message: str, exit_code: int, context: list[click.Context]) -> int:
    """Say in one line what is wrong, after the traceback when `--debug` asks for it."""
    if context and context[0].obj:
        click.echo(traceback.format_exc(), err=True, nl=False)
    click.echo(f"siamtrack: error: {' '.join(message.split())}", err=True)
    return exit_code


def _one_line(error: click.ClickException) -> str:
    """Click's message, and where to read on when the command line itself was wrong."""
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{message.rstrip('.')} (see {error.ctx.command_path} --help)"
    return message
