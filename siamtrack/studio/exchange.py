"""Import and export of a clip's targets, through the formats of `siamtrack.data.convert`."""

from __future__ import annotations

import math
import re
import shutil
import stat
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from siamtrack.data.convert import (
    FORMATS,
    check_inside,
    choose_tracks,
    read_for_clip,
    write_tracks,
)
from siamtrack.data.formats.studio import import_edits, rows_of
from siamtrack.data.formats.tracks import ClipTracks, thin
from siamtrack.errors import ConfigError, DatasetError, OutputError, shown
from siamtrack.studio.project import (
    MalformedError,
    RefusedError,
    UnknownNumberError,
    check_text,
)
from siamtrack.studio.session import ClipSession
from siamtrack.tracking.track import (
    CHECK_THRESHOLD,
    KEY,
    LOST,
    NO_SOURCE,
    STALE,
    UNCERTAIN,
    Pick,
    ResolvedRows,
    TargetTrack,
    resolve,
    stretches_to_check,
)
from siamtrack.utils.files import TemporaryFolder
from siamtrack.video.frames import DEFAULT_FPS
from siamtrack.video.tables import TableRow

MAX_UNPACKED_BYTES = 1 << 30
MAX_RATIO = 100
"""Unpacked bytes of an archive by its own; more is made to fill the disk."""
MAX_MEMBERS = 200_000
MAX_NAME_BYTES = 120
KEPT_EXPORTS = 8
_FLAGS = ("keys_only", "interpolate", "keep_lost", "drop_uncertain", "images", "ignore_uncertain")
_NO_XML = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)
_CHOOSE = "; choose its format"  # where the command line has an option
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What a person chose for an export; the flags are arguments of `siamtrack.data.convert`."""

    to: str
    targets: tuple[int, ...] | None = None
    thin: float | None = None
    first_pixel: int | None = None
    keys_only: bool = False
    interpolate: bool = False
    keep_lost: bool = False
    drop_uncertain: bool = False
    images: bool = False
    ignore_uncertain: bool = False

    @classmethod
    def parse(cls, to: object, options: object) -> ExportOptions:
        """Check what came from the page.

        Raises:
            MalformedError: an unknown option, or a value of the wrong type.
        """
        if to not in FORMATS:
            raise MalformedError(f"format is {shown(to)}; give one of {', '.join(FORMATS)}")
        if not isinstance(options, dict):
            raise MalformedError("give the options as an object")
        known = {"targets", "thin", "first_pixel", *_FLAGS}
        if unknown := sorted(set(options) - known):
            raise MalformedError(f"there is no option {unknown[0]}; use {', '.join(sorted(known))}")
        for name in _FLAGS:
            if not isinstance(options.get(name, False), bool):
                raise MalformedError(f"{name} is {shown(options[name])}; give true or false")
        targets, thinning = options.get("targets"), options.get("thin")
        pixel = options.get("first_pixel")
        if targets is not None and (
            not isinstance(targets, list) or not all(type(t) is int for t in targets)
        ):
            raise MalformedError(f"targets is {shown(targets)}; give a list of numbers")
        if thinning is not None and type(thinning) not in (int, float):
            raise MalformedError(f"thin is {shown(thinning)}; give a number")
        if pixel not in (None, 0, 1) or isinstance(pixel, bool):
            raise MalformedError(f"first_pixel is {shown(pixel)}; give 0 or 1")
        flags = {name: options.get(name, False) for name in _FLAGS}
        chosen = None if targets is None else tuple(targets)
        return cls(to, chosen, thinning or None, pixel, **flags)


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A file to be fetched."""

    path: Path
    name: str


class Exchange:
    """Files that were exported and can be fetched, those made last.

    Args:
        scratch: where they are.
    """

    def __init__(self, scratch: TemporaryFolder) -> None:
        self._scratch = scratch
        self._files: dict[str, ExportFile] = {}
        self._next = 0
        self._lock = threading.Lock()

    def file(self, number: str) -> ExportFile:
        """A file that was exported.

        Raises:
            UnknownNumberError: it is not there, or no more.
        """
        if number not in self._files:
            raise UnknownNumberError("there is no such export (any more); export it again")
        return self._files[number]

    def export(self, clip: ClipSession, options: ExportOptions, *, preview: bool) -> dict[str, Any]:
        """Write the targets of a clip, or only count what would be written.

        Raises:
            ConfigError, DatasetError: the format cannot do it.
            OutputError: it cannot be written.
        """
        tracks, counts = _tracks_of(clip, options)
        chosen, lost = choose_tracks(
            tracks,
            options.to,
            clip.name,
            tolerance=options.thin,
            keys_only=options.keys_only,
            keep_lost=options.keep_lost,
            drop_uncertain=options.drop_uncertain,
        )
        counts["boxes"] = len(chosen.rows)
        answer: dict[str, Any] = {"counts": counts, "lost": lost}
        single = FORMATS[options.to].write is None
        suffix = {"csv": ".csv", "json": ".jsonl"}.get(options.to, "")
        name = f"{tracks.stem}{suffix}" if single else f"{tracks.stem}_{options.to}"
        if preview:
            return {**answer, "name": name if single else f"{name}.zip"}
        if not chosen.rows:
            raise RefusedError("there is no box to export; draw one, or choose other targets")
        with self._lock:
            number = f"{self._next}"
            self._next += 1
        folder = self._folder_of(number)
        out = folder / (name if single else "files")
        write_tracks(
            chosen,
            out,
            options.to,
            key_frames_alone=options.keys_only or options.thin is not None,
            ignore_uncertain=options.ignore_uncertain,
            first_pixel=options.first_pixel,
            images_of=clip.location if options.images else None,
        )
        file = _pack(out, folder, name)
        with self._lock:
            self._files[number] = file
            for old in list(self._files)[:-KEPT_EXPORTS]:
                del self._files[old]
                shutil.rmtree(self._folder_of(old), ignore_errors=True)
        return {
            **answer,
            "name": file.name,
            "export": number,
            "bytes": file.path.stat().st_size,
        }

    def _folder_of(self, number: str) -> Path:
        return self._scratch.path / f"export-{number}"


def _pack(out: Path, folder: Path, name: str) -> ExportFile:
    """What was written, as one file: itself, or a .zip, which is the same for the same content."""
    if out.is_file():
        return ExportFile(out, name)
    files = sorted(file for file in out.rglob("*") if file.is_file())
    if len(files) == 1:
        return ExportFile(files[0], name + files[0].suffix)
    path = folder / f"{name}.zip"
    try:
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                entry = zipfile.ZipInfo(file.relative_to(out).as_posix(), _ZIP_TIME)
                is_picture = file.suffix in (".jpg", ".png")
                entry.compress_type = zipfile.ZIP_STORED if is_picture else zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    shutil.rmtree(out, ignore_errors=True)
    return ExportFile(path, path.name)


def _tracks_of(clip: ClipSession, options: ExportOptions) -> tuple[ClipTracks, dict[str, int]]:
    """Rows of a clip's targets, and what the page shows before an export."""
    rows: list[TableRow] = []
    counts = dict.fromkeys(
        ("frames", "targets", "boxes", "key", "absent", "uncertain", "lost", "stale", "to_check"), 0
    )
    with clip.reading() as project:
        numbers = list(project.state.targets) if options.targets is None else options.targets
        counts["frames"], counts["targets"] = project.frame_count, len(numbers)
        times_s = clip.times_s()
        for number in numbers:
            info, track = project.target(number), project.track(number)
            found = resolve(track, 0, project.frame_count - 1, CHECK_THRESHOLD)
            if options.interpolate:
                found = _with_lines(track, found)
            for name, where in {
                "key": found.sources == KEY,
                "absent": ~found.present,
                "uncertain": found.present & (found.statuses == UNCERTAIN),
                "lost": found.present & (found.statuses == LOST),
                "stale": found.sources == STALE,
            }.items():
                counts[name] += int(where.sum())
            counts["to_check"] += len(stretches_to_check(found))
            rows += rows_of(number, info, found, times_s)
    facts = _facts_of(clip)
    tracks = ClipTracks.of(
        rows, name=facts.name, frame_wh=facts.frame_wh, frame_count=facts.frame_count, fps=facts.fps
    )
    return tracks, counts


def _facts_of(clip: ClipSession) -> ClipTracks:
    return ClipTracks(
        (),
        name=clip.name,
        frame_wh=clip.frame_wh,
        frame_count=clip.frame_count,
        fps=clip.fps or DEFAULT_FPS,
    )


def _with_lines(track: TargetTrack, rows: ResolvedRows) -> ResolvedRows:
    """Rows with straight lines between key frames where nothing was tracked."""
    nothing = np.flatnonzero(rows.sources == NO_SOURCE)
    parts = np.split(nothing, np.flatnonzero(np.diff(nothing) > 1) + 1) if len(nothing) else []
    lines = [Pick(int(part[0]), int(part[-1]), "line") for part in parts]
    filled = TargetTrack(track.keys, track.runs, [*track.picks, *lines])
    return resolve(filled, rows.first, rows.first + len(rows) - 1, CHECK_THRESHOLD)


# --- Import --------------------------------------------------------------------------------------


def import_file(
    clip: ClipSession, upload: Path, name: str, to: str | None, tolerance: float
) -> dict[str, Any]:
    """Take the targets of a file in as new ones.

    Few of its boxes become key frames: as many as straight lines between them need. The others are
    kept as they are, as runs of those.

    Args:
        clip: that the file is of.
        upload: what was sent, a file or a .zip of a folder.
        name: that it had, for messages and the format.
        to: its format; None: by content.
        tolerance: of the lines, see `siamtrack.data.formats.tracks.thin`; 0: every box is a key
            frame.

    Raises:
        MalformedError: a name, format or tolerance that makes no sense.
        DatasetError: it is of no known format, or of another clip.
    """
    clip.check_ready()
    name = check_text("name", name)
    if not name or "/" in name or "\\" in name or len(name.encode()) > MAX_NAME_BYTES:
        raise MalformedError(f"name is {shown(name)}; give that of a file, without its folder")
    if to is not None and (to not in FORMATS or FORMATS[to].read is None):
        raise MalformedError(f"format is {shown(to)}, which cannot be read")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise MalformedError(f"thin is {tolerance}; give px (1 or more), an overlap, or 0")
    with tempfile.TemporaryDirectory(prefix="siamtrack-import-") as folder:
        path = _unpack(upload, Path(folder), name)
        try:
            found, tracks = read_for_clip(path, _facts_of(clip), to)
            check_inside(name, tracks)
        except (ConfigError, DatasetError) as error:
            message = re.sub(r"; (give|say which it is with) --from.*", _CHOOSE, str(error))
            raise DatasetError(message.replace(str(path), name)) from error
    if not tracks.rows:
        raise DatasetError(f"{name} holds no boxes")
    marked = thin(tracks, tolerance) if tolerance else tracks
    with clip.reading() as project:
        edits, created, keys = import_edits(
            marked.targets,
            project.frame_count,
            project.write_rows,
            next_target=project.state.next_target,
            next_run=project.state.next_run,
            only_keys=not tolerance,
        )
        done = clip.add_edits(edits, f"import of {name}")
    return {
        **done,
        "created": created,
        "format": found,
        "boxes": len(tracks.rows),
        "keys": keys,
        "notes": list(tracks.notes),
    }


def _unpack(upload: Path, folder: Path, name: str) -> Path:
    """The file or folder that was sent, under a name of its own.

    Raises:
        DatasetError: an archive that reaches out of its folder or grows beyond measure, or XML with
            entities.
    """
    if not zipfile.is_zipfile(upload):
        # Some formats are told by the name; only its last part is the sender's.
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "file"
        path = folder / safe
        shutil.copyfile(upload, path)
        _check_xml(path, name)
        return path
    try:
        with zipfile.ZipFile(upload) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_members(members, upload.stat().st_size, name)
            left = MAX_UNPACKED_BYTES
            for member in members:
                path = folder / "files" / PurePosixPath(member.filename)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, path.open("wb") as target:
                    # The size that an archive states may be a lie.
                    while data := source.read(1 << 20):
                        left -= len(data)
                        if left < 0:
                            raise DatasetError(f"{name} unpacks to more than it says; not read")
                        target.write(data)
                _check_xml(path, name)
    except (OSError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{name} is no usable archive: {error}") from error
    path = folder / "files"
    # A folder that was packed as a whole.
    while path.is_dir() and len(inside := list(path.iterdir())) == 1 and inside[0].is_dir():
        path = inside[0]
        if path.name in ("gt", "labels", "annotations", "Annotations", "val"):
            path = path.parent
            break
    return path


def _check_members(members: Sequence[zipfile.ZipInfo], packed_bytes: int, name: str) -> None:
    size = sum(member.file_size for member in members)
    if size > MAX_UNPACKED_BYTES or size > MAX_RATIO * packed_bytes or len(members) > MAX_MEMBERS:
        raise DatasetError(f"{name} unpacks to {size} bytes in {len(members)} files; not read")
    for member in members:
        path = PurePosixPath(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        is_plain = kind in (0, stat.S_IFREG)
        bad = path.is_absolute() or ".." in path.parts or "\\" in member.filename
        if bad or not is_plain or ":" in member.filename or "\0" in member.filename:
            raise DatasetError(f"{name} holds {shown(member.filename)}, which leads out of it")


def _check_xml(path: Path, name: str) -> None:
    """Refuse XML that could name other files or grow: no annotation tool writes any of it."""
    with path.open("rb") as file:
        head = file.read(4)
        if not head.lstrip(b"\xef\xbb\xbf").lstrip().startswith(b"<") and b"\0" not in head:
            return
        file.seek(0)
        tail = b""
        while data := file.read(1 << 20):
            if _NO_XML.search(tail + data) or b"\0" in data:
                raise DatasetError(f"{name} has definitions of its own (DOCTYPE); not read")
            tail = data[-16:]


def formats_to_json() -> list[dict[str, Any]]:
    """The formats, for the page."""
    return [
        {
            "name": name,
            "title": known.title,
            "reads": known.read is not None,
            "writes": name != "studio",  # it has the project itself
            "draws_lines": known.draws_lines,
            "images": known.image is not None,
            "file": known.main or None,
        }
        for name, known in FORMATS.items()
    ]
