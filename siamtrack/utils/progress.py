"""How far a video is, on stderr: frames, fps and the time still needed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

from siamtrack.video.frames import Frame, Source

KNOWN_LENGTH = "{desc}: {percentage:3.0f}%|{bar}| {n}/{total} frames, {fps} fps, ETA {remaining}"
UNKNOWN_LENGTH = "{desc}: {n} frames in {elapsed}, {fps} fps"
TERMINAL_INTERVAL_S = 0.1
FILE_INTERVAL_S = 10.0
"""A log that stderr goes to gets a line now and then rather than a moving bar."""


class _Bar(tqdm):  # type: ignore[type-arg]
    @property
    def format_dict(self) -> dict[str, Any]:
        known = super().format_dict
        rate = known["rate"] or (known["n"] / known["elapsed"] if known["elapsed"] else 0.0)
        return {**known, "fps": f"{rate:.1f}" if rate else "?"}


class FrameProgress:
    """Passes the frames of a source on and shows how fast they are worked through.

    A frame counts as done when the next one is asked for. With a live source the number of dropped
    frames is shown too.

    Example:
        >>> with open_source("clip.mp4") as source:  # doctest: +SKIP
        ...     for frame in FrameProgress(source):
        ...         tracker.update(frame.image)

    Args:
        source: what to iterate over; stays the caller's to close.
        frames: its frames, where they do not come from it directly but are read ahead.
        enabled: False shows nothing.
        stream: where to show it, stderr by default.
    """

    def __init__(
        self,
        source: Source,
        frames: Iterable[Frame] | None = None,
        *,
        enabled: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._source = source
        self._frames = source if frames is None else frames
        stream = sys.stderr if stream is None else stream
        length = source.frame_count
        self._bar = _Bar(
            desc=source.name,
            total=length,
            file=stream,
            disable=not enabled,
            bar_format=UNKNOWN_LENGTH if length is None else KNOWN_LENGTH,
            mininterval=TERMINAL_INTERVAL_S if stream.isatty() else FILE_INTERVAL_S,
            dynamic_ncols=True,
        )

    def __iter__(self) -> Iterator[Frame]:
        try:
            for frame in self._frames:
                yield frame
                self._bar.update()
                if self._source.is_live and self._source.dropped:
                    self._bar.set_description_str(
                        f"{self._source.name} ({self._source.dropped} dropped)", refresh=False
                    )
        finally:
            self.close()

    def close(self) -> None:
        """Leave the last state on the screen; may be called again."""
        self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
