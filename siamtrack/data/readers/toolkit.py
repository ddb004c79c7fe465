"""The benchmarks that the got10k toolkit reads, in this package's conventions.

    got10k:/data/GOT-10k?subset=val     otb:/data/OTB?version=2013     lasot:/data/LaSOT?subset=test

| kind | root holds | options, default first | first pixel | absent or hidden frames |
|---|---|---|---|---|
| got10k | `train` ..., `list.txt` in it | subset = train, val, test | 1 (a) | two files of flags |
| otb | `Basketball` ... | version = 2015, 2013, tb50, tb100 | 1 (b) | none |
| vot | `list.txt`, `bag` ... | | 0 (c) | NaN boxes (long-term sets) |
| lasot | `airplane/airplane-1` ... | subset = train, test | 1 (d) | two files of flags |
| trackingnet | `TRAIN_0` ..., `TEST` | subset = train, test | 0 (e) | not annotated |
| vid | `Data`, `Annotations` | subset = train, val | 0 (f) | without the track's id |
| nfs | `airboard_1/240` ... | fps = 240, 30 | 0 (g) | the column `lost` |
| uav123 | `anno`, `data_seq` | version = UAV123, UAV20L | 1 (b) | NaN boxes |
| dtb70 | `Animal1` ... | | 1 (b) | none |
| tcolor128 | `Airport_ce` ... | | 1 (b) | none |

"First pixel" is the coordinate that the annotation gives to the top-left pixel. The toolkit passes
annotations on as they are, and says nowhere which it is, so that who counts from 0 is one pixel off
in some. (a) Stated by its author, although a few sequences do hold zeros; (b) drawn and evaluated
with Matlab code, which counts from 1; (c) polygons with fractions, handed to trackers unchanged by
VOT's toolkit; (d) stated by its authors; (e) made from fractions of the picture's size;
(f) coordinates from 0 to size - 1 occur; (g) VATIC's format, which counts from 0, and zeros abound.
`first_pixel=0` or `1` overrides the table.

Boxes with neither side positive are absent targets in all of them. In GOT-10k (`absence.label`,
`cover.label` 0) and LaSOT (`full_occlusion.txt`, `out_of_view.txt`) flags hide more frames, which
lose their box; where a set in one of these layouts has no such files, boxes alone count. In the
test sets of GOT-10k and TrackingNet only the first frame is annotated: the others are not visible,
and `meta` says `first_box_only`.

What is mended in the toolkit itself is listed in `siamtrack.data.readers.toolkit_sets`. Nothing is
ever downloaded.
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrack.data.frames import ImageFrames, list_pictures
from siamtrack.data.problems import Problem, failure
from siamtrack.data.readers.request import Request
from siamtrack.data.readers.toolkit_layouts import LAYOUTS, Opened
from siamtrack.data.sequence import Dataset, Sequence
from siamtrack.errors import DatasetError
from siamtrack.geometry import FloatArray

_FOUR = 4
_TOOLKIT_ERRORS = (
    AssertionError,
    IndexError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)


@dataclass(frozen=True)
class _ToolkitLoader:
    """Loads a sequence through the toolkit and turns it into ours.

    Attributes:
        kind: benchmark.
        opened: its sequences.
        indices: of the sequences that are there.
        first_pixel: coordinate that the annotation gives to the top-left pixel.
    """

    kind: str
    opened: Opened
    indices: tuple[int, ...]
    first_pixel: int

    def __call__(self, number: int) -> Sequence:
        index, layout, toolkit = self.indices[number], LAYOUTS[self.kind], self.opened.sequences
        name, annotation = toolkit.seq_names[index], Path(toolkit.anno_files[index])
        files, rows = self._rows(index, name, annotation)
        folder = files[0].parent
        _check_pictures(name, folder, files)
        visible = np.ones(len(rows), bool)
        try:
            hidden = layout.hidden(annotation, len(rows))
        except ValueError as error:
            raise failure(name, [Problem(annotation, "bad-annotation", str(error))]) from error
        if hidden is not None and not self.opened.first_box_only:
            if len(hidden) != len(rows):
                message = f"{len(hidden)} flags of visibility beside it for {len(rows)} boxes"
                raise failure(name, [Problem(annotation, "count-differs", message)])
            visible = ~hidden
        return Sequence(
            name=name,
            kind="video",
            frames=ImageFrames(folder, tuple(file.name for file in files)),
            boxes=rows - np.array([self.first_pixel, self.first_pixel, 0, 0]),
            visible=visible,
            set_name=self.kind,
            class_name=layout.class_name(toolkit, index),
            fps=self.opened.fps,
            meta={
                "annotation": str(annotation),
                "label": "human",
                "first_box_only": self.opened.first_box_only,
            },
        )

    def _rows(self, index: int, name: str, annotation: Path) -> tuple[list[Path], FloatArray]:
        """Picture files and as many boxes, as the toolkit reads them."""
        if annotation.is_file() and not annotation.read_text().strip():
            raise failure(name, [Problem(annotation, "bad-annotation", "is empty")])
        try:
            files, rows = self.opened.sequences[index]
            rows = np.atleast_2d(np.asarray(rows, np.float64))
        except _TOOLKIT_ERRORS as error:
            raise self._explained(index, name, annotation, error) from error
        if self.opened.first_box_only and len(files) > 1 and len(rows) == 1:
            withheld = np.full((len(files) - 1, _FOUR), np.nan)
            rows = np.vstack([rows, withheld])
        if not files or rows.shape != (len(files), _FOUR):
            raise self._explained(index, name, annotation, AssertionError())
        return [Path(file) for file in files], rows

    def _explained(self, index: int, name: str, annotation: Path, error: Exception) -> DatasetError:
        """Say what the toolkit only asserts."""
        folder = Path(self.opened.sequences.seq_dirs[index])
        folder = folder / "img" if (folder / "img").is_dir() else folder
        pictures = len(list_pictures(folder)) if folder.is_dir() else 0
        if isinstance(error, AssertionError) or not pictures:
            lines = annotation.read_text().splitlines() if annotation.is_file() else []
            boxes = sum(bool(line.strip()) for line in lines)
            message = (
                f"has {boxes} boxes; {folder} has {pictures} pictures, which must be as many "
                "(within the benchmark's own range of frames, where it has one)"
            )
            return failure(name, [Problem(annotation, "count-differs", message)])
        message = f"cannot be understood: {error}"
        return failure(name, [Problem(annotation, "bad-annotation", message)])


def open_toolkit(request: Request) -> Dataset:
    """Open one of the toolkit's benchmarks; see the module and `open_dataset`."""
    request.folder()
    layout = LAYOUTS[request.kind]
    first_pixel = request.first_pixel(layout.first_pixel)
    with contextlib.redirect_stdout(io.StringIO()):  # The toolkit prints what it leaves out.
        opened = layout.open(request)
    problems = list(opened.problems)
    indices = []
    for index, name in enumerate(opened.sequences.seq_names):
        missing = _missing(opened, index, name)
        problems += missing
        if not missing:
            indices.append(index)
    return Dataset(
        spec=request.spec,
        kind=request.kind,
        root=request.root,
        names=[opened.sequences.seq_names[index] for index in indices],
        load=_ToolkitLoader(request.kind, opened, tuple(indices), first_pixel),
        problems=problems,
    )


def _missing(opened: Opened, index: int, name: str) -> list[Problem]:
    folder = Path(opened.sequences.seq_dirs[index])
    annotation = Path(opened.sequences.anno_files[index])
    problems = []
    if not folder.is_dir():
        problems.append(Problem(folder, "missing-folder", f"does not exist; {name} needs it"))
    if not annotation.exists():
        problems.append(
            Problem(annotation, "missing-annotation", f"does not exist; {name} needs it")
        )
    return problems


def _check_pictures(name: str, folder: Path, files: list[Path]) -> None:
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    missing = [file for file in files if file.name not in there]
    if missing:
        raise failure(name, [Problem(f, "missing-picture", "does not exist") for f in missing])
