"""Many targets in one video: trackers that share an engine, which answers them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import starmap

from numpy.typing import ArrayLike

from siamtrack.crops import Image, check_frame
from siamtrack.engines.base import Job, track_each
from siamtrack.errors import ConfigError
from siamtrack.geometry import CropMap, FloatArray
from siamtrack.tracking.budget import Budget
from siamtrack.tracking.exclusion import Exclusion, Sight
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker


class MultiTracker:
    """Follows any number of targets.

    They share the network, and they exclude each other: targets that were apart do not end on one
    thing, however alike they are (see `siamtrack.tracking.exclusion`). Where none claims the place
    of another, the results are those of separate trackers.

    All search crops of a frame go through the network together: in one batch or, in OpenVINO, side
    by side, each as soon as it is cut. Targets may be added, started anew and removed between any
    two frames; numbers are never used twice.
    """

    def __init__(self, make_tracker: Callable[[], Tracker], budget: Budget | None = None) -> None:
        """Make a tracker without targets; `siamtrack.load_multi` is the short way.

        Args:
            make_tracker: returns new trackers, all on one engine and with this budget.
            budget: time for one frame; None for no limit.
        """
        self._make, self.budget = make_tracker, budget
        self._trackers: dict[int, Tracker] = {}
        self._exclusion = Exclusion()
        self._next = 0

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of the targets, in the order in which they were added."""
        return tuple(self._trackers)

    def add(self, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> int:
        """Start on one more target.

        Args:
            frame_bgr: see `Tracker.init`.
            box: see `Tracker.init`.

        Returns:
            The target's number.

        Raises:
            InvalidFrameError, InvalidBoxError: see `Tracker.init`; nothing is added then.
        """
        tracker = self._make()
        first = tracker.init(frame_bgr, box)
        target, self._next = self._next, self._next + 1
        self._exclusion.begin(target, first.box, self._boxes())
        self._trackers[target] = tracker
        return target

    def reinit(self, target: int, frame_bgr: Image, box: Sequence[float] | ArrayLike) -> Result:
        """Start a target anew under its number.

        Raises:
            ConfigError: there is no such target.
            InvalidFrameError, InvalidBoxError: see `Tracker.init`; the target stays as it was.
        """
        first = self._tracker(target).init(frame_bgr, box)
        others = {number: b for number, b in self._boxes().items() if number != target}
        self._exclusion.begin(target, first.box, others)
        return first

    def remove(self, target: int) -> None:
        """Forget a target.

        Raises:
            ConfigError: there is no such target (any more).
        """
        self._tracker(target)
        self._exclusion.forget(target)
        del self._trackers[target]

    def reset(self) -> None:
        """Forget all targets and count from 0 again."""
        self._trackers.clear()
        self._exclusion = Exclusion()
        self._next = 0

    def update(self, frame_bgr: Image) -> dict[int, Result]:
        """Find all targets in the next frame.

        Returns:
            A result for every target, by its number; empty without targets.

        Raises:
            InvalidFrameError: see `Tracker.update`.
        """
        if not self._trackers:
            return {}
        with self.budget.frame() if self.budget else nullcontext():
            return self._update(frame_bgr)

    def _update(self, frame_bgr: Image) -> dict[int, Result]:
        frame = check_frame(frame_bgr)  # here, so that a grey frame is converted only once
        maps: list[list[CropMap]] = []

        def looks() -> Iterator[Job]:
            for tracker in self._trackers.values():
                crops, own = tracker.look(frame)
                maps.append(own)
                yield tracker.exemplar, crops

        engine = next(iter(self._trackers.values())).engine
        sights: dict[int, Sight] = {}
        alone = len(self._trackers) == 1  # then all threads work on its crop
        responses = starmap(engine.track, looks()) if alone else track_each(engine, looks())
        for k, (response, target) in enumerate(zip(responses, self._trackers, strict=True)):
            sights[target] = Sight.of(self._trackers[target], response, maps[k])
        return self._exclusion.settle(sights)

    def _boxes(self) -> dict[int, FloatArray]:
        """Where the targets were last, xywh px."""
        states = {target: tracker.state for target, tracker in self._trackers.items()}
        return {target: state.box_xywh for target, state in states.items() if state is not None}

    def _tracker(self, target: int) -> Tracker:
        if target not in self._trackers:
            known = ", ".join(map(str, self._trackers)) or "none"
            raise ConfigError(f"target {target} does not exist; the targets are: {known}")
        return self._trackers[target]
