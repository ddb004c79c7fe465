"""Results as text, frame by frame: CSV and JSON lines."""

from __future__ import annotations

import json
import re
import select
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siamtrack.errors import OutputError
from siamtrack.tracking.result import Result
from siamtrack.utils.files import Closing, GrowingFile

CSV_HEADER = "frame,time_s,target,x,y,w,h,score,status"
TIME_DIGITS = 6
BOX_DIGITS = 4
SCORE_DIGITS = 4


class _TextSink(Closing, ABC):
    """Pass the lines of each frame to the system in one write: a kill leaves whole lines."""

    def __init__(
        self, path: str | Path, *, overwrite: bool = False, pictures: bool = False
    ) -> None:
        self._pictures = pictures
        header = self._header()
        self._growing = GrowingFile(path, overwrite=overwrite, blank=header.encode())
        self.path = self._growing.path
        self.count = 0  # frames written
        self._intact_bytes = 0
        self._file = self._growing.open()
        self._append(header)

    def write(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str = ""
    ) -> None:
        """Write the results of one frame, by target number.

        Args:
            frame_index: number of the frame.
            time_s: its time.
            results: by target number.
            picture: its file, which is written if `pictures` was asked for.

        Raises:
            OutputError: the disk is full or gone; what was written before stays.
        """
        if self._file.closed:
            raise OutputError(f"{self.path} is closed; nothing more can be written to it")
        self._append(self._lines(frame_index, time_s, results, picture))
        self.count += 1
        self._growing.commit()

    def _append(self, text: str) -> None:
        data = text.encode("utf-8")
        written = 0
        try:
            # The system may take a part only.
            while written < len(data):
                taken = self._file.write(data[written:])
                if taken is None:  # a pipe that does not wait is full
                    select.select([], [self._file], [])
                written += taken or 0
        except OSError as error:
            self._finish(keep=self.count > 0)
            self._growing.cut(self._intact_bytes)
            raise self._growing.failed(error, self.count) from error
        self._intact_bytes += written

    def _header(self) -> str:
        return ""

    @abstractmethod
    def _lines(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str
    ) -> str: ...

    def close(self) -> None:
        """Finish the file; may be called again."""
        self._finish(keep=True)

    def _finish(self, *, keep: bool) -> None:
        if self._file.closed:
            return
        self._file.close()
        if keep:
            self._growing.commit(final=True)
        else:
            self._growing.discard()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._finish(keep=self.count > 0 or kind is None)


class CsvSink(_TextSink):
    """A table with the columns of `CSV_HEADER`, one row per frame and target.

    x, y, w and h are px of the frame, 0-based, with four decimals; time_s has six.

    Example:
        >>> with CsvSink("boxes.csv") as table:  # doctest: +SKIP
        ...     table.write(0, 0.0, {0: Result((10.0, 20.0, 30.0, 40.0), 1.0, "tracked")})

    Args:
        path: file to write, its folder is made; `-` for standard output.
        overwrite: replace a file that exists, once there is a first row to replace it with.
        pictures: add a column `picture`, the file name of the frame in a folder of pictures.

    Raises:
        OutputError: the file exists and `overwrite` is False, or cannot be written.
    """

    def _header(self) -> str:
        return CSV_HEADER + (",picture" if self._pictures else "") + "\n"

    def _lines(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str
    ) -> str:
        start = f"{frame_index},{time_s:.{TIME_DIGITS}f}"
        rows = []
        for target, result in results.items():
            box = ",".join(f"{value:.{BOX_DIGITS}f}" for value in result.box)
            row = f"{start},{target},{box},{result.score:.{SCORE_DIGITS}f},{result.status}"
            rows.append(f"{row},{_quote(picture)}\n" if self._pictures else f"{row}\n")
        return "".join(rows)


class JsonLinesSink(_TextSink):
    """The same as `CsvSink` with one JSON object per line and frame.

    {"frame": 0, "time_s": 0.0, "targets": [{"target": 0, "box": [x, y, w, h], "score": 1.0,
    "status": "tracked"}]}
    """

    def _lines(
        self, frame_index: int, time_s: float, results: Mapping[int, Result], picture: str
    ) -> str:
        targets = [
            {
                "target": target,
                "box": [round(float(value), BOX_DIGITS) for value in result.box],
                "score": round(float(result.score), SCORE_DIGITS),
                "status": result.status,
            }
            for target, result in results.items()
        ]
        record: dict[str, Any] = {
            "frame": frame_index,
            "time_s": round(float(time_s), TIME_DIGITS),
            **({"picture": picture} if self._pictures else {}),
        }
        return json.dumps({**record, "targets": targets}, allow_nan=False) + "\n"


def _quote(text: str) -> str:
    """A cell of a table; in quotes where it holds a comma, quotes or the end of a line."""
    return '"' + text.replace('"', '""') + '"' if re.search('[,"\r\n]', text) else text
