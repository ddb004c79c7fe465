"""Find all problems of a data set at once (`siamtrack check-dataset`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from siamtrack.data.datasets import open_dataset, parse_spec
from siamtrack.data.sequence import Dataset, VideoSequence, fractions_problem
from siamtrack.errors import DatasetError, Problem
from siamtrack.utils.images import image_size
from siamtrack.video.random_access import ImageFrames

_WORKERS = 2  # Decoding more at once than there are cores only costs memory.
_BATCH = 256
_MAX_NAMED = 5

_Found = tuple[tuple[int, int] | None, tuple[Problem, ...]]
"""Width and height of a frame, None where unknown, and what is wrong with it."""


def check_dataset(
    dataset: Dataset | str, *, quick: bool = False, progress: bool = False
) -> list[Problem]:
    """Find everything that makes opening, loading or decoding a data set fail.

    Missing folders, annotations and images; malformed annotations; numbers of frames and boxes
    that differ; images and clips that cannot be decoded; images whose size differs from their
    annotation; boxes without area, outside the image or in fractions of its size; sequences without
    a visible target.

    Args:
        dataset: a data set or its name. What an open data set lacked when it was opened is
            reported as it was found then.
        quick: read only the headers of images and do not decode clips.
        progress: show a bar on standard error.

    Returns:
        Problems in the order of the sequences, each once.

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
        # In batches: a large set has more sequences than the pool should hold tasks.
        for start in range(0, len(dataset), _BATCH):
            numbers = range(start, min(start + _BATCH, len(dataset)))
            for found in pool.map(checker.check, numbers):
                problems.update(dict.fromkeys(found))
                bar.update()
    return list(problems)


class _Checker:
    """Checks sequences, from several threads."""

    def __init__(self, dataset: Dataset, quick: bool) -> None:
        self.dataset, self.quick = dataset, quick
        self._still_images: dict[str, _Found] = {}

    def check(self, number: int) -> list[Problem]:
        """Find the problems of one sequence."""
        try:
            return list(self._problems_of(self.dataset[number]))
        except DatasetError as error:
            message = f"sequence {self.dataset.names[number]}: {error}"
            broken = Problem(Path(self.dataset.root), "bad-annotation", message)
            return list(error.problems) or [broken]

    def _problems_of(self, sequence: VideoSequence) -> Iterator[Problem]:
        path = Path(sequence.meta.get("annotation", sequence.frames.path(0)))

        # 1. Boxes by themselves.
        if sequence.degenerate:
            where = _name_frames(sequence.degenerate)
            message = f"{sequence.name}: one side of the box is not positive in {where}"
            yield Problem(path, "degenerate-box", message)
        if not sequence.visible.any():
            yield Problem(path, "no-target", f"{sequence.name}: the target is visible in no frame")

        if (fractions := fractions_problem(sequence)) is not None:
            yield fractions

        # 2. Frames.
        sizes: list[tuple[int, int] | None] = []
        for size, problems in self._frames_of(sequence):
            sizes.append(size)
            yield from problems

        # 3. Size of the frames against the annotation.
        given = sequence.meta.get("picture_wh")
        if given is not None and sizes and sizes[0] is not None and tuple(given) != sizes[0]:
            message = (
                f"{sequence.frames.path(0)} is {sizes[0][0]}x{sizes[0][1]} px, the annotation says "
                f"{given[0]}x{given[1]}"
            )
            yield Problem(path, "size-differs", message)

        # 4. Boxes against the frames.
        known = [index for index, size in enumerate(sizes) if size is not None]
        wh = np.array([sizes[index] for index in known], np.float64).reshape(-1, 2)
        xy, box_wh = sequence.boxes[known, :2], sequence.boxes[known, 2:]
        with np.errstate(invalid="ignore"):  # NaN boxes are nowhere.
            outside = (xy >= wh).any(axis=1) | (xy + box_wh <= 0).any(axis=1)
        numbers = [known[k] for k in np.flatnonzero(outside)]
        if numbers:
            width, height = sizes[numbers[0]] or (0, 0)
            box = np.round(sequence.boxes[numbers[0]], 2).tolist()
            message = (
                f"{sequence.name}: the box is outside the {width}x{height} picture in "
                f"{_name_frames(numbers)}; the first is {box}"
            )
            yield Problem(path, "box-outside", message)

    def _frames_of(self, sequence: VideoSequence) -> Iterator[_Found]:
        """Size and problems of every frame; of a clip, until the first damaged one."""
        frames = sequence.frames
        if isinstance(frames, ImageFrames):
            for index in range(len(frames)):
                if sequence.kind == "video":
                    yield self._check_image(frames, index)
                    continue
                # The objects of one still image share it. Two threads may check it twice.
                key = frames.key(index)
                if key not in self._still_images:
                    self._still_images[key] = self._check_image(frames, index)
                yield self._still_images[key]
        elif not self.quick:
            done = 0
            try:
                for image in sequence.iter_frames():
                    yield (image.shape[1], image.shape[0]), ()
                    done += 1
            except DatasetError as error:
                message = f"only {done} of {len(sequence)} frames can be decoded: {error}"
                yield None, (Problem(frames.path(0), "unreadable-picture", message),)

    def _check_image(self, frames: ImageFrames, index: int) -> _Found:
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


def _name_frames(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:_MAX_NAMED]))
    more = f" and {len(numbers) - _MAX_NAMED} more" if len(numbers) > _MAX_NAMED else ""
    return f"frame {named}{more}"
