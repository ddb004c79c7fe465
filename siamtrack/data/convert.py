"""Between formats of tracks: read one, write another, and say what the other cannot hold.

`FORMATS` lists them; the modules of `siamtrack.data.formats` read and write them.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, cast

import cv2

from siamtrack.data.formats.box_lines import (
    read_got10k,
    read_otb,
    read_vot,
    write_got10k,
    write_otb,
    write_vot,
)
from siamtrack.data.formats.coco import read_coco, write_coco
from siamtrack.data.formats.cvat import read_cvat, write_cvat
from siamtrack.data.formats.datumaro import read_datumaro, write_datumaro
from siamtrack.data.formats.label_studio import read_label_studio, write_label_studio
from siamtrack.data.formats.mot import read_mot, write_mot, write_mot_det, write_mot_results
from siamtrack.data.formats.studio import read_studio, write_studio
from siamtrack.data.formats.tracks import (
    FRAME_NAME,
    ClipTracks,
    draw_lines,
    label_of,
    thin,
    time_of,
)
from siamtrack.data.formats.voc import read_voc, write_voc
from siamtrack.data.formats.yolo import read_yolo, write_yolo, write_yolo_tracks
from siamtrack.data.project_files import SNAPSHOT
from siamtrack.errors import ConfigError, DatasetError, OutputError, VideoError
from siamtrack.utils.files import atomic_path, atomic_write, to_bytes
from siamtrack.utils.images import is_image
from siamtrack.video.frames import DEFAULT_FPS
from siamtrack.video.random_access import VideoFile
from siamtrack.video.source import open_source
from siamtrack.video.tables import read_table, separator_of, write_table

_log = logging.getLogger(__name__)

Feature = Literal["labels", "occluded", "uncertain", "scores", "key frames", "track ids", "times"]


@dataclass(frozen=True, slots=True)
class TrackFormat:
    """One format.

    Attributes:
        title: what it is, for help texts.
        read: makes the tracks of a path; None: it is only written.
        write: makes the content of every file of the output folder; None for our own tables.
        main: the file with the boxes, in the output folder.
        suffixes: an output with one of these suffixes is that file alone.
        keeps: what it holds beside boxes.
        image: its pictures in the output folder, with the place of the number.
        first_image: number of the first one.
        first_pixel: coordinate of the top-left pixel, where it may be chosen.
        draws_lines: key frames are enough, its tools draw straight lines between them.
        inside: boxes must not reach out of the frame.
    """

    title: str
    read: Callable[..., ClipTracks] | None
    write: Callable[..., Mapping[str, str | bytes]] | None
    main: str
    suffixes: tuple[str, ...]
    keeps: frozenset[Feature]
    image: str | None = None
    first_image: int = 0
    first_pixel: int | None = None
    draws_lines: bool = False
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Conversion:
    """What `convert` did.

    Attributes:
        source_format: name of the format that was read.
        frames, targets, boxes: how many were written.
        lost: what the new format does not hold, a line for each.
    """

    source_format: str
    frames: int
    targets: int
    boxes: int
    lost: tuple[str, ...]


def _read_own(path: Path, **_: object) -> ClipTracks:
    """Our table; the rate follows from its times."""
    rows = read_table(path)
    timed = sorted((row.frame, row.time_s) for row in rows if row.time_s is not None)
    fps = None
    if timed and timed[-1][1] > timed[0][1]:
        fps = round((timed[-1][0] - timed[0][0]) / (timed[-1][1] - timed[0][1]), 3)
    return ClipTracks.of(rows, name=path.stem, fps=fps or None)


_OWN: frozenset[Feature] = frozenset({"uncertain", "scores", "track ids", "times"})
_JPEG = f"{FRAME_NAME}.jpg"

FORMATS: dict[str, TrackFormat] = {
    "csv": TrackFormat("table of siamtrack track", _read_own, None, "", (), _OWN),
    "json": TrackFormat("JSON lines of siamtrack track", _read_own, None, "", (), _OWN),
    "cvat": TrackFormat(
        "CVAT for video 1.1",
        read_cvat,
        write_cvat,
        "annotations.xml",
        (".xml",),
        frozenset({"labels", "occluded", "track ids"}),
        f"images/{_JPEG}",
        draws_lines=True,
    ),
    "mot": TrackFormat(
        "MOT 1.1, truth",
        read_mot,
        write_mot,
        "gt/gt.txt",
        (".txt",),
        frozenset({"labels", "occluded", "track ids"}),
        "img1/%06d.jpg",
        first_image=1,
        first_pixel=0,
    ),
    "mot-results": TrackFormat(
        "MOT, results of a tracker",
        read_mot,
        write_mot_results,
        "results.txt",
        (".txt",),
        frozenset({"scores", "track ids"}),
        first_pixel=0,
    ),
    "mot-det": TrackFormat(
        "MOT, detections",
        None,
        write_mot_det,
        "det/det.txt",
        (".txt",),
        frozenset({"scores"}),
        first_pixel=0,
    ),
    "coco": TrackFormat(
        "COCO with tracks",
        read_coco,
        write_coco,
        "annotations.json",
        (".json",),
        frozenset({"labels", "occluded", "uncertain", "scores", "key frames", "track ids"}),
        f"images/{_JPEG}",
    ),
    "yolo": TrackFormat(
        "YOLO",
        read_yolo,
        write_yolo,
        "",
        (),
        frozenset({"labels"}),
        f"images/train/{_JPEG}",
        inside=True,
    ),
    "yolo-tracks": TrackFormat(
        "YOLO, with confidence and track id",
        read_yolo,
        write_yolo_tracks,
        "",
        (),
        frozenset({"labels", "scores", "track ids"}),
        f"images/train/{_JPEG}",
        inside=True,
    ),
    "voc": TrackFormat(
        "Pascal VOC",
        read_voc,
        write_voc,
        "",
        (),
        frozenset({"labels", "occluded", "track ids"}),
        f"JPEGImages/{_JPEG}",
        first_pixel=1,
    ),
    "label-studio": TrackFormat(
        "Label Studio, video task",
        read_label_studio,
        write_label_studio,
        "tasks.json",
        (".json",),
        frozenset({"labels", "occluded", "uncertain", "scores", "track ids", "times"}),
        draws_lines=True,
        inside=True,
    ),
    "datumaro": TrackFormat(
        "Datumaro",
        read_datumaro,
        write_datumaro,
        "annotations/default.json",
        (".json",),
        frozenset({"labels", "occluded", "uncertain", "scores", "key frames", "track ids"}),
        f"images/default/{_JPEG}",
    ),
    "vot": TrackFormat(
        "VOT",
        read_vot,
        write_vot,
        "groundtruth.txt",
        (".txt",),
        frozenset({"track ids"}),
        "color/%08d.jpg",
        first_image=1,
        first_pixel=0,
    ),
    "got10k": TrackFormat(
        "GOT-10k",
        read_got10k,
        write_got10k,
        "groundtruth.txt",
        (".txt",),
        frozenset({"labels", "occluded", "track ids"}),
        "val/{name}/%08d.jpg",
        first_image=1,
        first_pixel=0,
    ),
    "otb": TrackFormat(
        "OTB",
        read_otb,
        write_otb,
        "groundtruth_rect.txt",
        (".txt",),
        frozenset({"track ids"}),
        "img/%04d.jpg",
        first_image=1,
        first_pixel=1,
    ),
    "studio": TrackFormat(
        "project of siamtrack studio",
        read_studio,
        write_studio,
        SNAPSHOT,
        (),
        # A key frame is certain, whatever the score of its row was.
        frozenset({"labels", "occluded", "key frames", "track ids"}),
    ),
}
"""By the name that the command line knows them by."""

_JPEG_QUALITY = 95
_TIME_TOLERANCE_S = 0.002
_EDGE_PX = 1e-6
_SUFFIXES = {".csv": "csv", ".jsonl": "json"}


def convert(
    source: str | Path,
    out: str | Path,
    to: str | None = None,
    *,
    source_format: str | None = None,
    clip: str | Path | None = None,
    frame_wh: tuple[int, int] | None = None,
    frame_count: int | None = None,
    fps: float | None = None,
    labels: Sequence[str] = (),
    images: bool = False,
    tolerance: float | None = None,
    keys_only: bool = False,
    interpolate: bool = False,
    keep_lost: bool = False,
    drop_uncertain: bool = False,
    ignore_uncertain: bool = False,
    first_pixel: int | None = None,
    source_first_pixel: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Convert the tracks of one clip from one format to another.

    A target is absent where its status is lost, except in siamtrack's own tables.

    Args:
        source: file or folder.
        out: file with the format's suffix, or folder, which must be empty if it exists.
        to: name in `FORMATS`; None: "csv" or "json", by the suffix of `out`.
        source_format: name in `FORMATS`; None: by content.
        clip: the video, or folder or pattern of pictures; it gives size, frames, rate and times.
        frame_wh: width and height of the frames in px, where neither clip nor file say it.
        frame_count: number of frames; by default up to the last box.
        fps: frames per second.
        labels: label of each target in turn; one is for all.
        images: write the frames of `clip` as well.
        tolerance: write only the key frames that straight lines need: largest error of a corner in
            px, or below 1 smallest IoU. For formats whose tools draw lines.
        keys_only: write only the key frames that the source has.
        interpolate: fill gaps of a target by straight lines.
        keep_lost: write the guessed boxes of lost targets, too.
        drop_uncertain: leave out uncertain boxes.
        ignore_uncertain: mark uncertain boxes in MOT as not to be counted.
        first_pixel: coordinate of the top-left pixel in `out`, 0 or 1, instead of the format's.
        source_first_pixel: the same of `source`.
        strict: raise instead of writing less than the source holds.
        overwrite: replace a file that exists.

    Raises:
        ConfigError: an unknown format, or options that do not fit it or each other.
        DatasetError: the source is missing, damaged, of another format or of another clip; the
            frame size is needed and not known; or (`strict`) something would be lost.
        OutputError: `out` exists or cannot be written.
        VideoError: the clip cannot be read.
    """
    source, out = Path(source).expanduser(), Path(out).expanduser()
    to = to or _format_of_suffix(out)
    target = _known(to)
    _check_images(to, out, clip, images)
    _check_pixels(to, first_pixel, ignore_uncertain)
    _check_thinning(to, tolerance, keys_only)
    _check_out(source, out, target, overwrite)

    # 1. Read.
    stated = ClipTracks((), frame_wh=frame_wh, frame_count=frame_count, fps=fps)
    source_format, tracks = _read_with_clip(
        source, stated, clip, source_format, source_first_pixel, with_times=target.write is None
    )

    # 2. Choose what to write, and say what is lost.
    if labels:
        tracks = _with_labels(tracks, labels)
    tracks, lost = choose_tracks(
        tracks, to, str(source), tolerance=tolerance, keys_only=keys_only,
        interpolate=interpolate, keep_lost=keep_lost, drop_uncertain=drop_uncertain,
    )  # fmt: skip
    if strict and lost:
        raise DatasetError(f"{source} holds more than {to} can: {'; '.join(lost)}")
    for line in lost:
        _log.warning("%s", line)

    # 3. Write.
    write_tracks(
        tracks, out, to, key_frames_alone=keys_only or tolerance is not None,
        ignore_uncertain=ignore_uncertain, first_pixel=first_pixel,
        images_of=clip if images else None, overwrite=overwrite,
    )  # fmt: skip
    return Conversion(
        source_format, tracks.length, len(tracks.targets), len(tracks.rows), tuple(lost)
    )


def choose_tracks(
    tracks: ClipTracks,
    to: str,
    shown: str,
    *,
    tolerance: float | None = None,
    keys_only: bool = False,
    interpolate: bool = False,
    keep_lost: bool = False,
    drop_uncertain: bool = False,
) -> tuple[ClipTracks, list[str]]:
    """Choose the rows that are written.

    Args:
        tracks: of one clip.
        to: name in `FORMATS`.
        shown: what messages call the tracks.
        tolerance: see `convert`.
        keys_only: see `convert`.
        interpolate: see `convert`.
        keep_lost: see `convert`.
        drop_uncertain: see `convert`.

    Returns:
        The tracks, and what the format does not hold, a line for each.

    Raises:
        ConfigError: an unknown format, or options that do not fit it or each other.
        DatasetError: a box outside the frame, or no key frames to keep.
    """
    target = _known(to)
    _check_thinning(to, tolerance, keys_only)
    absent = set() if keep_lost or target.write is None else {"lost"}
    absent |= {"uncertain"} if drop_uncertain else set()
    kept = tuple(row for row in tracks.rows if row.status not in absent)
    if len(kept) < len(tracks.rows):
        count, statuses = len(tracks.rows) - len(kept), " and ".join(sorted(absent))
        _log.warning("%s: %d row(s) of %s targets left out", shown, count, statuses)
    tracks = replace(tracks, rows=kept)
    check_inside(shown, tracks)
    if interpolate:
        lines = (
            draw_lines([(row, False) for row in rows], None) for rows in tracks.targets.values()
        )
        tracks = replace(tracks, rows=tuple(chain.from_iterable(lines)))
    if tolerance is not None:
        tracks = thin(tracks, tolerance)
    if keys_only:
        tracks = _only_keys(shown, tracks, target)
    lost = _lost(to, target, tracks, is_thinned=tolerance is not None)
    if tracks.fps is None and "times" in target.keeps:
        if any(row.time_s is None for row in tracks.rows):
            lost.append(f"times: no frame rate is known, {DEFAULT_FPS:g} assumed (--fps, --clip)")
        tracks = replace(tracks, fps=DEFAULT_FPS)
    return tracks, lost


def write_tracks(
    tracks: ClipTracks,
    out: Path,
    to: str,
    *,
    key_frames_alone: bool = False,
    ignore_uncertain: bool = False,
    first_pixel: int | None = None,
    images_of: str | Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write tracks that `choose_tracks` chose.

    Args:
        tracks: of one clip.
        out: file or folder.
        to: name in `FORMATS`.
        key_frames_alone: of formats whose tools draw lines: write the rows marked as key frames.
        images_of: the clip, to write its frames as well.
        ignore_uncertain: see `convert`.
        first_pixel: see `convert`.
        overwrite: see `convert`.

    Raises:
        ConfigError: options that do not fit the format.
        OutputError: it cannot be written.
        VideoError: the clip cannot be read.
    """
    target = _known(to)
    _check_images(to, out, images_of, images_of is not None)
    _check_pixels(to, first_pixel, ignore_uncertain)
    if target.write is None:
        timed = [replace(row, time_s=time_of(tracks, row)) for row in tracks.rows]
        write_table(out, timed, kind=cast("Literal['csv', 'json']", to), overwrite=overwrite)
        return
    files = target.write(
        tracks,
        first_pixel=target.first_pixel if first_pixel is None else first_pixel,
        keys_only=key_frames_alone,
        ignore_uncertain=ignore_uncertain,
    )
    _write(out, to, files, tracks, images_of)


def _check_images(to: str, out: Path, clip: str | Path | None, images: bool) -> None:
    if images and clip is None:
        raise ConfigError("--images needs --clip, the video that the pictures are from")
    if images and FORMATS[to].image is None:
        raise ConfigError(f"--images is not for {to}, which has no pictures")
    if images and out.suffix.lower() in FORMATS[to].suffixes and not out.is_dir():
        raise ConfigError(f"--images needs a folder, but {out} is the name of a file")


def _check_pixels(to: str, first_pixel: int | None, ignore_uncertain: bool) -> None:
    if first_pixel is not None and FORMATS[to].first_pixel is None:
        raise ConfigError(f"{to} counts pixels from 0 always; leave out --first-pixel")
    if ignore_uncertain and to != "mot":
        raise ConfigError(f"--ignore-uncertain is for mot, which has a column for it; {to} has not")


def _check_thinning(to: str, tolerance: float | None, keys_only: bool) -> None:
    if tolerance is None:
        return
    if not FORMATS[to].draws_lines:
        drawing = " and ".join(name for name, known in FORMATS.items() if known.draws_lines)
        raise ConfigError(
            f"--thin is for {drawing}, which draw lines between key frames; {to} does not"
        )
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ConfigError(
            f"--thin {tolerance:g} is no tolerance; give px (1 or more) or the smallest overlap "
            "(below 1)"
        )
    if keys_only:
        raise ConfigError("--thin chooses key frames itself; leave out --keys-only")


def _only_keys(source: str, tracks: ClipTracks, target: TrackFormat) -> ClipTracks:
    """Key frames alone; formats that draw lines also need to know where a target comes and goes."""
    if not any(row.key for row in tracks.rows):
        raise DatasetError(f"{source} marks no key frames; leave out --keys-only, or give --thin")
    if target.draws_lines:
        return tracks
    return replace(tracks, rows=tuple(row for row in tracks.rows if row.key))


# --- Options and facts of the clip ---------------------------------------------------------------


def _known(name: str) -> TrackFormat:
    if name not in FORMATS:
        raise ConfigError.unknown("format", name, FORMATS)
    return FORMATS[name]


def _format_of_suffix(out: Path) -> str:
    """The format that an output's name says, which only our own tables' do."""
    name = _SUFFIXES.get(out.suffix.lower())
    if name is None:
        raise ConfigError(f"{out} does not say its format; give --to, one of {', '.join(FORMATS)}")
    return name


def _check_out(source: Path, out: Path, target: TrackFormat, overwrite: bool) -> None:
    """Check, before anything is read, that the output can be written."""
    if os.path.realpath(source) == os.path.realpath(out):
        raise OutputError(f"{out} is what is to be read; write to another path")
    if out.is_dir() and target.write is None:
        raise OutputError(f"{out} is a folder; give the name of a file")
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is a folder with files in it; remove it or give another name")
    if out.is_file() and not overwrite:
        raise OutputError(
            f"{out} exists; choose another name, or allow it to be replaced (--overwrite)"
        )


def _clip_facts(clip: str | Path, given: ClipTracks) -> ClipTracks:
    """What is known of the video; what the user says besides must agree with it."""
    with open_source(clip, live=False) as video:
        name, frame_wh, count, fps = video.name, video.frame_wh, video.frame_count, video.fps
    if Path(clip).is_file() and not is_image(Path(clip)):
        count = len(VideoFile(Path(clip)))  # exact, where the container may only estimate it
    for option, known, stated in (
        ("--size", frame_wh, given.frame_wh),
        ("--frames", count, given.frame_count),
    ):
        if stated is not None and stated != known:
            raise ConfigError(
                f"{option} says {_shown(stated)}, but {clip} has {_shown(known)}; leave it out"
            )
    return replace(given, name=name, frame_wh=frame_wh, frame_count=count, fps=given.fps or fps)


def _shown(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _with_facts(source: Path, tracks: ClipTracks, facts: ClipTracks) -> ClipTracks:
    """Put together what the file and the user say of the clip.

    Raises:
        DatasetError: they contradict each other: the file is of another clip.
    """
    if facts.frame_wh and tracks.frame_wh and facts.frame_wh != tracks.frame_wh:
        raise DatasetError(
            f"{source} is of a clip with frames of {_shown(tracks.frame_wh)}, not "
            f"{_shown(facts.frame_wh)}: its boxes would be wrong; give the clip it was made for"
        )
    if facts.frame_count is not None:
        last = max((row.frame for row in tracks.rows), default=0)
        if last >= facts.frame_count:
            raise DatasetError(
                f"{source} has boxes up to frame {last}, but the clip has {facts.frame_count} "
                "frames, from 0; give the clip it was made for"
            )
        if tracks.frame_count not in (None, facts.frame_count):
            stated, count = tracks.frame_count, facts.frame_count
            _log.warning("%s is of a clip of %s frames, not %s", source, stated, count)
    return replace(
        tracks,
        name=facts.name or tracks.name,
        frame_wh=facts.frame_wh or tracks.frame_wh,
        frame_count=facts.frame_count or tracks.frame_count,
        fps=facts.fps or tracks.fps,
    )


def _with_clip_times(tracks: ClipTracks, clip: str | Path) -> ClipTracks:
    """Give rows without a time that of their frame in the clip."""
    if all(row.time_s is not None for row in tracks.rows):
        return tracks
    with open_source(clip, live=False) as video:
        times = dict(enumerate(frame.time_s for frame in video))
    rows = (
        replace(row, time_s=times.get(row.frame)) if row.time_s is None else row
        for row in tracks.rows
    )
    return replace(tracks, rows=tuple(rows))


def _with_labels(tracks: ClipTracks, labels: Sequence[str]) -> ClipTracks:
    numbers = list(tracks.targets)
    if len(labels) not in (1, len(numbers)):
        raise ConfigError(
            f"--labels gives {len(labels)} labels for {len(numbers)} targets; give one for all, or "
            "one for each"
        )
    each = list(labels) * (len(numbers) if len(labels) == 1 else 1)
    names = dict(zip(numbers, each, strict=True))
    return replace(
        tracks, rows=tuple(replace(row, label=names[row.target].strip()) for row in tracks.rows)
    )


def check_inside(source: str, tracks: ClipTracks) -> None:
    """Raise `DatasetError` for a box that lies outside the frame, where its size is known."""
    if tracks.frame_wh is None:
        return
    width, height = tracks.frame_wh
    for row in tracks.rows:
        x, y, w, h = row.box
        if not (x < width and y < height and x + w > 0 and y + h > 0):
            raise DatasetError(
                f"{source}: the box {[round(v, 2) for v in row.box]} of target {row.target} in "
                f"frame {row.frame} lies outside the {width}x{height} frame; give the size or the "
                "clip it was made for"
            )


# --- Reading -------------------------------------------------------------------------------------


def _read_with_clip(
    source: Path,
    stated: ClipTracks,
    clip: str | Path | None,
    name: str | None,
    first_pixel: int | None,
    *,
    with_times: bool,
) -> tuple[str, ClipTracks]:
    """The format of a source and its tracks, with what its clip says of them and warnings."""
    facts = stated if clip is None else _clip_facts(clip, stated)
    name, tracks = read_for_clip(source, facts, name, first_pixel=first_pixel)
    for note in tracks.notes:
        _log.warning("%s: %s", source, note)
    if clip is not None and with_times:
        tracks = _with_clip_times(tracks, clip)
    return name, tracks


def read_for_clip(
    path: Path, facts: ClipTracks, name: str | None = None, *, first_pixel: int | None = None
) -> tuple[str, ClipTracks]:
    """Read the tracks of a clip of which something is known.

    Args:
        path: file or folder.
        facts: name, size, number and rate of the clip's frames, where they are known; no rows.
        name: of the format; None: by content.
        first_pixel: see `read_tracks`.

    Returns:
        The name of the format, and the tracks.

    Raises:
        ConfigError: see `read_tracks`.
        DatasetError: it cannot be read, or is of another clip.
    """
    name = name or detect_format(path)
    tracks = read_tracks(path, name, frame_wh=facts.frame_wh, first_pixel=first_pixel)
    return name, _with_facts(path, tracks, facts)


def read_tracks(
    path: Path,
    name: str,
    *,
    frame_wh: tuple[int, int] | None = None,
    first_pixel: int | None = None,
) -> ClipTracks:
    """Read tracks of a known format.

    Args:
        path: file or folder.
        name: in `FORMATS`.
        frame_wh: width and height of the frames in px, for formats with boxes in parts of them.
        first_pixel: coordinate of the top-left pixel; None: the format's.

    Raises:
        ConfigError: the format is unknown, only written, or has no choice of the first pixel.
        DatasetError: the path is missing, or it cannot be read as this format.
    """
    known = _known(name)
    if known.read is None:
        raise ConfigError(f"{name} holds no tracks; it is only written")
    if first_pixel is not None and known.first_pixel is None:
        raise ConfigError(f"{name} counts pixels from 0 always; leave out --in-first-pixel")
    if not path.exists():
        raise DatasetError(f"{path} does not exist; give a file or folder of tracks")
    if known.main and (path / known.main).is_file():
        path /= known.main
    pixel = known.first_pixel if first_pixel is None else first_pixel
    try:
        return known.read(path, first_pixel=pixel, frame_wh=frame_wh)
    except DatasetError:
        raise
    except KeyError as error:
        raise DatasetError(f"{path} is not usable as {name}: it lacks {error}") from error
    except (
        AttributeError,
        IndexError,
        OSError,
        OverflowError,
        RecursionError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:
        raise DatasetError(f"{path} is not usable as {name}: {error}") from error


def detect_format(path: Path) -> str:
    """Find the format of a file or folder by what is in it.

    Raises:
        DatasetError: it is missing, none is recognized, or it may be several.
    """
    if not path.exists():
        raise DatasetError(f"{path} does not exist; give a file or folder of tracks")
    name = _format_of_folder(path) if path.is_dir() else _format_of_file(path)
    if name is None:
        raise DatasetError(
            f"{path} is not recognized as a format of tracks; give --from, one of "
            f"{', '.join(name for name, known in FORMATS.items() if known.read)}"
        )
    return name


_MARKS = {
    "gt/gt.txt": "mot",
    "annotations/default.json": "datumaro",
    "groundtruth_rect.txt": "otb",
    "groundtruth_rect.1.txt": "otb",
    "data.yaml": "yolo",
    "data.yml": "yolo",
    "classes.txt": "yolo",
    "labels": "yolo",
    "Annotations": "voc",
    "absence.label": "got10k",
    "list.txt": "got10k",
    "val/list.txt": "got10k",
    "sequence": "vot",
    "groundtruth_000.txt": "vot",
}
"""What a folder holds, and the format that it is a mark of."""

_FILES = (
    SNAPSHOT,
    "annotations.xml",
    "annotations.json",
    "tasks.json",
    "results.txt",
    "groundtruth.txt",
)


def _format_of_folder(path: Path) -> str | None:
    for file, name in _MARKS.items():
        if (path / file).exists():
            return name
    for file in _FILES:
        if (path / file).is_file():
            return _format_of_file(path / file)
    inside = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
    if inside and all(file.suffix == ".xml" for file in inside):
        return _format_of_file(inside[0])
    if inside and all(re.search(r"\d\.txt$", file.name) for file in inside):
        return "yolo"
    return None


def _format_of_file(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8-sig").lstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text: {error}") from error
    if text.startswith("<"):
        try:
            root = ET.parse(path).getroot().tag
        except ET.ParseError as error:
            raise DatasetError(f"{path} is not readable XML: {error}") from error
        return {"annotations": "cvat", "annotation": "voc"}.get(root)
    if text.startswith(("{", "[")):
        return _format_of_json(path, text)
    first = text.partition("\n")[0]
    columns = first.split(separator_of(first))
    if {"frame", "target", "x"} <= {cell.strip(' "\r') for cell in columns}:
        return "csv"
    cells = first.replace(",", " ").split()
    if len(cells) >= 7 and re.fullmatch(r"\d+(\.0+)?", cells[0]):
        return "mot" if len(cells) in (8, 9) else "mot-results"
    if len(cells) in (4, 8):
        return _format_of_lines(path, text)
    return None


def _format_of_json(path: Path, text: str) -> str | None:
    first = text.partition("\n")[0]
    try:
        content = json.loads(text)
    except (RecursionError, ValueError) as error:
        if '"frame"' in first and '"targets"' in first:
            return "json"
        raise DatasetError(f"{path} is not readable JSON: {error}") from error
    if isinstance(content, list):
        content = content[0] if content else {}
    keys = set(content) if isinstance(content, dict) else set()
    for name, needed in (
        ("json", {"frame", "targets"}),
        ("studio", {"format", "targets", "keys", "runs"}),
        ("coco", {"images", "annotations"}),
        ("datumaro", {"items", "categories"}),
        ("label-studio", {"annotations", "data"}),
        ("label-studio", {"predictions", "data"}),
    ):
        if needed <= keys:
            return name
    return None


def _format_of_lines(path: Path, text: str) -> str:
    """Lines of four numbers look the same in several formats, which differ by a pixel."""
    if path.with_name("absence.label").exists():
        return "got10k"
    if path.name.startswith("groundtruth_rect"):
        return "otb"
    if "nan" in text.lower() or path.with_name("sequence").exists():
        return "vot"
    raise DatasetError(
        f"{path} has lines of boxes alone, which vot and got10k count from 0 and otb from 1; say "
        "which it is with --from"
    )


# --- Choosing and writing ------------------------------------------------------------------------


def _lost(to: str, target: TrackFormat, tracks: ClipTracks, *, is_thinned: bool) -> list[str]:
    """What the format does not hold, with counts."""
    rows = tracks.rows
    # Where every box is a key frame, none is told from the others.
    keys = sum(row.key for row in rows)
    has_keys = keys < len(rows) and not is_thinned and not target.draws_lines
    counts: dict[Feature, int] = {
        "labels": sum(bool(row.label) for row in rows),
        "occluded": sum(row.occluded for row in rows),
        "uncertain": sum(row.status == "uncertain" for row in rows),
        "scores": sum(row.score != 1 for row in rows),
        "key frames": keys if has_keys else 0,
    }
    # Without track ids, targets of one label cannot be told apart.
    labels = [label_of(of_target[0]) for of_target in tracks.targets.values()]
    counts["track ids"] = len(rows) if len(set(labels)) < len(labels) else 0
    # Times of a variable rate: off those of the constant one by more than stamps are rounded to.
    timed = sorted((row.frame, row.time_s) for row in rows if row.time_s is not None)
    if timed and tracks.fps:
        counts["times"] = sum(
            abs(time_s - timed[0][1] - (frame - timed[0][0]) / tracks.fps) > _TIME_TOLERANCE_S
            for frame, time_s in timed
        )
    lost = [
        f"{feature}: {_boxes(count)}, not kept by {to}"
        for feature, count in counts.items()
        if count and feature not in target.keeps
    ]
    if target.inside and tracks.frame_wh:
        width, height = tracks.frame_wh
        beyond = sum(
            x < -_EDGE_PX or y < -_EDGE_PX or x + w > width + _EDGE_PX or y + h > height + _EDGE_PX
            for x, y, w, h in (row.box for row in rows)
        )
        if beyond:
            lost.append(f"parts outside the frame: {_boxes(beyond)}, cut at its border for {to}")
    return lost


def _boxes(count: int) -> str:
    return "1 box" if count == 1 else f"{count} boxes"


def _write(
    out: Path,
    to: str,
    files: Mapping[str, str | bytes],
    tracks: ClipTracks,
    images_of: str | Path | None,
) -> None:
    """Write all files of a format, or its main file alone where `out` has its suffix."""
    target = FORMATS[to]
    if out.suffix.lower() in target.suffixes and not out.is_dir():
        found = [content for name, content in files.items() if name.endswith(target.main)]
        if len(found) != 1:
            raise ConfigError(
                f"{to} has a file for each of the {len(tracks.targets)} targets; give a folder "
                f"instead of {out}"
            )
        atomic_write(out, found[0])
        return
    if out.is_file():
        raise OutputError(f"{out} is a file, but {to} needs a folder; give another name")
    try:
        with atomic_path(out) as part:
            for name, content in files.items():
                file = part / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(to_bytes(content) if isinstance(content, str) else content)
            if images_of is not None:
                _write_images(part, target, tracks, images_of)
    except VideoError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error


def _write_images(part: Path, target: TrackFormat, tracks: ClipTracks, clip: str | Path) -> None:
    """Write every frame of the clip as a JPEG, to each place the format has for it."""
    # GOT-10k has the pictures in every sequence, and a sequence for every target.
    names = [tracks.stem]
    if len(tracks.targets) > 1:
        names = [f"{tracks.stem}.{number}" for number in range(len(tracks.targets))]
    places = sorted({(target.image or "").replace("{name}", name) for name in names})
    with open_source(clip, live=False) as video:
        for frame in video:
            quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            data = cv2.imencode(".jpg", frame.image, quality)[1].tobytes()
            for place in places:
                file = part / (place % (frame.index + target.first_image))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
