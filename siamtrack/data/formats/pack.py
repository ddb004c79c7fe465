"""The siamtrack pack: one `tracks.json` over pictures and clips, made for training.

    pack:/data/pack?only=videos&set=DAVIS,Drone

`tracks.json` holds `{"images": [...], "videos": [...]}`, either of which may be missing. An image
is one object of a picture, `{"file", "box", "class", "set", "label"}`; a video is one target of a
clip, `{"file", "boxes", "class", "set", "label"}` with a box for every frame. `file` is relative
to the folder; boxes are [x, y, w, h], 0-based px of the stored picture; the box of a frame without
the target is null or four nulls. Objects with the same `file` share a picture. `class` (what it
is), `set` (where it came from) and `label` (how the box was made: human, weak, pseudo, ...) may be
left out.

Options: `only` images or videos; `set` and `label`, lists with commas of what to take; `without`, a
list of sets to leave out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.formats.objects import ImageObject, ImageObjects, with_area
from siamtrack.data.sequence import Dataset, DatasetSpec, VideoSequence
from siamtrack.errors import ConfigError, Problem, dataset_error
from siamtrack.types import FloatArray
from siamtrack.video.decode import VideoFile

_FOUR = 4
_KEYS = ("images", "videos")


@dataclass(frozen=True, eq=False)
class _Clip:
    """One target of a clip."""

    name: str
    file: str
    boxes: FloatArray
    class_name: str
    set_name: str
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class _PackLoader:
    """Loads the objects of the pictures first, then the targets of the clips."""

    root: Path
    stills: ImageObjects
    clips: tuple[_Clip, ...]

    def __call__(self, number: int) -> VideoSequence:
        if number < len(self.stills.objects):
            return self.stills(number)
        clip = self.clips[number - len(self.stills.objects)]
        frames = VideoFile(self.root / clip.file)
        return VideoSequence(
            name=clip.name,
            kind="video",
            frames=frames,
            boxes=clip.boxes,
            set_name=clip.set_name,
            class_name=clip.class_name,
            fps=frames.fps,
            meta=clip.meta,
        )


def open_pack(spec: DatasetSpec) -> Dataset:
    """Open a siamtrack pack; see the module and `open_dataset`."""
    root = spec.require_folder()
    path = root / "tracks.json"
    content = _read(spec, path)
    problems: list[Problem] = []
    wanted = _wanted(spec, content)
    parsed = {key: list(_parse(root, path, key, wanted[key], problems)) for key in _KEYS}
    objects = [_object(path, entry, box[0]) for entry, box in parsed["images"]]
    clips = tuple(_clips(path, parsed["videos"]))
    stills = ImageObjects.of(root, with_area(root, objects, problems))
    return Dataset(
        spec=spec.text,
        kind=spec.kind,
        root=root,
        names=[*stills.names, *(clip.name for clip in clips)],
        load=_PackLoader(root, stills, clips),
        problems=problems,
    )


def _read(spec: DatasetSpec, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise dataset_error(
            spec.text, [Problem(path, "missing-annotation", "does not exist")]
        ) from error
    except (OSError, ValueError) as error:
        message = f"is not readable JSON: {error}"
        raise dataset_error(spec.text, [Problem(path, "bad-annotation", message)]) from error
    good = isinstance(content, dict) and any(key in content for key in _KEYS)
    if not good or not all(isinstance(content.get(key, []), list) for key in _KEYS):
        message = "is not a siamtrack pack: it needs a list 'images', or 'videos', or both"
        raise dataset_error(spec.text, [Problem(path, "bad-annotation", message)])
    return {key: content.get(key, []) for key in _KEYS}


def _wanted(spec: DatasetSpec, content: dict[str, Any]) -> dict[str, list[tuple[int, Any]]]:
    """Entries that the options ask for, with their places in the file."""
    only = spec.get_choice("only", ("both", *_KEYS), "both")
    take, leave, labels = (spec.get_list(name) for name in ("set", "without", "label"))
    entries = [e for key in _KEYS for e in content[key] if isinstance(e, dict)]
    for option, key, given in (("set", "set", take | leave), ("label", "label", labels)):
        known = {str(entry.get(key, "")) for entry in entries}
        for value in sorted(given - known):
            raise ConfigError.unknown(f"{option} of {spec.root}", value, known)

    def is_wanted(entry: Any) -> bool:
        if not isinstance(entry, dict):
            return True
        name, label = str(entry.get("set", "")), str(entry.get("label", ""))
        taken = (not take or name in take) and name not in leave
        return taken and (not labels or label in labels)

    return {
        key: [(n, e) for n, e in enumerate(content[key]) if only in ("both", key) and is_wanted(e)]
        for key in _KEYS
    }


def _parse(
    root: Path,
    path: Path,
    key: str,
    entries: list[tuple[int, Any]],
    problems: list[Problem],
) -> Iterator[tuple[dict[str, Any], FloatArray]]:
    """Entries with their boxes; `problems` grows by what is no track and by missing files."""
    there: dict[str, bool] = {}
    for number, entry in entries:
        boxes = _boxes(entry, key)
        if boxes is None or not isinstance(entry.get("file"), str):
            need = "'box', four numbers" if key == "images" else "'boxes', four numbers per frame"
            message = f"{key}[{number}] = {str(entry)[:60]} needs 'file', a path, and {need}"
            problems.append(Problem(path, "bad-annotation", message))
            continue
        file = entry["file"]
        if file not in there:
            there[file] = (root / file).is_file()
            if not there[file]:
                message = f"{path.name} names it in {key}[{number}]"
                problems.append(Problem(root / file, "missing-picture", message))
        if there[file]:
            yield entry, boxes


def _boxes(entry: Any, key: str) -> FloatArray | None:
    """(N, 4) boxes of an entry, None when they are not boxes."""
    if not isinstance(entry, dict):
        return None
    given = [entry.get("box")] if key == "images" else entry.get("boxes")
    if not isinstance(given, list) or not given:
        return None
    absent = None if key == "images" else [None] * _FOUR
    try:
        rows = [absent if row is None else row for row in given]
        boxes = np.array(rows, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError):
        return None
    return boxes if boxes.shape == (len(given), _FOUR) else None


def _meta(path: Path, entry: dict[str, Any]) -> dict[str, Any]:
    return {"annotation": str(path), "label": str(entry.get("label", ""))}


def _object(path: Path, entry: dict[str, Any], box: FloatArray) -> ImageObject:
    x, y, w, h = map(float, box)
    names = str(entry.get("class", "")), str(entry.get("set", "")) or "pack"
    return ImageObject(entry["file"], (x, y, w, h), *names, _meta(path, entry))


def _clips(path: Path, parsed: list[tuple[dict[str, Any], FloatArray]]) -> Iterator[_Clip]:
    targets: dict[str, int] = {}
    for entry, boxes in parsed:
        file = entry["file"]
        targets[file] = targets.get(file, -1) + 1
        name = f"{file}#{targets[file]}"
        names = str(entry.get("class", "")), str(entry.get("set", "")) or "pack"
        yield _Clip(name, file, boxes, *names, _meta(path, entry))
