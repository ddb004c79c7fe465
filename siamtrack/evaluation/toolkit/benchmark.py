"""A data set of the toolkit, as sequences to evaluate on.

Pictures and the list of sequences come from `siamtrack.data`. Scores need the annotation exactly
as it stands in the file, hidden frames and polygons included, so that is read beside them through
the same readers, before `siamtrack.data` turns it into its own convention.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.open import open_dataset, parse_spec
from siamtrack.data.readers.toolkit_layouts import LAYOUTS, Opened
from siamtrack.data.sequence import Sequence
from siamtrack.errors import DatasetError
from siamtrack.evaluation import protocols
from siamtrack.evaluation.attributes import computed_attributes
from siamtrack.evaluation.scores import Truth
from siamtrack.evaluation.sequence import Benchmark, EvalSequence
from siamtrack.evaluation.toolkit.datasets import SETS
from siamtrack.evaluation.toolkit.loading import quietly

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Metadata = Mapping[str, Any]


class ToolkitBenchmark(Benchmark):
    """One of the toolkit's data sets.

    Args:
        name: a key of `SETS`.
        root: where it was extracted.

    Raises:
        DatasetError: it is not there.
    """

    def __init__(self, name: str, root: Path):
        self._set = SETS[name]
        options = "&".join(f"{key}={value}" for key, value in self._set.options.items())
        self._spec = f"{self._set.kind}:{root}" + (f"?{options}" if options else "")
        super().__init__(
            name=name,
            folder=self._set.folder,
            protocol=self._set.protocol,
            root=root,
            dataset=open_dataset(self._spec, partial=True),
        )

    @cached_property
    def opened(self) -> Opened:
        """The toolkit's reader."""
        with quietly():
            return LAYOUTS[self._set.kind].open(parse_spec(self._spec))

    def load(self, name: str) -> EvalSequence:
        """Read one sequence; see `Benchmark.load`."""
        sequence = self.dataset[name]
        index = self.opened.sequences.seq_names.index(name)
        annotation = Path(self.opened.sequences.anno_files[index])
        meta = self._meta(annotation.parent, len(sequence))
        regions = self._regions(index, len(sequence))
        boxes = self._rectangles(regions)
        vot = self.protocol.layout == "vot"
        own = frozenset[str]() if self.protocol.truth_withheld else computed_attributes(boxes)
        return EvalSequence(
            name=name,
            frames=sequence.frames,
            truth=Truth(boxes, self._visible(boxes, meta, sequence), _bound(meta)),
            first_pixel=LAYOUTS[self._set.kind].first_pixel,
            attributes=own | _labelled(meta) | self.annotated.get(name, frozenset()),
            regions=regions if vot else None,
            tags=_frame_tags(meta, len(sequence)) if vot else {},
        )

    def toolkit_item(self, name: str, *, with_meta: bool) -> tuple[Any, ...]:
        """What the toolkit's reader gives for a sequence: pictures, annotation and labels."""
        sequence = self.dataset[name]
        index = self.opened.sequences.seq_names.index(name)
        files = [str(sequence.frames.path(frame)) for frame in range(len(sequence))]
        regions = self._regions(index, len(sequence))
        if not with_meta:
            return files, regions
        annotation = Path(self.opened.sequences.anno_files[index])
        return files, regions, dict(self._meta(annotation.parent, len(sequence)))

    def _meta(self, folder: Path, frames: int) -> Metadata:
        """Labels beside the annotation, through the toolkit where it reads them."""
        try:
            if self._set.kind == "vot":
                return dict(self.opened.sequences._fetch_meta(str(folder), frames))  # type: ignore[attr-defined]
            if self.name == "got10k-val":
                return dict(self.opened.sequences._fetch_meta(str(folder)))  # type: ignore[attr-defined]
        except (OSError, ValueError, IndexError) as error:
            raise DatasetError(f"labels in {folder} cannot be read: {error}") from error
        return {}

    def _regions(self, index: int, frames: int) -> FloatArray:
        """(N, 4) or, for VOT, (N, 8) numbers of the annotation; NaN where it is withheld."""
        if self._set.kind == "vot":
            rows = np.loadtxt(self.opened.sequences.anno_files[index], delimiter=",", ndmin=2)
        else:
            with quietly():
                rows = np.atleast_2d(np.asarray(self.opened.sequences[index][1], np.float64))
        withheld = np.full((frames - len(rows), rows.shape[1]), np.nan)
        return np.concatenate([rows, withheld])

    def _rectangles(self, regions: FloatArray) -> FloatArray:
        if regions.shape[1] == 4:
            return regions
        # What the toolkit starts trackers from: of the polygon's area, not the enclosing one.
        reader: Any = self.opened.sequences
        return np.asarray(reader._corner2rect(regions), dtype=np.float64)

    def _visible(self, boxes: FloatArray, meta: Metadata, sequence: Sequence) -> BoolArray:
        present = ~np.any(np.isnan(boxes), axis=1)
        if self.protocol is protocols.GOT10K:
            cover = np.atleast_1d(np.asarray(meta["cover"], dtype=np.float64))
            if cover.shape != (len(boxes),):
                raise DatasetError(f"{len(boxes)} frames and cover.label of shape {cover.shape}")
            return present & (cover > 0)
        if self.protocol is protocols.LASOT:
            return present & sequence.visible
        return present


def _bound(meta: Metadata) -> tuple[float, float] | None:
    if "resolution" not in meta:
        return None
    try:
        width, height = ast.literal_eval(meta["resolution"])
        return float(width), float(height)
    except (ValueError, SyntaxError, TypeError) as error:
        raise DatasetError(
            f"resolution {meta['resolution']!r} in meta_info.ini is not like (1920, 1080)"
        ) from error


PER_FRAME_LABELS = {
    "absence": "absent",
    "cut_by_image": "cut by the image border",
    "camera_motion": "camera motion",
    "illum_change": "illumination change",
    "occlusion": "occlusion",
    "size_change": "size change",
    "motion_change": "motion change",
}
"""Labels that the toolkit gives per frame, and the attribute of a sequence with any such frame."""


def _labelled(meta: Metadata) -> frozenset[str]:
    return frozenset(
        attribute
        for label, attribute in PER_FRAME_LABELS.items()
        if label in meta and np.any(np.asarray(meta[label], dtype=np.float64) > 0)
    )


def _frame_tags(meta: Metadata, frames: int) -> dict[str, BoolArray]:
    return {
        label: np.asarray(values, dtype=bool)
        for label, values in meta.items()
        if np.shape(values) == (frames,)
    }
