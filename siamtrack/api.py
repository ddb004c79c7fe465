"""Make trackers from weights, an engine and options, and track through a video."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from inspect import signature
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from siamtrack.engines import ModelSource, make_engine
from siamtrack.engines.base import Engine
from siamtrack.errors import ConfigError, explain_missing, shown
from siamtrack.models.unpacked_size import check_unpacked_size
from siamtrack.models.weights import open_weights, weights_text
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.old_names import rename_options
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions, TrackerOptions
from siamtrack.tracking.redetection import TimeBudget
from siamtrack.tracking.tracker import Tracker
from siamtrack.utils.config import whole_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siamtrack.tracking.result import Result
    from siamtrack.video.frames import Frame
    from siamtrack.video.source import Source, SourceName

DEFAULT_WEIGHTS = "siamtrack-lite0"
_CHECKPOINT_SUFFIXES = (".pth", ".pt", ".mat")


def load(
    weights: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    engine: str = "auto",
    threads: int = 0,
    **tracker_options: Any,
) -> Tracker:
    """Make a tracker.

    Args:
        weights: a name (`siamtrack info` lists them), a .safetensors file, or a SiamFC checkpoint
            of another project (.pth state dict, MatConvNet .mat); None for the default.
        device: "auto", "cpu", "cuda", "cuda:0" or "mps".
        engine: "auto" takes the fastest one for the device; or name one, see
            `siamtrack.engines.make_engine`.
        threads: CPU threads of the network; 0 for two, or one where there is one core. PyTorch has
            one number for the whole process, `torch.set_num_threads`.
        **tracker_options: fields of `BoxHeadOptions`, or of `ScalePyramidOptions` for SiamFC.
            What is not given comes from the weights' card, where it was tuned for them.

    Raises:
        WeightsError: the weights are missing, damaged or do not fit.
        ConfigError: an unknown option (with the nearest spelling) or a bad value.
        DeviceError: no such device on this machine.
        EngineError: an engine that is unknown or not installed.
        MissingPackageError: a checkpoint, and torch is not installed.
    """
    made, options = _prepare(weights, device, engine, threads, tracker_options)
    return Tracker(made, options)


def load_multi(
    weights: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    engine: str = "auto",
    threads: int = 0,
    **tracker_options: Any,
) -> MultiTracker:
    """Make a tracker for many targets; arguments and errors are those of `load`."""
    made, options = _prepare(weights, device, engine, threads, tracker_options)
    budget = TimeBudget(options.budget_ms / 1e3) if options.budget_ms > 0 else None
    return MultiTracker(partial(Tracker, made, options, budget), budget)


GivenBoxes: TypeAlias = (
    Sequence[Sequence[float]] | Mapping[int, Mapping[int, Sequence[float]]] | str | PathLike[str]
)
"""Boxes on the first frame; by frame and target; or a table of these."""


def track(
    source: Source | SourceName | Sequence[SourceName] | Iterable[NDArray[Any]],
    box: Sequence[float] | None = None,
    *,
    boxes: GivenBoxes | None = None,
    start_frame: int = 0,
    end_frame: int | None = None,
    start_s: float = 0.0,
    end_s: float = math.inf,
    every: int = 1,
    reverse: bool = False,
    source_options: Mapping[str, Any] | None = None,
    tracker: MultiTracker | None = None,
    **options: Any,
) -> Generator[tuple[Frame, dict[int, Result]], None, None]:
    """Track through a video, frame by frame.

    Closing the generator, or leaving it to be collected, closes the video and the engine.

    Example:
        >>> for frame, results in track("clip.mp4", (120, 80, 60, 90)):  # doctest: +SKIP
        ...     print(frame.index, frame.time_s, results[0].xyxy)

    Args:
        source: what `open_source` takes; or an open source, which stays open.
        box: x, y, w, h in px of the target on the first frame.
        boxes: several of them; or boxes by frame and target, `{0: {0: box}, 30: {0: correction}}`,
            where the first one starts a target and others correct it; or the path of a CSV with
            the columns frame, target, x, y, w, h that says the same. Give `box` or `boxes`.
        start_frame: number of the first frame, from 0.
        end_frame: number of the last one, included; None for the last there is.
        start_s: time of the first frame; the later one of both starts counts.
        end_s: time of the last one.
        every: track on one of so many frames.
        reverse: from the end to the start; the first frame is then the last of the video.
        source_options: arguments of `open_source`, such as `{"fps": 30}`.
        tracker: made by `load_multi` before, for many clips; its targets are forgotten.
        **options: arguments of `load_multi`: weights, engine, device and options of the tracker.

    Yields:
        Every frame from the first one with a box on, and the results by the targets' numbers; the
        first is the given box with score 1.

    Raises:
        ConfigError: neither or both of `box` and `boxes`, or an option that makes no sense.
        DatasetError: the table of boxes cannot be used.
        SiamTrackError: opening, reading or tracking failed; see `load` and `open_source`. Raised
            by the first step or a later one.
    """
    # `load` does without the libraries that read video.
    from siamtrack.video.run import follow, prefetch
    from siamtrack.video.source import Source, open_source
    from siamtrack.video.stretch import Stretch

    first, later = _given_boxes(box, boxes)
    part = Stretch(start_frame, end_frame, start_s, end_s, every, reverse)
    if tracker is not None and options:
        raise ConfigError(
            f"both a tracker and {', '.join(options)} are given; give options to load_multi"
        )

    if tracker is not None and not isinstance(tracker, MultiTracker):
        raise ConfigError(f"tracker is {shown(tracker)}; give one that load_multi made")
    opening = _opening(source_options)
    if opening and isinstance(source, Source):
        raise ConfigError(
            f"source is open already and {', '.join(opening)} is given; give it to open_source"
        )

    def frames_and_results() -> Generator[tuple[Frame, dict[int, Result]], None, None]:
        many = load_multi(**options) if tracker is None else tracker
        many.reset()
        with ExitStack() as stack:
            video = source
            if not isinstance(video, Source):
                video = stack.enter_context(open_source(video, **opening))
            # A camera's frames must not age in a queue.
            frames = part.frames_of(video)
            ahead = nullcontext(frames) if video.is_live else prefetch(frames)
            for frame, results in follow(stack.enter_context(ahead), many, first, later):
                if results:
                    yield frame, results

    return frames_and_results()


def _given_boxes(
    box: Sequence[float] | None, boxes: GivenBoxes | None
) -> tuple[Sequence[Sequence[float]], Mapping[int, Mapping[int, Sequence[float]]]]:
    """Boxes on the first frame, and those by frame and target; `box` and `boxes` as in `track`."""
    if (box is None) == (boxes is None):
        what = "neither box nor boxes is" if box is None else "both box and boxes are"
        raise ConfigError(f"{what} given; give one of them")
    first: Sequence[Sequence[float]] = [] if box is None else [box]
    later: Mapping[Any, Mapping[Any, Sequence[float]]] = {}
    if isinstance(boxes, str | PathLike):
        from siamtrack.video.tables import read_boxes

        later = read_boxes(Path(boxes))
    elif isinstance(boxes, Mapping):
        later = boxes
    elif isinstance(boxes, Iterable):
        first = list(boxes)
    is_by_target = all(isinstance(one, Mapping) for one in later.values())
    if not is_by_target or not (first or any(later.values())):
        raise ConfigError(
            f"boxes is {shown(boxes)}; give at least one box, or {{frame: {{target: box}}}}"
        )
    numbered: dict[int, dict[int, Sequence[float]]] = {}
    for frame, by_target in later.items():
        numbered[_number("frame", frame)] = {
            _number("target", target): one for target, one in by_target.items()
        }
    return first, numbered


def _number(what: str, value: Any) -> int:
    """A frame or target of `boxes`, of any type that counts."""
    number = whole_number(value) if isinstance(value, Real) else None
    if number is None or number < 0:
        raise ConfigError(
            f"boxes has the {what} {shown(value)}; give whole numbers from 0: "
            "{frame: {target: box}}"
        )
    return number


def _opening(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of `open_source`, all of which it has."""
    from siamtrack.video.source import open_source

    if not isinstance(given, Mapping | None):
        raise ConfigError(f'source_options is {shown(given)}; give a dict such as {{"fps": 30}}')
    _, *known = signature(open_source).parameters
    for name in given or ():
        if name not in known:
            raise ConfigError.unknown("argument of open_source", name, known)
    return dict(given or {})


def _prepare(
    weights: str | PathLike[str] | None,
    device: str,
    engine: str,
    threads: int,
    given: dict[str, Any],
) -> tuple[Engine, TrackerOptions]:
    source, tuned = read_source(DEFAULT_WEIGHTS if weights is None else weights)
    # Options first: a typo in one is reported before the engine is compiled.
    options = options_for(source, {**tuned, **rename_options(given)})
    return make_engine(source, engine=engine, device=device, threads=threads), options


def options_for(source: ModelSource, given: dict[str, Any]) -> TrackerOptions:
    """Tracker options of the kind that the network needs."""
    kind = ScalePyramidOptions if source.architecture == "siamfc" else BoxHeadOptions
    return kind.from_mapping(given)


def read_source(weights: str | PathLike[str]) -> tuple[ModelSource, dict[str, Any]]:
    """Weights, verified but not loaded, and the tracker options that were tuned for them."""
    if Path(weights_text(weights)).suffix.lower() in _CHECKPOINT_SUFFIXES:
        check_unpacked_size(Path(weights))  # which needs no torch
        with explain_missing("a SiamFC checkpoint"):
            from siamtrack.models.import_siamfc import read_siamfc  # imports torch

            return ModelSource(read_siamfc(weights)), {}
    file = open_weights(weights)
    tuned = rename_options(file.card.tracker, warn=False) if file.card else {}
    return ModelSource(file), tuned
