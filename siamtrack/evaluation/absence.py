"""How truthfully a tracker says that its target is gone, and how soon it finds it again.

An *absence* is a stretch of frames, at least 15 long, in which the truth shows no target. What is
counted is whether and when "lost" is said after a disappearance, how often it is said although the
box is right, and whether and when the target is tracked again after its return.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamtrack.data.sequence import VideoSequence
from siamtrack.evaluation.calibration import GOOD_OVERLAP
from siamtrack.evaluation.runs import track_sequence
from siamtrack.geometry import iou
from siamtrack.tracking.tracker import Tracker

LEAST_ABSENCE = 15
"""Shorter ones are blinks, over which a tracker does well to say nothing."""

IN_TIME = 15
"""Frames within which a loss should be reported."""

FOUND_IN_TIME = 30
"""Frames within which a target that is back should be tracked again."""

_FOLLOWED = 15  # frames before a disappearance in one of which the box was right


@dataclass(frozen=True, slots=True)
class Absence:
    """One disappearance and what the tracker made of it.

    Attributes:
        followed: whether the box was right shortly before. Who follows something else cannot
            notice.
        lost_after: frames until "lost" was said, 1 being the first without the target; None
            where it was not said before the target returned.
        found_after: frames from the return until the target was tracked again, 1 being the first
            with it; None where that never happened before it left again.
        judged: whether there were `FOUND_IN_TIME` frames after the return to find it in, or it
            was found in fewer.
    """

    followed: bool
    lost_after: int | None
    found_after: int | None
    judged: bool


@dataclass(frozen=True, slots=True)
class PresenceReport:
    """Figures over sequences.

    Attributes:
        absences: all of them.
        right_frames: frames in which the target was there and the box on it.
        false_alarms: how many times "lost" began to be said in such a frame.
    """

    absences: tuple[Absence, ...] = ()
    right_frames: int = 0
    false_alarms: int = 0

    def __add__(self, other: PresenceReport) -> PresenceReport:
        """Both together."""
        return PresenceReport(
            self.absences + other.absences,
            self.right_frames + other.right_frames,
            self.false_alarms + other.false_alarms,
        )

    def lines(self) -> list[str]:
        """The report in words, a figure a line."""
        followed = [a for a in self.absences if a.followed]
        returns = [a for a in self.absences if a.judged]
        said = [a.lost_after for a in self.absences]
        found = [a.found_after for a in returns]
        rate = 1000 * self.false_alarms / max(self.right_frames, 1)
        return [
            f"lost within {IN_TIME} frames: {_share(said, IN_TIME)} of absences, "
            f"{_share([a.lost_after for a in followed], IN_TIME)} of those from a right box; "
            f"median delay {_median(said)}",
            f"false alarms: {self.false_alarms} in {self.right_frames} frames with a right box, "
            f"{rate:.2f} per 1,000",
            f"tracked again within {FOUND_IN_TIME} frames: {_share(found, FOUND_IN_TIME)} of "
            f"returns, {_share([a.found_after for a in returns if a.followed], FOUND_IN_TIME)} of "
            f"those from a right box; median delay {_median(found)}",
        ]


def measure_presence(tracker: Tracker, sequences: Iterable[VideoSequence]) -> PresenceReport:
    """Follow sequences once each; those that never show their target are left out.

    Args:
        tracker: whatever it tracked before is forgotten.
        sequences: with truth.
    """
    report = PresenceReport()
    for sequence in sequences:
        if not sequence.visible.any():
            continue
        first, results = track_sequence(tracker, sequence)
        truth = sequence.boxes[first : first + len(results)]
        overlaps = iou([result.box for result in results], truth)
        lost = np.array([result.status == "lost" for result in results])
        tracked = np.array([result.status == "tracked" for result in results])
        report += presence_of(overlaps, lost, tracked)
    return report


def presence_of(overlaps: ArrayLike, lost: ArrayLike, tracked: ArrayLike) -> PresenceReport:
    """The report of one sequence.

    Args:
        overlaps: (N,) of the box with the truth; NaN where the target is absent.
        lost: (N,) bool, the tracker said "lost".
        tracked: (N,) bool, the tracker said "tracked".
    """
    overlaps = np.asarray(overlaps, np.float64)
    lost, tracked = np.asarray(lost, bool), np.asarray(tracked, bool)
    right = np.nan_to_num(overlaps) > GOOD_OVERLAP
    began = lost & ~np.concatenate([[False], lost[:-1]])
    long = [(a, b) for a, b in _stretches(np.isnan(overlaps)) if b - a >= LEAST_ABSENCE]
    absences = []
    for (start, stop), (following, _) in pairwise([*long, (len(overlaps), len(overlaps))]):
        found = _first(right[stop:following] & tracked[stop:following])
        enough = following - stop >= FOUND_IN_TIME
        absences.append(
            Absence(
                followed=bool(right[max(start - _FOLLOWED, 0) : start].any()),
                lost_after=_first(lost[start:stop]),
                found_after=found,
                judged=enough or found is not None,
            )
        )
    return PresenceReport(tuple(absences), int(right.sum()), int((began & right).sum()))


def _stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop of every run of true."""
    change = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _first(flags: NDArray[np.bool_]) -> int | None:
    """Number of the first true one, counted from 1."""
    return int(np.argmax(flags)) + 1 if flags.any() else None


def _share(delays: list[int | None], limit: int) -> str:
    in_time = sum(delay is not None and delay <= limit for delay in delays)
    percent = f"{100 * in_time / len(delays):.0f} %" if delays else "-"
    return f"{in_time} of {len(delays)} ({percent})"


def _median(delays: list[int | None]) -> str:
    known = [delay for delay in delays if delay is not None]
    return f"{np.median(known):g} frames where it happened" if known else "-"
