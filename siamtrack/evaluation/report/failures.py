"""Pictures of the moments in which a tracker loses its target."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from scipy.special import expit
from tqdm import tqdm

from siamtrack.crops import crop_window
from siamtrack.data.sequence import Dataset, VideoSequence
from siamtrack.errors import ConfigError, DatasetError, EvaluationError, SiamTrackError
from siamtrack.evaluation.datasets import EvalSequence
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.report.plots import COLOURS, figure_bytes, style
from siamtrack.evaluation.runs import overlaps_of, start_sequence, success_auc
from siamtrack.evaluation.scores import SequenceScore, TrackerScores
from siamtrack.geometry import CropMap
from siamtrack.models.config import NetworkConfig
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import Float32Array, FloatArray, Image
from siamtrack.utils.files import atomic_write

COLLAPSED = 0.1
"""Overlap below which a tracker is on something else."""
LASTS = 5
"""Counted frames in a row for which it must stay there, so that a blink is no collapse."""
OFFSETS = (-10, -3, 0, 5, 20)
"""Frames shown, relative to the collapse."""
HEIGHT_PX = 150
JPEG_QUALITY = 82
TRUTH_BGR = (90, 220, 60)
BOX_BGR = (50, 60, 250)


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame of a strip: its number, overlap (None if it does not count), JPEG as data URL."""

    frame: int
    overlap: float | None
    url: str


@dataclass(frozen=True, slots=True)
class Strip:
    """One collapse of one tracker."""

    tracker: str
    sequence: str
    frame: int
    pictures: Sequence[Picture]


def collapse(overlaps: FloatArray) -> int | None:
    """First frame of the first lasting collapse, or None; see `collapses`."""
    return next((start for start, _ in collapses(overlaps)), None)


def collapses(overlaps: FloatArray) -> list[tuple[int, int]]:
    """Lasting collapses: the first frame and the number of counted frames of each.

    Args:
        overlaps: (N,) NaN where the frame does not count; such frames neither make nor break one.
    """
    counted = np.flatnonzero(~np.isnan(overlaps))
    low = np.concatenate([[False], overlaps[counted] < COLLAPSED, [False]])
    turns = np.flatnonzero(low[1:] != low[:-1])
    runs = zip(turns[::2], turns[1::2], strict=True)
    return [(int(counted[a]), int(b - a)) for a, b in runs if b - a >= LASTS]


def failure_strips(
    evaluation: Evaluation, trackers: Sequence[TrackerScores], limit: int
) -> list[Strip]:
    """Strips of every tracker's worst sequences, at most `limit` per tracker."""
    strips: list[Strip] = []
    for tracker in trackers:
        found = _collapses(tracker.sequences)
        for name, frame in found[:limit]:
            try:
                strips.append(_strip(evaluation, tracker, name, frame))
            except (SiamTrackError, OSError):
                # Frames that have gone since the run do not keep the figures from being reported.
                continue
    return strips


def _collapses(scores: Mapping[str, object]) -> list[tuple[str, int]]:
    found = []
    for name, score in scores.items():
        if isinstance(score, SequenceScore):
            frame = collapse(score.overlaps)
            if frame is not None:
                found.append((score.average_overlap, name, frame))
    return [(name, frame) for _, name, frame in sorted(found)]


def _strip(evaluation: Evaluation, tracker: TrackerScores, name: str, frame: int) -> Strip:
    variant = evaluation.variants[0]
    sequence = evaluation.sequences[name]
    store, key = evaluation.store, tracker.entry.key
    run = store.read(variant.name, key, name)
    start = variant.start_frame(sequence.truth.visible)
    boxes = sequence.from_file(run.boxes(store.boxes_path(variant.name, key, name)))
    score = tracker.sequences[name]
    shown = sorted({int(np.clip(frame + offset, 0, len(boxes) - 1)) for offset in OFFSETS})
    images = sequence.frames.iterate([start + index for index in shown])
    pictures = [
        Picture(
            start + index,
            None if np.isnan(score.overlaps[index]) else float(score.overlaps[index]),
            _url(_drawn(image, sequence, start + index, boxes[index])),
        )
        for index, image in zip(shown, images, strict=True)
    ]
    return Strip(tracker.entry.label, name, start + frame, pictures)


def _drawn(image: Image, sequence: EvalSequence, frame: int, box: FloatArray) -> Image:
    """Truth and box over the part of the frame around both, enlarged or shrunk to the strip."""
    truth = sequence.boxes_xywh[frame]
    seen = [b for b in (truth, box) if np.isfinite(b).all()]
    left, top, right, bottom = view_around(seen, (image.shape[1], image.shape[0]))
    scale = HEIGHT_PX / (bottom - top)
    size = (max(1, round((right - left) * scale)), HEIGHT_PX)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    made = cv2.resize(image[top:bottom, left:right], size, interpolation=method)
    for b, colour in ((truth, TRUTH_BGR), (box, BOX_BGR)):
        if np.isfinite(b).all():
            corner = (b[:2] - (left, top)) * scale
            far = corner + b[2:] * scale
            start, end = (tuple(int(v) for v in np.rint(p)) for p in (corner, far))
            cv2.rectangle(made, start, end, (0, 0, 0), 4, cv2.LINE_AA)
            cv2.rectangle(made, start, end, colour, 2, cv2.LINE_AA)
    return np.asarray(made, dtype=np.uint8)


def view_around(
    boxes: Sequence[FloatArray], frame_wh: tuple[int, int]
) -> tuple[int, int, int, int]:
    """4:3 window around `boxes` with room about them, at least a third of the frame, inside it."""
    width, height = frame_wh
    low = np.min([b[:2] for b in boxes], axis=0)
    high = np.max([b[:2] + b[2:] for b in boxes], axis=0)
    side = max(1.6 * (high[1] - low[1]), 1.2 * (high[0] - low[0]), height / 3)
    half_h = min(side, height) / 2
    half_w = min(half_h * 4 / 3, width / 2)
    centre = (low + high) / 2
    x = float(np.clip(centre[0], half_w, width - half_w))
    y = float(np.clip(centre[1], half_h, height - half_h))
    left, top = int(x - half_w), int(y - half_h)
    return left, top, max(left + 1, int(x + half_w)), max(top + 1, int(y + half_h))


def _url(image: Image) -> str:
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded:
        raise EvaluationError("a picture of the report cannot be encoded")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


_CENTRED = 0.5
"""Distance of a box from the target, in sizes of the target, up to which it is on it."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a tracker saw in one frame.

    Attributes:
        logits: (W, R, R) response of every window that was looked at, before sigmoid.
        maps: of the windows.
    """

    logits: Float32Array
    maps: tuple[CropMap, ...]

    def scores(self, number: int) -> FloatArray:
        """(R, R) response of a window between 0 and 1, as the network gave it."""
        return expit(self.logits[number].astype(np.float64))

    def deciding(self, box_xywh: FloatArray) -> int:
        """Number of the window with the highest peak of those that hold the centre of a box."""
        centre = box_xywh[:2] + box_xywh[2:] / 2
        holding = [k for k, crop_map in enumerate(self.maps) if holds(crop_map, centre)]
        return max(holding or [0], key=lambda k: float(self.logits[k].max()))


@dataclass(frozen=True, slots=True)
class Watched:
    """One pass over a sequence.

    Attributes:
        sequence: that was followed.
        first: frame that it was begun on.
        results: (N,) from that frame on.
        overlaps: (N,) NaN on the first frame and where the target is absent.
        sights: (N,) None on the first frame.
        fill_bgr: colour that the network saw outside the frame.
    """

    sequence: VideoSequence
    first: int
    results: list[Result]
    overlaps: FloatArray
    sights: list[Sight | None]
    fill_bgr: tuple[float, float, float]

    @property
    def success_auc(self) -> float:
        """See `siamtrack.evaluation.runs.success_auc`."""
        return success_auc(self.overlaps)

    @property
    def average_overlap(self) -> float:
        """Mean over the frames that count."""
        return float(np.nanmean(self.overlaps))

    def box(self, index: int) -> FloatArray:
        """(4,) xywh px that the tracker gave for result number `index`."""
        return np.array(self.results[index].box)

    def truth(self, index: int) -> FloatArray:
        """(4,) true xywh px for result number `index`; NaN where the target is absent."""
        return self.sequence.boxes[self.first + index]


def watch(tracker: Tracker, sequence: VideoSequence, max_frames: int = 0) -> Watched:
    """Follow as `siamtrack.evaluation.runs.track_sequence` does, and keep what the tracker saw.

    Args:
        tracker: whatever it tracked before is forgotten.
        sequence: shows its target at least once.
        max_frames: frames that are tracked, the first included; 0 for all.
    """
    first, images, begun = start_sequence(tracker, sequence, max_frames)
    results = [begun]
    sights: list[Sight | None] = [None]
    for image in images:
        result, sight = _update(tracker, image)
        results.append(result)
        sights.append(sight)
    fill_bgr = tracker.state.fill_bgr if tracker.state else (0.0, 0.0, 0.0)
    overlaps = overlaps_of(sequence, first, results)
    return Watched(sequence, first, results, overlaps, sights, fill_bgr)


def _update(tracker: Tracker, image: Image) -> tuple[Result, Sight]:
    """`Tracker.update` in its two halves."""
    crops, maps = tracker.crop_search_windows(image)
    response = tracker.engine.track(tracker.exemplar, crops)
    sight = Sight(np.array(response.score_logits), tuple(maps))
    return tracker.update_from_response(response, maps), sight


def holds(crop_map: CropMap, point_xy: FloatArray) -> bool:
    """Whether a point of the frame is inside a window."""
    inside = (point_xy - np.array(crop_map.origin_xy)) / crop_map.scale
    return bool(((inside >= 0) & (inside < crop_map.size_px)).all())


def cell_at(
    point_xy: FloatArray, crop_map: CropMap, cells: int, config: NetworkConfig
) -> tuple[int, int]:
    """Row and column of the response's cell nearest to a point of the frame."""
    inside = (point_xy - np.array(crop_map.origin_xy)) / crop_map.scale
    number = (inside - crop_map.size_px / 2) / config.total_stride + (cells - 1) / 2
    column, row = np.clip(np.rint(number), 0, cells - 1).astype(int).tolist()
    return row, column


def explain(watched: Watched, index: int, config: NetworkConfig) -> str:
    """What went wrong in a frame, as far as numbers say.

    The target is out of sight, something else responds more, the box did not follow the peak (the
    cosine window, penalties or `min_peak` had more to say), or the box has the wrong size.

    Args:
        watched: one pass.
        index: number of a result; the target is there and it is not the first.
        config: of the tracker's network.
    """
    sight, truth, box = watched.sights[index], watched.truth(index), watched.box(index)
    if sight is None or not np.isfinite(truth).all():
        return "there is nothing to compare with"
    number = sight.deciding(box)
    crop_map, scores = sight.maps[number], sight.scores(number)
    centre = truth[:2] + truth[2:] / 2
    away = float((np.abs(centre - box[:2] - box[2:] / 2) / truth[2:]).max())
    if not holds(crop_map, centre):
        return f"the target is outside the search window, {away:.1f} of its sizes away"
    row, column = cell_at(centre, crop_map, len(scores), config)
    near = scores[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    there, here = float(scores.max()), float(near.max())
    if here < there:
        return f"the response is {there:.2f} elsewhere and {here:.2f} on the target"
    if away > _CENTRED:
        return f"the peak is on the target ({here:.2f}), the box {away:.1f} of its sizes away"
    size = box[2] * box[3] / (truth[2] * truth[3])
    return f"the peak is on the target ({here:.2f}); the box has {size:.2f} of its area"


INDEX = "index.md"
COLLAPSES = 2
"""Rows of a picture: the longest collapses, in order of time."""
PANEL_IN = 2.5
TRUTH, BOX, WINDOW = "#3cdc5a", "#fa3c32", "#ffb000"


def write_gallery(
    tracker: Tracker,
    dataset: Dataset,
    out: Path,
    *,
    worst: int = 5,
    max_frames: int = 0,
    progress: bool = False,
) -> Path:
    """Track every sequence once and draw the worst ones.

    Args:
        tracker: to be watched.
        dataset: sequences; those whose target is not seen in two frames are left out.
        out: folder that gets a PNG per sequence and `index.md`.
        worst: how many sequences, those with the lowest success AUC.
        max_frames: of each sequence; 0 for all.
        progress: draw a bar on standard error.

    Returns:
        The index.

    Raises:
        ConfigError: no sequence is asked for.
        DatasetError: no sequence is left, or one cannot be read.
        OutputError: the folder cannot be written.
    """
    if worst < 1 or max_frames < 0:
        raise ConfigError(
            f"worst is {worst}, max_frames {max_frames}; give 1 or more and 0 or more"
        )
    config = tracker.engine.config
    seen = []
    for sequence in tqdm(dataset, total=len(dataset), unit="sequence", disable=not progress):
        if sequence.visible.any():
            watched = watch(tracker, sequence, max_frames)
            if not np.isnan(watched.overlaps).all():
                seen.append(watched)
    if not seen:
        raise DatasetError(
            f"{dataset.spec} shows no target in two frames; give sequences with truth"
        )
    seen.sort(key=lambda watched: (watched.success_auc, watched.sequence.name))
    lines = [
        f"The {min(worst, len(seen))} worst of {len(seen)} sequences by success AUC. Green is the "
        "truth, red the tracker's box, orange what it looked at.",
        "",
        "| sequence | success AUC | AO | frames | what the numbers say |",
        "|---|---:|---:|---:|---|",
    ]
    for watched in seen[:worst]:
        name = f"{watched.sequence.name.replace('/', '_')}.png"
        atomic_write(out / name, figure_bytes(draw(watched, config), "png"))
        said = "; ".join(
            f"frame {watched.first + index}: {explain(watched, index, config)}"
            for index in moments(watched.overlaps)
        )
        lines.append(
            f"| [{watched.sequence.name}]({name}) | {watched.success_auc:.3f} "
            f"| {watched.average_overlap:.3f} | {len(watched.results)} | {said} |"
        )
    atomic_write(out / INDEX, "\n".join(lines) + "\n")
    return out / INDEX


def moments(overlaps: FloatArray) -> list[int]:
    """First frames of the longest collapses in order; the worst frame where nothing collapses.

    Args:
        overlaps: (N,) NaN where a frame does not count; at least one does.
    """
    longest = sorted(collapses(overlaps), key=lambda found: -found[1])[:COLLAPSES]
    return sorted(start for start, _ in longest) or [int(np.nanargmin(overlaps))]


def draw(watched: Watched, config: NetworkConfig) -> Figure:
    """The picture of a sequence.

    Args:
        watched: one pass.
        config: of the tracker's network.

    Raises:
        DatasetError: a frame cannot be read.
    """
    rows, columns = moments(watched.overlaps), len(OFFSETS)
    size = (PANEL_IN * columns, PANEL_IN * (1.85 * len(rows) + 0.75))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(2 * len(rows) + 1, columns, height_ratios=[3, 4] * len(rows) + [3])
    for row, moment in enumerate(rows):
        shown = sorted({int(np.clip(moment + o, 1, len(watched.results) - 1)) for o in OFFSETS})
        images = watched.sequence.iter_frames([watched.first + index for index in shown])
        for column, (index, image) in enumerate(zip(shown, images, strict=True)):
            _frame(figure.add_subplot(grid[2 * row, column]), image, watched, index)
            axes = figure.add_subplot(grid[2 * row + 1, column])
            _window(axes, image, watched, index, config)
    _overlaps(figure.add_subplot(grid[-1, :]), watched, rows)
    names = {"truth": TRUTH, "tracker": BOX, "search windows": WINDOW}
    figure.legend(
        handles=[Line2D([], [], color=colour, label=name) for name, colour in names.items()],
        loc="outside upper right",
        ncols=len(names),
        frameon=False,
        fontsize=8,
    )
    figure.suptitle(
        f"{watched.sequence.name}, success AUC {watched.success_auc:.3f}; "
        f"frame {watched.first + rows[0]}: {explain(watched, rows[0], config)}",
        fontsize=10,
        ha="left",
        x=0.01,
    )
    return figure


def _frame(axes: Axes, image: Image, watched: Watched, index: int) -> None:
    """The part of the frame around truth, box and windows."""
    sight = watched.sights[index]
    truth, box = watched.truth(index), watched.box(index)
    windows = [_square(m) for m in sight.maps] if sight else []
    boxes = [b for b in (truth, box, *windows[:1]) if np.isfinite(b).all()]
    left, top, right, bottom = view_around(boxes, (image.shape[1], image.shape[0]))
    _show(axes, image[top:bottom, left:right], (left, right, bottom, top))
    for window in windows:
        _rectangle(axes, window, WINDOW, "--")
    _rectangle(axes, truth, TRUTH)
    _rectangle(axes, box, BOX)
    overlap, result = watched.overlaps[index], watched.results[index]
    counted = "absent" if np.isnan(overlap) else f"IoU {overlap:.2f}"
    axes.set_title(f"frame {watched.first + index}, {counted}, {result.status}", fontsize=8)


def _window(axes: Axes, image: Image, watched: Watched, index: int, config: NetworkConfig) -> None:
    """The search window that decided, as the network saw it, under its response."""
    sight, box = watched.sights[index], watched.box(index)
    if sight is None:
        axes.set_visible(False)
        return
    number = sight.deciding(box)
    crop_map = sight.maps[number]
    size = crop_map.size_px
    crop = crop_window(image, _square(crop_map), (size, size), fill_bgr=watched.fill_bgr)
    _show(axes, crop, (0, size, size, 0))
    scores = sight.scores(number)
    half = len(scores) * config.total_stride / 2
    reach = (size / 2 - half, size / 2 + half)
    relative = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-12)
    axes.imshow(
        relative, cmap="turbo", alpha=0.1 + 0.55 * relative, extent=(*reach, *reach[::-1]), vmin=0
    )
    axes.set(xlim=(0, size), ylim=(size, 0))
    _rectangle(axes, crop_map.to_crop(watched.truth(index)), TRUTH)
    _rectangle(axes, crop_map.to_crop(box), BOX)
    which = f", window {number + 1} of {len(sight.maps)}" if len(sight.maps) > 1 else ""
    axes.set_title(f"response up to {scores.max():.2f}{which}", fontsize=8)


def _square(crop_map: CropMap) -> FloatArray:
    side = crop_map.size_px * crop_map.scale
    return np.array([*crop_map.origin_xy, side, side])


def _show(axes: Axes, image: Image, extent: tuple[float, float, float, float]) -> None:
    axes.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), extent=extent)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])


def _rectangle(axes: Axes, box: FloatArray, colour: str, line: str = "-") -> None:
    if np.isfinite(box).all():
        corner = (float(box[0]), float(box[1]))
        axes.add_patch(
            Rectangle(corner, box[2], box[3], fill=False, edgecolor=colour, lw=1.4, ls=line)
        )


def _overlaps(axes: Axes, watched: Watched, rows: Sequence[int]) -> None:
    """Overlap and score over time, the collapses marked."""
    style(axes, "", "frame", "")
    frames = watched.first + np.arange(len(watched.results))
    scores = [result.score for result in watched.results]
    axes.plot(frames, scores, color="0.7", linewidth=0.8, label="score")
    axes.plot(frames, watched.overlaps, color=COLOURS[1], linewidth=1.3, label="overlap")
    lost = np.array([result.status == "lost" for result in watched.results])
    axes.fill_between(frames, 0, 1, where=lost, color="0.92", linewidth=0, label="status lost")
    for moment in rows:
        axes.axvline(watched.first + moment, color=BOX, linewidth=1, linestyle="--")
    axes.set(xlim=(frames[0], frames[-1]), ylim=(0, 1))
    axes.legend(fontsize=7, frameon=False, loc="upper right", ncols=3)
