"""One target through the frames of a clip or in one image, and data sets of such sequences.

Boxes of every format are converted to xywh, float64, 0-based px; NaN where the target is absent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np

from siamtrack.errors import ConfigError, DatasetError, Problem, dataset_error
from siamtrack.types import BoolArray, FloatArray, Image
from siamtrack.utils.files import Stamp, stamp
from siamtrack.video.random_access import Frames

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class VideoSequence:
    """One target.

    A box without positive width and height becomes NaN. Data sets mark absence by 0 or -1 for
    both sides; a box with one positive side counts as a mistake and is listed in `degenerate`.

    Attributes:
        name: unique within its data set.
        kind: "video", or "image" for one object of a still image.
        frames: the images, decoded on demand.
        boxes: (N, 4) float64, xywh px, 0-based; NaN where the target is absent. A box may reach
            beyond the image.
        visible: (N,) bool, False where the target is absent, fully occluded or not annotated, and
            exactly where the box is NaN; all true by default.
        set_name: source of the sequence in a mixed collection; else the data set's kind.
        class_name: class of the target, "" when unknown.
        fps: frames per second, None when unknown or a still image.
        meta: further facts: `annotation` (file of the boxes), `label` (how they were made),
            `picture_wh` (size the annotation gives), ...
        degenerate: numbers of the frames whose box has only one positive side.

    Raises:
        DatasetError: the numbers of frames, boxes and visibility flags differ.
    """

    name: str
    kind: Literal["video", "image"]
    frames: Frames
    boxes: FloatArray
    visible: BoolArray = None  # type: ignore[assignment]  # set below when not given
    set_name: str = ""
    class_name: str = ""
    fps: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    degenerate: tuple[int, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        boxes = np.array(self.boxes, dtype=np.float64)
        flags: Any = self.visible
        given: BoolArray = np.asarray([True] * len(boxes) if flags is None else flags, bool)
        if boxes.shape != (len(self.frames), 4) or given.shape != (len(self.frames),):
            message = (
                f"{len(boxes)} boxes (an array of shape {boxes.shape}) and {len(given)} flags of "
                f"visibility for {len(self.frames)} frames; every frame needs a box of four "
                "numbers, nan where the target is absent"
            )
            path = Path(self.meta.get("annotation", self.name))
            raise DatasetError(
                f"sequence {self.name} has {message}", [Problem(path, "count-differs", message)]
            )
        finite = np.isfinite(boxes).all(axis=1, keepdims=True)  # (N, 1)
        positive = np.where(finite, boxes[:, 2:], 0.0) > 0  # (N, 2), width and height
        visible = given & positive.all(axis=1)
        mistakes = np.flatnonzero(given & (positive.sum(axis=1) == 1))
        boxes[~visible] = np.nan
        for name, value in (("boxes", boxes), ("visible", visible)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "degenerate", tuple(map(int, mistakes)))

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
        """Decode frames in turn, all by default; ascending indices are cheapest.

        Raises:
            DatasetError: a frame is missing or damaged, or there is no such frame.
        """
        return self.frames.iterate(range(len(self)) if indices is None else indices)

    def image_key(self, index: int = 0) -> str:
        """Identity of a frame: equal for all objects of one image, different otherwise."""
        return self.frames.key(index)


def stamp_files(frames: Frames, known: dict[Path, Stamp] | None = None) -> list[Stamp]:
    """Stamps of the files that frames come from, each once.

    Args:
        frames: of a sequence.
        known: stamps of files that were looked at before, which are not looked at again; new ones
            are added.
    """
    known = {} if known is None else known
    paths = list(dict.fromkeys(frames.path(number) for number in range(len(frames))))
    for path in paths:
        if path not in known:
            known[path] = stamp(path)
    return [known[path] for path in paths]


_FRACTION_SLACK = 0.01


def fractions_problem(sequence: VideoSequence) -> Problem | None:
    """The problem of boxes that are fractions of the frame's size, where pixels are needed."""
    boxes = sequence.boxes[sequence.visible]
    if not len(boxes) or np.abs(boxes).max() > 1 + _FRACTION_SLACK:
        return None
    first = ", ".join(f"{value:.4g}" for value in boxes[0])
    message = f"{sequence.name}: all boxes are fractions, such as ({first}); give pixels"
    try:
        height, width = sequence.read(0).shape[:2]
        message += f", of frames of {width}x{height}"
    except DatasetError:
        pass
    path = Path(sequence.meta.get("annotation", sequence.frames.path(0)))
    return Problem(path, "bad-annotation", message)


class Dataset:
    """Named sequences, loaded on demand and not kept.

    Annotations are read when a sequence is requested, images when its frames are. Data sets can be
    pickled. `spec` is the name it was opened with, `problems` what was found while opening;
    loading the sequences may find more.
    """

    def __init__(
        self,
        *,
        spec: str,
        kind: str,
        root: Path,
        names: Iterable[str],
        load: Callable[[int], VideoSequence],
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
        """Load the sequences in turn; a broken one raises DatasetError."""
        return (self._load(number) for number in range(len(self)))

    def usable(self) -> Iterator[VideoSequence]:
        """Load the sequences in turn, leaving out broken ones with a warning each."""
        for number, name in enumerate(self.names):
            try:
                sequence = self._load(number)
            except DatasetError as error:
                _log.warning("sequence %s is left out: %s", name, error)
            else:
                yield sequence


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """The parts of a data set's name."""

    text: str  # as given, `kind:root?option=value&option=value`
    kind: str  # name of the format
    root: Path  # folder (or file) of the data set
    options: Mapping[str, str]
    partial: bool = False  # accept a data set with missing parts

    def make_dataset(
        self, names: Iterable[str], load: Callable[[int], VideoSequence], problems: list[Problem]
    ) -> Dataset:
        """Make the data set of this name; arguments as for `Dataset`."""
        return Dataset(
            spec=self.text,
            kind=self.kind,
            root=self.root,
            names=names,
            load=load,
            problems=problems,
        )

    def get_choice(self, option: str, choices: Iterable[str], default: str) -> str:
        """Value of an option that must be one of `choices`.

        Raises:
            ConfigError: it is something else.
        """
        value, known = self.options.get(option, default), tuple(choices)
        if value not in known:
            raise ConfigError.unknown(f"{option} of {self.kind}", value, known)
        return value

    def get_list(self, option: str) -> frozenset[str]:
        """Values of an option that is a comma-separated list; empty when not given."""
        return frozenset(filter(None, self.options.get(option, "").split(",")))

    def get_first_pixel(self, default: int) -> int:
        """Coordinate that the annotation gives to the top-left pixel, 0 or 1.

        Raises:
            ConfigError: it is something else.
        """
        return int(self.get_choice("first_pixel", ("0", "1"), str(default)))

    def require_folder(self) -> Path:
        """Check that the root is a folder, and return it.

        Raises:
            DatasetError: it does not exist or is a file.
        """
        if not self.root.is_dir():
            what = "is a file, a folder is needed" if self.root.exists() else "does not exist"
            raise dataset_error(self.text, [Problem(self.root, "missing-folder", what)])
        return self.root
