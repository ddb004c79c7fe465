"""How reliably a tracker reports that its target is gone, and how soon it finds it again.

An *absence* is a stretch of at least 15 frames in which the truth shows no target. Counted are
whether and when the status becomes "lost" after a disappearance, how often it does although the
box is right, and whether and when the target is tracked again after its return.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from siamtrack.data.sequence import VideoSequence
from siamtrack.evaluation.calibration import GOOD_OVERLAP
from siamtrack.evaluation.runs import track_sequence
from siamtrack.geometry import iou
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import BoolArray

MIN_ABSENCE = 15
"""Shortest absence in frames; over shorter ones a tracker does well to report nothing."""
LOST_WITHIN = 15
"""Frames within which a loss should be reported."""
FOUND_WITHIN = 30
"""Frames within which a target that is back should be tracked again."""
_BEFORE = 15  # frames before a disappearance in one of which the box must have been right


@dataclass(frozen=True, slots=True)
class Absence:
    """One disappearance and the tracker's reaction.

    Attributes:
        followed: the box was right shortly before; else the tracker cannot notice.
        lost_after: frames until "lost", 1 being the first without the target; None if the target
            returned before.
        found_after: frames from the return until the target was tracked again, 1 being the first
            with it; None if it left again before.
        judged: the return was followed by `FOUND_WITHIN` frames, or the target was found in fewer.
    """

    followed: bool
    lost_after: int | None
    found_after: int | None
    judged: bool


@dataclass(frozen=True, slots=True)
class AbsenceReport:
    """Absences, frames with a right box, and false alarms: "lost" begins in such a frame."""

    absences: tuple[Absence, ...] = ()
    right_frames: int = 0
    false_alarms: int = 0

    def __add__(self, other: AbsenceReport) -> AbsenceReport:
        return AbsenceReport(
            self.absences + other.absences,
            self.right_frames + other.right_frames,
            self.false_alarms + other.false_alarms,
        )

    def summary_lines(self) -> list[str]:
        """The report as text, one figure per line."""
        followed = [a for a in self.absences if a.followed]
        returns = [a for a in self.absences if a.judged]
        lost = [a.lost_after for a in self.absences]
        found = [a.found_after for a in returns]
        rate = 1000 * self.false_alarms / max(self.right_frames, 1)
        return [
            f"lost within {LOST_WITHIN} frames: {_share(lost, LOST_WITHIN)} of absences, "
            f"{_share([a.lost_after for a in followed], LOST_WITHIN)} of those from a right box; "
            f"median delay {_median(lost)}",
            f"false alarms: {self.false_alarms} in {self.right_frames} frames with a right box, "
            f"{rate:.2f} per 1,000",
            f"tracked again within {FOUND_WITHIN} frames: {_share(found, FOUND_WITHIN)} of "
            f"returns, {_share([a.found_after for a in returns if a.followed], FOUND_WITHIN)} of "
            f"those from a right box; median delay {_median(found)}",
        ]


def measure_absences(tracker: Tracker, sequences: Iterable[VideoSequence]) -> AbsenceReport:
    """Track sequences with truth once each; those that never show their target are left out."""
    report = AbsenceReport()
    for sequence in sequences:
        if sequence.visible.any():
            first, results = track_sequence(tracker, sequence)
            truth = sequence.boxes[first : first + len(results)]
            overlaps = iou([result.box for result in results], truth)
            status = np.array([result.status for result in results])
            report += count_absences(overlaps, status == "lost", status == "tracked")
    return report


def count_absences(overlaps: ArrayLike, lost: ArrayLike, tracked: ArrayLike) -> AbsenceReport:
    """The report of one sequence of N frames.

    Args:
        overlaps: (N,) of the box with the truth; NaN where the target is absent.
        lost: (N,) bool, the status is "lost".
        tracked: (N,) bool, the status is "tracked".
    """
    overlaps = np.asarray(overlaps, np.float64)
    lost, tracked = np.asarray(lost, bool), np.asarray(tracked, bool)
    right = np.nan_to_num(overlaps) > GOOD_OVERLAP
    lost_begins = lost & ~np.concatenate([[False], lost[:-1]])
    # Start and stop of every run of frames without the target.
    change = np.diff(np.concatenate([[0], np.isnan(overlaps).astype(np.int8), [0]]))
    runs = zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True)
    long = [(int(a), int(b)) for a, b in runs if b - a >= MIN_ABSENCE]
    absences = []
    for (start, stop), (next_start, _) in pairwise([*long, (len(overlaps), len(overlaps))]):
        found = _first(right[stop:next_start] & tracked[stop:next_start])
        absences.append(
            Absence(
                followed=bool(right[max(start - _BEFORE, 0) : start].any()),
                lost_after=_first(lost[start:stop]),
                found_after=found,
                judged=next_start - stop >= FOUND_WITHIN or found is not None,
            )
        )
    return AbsenceReport(tuple(absences), int(right.sum()), int((lost_begins & right).sum()))


def _first(flags: BoolArray) -> int | None:
    """Number of the first true one, counted from 1."""
    return int(np.argmax(flags)) + 1 if flags.any() else None


def _share(delays: list[int | None], limit: int) -> str:
    in_time = sum(delay is not None and delay <= limit for delay in delays)
    percent = f"{100 * in_time / len(delays):.0f} %" if delays else "-"
    return f"{in_time} of {len(delays)} ({percent})"


def _median(delays: list[int | None]) -> str:
    known = [delay for delay in delays if delay is not None]
    return f"{np.median(known):g} frames where it happened" if known else "-"
