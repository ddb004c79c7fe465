"""Everything that is wrong with a data set, found in one go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from siamtrack.data.datasets import open_dataset, parse_spec
from siamtrack.data.sequence import Dataset, VideoSequence
from siamtrack.errors import DatasetError, Problem
from siamtrack.types import FloatArray
from siamtrack.utils.images import image_size
from siamtrack.video.decode import ImageFrames

_WORKERS = 2  # Decoding more at once than a small machine has cores only costs memory.
_BATCH = 256
_NAMED = 5

Size = tuple[int, int] | None


def check_dataset(
    dataset: Dataset | str, *, quick: bool = False, progress: bool = False
) -> list[Problem]:
    """Look for everything that opening, loading and decoding would trip over.

    That is: missing folders, annotations and pictures; annotations that cannot be understood;
    numbers of frames and boxes that differ; pictures and clips that cannot be decoded; pictures
    of another size than their annotation says; boxes without an area or wholly outside the
    picture; sequences in which the target is never visible.

    Args:
        dataset: a data set or its name. Of one that is open already, parts that were missing when
            it was opened are known and not looked for again.
        quick: read only the headers of pictures and do not decode clips.
        progress: show a bar on standard error.

    Returns:
        Problems in the order of the sequences, each once; empty when all is well.

    Raises:
        ConfigError: the name is malformed.
    """
    if isinstance(dataset, str):
        spec = dataset
        try:
            dataset = open_dataset(spec, partial=True)
        except DatasetError as error:
            whole = Problem(parse_spec(spec).root, "no-target", str(error))
            return list(error.problems) or [whole]
    problems = dict.fromkeys(dataset.problems)
    checker = _Checker(dataset, quick)
    bar = tqdm(total=len(dataset), unit="sequence", disable=not progress)
    with bar, ThreadPoolExecutor(_WORKERS) as pool:
        # In batches, since a large set has more sequences than one wants tasks.
        for start in range(0, len(dataset), _BATCH):
            numbers = range(start, min(start + _BATCH, len(dataset)))
            for found in pool.map(checker, numbers):
                problems.update(dict.fromkeys(found))
                bar.update()
    return list(problems)


class _Checker:
    """Checks one sequence at a time; may be called from several threads."""

    def __init__(self, dataset: Dataset, quick: bool) -> None:
        self.dataset, self.quick = dataset, quick
        self._stills: dict[str, tuple[Size, tuple[Problem, ...]]] = {}
        self._lock = threading.Lock()

    def __call__(self, number: int) -> list[Problem]:
        try:
            sequence = self.dataset[number]
            return list(self._sequence(sequence))
        except DatasetError as error:
            path = Path(self.dataset.root)
            name = self.dataset.names[number]
            return list(error.problems) or [
                Problem(path, "bad-annotation", f"sequence {name}: {error}")
            ]

    def _sequence(self, sequence: VideoSequence) -> Iterator[Problem]:
        path = Path(sequence.meta.get("annotation", sequence.frames.path(0)))
        if sequence.degenerate:
            message = f"{sequence.name}: one side of the box is not positive in "
            yield Problem(path, "degenerate-box", message + _frames(sequence.degenerate))
        if not sequence.visible.any():
            yield Problem(path, "no-target", f"{sequence.name}: the target is visible in no frame")
        sizes: list[Size] = []
        for size, problems in self._pictures(sequence):
            sizes.append(size)
            yield from problems
        yield from _wrong_size(sequence, path, sizes)
        yield from _outside(sequence, path, sizes)

    def _pictures(self, sequence: VideoSequence) -> Iterator[tuple[Size, tuple[Problem, ...]]]:
        """Size of every frame, None where it is unknown, and what is wrong with it."""
        frames = sequence.frames
        if not isinstance(frames, ImageFrames):
            yield from [] if self.quick else _clip(sequence)
            return
        for index in range(len(frames)):
            if sequence.kind == "video":
                yield self._picture(frames, index)
                continue
            # Objects of one still picture share it.
            key = frames.key(index)
            if key not in self._stills:
                looked = self._picture(frames, index)
                with self._lock:
                    self._stills[key] = looked
            yield self._stills[key]

    def _picture(self, frames: ImageFrames, index: int) -> tuple[Size, tuple[Problem, ...]]:
        path = frames.path(index)
        try:
            if self.quick:
                return image_size(path, upright=frames.upright), ()
            height, width = frames.read(index).shape[:2]
            return (width, height), ()
        except DatasetError as error:
            if path.exists():
                return None, (Problem(path, "unreadable-picture", str(error)),)
            return None, (Problem(path, "missing-picture", "does not exist"),)


def _clip(sequence: VideoSequence) -> Iterator[tuple[Size, tuple[Problem, ...]]]:
    done = 0
    try:
        for picture in sequence.iter_frames():
            yield (picture.shape[1], picture.shape[0]), ()
            done += 1
    except DatasetError as error:
        message = f"only {done} of {len(sequence)} frames can be decoded: {error}"
        yield None, (Problem(sequence.frames.path(0), "unreadable-picture", message),)


def _wrong_size(sequence: VideoSequence, path: Path, sizes: list[Size]) -> Iterator[Problem]:
    said = sequence.meta.get("picture_wh")
    if said is None or not sizes or sizes[0] is None or tuple(said) == sizes[0]:
        return
    message = (
        f"{sequence.frames.path(0)} is {sizes[0][0]}x{sizes[0][1]} px, the annotation says "
        f"{said[0]}x{said[1]}"
    )
    yield Problem(path, "size-differs", message)


def _outside(sequence: VideoSequence, path: Path, sizes: list[Size]) -> Iterator[Problem]:
    known = [index for index, size in enumerate(sizes) if size is not None]
    wh = np.array([sizes[index] for index in known], np.float64).reshape(-1, 2)
    boxes: FloatArray = sequence.boxes[known]
    with np.errstate(invalid="ignore"):  # NaN boxes are nowhere.
        out = (boxes[:, :2] >= wh).any(axis=1) | (boxes[:, :2] + boxes[:, 2:] <= 0).any(axis=1)
    numbers = [known[place] for place in np.flatnonzero(out)]
    if numbers:
        first = numbers[0]
        size = sizes[first] or (0, 0)
        message = (
            f"{sequence.name}: the box is outside the {size[0]}x{size[1]} picture in "
            f"{_frames(numbers)}; the first is {np.round(sequence.boxes[first], 2).tolist()}"
        )
        yield Problem(path, "box-outside", message)


def _frames(numbers: list[int] | tuple[int, ...]) -> str:
    named = ", ".join(map(str, numbers[:_NAMED]))
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"frame {named}{more}"
