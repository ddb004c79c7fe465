"""How the command line talks to its terminal: log lines and signals."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click


class TerminalHandler(logging.Handler):
    """Writes log records to stderr as `siamtrack: warning: ...`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line, above a progress bar if there is one."""
        line = f"siamtrack: {record.levelname.lower()}: {record.getMessage()}"
        bars = sys.modules.get("tqdm")
        if bars is None:
            click.echo(line, err=True)
        else:
            bars.tqdm.write(line, file=sys.stderr)

    @classmethod
    @contextmanager
    def installed(cls) -> Iterator[None]:
        """Show the package's log for as long as the block runs, warnings and worse at first."""
        logger, handler = logging.getLogger("siamtrack"), cls()
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: the run ends as after Ctrl-C, with finished files."""

    exit_code = 128 + signal.SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into `Terminated` for as long as the block runs, in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated("SIGTERM")

    usual = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)
