"""One clip in the studio: its project, its folder and its frames, for the server's threads."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from siamtrack.data.project_files import PROJECT_SUFFIX
from siamtrack.data.project_state import Edit, RunInfo, apply_edits
from siamtrack.errors import SiamTrackError, VideoError, shown
from siamtrack.studio.frames import FrameService, Shot, ShotCache, load_index, save_index
from siamtrack.studio.jobs import LOST_FRAMES, PlannedRun, TrackedClip
from siamtrack.studio.project import MalformedError, Project, RefusedError
from siamtrack.studio.store import ProjectStore
from siamtrack.tracking.track import (
    CHECK_THRESHOLD,
    CheckStretch,
    ResolvedRows,
    candidates,
    stretches_to_check,
)
from siamtrack.types import BoolArray, Box, FloatArray
from siamtrack.utils.files import Closing
from siamtrack.utils.images import stamp_source
from siamtrack.video.frames import DEFAULT_FPS
from siamtrack.video.random_access import UNKNOWN, ClipFrames, PictureFrames
from siamtrack.video.source import Source, open_source

_log = logging.getLogger(__name__)

DIRECTIONS: dict[str, tuple[int, ...]] = {"forward": (1,), "backward": (-1,), "both": (1, -1)}
UNTIL = ("default", "key", "end", "frames", "lost")
MAX_STEP = 1000
INDEX = "frames.idx.npz"
TELL_EVERY_S = 0.2
FINGERPRINTED = 3
"""Frames whose pixels tell a clip from another one of the same length."""


class ClipOpeningError(SiamTrackError, RuntimeError):
    """The clip is still being opened, or could not be."""


class StaleRevisionError(SiamTrackError, RuntimeError):
    """A person's operation came in between; `revision` is the newest one."""

    def __init__(self, revision: int) -> None:
        super().__init__("the project was changed meanwhile; look at it again")
        self.revision = revision


class ReadOnlyError(SiamTrackError, RuntimeError):
    """The clip is not the one that the project was made for."""


class ClipSession(TrackedClip, Closing):
    """One clip that is shown and edited. All methods may be called from any thread.

    Args:
        number: of the clip, from 0.
        location: what `open_source` opens.
        folder: of the project.
        weights: hash of the weights that track.
        cache: of pictures.
        tell: called with events.
        fps: frames per second; None: as the clip says.

    Attributes:
        is_ready: frames and project can be used.
        error: why the clip cannot be opened; "" if it can.
        read_only: why nothing may be changed; "" if it may.
    """

    def __init__(
        self,
        number: int,
        location: str,
        folder: Path,
        weights: str,
        cache: ShotCache,
        tell: Callable[[dict[str, Any]], object],
        fps: float | None = None,
    ) -> None:
        self.number, self.location = number, location
        self.name = display_name(location)
        self.is_ready, self.error, self.read_only = False, "", ""
        self._folder, self._weights, self._cache, self._tell = folder, weights, cache, tell
        self._given_fps = fps
        self._lock = threading.RLock()
        self._banners: dict[str, dict[str, Any]] = {}
        self._tracker_revisions: set[int] = set()
        self._present: dict[int, BoolArray] = {}  # by target: frames with a box
        self._stretches: dict[tuple[int, float], list[CheckStretch]] = {}
        self._service: FrameService | None = None
        self._store: ProjectStore | None = None

    # -- Opening

    def prepare(self) -> SiamTrackError | None:
        """See whether there is a clip, and take hold of its project.

        Returns:
            What is wrong, which is kept in `error` as well.
        """
        try:
            check_recording(self.location)
            self._open_source().close()
            self._store = ProjectStore(self._folder)
        except SiamTrackError as error:
            self._fail(error)
            return error
        return None

    def open(self) -> None:
        """Open a clip that is prepared; what goes wrong is kept in `error`."""
        try:
            self._open_clip()
            self._open_project()
        except (SiamTrackError, OSError) as error:
            self._fail(error)
        self._tell_clip()

    def _fail(self, error: Exception) -> None:
        self.error = " ".join(str(error).split())
        self.close()

    def _open_source(self) -> Source:
        return open_source(self.location, live=False, fps=self._given_fps)

    @property
    def _index_stamp(self) -> list[int]:
        """What the index of the clip's frames is of: its files, and the rate of its times."""
        return [*self._stamp, round(1000 * (self._given_fps or 0))]

    def _open_clip(self) -> None:
        video = self._open_source()
        self.frame_wh, self.fps, self._listed = video.frame_wh, video.fps, video.frame_count
        frames, self._stamp = video.into_numbered(), _stamp(self.location)
        self._frames = frames
        known = load_index(self._folder / INDEX, self._index_stamp)
        if isinstance(frames, ClipFrames) and known is not None and len(known) == len(frames):
            frames.index = known
        self.frame_count = len(frames)
        self._service = FrameService(lambda frame: frames[frame].image, frames.close, self._cache)
        self._note_index()

    def _note_index(self) -> None:
        """Say what a person should know of the clip's frames."""
        frames = self._frames
        if isinstance(frames, PictureFrames):
            if missing := (self._listed or len(frames)) - len(frames):
                text = f"{missing} picture(s) of this folder cannot be read and are left out"
                self.banner("warning", "damaged", f"{text}, as siamtrack track does")
            return
        if not isinstance(frames, ClipFrames):
            return
        if not frames.index.is_searchable:
            text = (
                "this clip has no usable time stamps, so that going back in it is slow; a copy is "
                "fast: ffmpeg -i IN -c copy OUT.mkv"
            )
            self.banner("warning", "unsearchable", text)
        if frames.index.unreadable:
            text = f"{frames.index.unreadable} frames of this clip are damaged and left out"
            self.banner("warning", "damaged", f"{text}, as siamtrack track does")

    def scan(self, wait_while: Callable[[], bool], is_over: threading.Event) -> None:
        """Decode the clip once in order, so that every frame is known by its pixels.

        Pictures that cannot be read are known then, and left out.

        Args:
            wait_while: others have more urgent work.
            is_over: ends it.
        """
        if self.error or not self.is_ready:
            return
        frames = self._frames
        total, told_s = len(frames), 0.0
        if isinstance(frames, PictureFrames) and not frames.is_checked:
            passed = frames.check()
        elif isinstance(frames, ClipFrames) and (frames.index.fingerprints == UNKNOWN).any():
            passed = frames.take_fingerprints()
        else:
            return
        for done in passed:
            while wait_while() and not is_over.is_set():
                is_over.wait(0.1)
            if is_over.is_set():
                return
            if time.monotonic() - told_s > TELL_EVERY_S or done == total:
                told_s = time.monotonic()
                event = {"type": "scan", "clip": self.number, "done": done, "total": total}
                self._tell(event)
        with self._lock:
            if isinstance(frames, ClipFrames) and frames.index.is_searchable:
                save_index(self._folder / INDEX, self._index_stamp, frames.index)
            self.frame_count = self.project.frame_count = len(frames)
            self._forget_resolved()
            self._note_index()
        self._tell_clip()

    def _open_project(self) -> None:
        store = self.store
        size, mtime_ns = self._stamp
        facts = {"name": self.name, "size": size, "mtime_ns": mtime_ns}
        if (store.clip.get("size"), store.clip.get("mtime_ns")) != (size, mtime_ns):
            found = {
                "frames": self.frame_count,
                "width": self.frame_wh[0],
                "height": self.frame_wh[1],
                "fps": self.fps,
                "fingerprint": self._fingerprint(),
            }
            # A project of `siamtrack convert` does not know everything yet.
            known = ("frames", "width", "height", "fingerprint")
            is_same = all(store.clip.get(name) in (None, found[name]) for name in known) and all(
                frame < self.frame_count for keys in store.state.keys.values() for frame in keys
            )
            if store.is_new or is_same:
                store.clip = {**facts, **found}
            else:
                self.read_only = (
                    f"{self.name} is another file than the one this project was made for; its "
                    "boxes may not fit"
                )
                self._clip_now = {**facts, **found}
        if store.is_new:
            store.write_snapshot()
        self.project = Project(
            store.state, self.frame_count, self.frame_wh, store.read_rows, store.write_rows
        )
        for note in store.notes:
            self.banner("info", "mended", note)
        self._recover_runs()
        self.is_ready = True

    def _recover_runs(self) -> None:
        """Take in runs that were being tracked when the program was killed."""
        if self.read_only:  # they wait for what the person says of the clip
            return
        found = self.store.unfinished_rows()
        known = {run.file for run in self.store.state.runs.values()}
        runs = {name: replace(run, reason="killed") for name, run in found.items()}
        if runs:
            self.finish_runs({name: run for name, run in runs.items() if name not in known})
        for name in found:
            self.store.end_rows(name)

    def _fingerprint(self) -> str:
        """Of the pixels of the first, the middle and the last frame."""
        picked = np.linspace(0, self.frame_count - 1, FINGERPRINTED).astype(int).tolist()
        value = 0
        for frame in picked:
            value = zlib.crc32(self._frames[frame].image.tobytes(), value)
        return f"{value:08x}"

    @property
    def is_watched(self) -> bool:
        """Whether somebody waits for a picture."""
        return self._service is not None and not self._service.is_idle

    def rest(self) -> None:
        """Let go of the decoder and its frames: another clip is looked at."""
        if self._service is not None:
            self._service.rest()

    @property
    def store(self) -> ProjectStore:
        """The folder of the project, which is open."""
        if self._store is None:
            raise ClipOpeningError(self.error or f"{self.name} is still being opened")
        return self._store

    def check_ready(self) -> None:
        """Raise `ClipOpeningError` if the clip cannot be used yet, or at all."""
        if self.error or not self.is_ready:
            raise ClipOpeningError(self.error or f"{self.name} is still being opened; wait")

    def relink(self) -> dict[str, Any]:
        """Take the clip as it is now for that of the project; all runs are stale then."""
        with self._lock:
            self.check_ready()
            if self.read_only:
                before, self.read_only = self.read_only, ""
                try:
                    self._recover_runs()
                    edits: list[Edit] = [
                        ["run", name, _plain(replace(run, stale=True))]
                        for name, run in self.store.state.runs.items()
                    ]
                    if edits:
                        self._commit(edits, f"another file for {self.name}", "hand")
                    self.store.clip = self._clip_now
                    self.store.write_snapshot()
                except SiamTrackError:
                    self.read_only = before
                    raise
            return self.snapshot()

    def close(self) -> None:
        """Write the project and let it go."""
        with self._lock:
            was_open, self.is_ready = self.is_ready, False
            if self._service is not None:
                self._service.close()
                self._frames.close()
                self._service = None
            if self._store is not None:
                if self.read_only or not was_open:
                    self._store.abandon()
                else:
                    self._store.close()

    # -- Looking

    def summary(self) -> dict[str, Any]:
        """The clip in the list of clips."""
        with self._lock:
            return self._summary()

    def _summary(self) -> dict[str, Any]:
        ready = self.is_ready
        return {
            "id": self.number,
            "name": self.name,
            "state": "failed" if self.error else "ready" if ready else "opening",
            "error": self.error or None,
            "frames": self.frame_count if ready else None,
            "width": self.frame_wh[0] if ready else None,
            "height": self.frame_wh[1] if ready else None,
            "fps": (self.fps or DEFAULT_FPS) if ready else None,
            "tracked": self._count_tracked() if ready else 0,
            "to_check": len(self._all_stretches(CHECK_THRESHOLD)) if ready else 0,
            "touched": self.store.changed_at if ready else None,
            "targets": len(self.store.state.targets) if ready else 0,
        }

    def snapshot(self) -> dict[str, Any]:
        """Everything but the rows."""
        with self._lock:
            self.check_ready()
            store = self.store
            return {
                "clip": {**self.summary(), **self._frames_to_json()},
                "revision": store.revision,
                "undo": store.undo_text,
                "redo": store.redo_text,
                "read_only": self.read_only or None,
                "banners": list(self._banners.values()),
                "labels": self.labels(),
                "targets": [self._target_to_json(number) for number in store.state.targets],
            }

    def _frames_to_json(self) -> dict[str, Any]:
        """Whether frames are found by their stamps, and how many are known by their pixels."""
        frames = self._frames
        if isinstance(frames, PictureFrames):
            is_known = frames.is_checked and len(frames) == self.frame_count
            return {"searchable": True, "scanned": self.frame_count if is_known else 0}
        if not isinstance(frames, ClipFrames):
            return {"searchable": True, "scanned": self.frame_count}
        index = frames.index
        scanned = int((index.fingerprints != UNKNOWN).sum())
        return {"searchable": index.is_searchable, "scanned": scanned}

    def labels(self) -> list[str]:
        """Labels for completion: those of the project, then those in use."""
        state = self.store.state
        used = [info.label for info in state.targets.values() if info.label]
        return list(dict.fromkeys([*state.labels, *used]))

    def times_s(self) -> list[float]:
        """Time of every frame."""
        with self._lock:
            self.check_ready()
            times_s: list[float] = self._frames.times_s.tolist()
            return times_s

    def rows(
        self, target: int, first: int, last: int | None, threshold: float
    ) -> tuple[int, ResolvedRows]:
        """Revision and resolved rows of a target in some frames, clipped to those of the clip."""
        with self._lock:
            self.check_ready()
            end = self.frame_count - 1
            first, last = min(max(first, 0), end), min(end if last is None else last, end)
            return self.store.revision, self.project.resolve(
                target, first, max(first, last), threshold
            )

    def candidates(self, target: int, first: int, last: int) -> dict[str, Any]:
        """What can be picked."""
        with self._lock:
            self.check_ready()
            first = self.project.check_frame(first)
            last = max(first, self.project.check_frame(last))
            found = candidates(self.project.track(target), first, last)
            columns: dict[str, Any] = {
                choice: _boxes_to_json(rows.boxes) for choice, rows in found.items()
            }
            for choice, rows in found.items():
                columns[choice]["score"] = _or_none(rows.scores, 4)
            return {"first": first, "last": last, "revision": self.store.revision, **columns}

    @contextmanager
    def reading(self) -> Iterator[Project]:
        """The project, which nobody changes while the block runs."""
        with self._lock:
            self.check_ready()
            yield self.project

    def to_check(self, threshold: float) -> dict[str, Any]:
        """What a person should look at, of all targets."""
        with self._lock:
            self.check_ready()
            found = [
                {
                    "target": target,
                    "first": stretch.first,
                    "last": stretch.last,
                    "frame": stretch.frame,
                    "value": round(stretch.value, 4),
                }
                for target, stretch in self._all_stretches(threshold)
            ]
            return {
                "revision": self.store.revision,
                "threshold": threshold,
                "count": len(found),
                "stretches": found,
            }

    def picture(self, shot: Shot) -> Future[bytes]:
        """A picture of a frame."""
        self.check_ready()
        self.project.check_frame(shot.frame)
        if self._service is None:
            raise ClipOpeningError(f"{self.name} is closed")
        return self._service.request(shot)

    def _target_to_json(self, number: int) -> dict[str, Any]:
        state = self.store.state
        info, keys = state.targets[number], state.keys.get(number, {})
        return {
            "id": number,
            "name": info.name,
            "label": info.label,
            "color": info.color,
            "hidden": info.hidden,
            "locked": info.locked,
            "keys": [
                {
                    "frame": frame,
                    "box": None if key.box is None else list(key.box),
                    "outside": key.outside,
                    "occluded": key.occluded,
                    "by": key.by,
                }
                for frame, key in sorted(keys.items())
            ],
            "picks": [
                {"first": pick.first, "last": pick.last, "choice": pick.choice}
                for pick in state.picks.get(number, ())
            ],
            "runs": [
                {
                    "id": name,
                    "frame": run.frame,
                    "direction": run.direction,
                    "step": run.step,
                    "first": min(run.frame + run.direction, self.project.last_of(run)),
                    "last": max(run.frame + run.direction, self.project.last_of(run)),
                    "stale": not self.project.is_valid(run),
                    "reason": run.reason,
                }
                for name, run in state.runs.items()
                if run.target == number
            ],
            "gaps": self._gaps(number),
        }

    def _gaps(self, number: int) -> list[list[Any]]:
        """Frames between key frames, with what covers them."""
        keys = self.store.state.keys.get(number, {})
        runs = [run for run in self.store.state.runs.values() if run.target == number]
        going = {(run.frame, run.direction) for run in runs if self.project.is_valid(run)}
        frames = sorted(keys)
        gaps: list[list[Any]] = []
        for before, after in zip([None, *frames], [*frames, None], strict=True):
            first = 0 if before is None else before + 1
            last = self.frame_count - 1 if after is None else after - 1
            if first > last:
                continue
            ahead, back = (before, 1) in going, (after, -1) in going
            kind = "both" if ahead and back else "forward" if ahead else "backward"
            if before is not None and keys[before].outside:
                kind = "outside"
            elif not (ahead or back):
                kind = "none"
            gaps.append([first, last, kind])
        return gaps

    # -- Changing

    def perform(self, revision: int, operations: Sequence[Any]) -> dict[str, Any]:
        """Perform a person's operations as one step of undo."""
        with self._lock:
            self._check_writable(revision)
            before = self._starts()
            done = self.project.perform(operations)
            if done.edits:
                self._keep(done.edits, done.inverse, done.text, "hand", before)
            return {
                "revision": self.store.revision,
                "created": done.created,
                "changes": self._changes(done.edits),
            }

    def undo(self, revision: int, *, again: bool = False) -> dict[str, Any]:
        """Undo the last step, or do again the one undone last."""
        with self._lock:
            self._check_writable(revision)
            before = self._starts()
            entry = self.store.redo() if again else self.store.undo()
            if entry is None:
                raise RefusedError(f"there is nothing to {'redo' if again else 'undo'}")
            changes = self._changes(entry["do"])
            self._saved(changes, before)
            text = f"{'done again' if again else 'undone'}: {entry['text']}"
            return {"revision": self.store.revision, "changes": changes, "text": text}

    def add_edits(self, edits: Sequence[Edit], text: str) -> dict[str, Any]:
        """Make edits that are no operation of the page: those of an import."""
        with self._lock:
            self._check_writable(self.store.revision)
            changes = self._commit(edits, text, "hand")
            return {"revision": self.store.revision, "changes": changes}

    def _check_writable(self, revision: int) -> None:
        self.check_ready()
        if self.read_only:
            raise ReadOnlyError(f"{self.read_only}: nothing can be changed")
        current = self.store.revision
        if not 0 <= revision <= current:
            raise StaleRevisionError(current)
        between = range(revision + 1, current + 1)
        # What the tracker added meanwhile contradicts nothing that a person does.
        if not self._tracker_revisions.issuperset(between):
            raise StaleRevisionError(current)

    def _commit(self, edits: Sequence[Edit], text: str, by: str) -> dict[str, Any]:
        before = self._starts()
        inverse = apply_edits(self.store.state, edits)
        self._keep(edits, inverse, text, by, before)
        return self._changes(edits)

    def _keep(
        self,
        edits: Sequence[Edit],
        inverse: Sequence[Edit],
        text: str,
        by: str,
        before: Mapping[tuple[int, int], Box | None],
    ) -> None:
        self.store.commit(edits, inverse, text, by)
        if by == "tracker":
            self._tracker_revisions.add(self.store.revision)
        self._saved(self._changes(edits), before)

    def _starts(self) -> dict[tuple[int, int], Box | None]:
        """Boxes of all key frames, by target and frame."""
        return {
            (target, frame): key.box
            for target, keys in self.store.state.keys.items()
            for frame, key in keys.items()
        }

    def _saved(self, changes: dict[str, Any], before: Mapping[tuple[int, int], Box | None]) -> None:
        now = self._starts()
        changed = {start for start, box in before.items() if now.get(start) != box}
        if changed:
            self._tell({"type": "changed-keys", "clip": self.number, "starts": changed})
        revision = self.store.revision
        self._tell({"type": "saved", "clip": self.number, "revision": revision, "changes": changes})
        self._forget_resolved(target["id"] for target in changes["targets"])
        self._tell_clip()

    def _changes(self, edits: Sequence[Edit]) -> dict[str, Any]:
        """What the page has to fetch or replace after edits."""
        state = self.store.state
        touched = {edit[1] for edit in edits if edit[0] in ("target", "key", "picks")}
        for edit in edits:
            if edit[0] == "run":
                run = edit[2] or {}
                touched |= {run["target"]} if run else set(state.targets)
        frames = self.frame_count - 1
        there = sorted(touched & set(state.targets))
        return {
            "targets": [self._target_to_json(number) for number in there],
            "deleted": sorted(touched - set(state.targets)),
            "labels": self.labels(),
            "undo": self.store.undo_text,
            "redo": self.store.redo_text,
            "dirty": [[n, *self._dirty(n, edits, frames)] for n in there],
        }

    def _dirty(self, target: int, edits: Sequence[Edit], last: int) -> tuple[int, int]:
        """Frames of a target that edits may have changed."""
        if any(edit[0] == "run" and edit[2] is None for edit in edits):
            return 0, last
        frames = sorted(self.store.state.keys.get(target, {}))
        low, high = last, 0
        for kind, number, *rest in edits:
            if kind == "key" and number == target:
                k, j = bisect_left(frames, rest[0]), bisect_right(frames, rest[0])
                low = min(low, frames[k - 1] + 1 if k else 0)
                high = max(high, frames[j] - 1 if j < len(frames) else last)
            elif (kind in ("target", "picks") and number == target) or (
                kind == "run" and rest[0]["target"] == target
            ):
                return 0, last
        return low, high

    def _all_stretches(self, threshold: float) -> list[tuple[int, CheckStretch]]:
        """What is to be checked, of all targets; resolved anew only where something changed."""
        targets = list(self.store.state.targets)
        for target in targets:
            if (target, threshold) not in self._stretches:
                rows = self.project.resolve(target, 0, self.frame_count - 1, threshold)
                self._stretches[target, threshold] = stretches_to_check(rows)
                self._present[target] = rows.present
        return [(target, one) for target in targets for one in self._stretches[target, threshold]]

    def _count_tracked(self) -> int:
        """Frames in which a target has a box."""
        self._all_stretches(CHECK_THRESHOLD)
        tracked = np.zeros(self.frame_count, bool)
        for target in self.store.state.targets:
            tracked |= self._present[target]
        return int(tracked.sum())

    def _forget_resolved(self, targets: Iterable[int] | None = None) -> None:
        """Resolve these targets anew when they are asked for next; all by default."""
        changed = set(self._present if targets is None else targets)
        kept = self._stretches.items()
        self._stretches = {key: value for key, value in kept if key[0] not in changed}

    # -- Tracking

    def plan(
        self,
        targets: object,
        frame: object,
        direction: object,
        until: object,
        frames: object,
        step: object,
    ) -> list[PlannedRun]:
        """The runs that a person asks for, without those that are there already.

        Raises:
            MalformedError: a field is of the wrong type.
            RefusedError: a target has no key frame to start from.
        """
        with self._lock:
            self.check_ready()
            if self.read_only:
                raise ReadOnlyError(f"{self.read_only}: nothing can be tracked")
            if not isinstance(targets, list) or not targets:
                raise MalformedError(f"targets is {shown(targets)}; give a list of numbers")
            if direction not in DIRECTIONS:
                raise MalformedError(
                    f"direction is {shown(direction)}; use one of {', '.join(DIRECTIONS)}"
                )
            if until not in UNTIL:
                raise MalformedError(f"until is {shown(until)}; use one of {', '.join(UNTIL)}")
            step = 1 if step is None else step
            for name, value, most in (("frame", frame, None), ("step", step, MAX_STEP)):
                if type(value) is not int or value < (most is not None) or value > (most or value):
                    raise MalformedError(f"{name} is {shown(value)}; give a whole number")
            if until == "frames" and (type(frames) is not int or frames < 1):
                raise MalformedError(f"frames is {shown(frames)}; give how many to track")
            here = self.project.check_frame(cast("int", frame))
            length = cast("int", frames) if until == "frames" else None
            runs = [
                self._plan_run(target, here, way, until, length, cast("int", step))
                for way in DIRECTIONS[direction]
                for target in dict.fromkeys(targets)
            ]
            return [run for run in runs if run is not None]

    def _plan_run(
        self, target: int, here: int, direction: int, until: str, length: int | None, step: int
    ) -> PlannedRun | None:
        info = self.project.target(target)
        name = self.project.name_of(target)
        if info.locked:
            raise RefusedError(f"{name} is locked; unlock it first")
        keys = self.store.state.keys.get(target, {})
        # 1. Where it starts: the key frame here, else the nearest one behind or ahead.
        drawn = sorted(frame for frame, key in keys.items() if key.box is not None)
        behind = [frame for frame in drawn if frame <= here]
        ahead = [frame for frame in drawn if frame >= here]
        order = (behind[-1:], ahead[:1]) if direction > 0 else (ahead[:1], behind[-1:])
        start = next((frames[0] for frames in order if frames), None)
        if here in keys and keys[here].box is not None:
            start = here
        if start is None:
            raise RefusedError(f"{name} has no box to track from; draw one")
        # 2. Where it ends.
        end = self.frame_count - 1 if direction > 0 else 0
        at_last = "end"
        others = [frame for frame in keys if (frame - start) * direction > 0]
        if until in ("default", "key") and others:
            end = min(others) if direction > 0 else max(others)
            at_last = "key"
            if keys[end].box is None:
                end -= direction  # an outside key frame has no box that the run could arrive at
        if length is not None and abs(end - start) > length:
            end, at_last = start + direction * length, "frames"
        # 3. What is there already is not tracked again.
        if (end - start) * direction <= 0:
            return None
        wanted = (target, start, direction, step, self._weights)
        for run in self.store.state.runs.values():
            is_same = (run.target, run.frame, run.direction, run.step, run.weights) == wanted
            if is_same and self.project.is_valid(run):
                if (self.project.last_of(run) - end) * direction >= 0:
                    return None
        lost_limit = LOST_FRAMES if until in ("default", "lost") else None
        planned = RunInfo(
            target, start, cast("Box", keys[start].box), cast("Any", direction), step, "",
            weights=self._weights,
        )  # fmt: skip
        return PlannedRun(planned, end, at_last, lost_limit)

    def begin_run(self, info: RunInfo) -> tuple[str, Path]:
        """A file for the rows of a run."""
        with self._lock:
            name = self.store.new_file()
            return name, self.store.begin_rows(name, replace(info, file=name))

    def finish_runs(self, runs: Mapping[str, RunInfo]) -> dict[str, Any]:
        """Take in the runs whose rows are in the files of these names, as one step of undo."""
        with self._lock:
            state, edits = self.store.state, list[Edit]()
            for name, run in runs.items():
                rows = self.store.finish_rows(name)
                if len(rows) and run.target in state.targets:
                    content = replace(run, file=name)
                    number = f"{state.next_run + len(edits):06d}"
                    edits.append(["run", number, _plain(content)])
            changes = None
            if edits:
                targets = list(dict.fromkeys(edit[2]["target"] for edit in edits))
                named = self.project.name_of(targets[0])
                text = f"tracking of {named if len(targets) == 1 else f'{len(targets)} targets'}"
                changes = self._commit(edits, text, "tracker")
            for name in runs:
                self.store.end_rows(name)
            return {"revision": self.store.revision, "changes": changes}

    # -- Telling

    def banner(self, level: str, code: str, text: str | None) -> None:
        """Show a line until it is taken away with the text None."""
        shown_now = {"level": level, "code": code, "text": text}
        if text is None:
            self._banners.pop(code, None)
        else:
            self._banners[code] = shown_now
        self._tell({"type": "banner", "clip": self.number, **shown_now})

    def _tell_clip(self) -> None:
        self._tell({"type": "clip", "clip": self.summary()})


def _plain(run: RunInfo) -> dict[str, Any]:
    return {name: getattr(run, name) for name in RunInfo.__slots__}


def _or_none(values: FloatArray, digits: int) -> list[float | None]:
    rounded = values.round(digits).tolist()
    return [None if value != value else value for value in rounded]


def _boxes_to_json(boxes: FloatArray) -> dict[str, list[float | None]]:
    return {name: _or_none(boxes[:, k], 2) for k, name in enumerate("xywh")}


def rows_to_json(target: int, revision: int, rows: ResolvedRows) -> dict[str, Any]:
    """Columns of resolved rows."""
    return {
        "target": target,
        "first": rows.first,
        "last": rows.first + len(rows) - 1,
        "revision": revision,
        **_boxes_to_json(rows.boxes),
        "score": _or_none(rows.scores, 4),
        "agreement": _or_none(rows.agreements, 4),
        "status": rows.statuses.tolist(),
        "source": rows.sources.tolist(),
        "flags": _flags(rows).tolist(),
    }


def rows_to_bytes(rows: ResolvedRows) -> bytes:
    """The same as little-endian columns: six of float32, three of uint8."""
    numbers = [*rows.boxes.T, rows.scores, rows.agreements]
    small = [rows.statuses, rows.sources, _flags(rows)]
    return b"".join(
        [np.ascontiguousarray(column, "<f4").tobytes() for column in numbers]
        + [column.astype(np.uint8).tobytes() for column in small]
    )


def _flags(rows: ResolvedRows) -> np.ndarray[Any, np.dtype[np.uint8]]:
    flags = rows.checks * 1 + rows.occluded * 2 + rows.picked * 4
    return flags.astype(np.uint8)


# --- Where things are ----------------------------------------------------------------------------


def check_recording(location: str) -> None:
    """Check that a clip is a recording, without opening it.

    Raises:
        VideoError: it is a camera, a stream or standard input.
    """
    is_address = "://" in location or location in ("-", "pipe:", "pipe:0")
    is_camera = location.isdecimal() and not os.path.exists(location)
    try:
        is_device = stat.S_ISCHR(os.stat(os.path.expanduser(location)).st_mode)
    except (OSError, ValueError):
        is_device = False
    if is_address or is_camera or is_device:
        raise VideoError(
            f"{location} is a camera or a stream, and the studio goes back and forth in a clip; "
            "record it first, then give the file"
        )


def display_name(location: str) -> str:
    """The name of a clip in the page: that of its file or folder."""
    return Path(location).name or str(location)


def project_folder(location: str, parent: Path | None) -> Path:
    """The folder of a clip's project: beside the clip, or in the folder given."""
    path = Path(os.path.expanduser(location)).absolute()
    if parent is None:
        name = "frames" if any(sign in path.name for sign in "*?[%") else path.name
        return path.with_name(name + PROJECT_SUFFIX)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    stem = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in path.stem)
    return parent.expanduser() / f"{stem or 'clip'}-{digest}"


def _stamp(location: str) -> tuple[int, int]:
    """Size in bytes and time of the last change of a clip; of all its files for a folder."""
    stamps = stamp_source(Path(os.path.expanduser(location)))
    return sum(size for _, size, _ in stamps), max((time_ns for *_, time_ns in stamps), default=0)
