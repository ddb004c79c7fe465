"""All files that one run writes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from siamtrack.errors import OutputError, VideoError
from siamtrack.tracking.result import Result
from siamtrack.utils.files import descriptor_of
from siamtrack.utils.images import choose_images, is_pattern, match_pictures
from siamtrack.video.crop_files import CropSink
from siamtrack.video.draw import draw_results, fit_image
from siamtrack.video.frames import Frame
from siamtrack.video.run import defer_interrupts
from siamtrack.video.tables import CsvSink, JsonLinesSink, MotSink
from siamtrack.video.video_writer import VideoSink

if TYPE_CHECKING:
    from siamtrack.video.sound import Sound
    from siamtrack.video.source import Source

_log = logging.getLogger(__name__)


def check_output_paths(sources: Sequence[str], *paths: Path | None) -> None:
    """Check that no file is written twice, or is one to be read; None is not written.

    A picture in a folder or pattern that is read is one of these.

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
        for picture in _pictures_of(source) if seen else ():
            if clash := seen.get(_real_path(picture)):
                raise OutputError(f"{clash} is a picture to be read; write to another file")


def _pictures_of(source: str) -> list[Path]:
    """The files of a folder or pattern of pictures; none of what is neither."""
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return choose_images(path.iterdir())
        return [] if path.exists() or not is_pattern(source) else match_pictures(path)
    except (OSError, ValueError):  # which is said where it is opened
        return []


def _real_path(path: str | Path) -> str:
    try:
        return os.path.realpath(os.path.expanduser(path))
    except ValueError:  # no name of a file, which is said where it is opened
        return str(path)


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """What a run writes; None is not written.

    Attributes:
        csv: the table.
        json: the JSON lines.
        mot: the results format of MOTChallenge.
        video: the annotated video.
        crops: folder for pictures of the targets.
        overwrite: replace files that exist.
        pictures: write file names of pictures into `csv` and `json`.
    """

    csv: Path | None = None
    json: Path | None = None
    mot: Path | None = None
    video: Path | None = None
    crops: Path | None = None
    overwrite: bool = False
    pictures: bool = False

    @property
    def given(self) -> tuple[Path, ...]:
        """All paths that are to be written."""
        return tuple(filter(None, (self.csv, self.json, self.mot, self.video, self.crops)))


class Outputs:
    """Write every frame to all files; a context manager that finishes them, after errors too.

    Args:
        source: the annotated video takes its rate, its size, the shape of its pixels and its sound.
        paths: of the files.
        backwards: frames come from the last to the first; the video plays them in this order.

    Raises:
        OutputError: a file exists and may not be replaced, or cannot be written.
    """

    def __init__(self, source: Source, paths: OutputPaths, *, backwards: bool = False) -> None:
        self._has_fitted = False
        self._tables: list[CsvSink | JsonLinesSink | MotSink] = []
        self._video: VideoSink | None = None
        self._crops: CropSink | None = None
        self._first_s: float | None = None
        self._count = 0
        overwrite, pictures = paths.overwrite, paths.pictures
        # If one file cannot be opened, those opened before it are removed.
        with ExitStack() as files:
            if paths.csv is not None:
                table = CsvSink(paths.csv, overwrite=overwrite, pictures=pictures)
                self._tables.append(files.enter_context(table))
            if paths.json is not None:
                lines = JsonLinesSink(paths.json, overwrite=overwrite, pictures=pictures)
                self._tables.append(files.enter_context(lines))
            if paths.mot is not None:
                self._tables.append(files.enter_context(MotSink(paths.mot, overwrite=overwrite)))
            if paths.crops is not None:
                self._crops = CropSink(paths.crops, overwrite=overwrite)
            if paths.video is not None:
                self._video = files.enter_context(
                    VideoSink(
                        paths.video,
                        source.fps,
                        source.frame_wh,
                        overwrite=overwrite,
                        pixel_aspect=source.pixel_aspect,
                        sound=_sound_for(source, paths.video, backwards=backwards),
                    )
                )
            self._files = files.pop_all()

    @property
    def kept(self) -> tuple[Path, ...]:
        """Files that hold results."""
        sinks = [s for s in (*self._tables, self._video, self._crops) if s is not None]
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
            first_s = self._first_s = frame.time_s if self._first_s is None else self._first_s
            is_backwards = frame.time_s < first_s
            self._video.write(shown, 2 * first_s - frame.time_s if is_backwards else frame.time_s)
        if self._crops is not None:
            self._crops.write(frame, results)
        for table in self._tables:
            table.write(frame.index, frame.time_s, results, frame.picture)
        self._count += 1


def _sound_for(source: Source, video: Path, *, backwards: bool) -> Sound | None:
    """The sound to copy into an annotated video; what cannot be copied is left out and said."""
    try:
        sound = source.open_sound()
        if sound is not None and backwards:
            sound.close()
            raise VideoError("the video is played backwards")
    except VideoError as error:
        _log.warning("%s: the sound is left out: %s", video, error)
        return None
    return sound
