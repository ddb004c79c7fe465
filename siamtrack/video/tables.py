"""Results as text, frame by frame: CSV and JSON lines."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from siamtrack.errors import OutputError
from siamtrack.tracking.result import Result
from siamtrack.utils.files import Closing, GrowingFile

CSV_HEADER = "frame,time_s,target,x,y,w,h,score,status"
TIME_DIGITS = 6
BOX_DIGITS = 4
SCORE_DIGITS = 4


class _TextSink(Closing, ABC):
    """Pass the lines of each frame to the system in one write: a kill leaves whole lines."""

    _header: ClassVar[str] = ""

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self._growing = GrowingFile(path, overwrite=overwrite)
        self.path = self._growing.path
        self.count = 0  # frames written
        self._intact_bytes = 0
        self._file = self._growing.working.open("wb", buffering=0)
        self._append(self._header)

    def write(self, frame_index: int, time_s: float, results: Mapping[int, Result]) -> None:
        """Write the results of one frame, by target number.

        Raises:
            OutputError: the disk is full or gone; what was written before stays.
        """
        if self._file.closed:
            raise OutputError(f"{self.path} is closed; nothing more can be written to it")
        self._append(self._lines(frame_index, time_s, results))
        self.count += 1
        self._growing.commit()

    def _append(self, text: str) -> None:
        data = text.encode("utf-8")
        written = 0
        try:
            # The system may take a part only.
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:
            self._finish(keep=self.count > 0)
            self._growing.cut(self._intact_bytes)
            raise self._growing.failed(error, self.count) from error
        self._intact_bytes += written

    @abstractmethod
    def _lines(self, frame_index: int, time_s: float, results: Mapping[int, Result]) -> str: ...

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
        path: file to write; its folder is made.
        overwrite: replace a file that exists, once there is a first row to replace it with.

    Raises:
        OutputError: the file exists and `overwrite` is False, or cannot be written.
    """

    _header = CSV_HEADER + "\n"

    def _lines(self, frame_index: int, time_s: float, results: Mapping[int, Result]) -> str:
        start = f"{frame_index},{time_s:.{TIME_DIGITS}f}"
        rows = []
        for target, result in results.items():
            box = ",".join(f"{value:.{BOX_DIGITS}f}" for value in result.box)
            rows.append(f"{start},{target},{box},{result.score:.{SCORE_DIGITS}f},{result.status}\n")
        return "".join(rows)


class JsonLinesSink(_TextSink):
    """The same as `CsvSink` with one JSON object per line and frame.

    {"frame": 0, "time_s": 0.0, "targets": [{"target": 0, "box": [x, y, w, h], "score": 1.0,
    "status": "tracked"}]}
    """

    def _lines(self, frame_index: int, time_s: float, results: Mapping[int, Result]) -> str:
        targets = [
            {
                "target": target,
                "box": [round(float(value), BOX_DIGITS) for value in result.box],
                "score": round(float(result.score), SCORE_DIGITS),
                "status": result.status,
            }
            for target, result in results.items()
        ]
        record = {"frame": frame_index, "time_s": round(float(time_s), TIME_DIGITS)}
        return json.dumps({**record, "targets": targets}, allow_nan=False) + "\n"
