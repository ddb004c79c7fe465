"""A target through the frames of a clip or in one picture, and data sets of such sequences.

Whatever a data set looks like on disk, it comes out of here in one convention: boxes are xywh,
float64, 0-based px (see `siamtrack.geometry`), NaN where the target is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import ConfigError, DatasetError, Problem, failure
from siamtrack.types import FloatArray, Image
from siamtrack.video.decode import Frames

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class VideoSequence:
    """One target.

    Boxes without a positive width and height show nothing: they become NaN. Data sets write 0 or
    -1 for both sides on purpose; where only one is not positive it is taken for a mistake and
    noted in `degenerate`.

    Attributes:
        name: unique within its data set.
        kind: "video", or "picture" for one object of a still picture.
        frames: the pictures, decoded when asked for.
        boxes: (N, 4) float64, xywh px, 0-based; NaN where the target is absent. It may stick out
            of the picture.
        visible: (N,) bool, False where the target is absent, fully hidden or not annotated; all
            true unless given. Never true where the box is NaN, and the other way round.
        set_name: which part of a mixed collection it is from; the data set's kind otherwise.
        class_name: what the target is, "" when the data set does not say.
        fps: frames per second, None when unknown or a still picture.
        meta: whatever else the data set says: `annotation` (the file the boxes are from), `label`
            (how they were made), `picture_wh` (size the annotation gives), ...
        degenerate: numbers of the frames whose box has only one positive side.

    Raises:
        DatasetError: the numbers of frames, boxes and visibility flags differ.
    """

    name: str
    kind: Literal["video", "picture"]
    frames: Frames
    boxes: FloatArray
    visible: NDArray[np.bool_] = None  # type: ignore[assignment]  # set below when not given
    set_name: str = ""
    class_name: str = ""
    fps: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    degenerate: tuple[int, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        boxes = np.array(self.boxes, dtype=np.float64)
        flags: Any = self.visible
        given: NDArray[np.bool_] = np.asarray([True] * len(boxes) if flags is None else flags, bool)
        if boxes.shape != (len(self.frames), 4) or given.shape != (len(self.frames),):
            raise self._counts_differ(boxes, given)
        finite = np.isfinite(boxes).all(axis=1, keepdims=True)
        positive = np.where(finite, boxes[:, 2:], 0.0) > 0
        visible = given & positive.all(axis=1)
        mistakes = np.flatnonzero(given & (positive.sum(axis=1) == 1))
        boxes[~visible] = np.nan
        for name, value in (("boxes", boxes), ("visible", visible)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "degenerate", tuple(map(int, mistakes)))

    def _counts_differ(self, boxes: FloatArray, visible: NDArray[Any]) -> DatasetError:
        path = Path(self.meta.get("annotation", self.name))
        message = (
            f"{len(boxes)} boxes (an array of shape {boxes.shape}) and {len(visible)} flags of "
            f"visibility for {len(self.frames)} frames; every frame needs a box of four numbers, "
            "nan where the target is absent"
        )
        return DatasetError(
            f"sequence {self.name} has {message}", [Problem(path, "count-differs", message)]
        )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.boxes)

    def read(self, index: int) -> Image:
        """Decode one frame: uint8 (H, W, 3) BGR.

        Raises:
            DatasetError: it is missing or damaged, or there is no such frame.
        """
        return self.frames.read(index)

    def iter_frames(self, indices: Iterable[int] | None = None) -> Iterator[Image]:
        """Decode frames in turn; a clip is opened once and decoded forward.

        Args:
            indices: which frames; ascending order is cheapest. All by default.

        Raises:
            DatasetError: a frame is missing or damaged, or there is no such frame.
        """
        return self.frames.iterate(range(len(self)) if indices is None else indices)

    def picture_key(self, index: int = 0) -> str:
        """Identity of a frame: the objects of one picture have the same, and only they."""
        return self.frames.key(index)


Loader = Callable[[int], VideoSequence]


class Dataset:
    """Named sequences, loaded when asked for and not kept.

    Opening lists what there is; a sequence's annotation is read when it is asked for and its
    pictures when they are. A data set can be pickled, so worker processes can have one each.

    Attributes:
        spec: what it was opened with.
        kind: name of the reader.
        root: where it is.
        names: of the sequences, in order.
        problems: findings of opening it; there may be more in the sequences.
    """

    def __init__(
        self,
        *,
        spec: str,
        kind: str,
        root: Path,
        names: Iterable[str],
        load: Loader,
        problems: Iterable[Problem] = (),
    ) -> None:
        self.spec, self.kind, self.root = spec, kind, root
        self.names = tuple(names)
        self.problems = tuple(problems)
        self._load = load
        self._numbers = {name: number for number, name in enumerate(self.names)}
        if len(self._numbers) != len(self.names):
            twice = next(n for i, n in enumerate(self.names) if self._numbers[n] != i)
            raise DatasetError(f"{root} has two sequences called {twice!r}; rename one")

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.names)

    def __getitem__(self, which: int | str) -> VideoSequence:
        """Load a sequence by number or by name.

        Raises:
            IndexError: there is no such number.
            ConfigError: there is no such name.
            DatasetError: its files are missing or inconsistent.
        """
        if isinstance(which, str):
            if which not in self._numbers:
                nearest = get_close_matches(which, self.names, n=1)
                hint = f"did you mean {nearest[0]!r}?" if nearest else "names lists them"
                raise ConfigError(
                    f"{self.root} has no sequence {which!r} among its {len(self)}; {hint}"
                )
            return self._load(self._numbers[which])
        if not -len(self) <= which < len(self):
            raise IndexError(f"sequence {which} of {len(self)} in {self.root}")
        return self._load(which % len(self))

    def __iter__(self) -> Iterator[VideoSequence]:
        """Load one sequence after the other; a broken one raises DatasetError."""
        return (self._load(number) for number in range(len(self)))

    def usable(self) -> Iterator[VideoSequence]:
        """Load one sequence after the other, leaving out broken ones with a warning each."""
        for number, name in enumerate(self.names):
            try:
                sequence = self._load(number)
            except DatasetError as error:
                _log.warning("sequence %s is left out: %s", name, error)
            else:
                yield sequence


@dataclass(frozen=True, slots=True)
class Request:
    """A data set's name, taken apart.

    Attributes:
        spec: the name as given, `kind:root?option=value&option=value`.
        kind: name of the reader.
        root: folder (or file) of the data set.
        options: the rest.
        partial: take what is there instead of refusing a data set with parts missing.
    """

    spec: str
    kind: str
    root: Path
    options: Mapping[str, str]
    partial: bool = False

    def choice(self, option: str, choices: Iterable[str], default: str) -> str:
        """Value of an option that is one of few.

        Raises:
            ConfigError: it is something else.
        """
        value, known = self.options.get(option, default), tuple(choices)
        if value not in known:
            raise ConfigError.unknown(f"{option} of {self.kind}", value, known)
        return value

    def several(self, option: str) -> frozenset[str]:
        """Value of an option that is a list with commas; empty when not given."""
        return frozenset(filter(None, self.options.get(option, "").split(",")))

    def first_pixel(self, default: int) -> int:
        """Coordinate that the annotation gives to the top-left pixel, 0 or 1.

        Raises:
            ConfigError: it is something else.
        """
        return int(self.choice("first_pixel", ("0", "1"), str(default)))

    def folder(self) -> Path:
        """The root, when it is a folder.

        Raises:
            DatasetError: it does not exist or is a file.
        """
        if not self.root.is_dir():
            what = "is a file, a folder is needed" if self.root.exists() else "does not exist"
            raise failure(self.spec, [Problem(self.root, "missing-folder", what)])
        return self.root
