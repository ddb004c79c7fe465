"""All files that one run writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from siamtrack.errors import OutputError
from siamtrack.tracking.result import Result
from siamtrack.video.draw import draw_results
from siamtrack.video.frames import Frame
from siamtrack.video.run import defer_interrupts
from siamtrack.video.tables import CsvSink, JsonLinesSink
from siamtrack.video.video_writer import VideoSink

if TYPE_CHECKING:
    from siamtrack.video.source import Source


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """Where the table, the JSON lines and the annotated video go; None for not at all."""

    csv: Path | None = None
    json: Path | None = None
    video: Path | None = None

    @property
    def given(self) -> tuple[Path, ...]:
        """The paths that are not None."""
        return tuple(path for path in (self.csv, self.json, self.video) if path is not None)

    def check(self, source: int | str | Path) -> None:
        """Check that no file is written twice, or is the one to be read.

        Raises:
            OutputError: two outputs in one file, or an output that is the source.
        """
        seen: dict[str, Path] = {}
        for path in self.given:
            real = os.path.realpath(path.expanduser())
            if real in seen:
                raise OutputError(f"{path} is given for two outputs; give each its own file")
            seen[real] = path
        if not isinstance(source, int):
            clash = seen.get(os.path.realpath(Path(source).expanduser()))
            if clash is not None:
                raise OutputError(f"{clash} is the video to be read; write to another file")


class Outputs:
    """Writes every frame to all files; a context manager that finishes them, whatever happened.

    The annotated video has the rate and the size of `source`.

    Raises:
        OutputError: a file exists and `overwrite` is False, or cannot be written.
    """

    def __init__(self, paths: OutputPaths, source: Source, *, overwrite: bool = False) -> None:
        self._tables: list[CsvSink | JsonLinesSink] = []
        self._video: VideoSink | None = None
        # If one file cannot be opened, those opened before it are removed.
        with ExitStack() as files:
            if paths.csv is not None:
                self._tables.append(files.enter_context(CsvSink(paths.csv, overwrite=overwrite)))
            if paths.json is not None:
                lines = JsonLinesSink(paths.json, overwrite=overwrite)
                self._tables.append(files.enter_context(lines))
            if paths.video is not None:
                self._video = files.enter_context(
                    VideoSink(paths.video, source.fps, source.frame_wh, overwrite=overwrite)
                )
            self._files = files.pop_all()
        self._count = 0

    @property
    def kept(self) -> tuple[Path, ...]:
        """Files that hold results."""
        sinks = [*self._tables, *([self._video] if self._video else [])]
        return tuple(sink.path for sink in sinks if sink.count > 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: Any) -> None:
        """Finish all files, the others also when one cannot be finished."""
        if self._count == 0 and error is None:
            # As after an error, empty files are removed: they would only obstruct the next run.
            error = OutputError("there was nothing to write")
        with defer_interrupts():
            self._files.__exit__(type(error) if error else None, error, trace)

    def write(self, frame: Frame, results: Mapping[int, Result]) -> None:
        """Write one frame and its results.

        Raises:
            OutputError: a file cannot be written any more.
        """
        for table in self._tables:
            table.write(frame.index, frame.time_s, results)
        if self._video is not None:
            self._video.write(draw_results(frame.image, results), frame.time_s)
        self._count += 1
