"""All files that one run writes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from siamtrack.errors import OutputError
from siamtrack.tracking.result import Result
from siamtrack.utils.files import descriptor_of
from siamtrack.video.draw import draw_results, fit_image
from siamtrack.video.frames import Frame
from siamtrack.video.run import defer_interrupts
from siamtrack.video.tables import CsvSink, JsonLinesSink
from siamtrack.video.video_writer import VideoSink

if TYPE_CHECKING:
    from siamtrack.video.source import Source

_log = logging.getLogger(__name__)


def check_output_paths(sources: Sequence[str], *paths: Path | None) -> None:
    """Check that no file is written twice, or is one to be read; None is not written.

    Raises:
        OutputError: two outputs in one file, or an output that is the source.
    """
    seen: dict[str, Path] = {}
    for path in filter(None, paths):
        number = descriptor_of(path)
        real = str(number) if number is not None else _real_path(path)
        if real in seen:
            raise OutputError(f"{path} is given for two outputs; give each its own file")
        seen[real] = path
    for source in sources:
        if clash := seen.get(_real_path(source)):
            raise OutputError(f"{clash} is the video to be read; write to another file")


def _real_path(path: str | Path) -> str:
    try:
        return os.path.realpath(os.path.expanduser(path))
    except ValueError:  # no name of a file, which is said where it is opened
        return str(path)


class Outputs:
    """Write every frame to all files; a context manager that finishes them, after errors too.

    Args:
        source: the annotated video takes its rate, its size and the shape of its pixels.
        csv: path of the table; None writes none, here and below.
        json: path of the JSON lines.
        video: path of the annotated video.
        overwrite: replace files that exist.
        pictures: write file names of pictures into csv and json.

    Raises:
        OutputError: a file exists and `overwrite` is False, or cannot be written.
    """

    def __init__(
        self,
        source: Source,
        *,
        csv: Path | None,
        json: Path | None,
        video: Path | None,
        overwrite: bool,
        pictures: bool = False,
    ) -> None:
        self._has_fitted = False
        self._tables: list[CsvSink | JsonLinesSink] = []
        self._video: VideoSink | None = None
        self._count = 0
        # If one file cannot be opened, those opened before it are removed.
        with ExitStack() as files:
            if csv is not None:
                table = CsvSink(csv, overwrite=overwrite, pictures=pictures)
                self._tables.append(files.enter_context(table))
            if json is not None:
                lines = JsonLinesSink(json, overwrite=overwrite, pictures=pictures)
                self._tables.append(files.enter_context(lines))
            if video is not None:
                self._video = files.enter_context(
                    VideoSink(
                        video,
                        source.fps,
                        source.frame_wh,
                        overwrite=overwrite,
                        pixel_aspect=source.pixel_aspect,
                    )
                )
            self._files = files.pop_all()

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

        The video comes first, so that no table has rows that it lacks. It has the size of the first
        frame; others are fitted into it, while boxes in tables stay in px of their own frame.
        """
        if self._video is not None:
            shown = draw_results(frame.image, results)
            if self._video.frame_wh != (shown.shape[1], shown.shape[0]):
                if not self._has_fitted:
                    self._has_fitted = True
                    _log.warning(
                        "%s: from frame %d on pictures have another size (%dx%d); they are fitted "
                        "into %dx%d",
                        self._video.path,
                        frame.index,
                        *(shown.shape[1], shown.shape[0]),
                        *self._video.frame_wh,
                    )
                shown = fit_image(shown, self._video.frame_wh)
            self._video.write(shown, frame.time_s)
        for table in self._tables:
            table.write(frame.index, frame.time_s, results, frame.picture)
        self._count += 1
