"""Your own clips: videos or folders of pictures with their boxes beside them.

    folder:clips            every clip in the folder and the folders in it
    folder:clips/dog.mp4    one clip

The boxes of `dog.mp4`, or of the folder of pictures `dog/`, are in `dog.txt` or `dog.csv` beside
it; those of a folder of pictures may also be the only .txt or .csv file in it.

- `.txt`: a line `x,y,w,h` per frame (commas or blanks, 0-based px), `nan,nan,nan,nan` where the
  target is absent.
- `.csv`: what `siamtrack track` writes, with the columns frame, target, x, y, w, h and perhaps
  time_s, score, status. Every target becomes a sequence, `dog.0` and `dog.1`; `dog` when there is
  only one. Frames that are lost or have no row count as absent. Option `uncertain=absent` treats
  rows with status uncertain the same way (default `keep`). `siamtrack track` does not number frames
  that it cannot read, so that the table of a damaged clip may not fit it.

Pictures are read upright and in natural order (2.jpg before 10.jpg); those in a folder that also
holds videos are not frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrack.data.frames import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Frames,
    ImageFrames,
    VideoFrames,
    list_pictures,
)
from siamtrack.data.problems import Problem, failure
from siamtrack.data.readers.boxfiles import (
    TrackRows,
    looks_like_boxes,
    read_boxes,
    read_track_csv,
)
from siamtrack.data.readers.request import Request
from siamtrack.data.sequence import Dataset, Sequence

_BOX_SUFFIXES = (".csv", ".txt")


@dataclass(frozen=True, slots=True)
class _Clip:
    """One target: a clip (or folder of pictures), its annotation and the target's number there."""

    name: str
    clip: Path
    annotation: Path
    target: int | None


@dataclass(frozen=True)
class _FolderLoader:
    clips: tuple[_Clip, ...]
    keep_uncertain: bool

    def __call__(self, number: int) -> Sequence:
        found = self.clips[number]
        frames = frames_of(found.clip)
        fps = frames.fps if isinstance(frames, VideoFrames) else None
        if found.target is None:
            boxes = read_boxes(found.annotation)
        else:
            rows = read_track_csv(found.annotation, keep_uncertain=self.keep_uncertain)
            boxes = _spread(rows[found.target], len(frames), found)
        return Sequence(
            name=found.name,
            kind="video",
            frames=frames,
            boxes=boxes,
            set_name="folder",
            fps=fps,
            meta={"annotation": str(found.annotation)},
        )


def frames_of(clip: Path) -> Frames:
    """Frames of a video file or of a folder of pictures."""
    if clip.is_dir():
        return ImageFrames(clip, list_pictures(clip), upright=True)
    return VideoFrames(clip)


def open_folder(request: Request) -> Dataset:
    """Open a folder of clips or a single one; see the module and `open_dataset`."""
    keep_uncertain = request.choice("uncertain", ("keep", "absent"), "keep") == "keep"
    root = request.root
    if not root.exists():
        raise failure(request.spec, [Problem(root, "missing-folder", "does not exist")])
    base = root if root.is_dir() else root.parent
    clips = _clips_in(root) if root.is_dir() else [_clip_of_file(root)]
    problems: list[Problem] = []
    targets: list[_Clip] = []
    taken: set[Path] = set()
    for clip in clips:
        annotations = _annotations_of(clip)
        taken.update(annotations)
        if len(annotations) != 1:
            problems.append(_not_one(clip, annotations))
            continue
        try:
            targets += _targets(base, clip, annotations[0], keep_uncertain)
        except ValueError as error:
            problems.append(Problem(annotations[0], "bad-annotation", str(error)))
    if root.is_dir():
        problems += _left_over(root, taken)
    return Dataset(
        spec=request.spec,
        kind=request.kind,
        root=root,
        names=[target.name for target in targets],
        load=_FolderLoader(tuple(targets), keep_uncertain),
        problems=problems,
    )


def _clips_in(root: Path) -> list[Path]:
    files = [p for p in root.rglob("*") if not p.name.startswith(".") and p.is_file()]
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    folders = {p.parent for p in files if p.suffix.lower() in PICTURE_SUFFIXES}
    # Pictures among videos are thumbnails, not frames.
    return sorted([*videos, *folders.difference(video.parent for video in videos)])


def _clip_of_file(path: Path) -> Path:
    """The clip that a file is, or is the annotation of."""
    if path.suffix.lower() in _BOX_SUFFIXES:
        for clip in sorted(path.parent.glob(f"{path.stem}*")):
            if clip.stem == path.stem and (
                clip.suffix.lower() in VIDEO_SUFFIXES or (clip.is_dir() and list_pictures(clip))
            ):
                return clip
    return path


def _annotations_of(clip: Path) -> list[Path]:
    stem = clip.name if clip.is_dir() else clip.stem
    beside = [clip.parent / f"{stem}{suffix}" for suffix in _BOX_SUFFIXES]
    found = [path for path in beside if path.is_file()]
    if clip.is_dir() and not found:
        inside = sorted(p for p in clip.iterdir() if p.suffix.lower() in _BOX_SUFFIXES)
        clips = {p.stem for p in clip.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES or p.is_dir()}
        found = [p for p in inside if p.stem not in clips and looks_like_boxes(p)]
    return found


def _not_one(clip: Path, annotations: list[Path]) -> Problem:
    if annotations:
        names = " and ".join(path.name for path in annotations)
        return Problem(clip, "bad-annotation", f"has boxes in {names}; keep one of them")
    stem = clip.name if clip.is_dir() else clip.stem
    return Problem(clip, "missing-annotation", f"has no boxes: no {stem}.txt or {stem}.csv")


def _targets(base: Path, clip: Path, annotation: Path, keep_uncertain: bool) -> list[_Clip]:
    relative = clip.relative_to(base)
    name = (relative if clip.is_dir() else relative.with_suffix("")).as_posix()
    name = clip.name if name == "." else name
    if annotation.suffix.lower() == ".txt":
        return [_Clip(name, clip, annotation, None)]
    rows = read_track_csv(annotation, keep_uncertain=keep_uncertain)
    several = len(rows) > 1
    return [_Clip(f"{name}.{t}" if several else name, clip, annotation, t) for t in sorted(rows)]


def _left_over(root: Path, taken: set[Path]) -> list[Problem]:
    """Files of boxes that no clip belongs to; other text files are nobody's business."""
    files = (p for p in sorted(root.rglob("*")) if p.suffix.lower() in _BOX_SUFFIXES)
    return [
        Problem(path, "missing-picture", "holds boxes, but there is no clip of that name")
        for path in files
        if path not in taken and looks_like_boxes(path)
    ]


def _spread(rows: TrackRows, count: int, found: _Clip) -> np.ndarray:
    """Boxes of all `count` frames from the rows of some."""
    if len(rows.frames) and rows.frames[-1] >= count:
        message = f"has a row for frame {rows.frames[-1]}, but the clip has {count}, from 0"
        raise failure(found.name, [Problem(found.annotation, "count-differs", message)])
    boxes = np.full((count, 4), np.nan)
    boxes[rows.frames] = rows.boxes
    return boxes
