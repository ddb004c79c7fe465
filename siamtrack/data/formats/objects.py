"""What the formats of still images share: objects as sequences of length 1, JSON files, paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from siamtrack.data.sequence import Dataset, DatasetSpec, VideoSequence
from siamtrack.errors import DatasetError, Problem, dataset_error
from siamtrack.types import Box
from siamtrack.utils.images import image_size
from siamtrack.video.random_access import ImageFrames


@dataclass(frozen=True, slots=True)
class ImageObject:
    """One annotated object; `VideoSequence` explains the last three fields."""

    file: str  # path of the image relative to the image folder, with forward slashes
    box: Box  # x, y, w, h in px, 0-based
    class_name: str = ""
    set_name: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


class ImageObjects:
    """The objects of a folder of images, loaded as sequences by number.

    Objects are grouped by image and named `image#number within the image`. Those whose box has no
    area are left out and added to `problems`.
    """

    def __init__(
        self, folder: Path, objects: Iterable[ImageObject], problems: list[Problem]
    ) -> None:
        by_image: dict[str, list[ImageObject]] = {}
        for item in objects:
            if np.isfinite(item.box).all() and min(item.box[2:]) > 0:
                by_image.setdefault(item.file, []).append(item)
                continue
            path = Path(item.meta.get("annotation", folder / item.file))
            message = f"box {list(item.box)} of an object in {item.file} has no area"
            problems.append(Problem(path, "degenerate-box", message))
        self.folder = folder
        self.objects = [item for group in by_image.values() for item in group]
        self.names = [f"{file}#{n}" for file, group in by_image.items() for n in range(len(group))]

    def __call__(self, number: int) -> VideoSequence:
        """Make the sequence of one object."""
        item = self.objects[number]
        return VideoSequence(
            name=self.names[number],
            kind="image",
            frames=ImageFrames(self.folder, (item.file,), upright=self._is_upright(item)),
            boxes=np.array([item.box], np.float64),
            set_name=item.set_name,
            class_name=item.class_name,
            meta=item.meta,
        )

    def _is_upright(self, item: ImageObject) -> bool:
        """Whether boxes are those of the picture turned by its EXIF orientation.

        Labeling tools show pictures upright, so they are, unless the annotation gives the size of
        the picture as it is stored and not that of the upright one.
        """
        given = item.meta.get("picture_wh")
        if given is None or given[0] == given[1]:
            return True
        try:
            path = self.folder / item.file
            return image_size(path, upright=True) == given or image_size(path) != given
        except DatasetError:
            return True  # Reading it says what is wrong.


def image_dataset(
    spec: DatasetSpec, folder: Path, objects: Iterable[ImageObject], problems: list[Problem]
) -> Dataset:
    """Make the data set of a folder's objects; see `ImageObjects`."""
    load = ImageObjects(folder, objects, problems)
    return spec.make_dataset(load.names, load, problems)


def read_json(what: str, path: Path) -> Any:
    """Read an annotation file; `what` begins the message when it cannot be used."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        problem = Problem(path, "missing-annotation", "does not exist")
        raise dataset_error(what, [problem]) from error
    except (OSError, ValueError, RecursionError) as error:
        problem = Problem(path, "bad-annotation", f"is not readable JSON: {error}")
        raise dataset_error(what, [problem]) from error


def is_below(file: str) -> bool:
    """Whether a path that an annotation gives stays below the folder that it is relative to."""
    path = PurePath(file)
    return not (path.is_absolute() or path.drive or path.root or ".." in path.parts)


def file_problem(annotation: Path, folder: Path, file: str, where: str) -> Problem | None:
    """What is wrong with a file that an annotation names at `where`: it leads out or is missing."""
    if not is_below(file):
        message = f"names {file!r} {where}; give a path below {folder}, without .. in it"
        return Problem(annotation, "bad-annotation", message)
    with suppress(OSError):  # such as a name that is too long
        if (folder / file).is_file():
            return None
    return Problem(folder / file, "missing-picture", f"{annotation.name} names it {where}")
