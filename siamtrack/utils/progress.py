"""Progress on stderr: frames done, frames per second, and the time still needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TextIO, TypeVar

from tqdm import tqdm

from siamtrack.utils.files import Closing

Item = TypeVar("Item")

KNOWN_LENGTH = "{desc}: {percentage:3.0f}%|{bar}| {n}/{total} frames, {fps} fps, ETA {remaining}"
UNKNOWN_LENGTH = "{desc}: {n} frames in {elapsed}, {fps} fps"
TERMINAL_INTERVAL_S = 0.1
FILE_INTERVAL_S = 10.0
"""Longer than on a terminal, because every update adds a line to a log file."""


class _Bar(tqdm):  # type: ignore[type-arg]
    @property
    def format_dict(self) -> dict[str, Any]:
        known = super().format_dict
        rate = known["rate"] or (known["n"] / known["elapsed"] if known["elapsed"] else 0.0)
        # The number of frames may be an estimate, and too low.
        total = known["total"] if known["n"] <= (known["total"] or 0) else None
        return {
            **known,
            "fps": f"{rate:.1f}" if rate else "?",
            "total": total,
            "bar_format": UNKNOWN_LENGTH if total is None else KNOWN_LENGTH,
        }


class FrameProgress(Closing, Generic[Item]):
    """Iterate over frames and show how many are done and how fast.

    A frame counts as done when the next one is asked for.

    Args:
        frames: what to iterate over; the caller closes it.
        name: shown before the bar.
        total: number of frames; None when unknown, which shows no bar and no remaining time.
        dropped: returns how many frames a live source has dropped so far; shown beside the name.
        enabled: False shows nothing.
        stream: where to show it; stderr by default.
    """

    def __init__(
        self,
        frames: Iterable[Item],
        name: str,
        total: int | None,
        *,
        dropped: Callable[[], int] = lambda: 0,
        enabled: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._frames = frames
        self._name = name
        self._dropped = dropped
        stream = sys.stderr if stream is None else stream
        self._bar = _Bar(
            desc=name,
            total=total,
            file=stream,
            disable=not enabled,
            mininterval=TERMINAL_INTERVAL_S if stream.isatty() else FILE_INTERVAL_S,
            dynamic_ncols=True,
        )

    def __iter__(self) -> Iterator[Item]:
        try:
            for frame in self._frames:
                yield frame
                self._bar.update()
                if dropped := self._dropped():
                    self._bar.set_description_str(
                        f"{self._name} ({dropped} dropped)", refresh=False
                    )
        finally:
            self.close()

    def close(self) -> None:
        """Leave the last state on the screen; may be called again."""
        self._bar.close()
