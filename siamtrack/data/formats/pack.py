"""The siamtrack pack: one `tracks.json` over images and clips, made for training.

    pack:/data/pack?only=videos&set=DAVIS,Drone

`tracks.json` holds `{"images": [...], "videos": [...]}`, either of which may be missing. An image
is one object of a still image, `{"file", "box", "class", "set", "label"}`; a video is one target
of a clip, `{"file", "boxes", "class", "set", "label"}` with a box for every frame. `file` is
relative to the folder; boxes are [x, y, w, h], 0-based px of the stored image; the box of a frame
without the target is null or four nulls. Objects with the same `file` share an image. `class`
(what it is), `set` (where it came from) and `label` (how the box was made: human, weak, pseudo,
...) may be left out.

Options: `only` images or videos; `set` and `label`, comma-separated lists of what to use;
`without`, a list of sets to leave out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.formats.objects import ImageObject, ImageObjects, file_problem, read_json
from siamtrack.data.sequence import Dataset, DatasetSpec, VideoSequence
from siamtrack.errors import ConfigError, Problem, dataset_error
from siamtrack.types import FloatArray
from siamtrack.video.random_access import VideoFile

_KEYS = ("images", "videos")

_Entry = tuple[dict[str, Any], FloatArray]  # as in the file, and its boxes (N, 4)


def open_pack(spec: DatasetSpec) -> Dataset:
    """Open a siamtrack pack; see the module and `open_dataset`."""
    root = spec.require_folder()
    path = root / "tracks.json"
    content = read_json(spec.text, path)
    good = isinstance(content, dict) and any(key in content for key in _KEYS)
    if not good or not all(isinstance(content.get(key, []), list) for key in _KEYS):
        message = "is not a siamtrack pack: it needs a list 'images', or 'videos', or both"
        raise dataset_error(spec.text, [Problem(path, "bad-annotation", message)])
    wanted = _select(spec, {key: content.get(key, []) for key in _KEYS})
    problems: list[Problem] = []
    images, videos = (list(_parse(path, key, wanted[key], problems)) for key in _KEYS)

    objects = []
    for entry, boxes in images:
        x, y, w, h = map(float, boxes[0])
        objects.append(ImageObject(entry["file"], (x, y, w, h), **_describe(path, entry)))
    images_first = ImageObjects(root, objects, problems)

    # Targets of one clip are numbered in the order of the file.
    counts: Counter[str] = Counter()
    clip_names = []
    for entry, _ in videos:
        clip_names.append(f"{entry['file']}#{counts[entry['file']]}")
        counts[entry["file"]] += 1
    load = partial(_load, path, images_first, clip_names, videos)
    return spec.make_dataset([*images_first.names, *clip_names], load, problems)


def _load(
    path: Path, images: ImageObjects, clip_names: list[str], videos: list[_Entry], number: int
) -> VideoSequence:
    """Load the objects of the images first, then the targets of the clips."""
    if number < len(images.objects):
        return images(number)
    number -= len(images.objects)
    entry, boxes = videos[number]
    frames = VideoFile(path.parent / entry["file"])
    name, other_fields = clip_names[number], _describe(path, entry)
    return VideoSequence(name, "video", frames, boxes, fps=frames.fps, **other_fields)


def _describe(path: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry says besides its boxes, as fields of `VideoSequence`."""
    return {
        "class_name": str(entry.get("class", "")),
        "set_name": str(entry.get("set", "")) or "pack",
        "meta": {"annotation": str(path), "label": str(entry.get("label", ""))},
    }


def _select(spec: DatasetSpec, content: dict[str, Any]) -> dict[str, list[tuple[int, Any]]]:
    """Entries that the options ask for, with their places in the file."""
    only = spec.get_choice("only", ("both", *_KEYS), "both")
    with_sets, without, labels = (spec.get_list(name) for name in ("set", "without", "label"))
    entries = [e for key in _KEYS for e in content[key] if isinstance(e, dict)]
    for option, given in (("set", with_sets | without), ("label", labels)):
        known = {str(entry.get(option, "")) for entry in entries}
        for value in sorted(given - known):
            raise ConfigError.unknown(f"{option} of {spec.root}", value, known)

    def is_wanted(entry: Any) -> bool:
        if not isinstance(entry, dict):
            return True  # It is reported when it is parsed.
        name, label = str(entry.get("set", "")), str(entry.get("label", ""))
        chosen = (not with_sets or name in with_sets) and name not in without
        return chosen and (not labels or label in labels)

    return {
        key: [(n, e) for n, e in enumerate(content[key]) if only in ("both", key) and is_wanted(e)]
        for key in _KEYS
    }


def _parse(
    path: Path, key: str, entries: list[tuple[int, Any]], problems: list[Problem]
) -> Iterator[_Entry]:
    """Entries with their boxes; `problems` grows by malformed entries and missing files."""
    exists: dict[str, bool] = {}
    for number, entry in entries:
        boxes = _boxes(entry, key)
        if boxes is None or not isinstance(entry.get("file"), str):
            need = "'box', four numbers" if key == "images" else "'boxes', four numbers per frame"
            message = f"{key}[{number}] = {str(entry)[:60]} needs 'file', a path, and {need}"
            problems.append(Problem(path, "bad-annotation", message))
            continue
        file = entry["file"]
        if file not in exists:
            problem = file_problem(path, path.parent, file, f"in {key}[{number}]")
            exists[file] = problem is None
            if problem is not None:
                problems.append(problem)
        if exists[file]:
            yield entry, boxes


def _boxes(entry: Any, key: str) -> FloatArray | None:
    """(N, 4) boxes of an entry, None when they are not boxes."""
    if not isinstance(entry, dict):
        return None
    given = [entry.get("box")] if key == "images" else entry.get("boxes")
    if not isinstance(given, list) or not given:
        return None
    absent = None if key == "images" else [None] * 4
    try:
        rows = [absent if row is None else row for row in given]
        boxes = np.array(rows, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError):
        return None
    return boxes if boxes.shape == (len(given), 4) else None
