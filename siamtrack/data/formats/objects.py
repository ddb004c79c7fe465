"""What the readers of still pictures share: a table of objects, one sequence of length 1 each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.sequence import Dataset, DatasetSpec, VideoSequence
from siamtrack.errors import Problem
from siamtrack.video.decode import ImageFrames


@dataclass(frozen=True, slots=True)
class ImageObject:
    """One annotated object.

    Attributes:
        file: path of the picture relative to the picture folder, with forward slashes.
        box: x, y, w, h in px, 0-based.
        class_name: "" when unknown.
        set_name: see `Sequence`.
        meta: see `Sequence`.
    """

    file: str
    box: tuple[float, float, float, float]
    class_name: str = ""
    set_name: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageObjects:
    """Loads the objects of pictures as sequences; objects of one picture are neighbours."""

    folder: Path
    objects: tuple[ImageObject, ...]
    names: tuple[str, ...]
    upright: bool = False

    @classmethod
    def of(cls, folder: Path, objects: Iterable[ImageObject]) -> ImageObjects:
        """Group objects by picture and name them `picture#number within the picture`."""
        grouped: dict[str, list[ImageObject]] = {}
        for found in objects:
            grouped.setdefault(found.file, []).append(found)
        names = [f"{file}#{n}" for file, group in grouped.items() for n in range(len(group))]
        ordered = tuple(found for group in grouped.values() for found in group)
        return cls(folder, ordered, tuple(names))

    def __call__(self, number: int) -> VideoSequence:
        """Make the sequence of one object."""
        found = self.objects[number]
        return VideoSequence(
            name=self.names[number],
            kind="image",
            frames=ImageFrames(self.folder, (found.file,), self.upright),
            boxes=np.array([found.box], np.float64),
            set_name=found.set_name,
            class_name=found.class_name,
            meta=found.meta,
        )


def with_area(
    folder: Path, objects: Iterable[ImageObject], problems: list[Problem]
) -> list[ImageObject]:
    """Objects whose box has an area; `problems` grows by those that have none.

    Args:
        folder: that the pictures' paths are relative to.
        objects: all objects, in any order.
        problems: found so far.
    """
    kept = []
    for thing in objects:
        if np.isfinite(thing.box).all() and min(thing.box[2:]) > 0:
            kept.append(thing)
            continue
        path = Path(thing.meta.get("annotation", folder / thing.file))
        message = f"box {list(thing.box)} of an object in {thing.file} has no area"
        problems.append(Problem(path, "degenerate-box", message))
    return kept


def image_dataset(
    spec: DatasetSpec,
    folder: Path,
    objects: Iterable[ImageObject],
    problems: list[Problem],
) -> Dataset:
    """Build the data set of objects; see `with_area` for the arguments."""
    table = ImageObjects.of(folder, with_area(folder, objects, problems))
    return Dataset(
        spec=spec.text,
        kind=spec.kind,
        root=spec.root,
        names=table.names,
        load=table,
        problems=problems,
    )
