"""Pictures of the moments in which a tracker loses its target.

In order: `lasting_failures` (when), `failure_strips` (rows of pictures for the page),
`trace_sequence` and `diagnose_failure` (what our own tracker saw, and what went wrong),
`write_gallery` (a picture of each of the worst sequences).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from siamtrack.evaluation.evaluate import Evaluation
from siamtrack.evaluation.report.plots import COLORS, figure_bytes, style
from siamtrack.evaluation.report.tables import markdown_table
from siamtrack.evaluation.runs import overlaps_of, start_sequence, success_auc
from siamtrack.evaluation.scores import SequenceScore, TrackerScores
from siamtrack.geometry import CropMap
from siamtrack.models.config import NetworkConfig
from siamtrack.tracking.result import Result
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import Float32Array, FloatArray, Image
from siamtrack.utils.files import atomic_write
from siamtrack.video.draw import draw_outlines

FAILED_OVERLAP = 0.1
"""Overlap below which a tracker is on something else."""
MIN_FRAMES = 5
"""Counted frames in a row below `FAILED_OVERLAP` that make a failure."""
OFFSETS = (-10, -3, 0, 5, 20)
"""Frames shown, relative to the first one of a failure."""


def lasting_failures(overlaps: FloatArray) -> list[tuple[int, int]]:
    """First frame and number of counted frames of each failure, from (N,) overlaps.

    Frames that do not count (NaN) neither make nor end a failure.
    """
    counted = np.flatnonzero(~np.isnan(overlaps))
    low = np.concatenate([[False], overlaps[counted] < FAILED_OVERLAP, [False]])
    turns = np.flatnonzero(low[1:] != low[:-1])
    runs = zip(turns[::2], turns[1::2], strict=True)
    return [(int(counted[a]), int(b - a)) for a, b in runs if b - a >= MIN_FRAMES]


# --- Strips for the page --------------------------------------------------------------------------

HEIGHT_PX = 150
JPEG_QUALITY = 82
TRUTH_BGR = (90, 220, 60)
BOX_BGR = (50, 60, 250)


def failure_strips(
    evaluation: Evaluation, trackers: Sequence[TrackerScores], limit: int
) -> list[dict[str, Any]]:
    """First failures on every tracker's worst sequences, at most `limit` per tracker.

    Returns:
        Per failure `tracker`, `sequence`, `frame` and `pictures`; each of those has `frame`,
        `overlap` (None if it does not count) and `url`, a JPEG as data URL.
    """
    strips = []
    for tracker in trackers:
        failed = []
        for name, score in tracker.sequences.items():
            if isinstance(score, SequenceScore) and (found := lasting_failures(score.overlaps)):
                failed.append((score.figures["average_overlap"], name, found[0][0]))
        for _, name, frame in sorted(failed)[:limit]:
            try:
                strips.append(_make_strip(evaluation, tracker, name, frame))
            except (SiamTrackError, OSError):
                # Frames that were removed since the run cost their strip, not the whole report.
                continue
    return strips


def _make_strip(
    evaluation: Evaluation, tracker: TrackerScores, name: str, frame: int
) -> dict[str, Any]:
    variant, store, key = evaluation.variants[0], evaluation.store, tracker.entry.key
    sequence = variant.view_of(evaluation.sequences[name])
    overlaps = tracker.sequences[name].overlaps
    rows = store.read(variant.name, key, name).boxes(store.boxes_path(variant.name, key, name))
    boxes = sequence.from_file(rows)
    # Results begin at `start`, the frames of a failure are counted from there.
    start = variant.start_frame(sequence.truth.visible)
    shown = sorted({int(np.clip(frame + offset, 0, len(boxes) - 1)) for offset in OFFSETS})
    images = sequence.frames.iterate([start + index for index in shown])
    pictures = []
    for index, image in zip(shown, images, strict=True):
        drawn = _draw_closeup(image, sequence.boxes_xywh[start + index], boxes[index])
        encoded, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not encoded:
            raise EvaluationError("a picture of the report cannot be encoded")
        url = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
        overlap = None if np.isnan(overlaps[index]) else float(overlaps[index])
        pictures.append({"frame": start + index, "overlap": overlap, "url": url})
    label = tracker.entry.label
    return {"tracker": label, "sequence": name, "frame": start + frame, "pictures": pictures}


def _draw_closeup(image: Image, truth: FloatArray, box: FloatArray) -> Image:
    """Truth and box over the part of the frame around both, resized to the strip's height."""
    left, top, right, bottom = view_around((truth, box), image)
    scale = HEIGHT_PX / (bottom - top)
    size_wh = (max(1, round((right - left) * scale)), HEIGHT_PX)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image[top:bottom, left:right], size_wh, interpolation=method)
    in_view = [((b - (left, top, 0, 0)) * scale, color)
               for b, color in ((truth, TRUTH_BGR), (box, BOX_BGR))]  # fmt: skip
    return draw_outlines(np.asarray(resized, dtype=np.uint8), in_view)


def view_around(boxes: Sequence[FloatArray], image: Image) -> tuple[int, int, int, int]:
    """4:3 window around finite boxes with a margin, at least a third of the frame, inside it."""
    height, width = image.shape[:2]
    known = np.array([b for b in boxes if np.isfinite(b).all()])
    low = np.min(known[:, :2], axis=0)
    high = np.max(known[:, :2] + known[:, 2:], axis=0)
    side = max(1.6 * (high[1] - low[1]), 1.2 * (high[0] - low[0]), height / 3)
    half_h = min(side, height) / 2
    half_w = min(half_h * 4 / 3, width / 2)
    center = (low + high) / 2
    x = float(np.clip(center[0], half_w, width - half_w))
    y = float(np.clip(center[1], half_h, height - half_h))
    left, top = int(x - half_w), int(y - half_h)
    return left, top, max(left + 1, int(x + half_w)), max(top + 1, int(y + half_h))


# --- What our tracker saw -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrameTrace:
    """Search windows of one frame and the responses in them."""

    logits: Float32Array  # (W, R, R), before sigmoid
    maps: tuple[CropMap, ...]

    def scores(self, number: int) -> FloatArray:
        """(R, R) response of a window between 0 and 1."""
        return expit(self.logits[number].astype(np.float64))

    def deciding_window(self, box_xywh: FloatArray) -> int:
        """The window with the highest peak among those that contain the center of a box."""
        center = box_xywh[:2] + box_xywh[2:] / 2
        candidates = [k for k, crop_map in enumerate(self.maps) if contains(crop_map, center)]
        return max(candidates or [0], key=lambda k: float(self.logits[k].max()))


@dataclass(frozen=True, slots=True)
class SequenceTrace:
    """One pass over a sequence."""

    sequence: VideoSequence
    first: int  # frame that tracking started on
    results: list[Result]  # (N,) from that frame on
    overlaps: FloatArray  # (N,) NaN on the first frame and where the target is absent
    frames: list[FrameTrace | None]  # (N,) None on the first frame
    fill_bgr: tuple[float, float, float]  # what the network saw outside the frame

    @property
    def success_auc(self) -> float:
        """Mean of the success curve."""
        return success_auc(self.overlaps)

    def box(self, index: int) -> FloatArray:
        """(4,) xywh px of result number `index`."""
        return np.array(self.results[index].box)

    def truth(self, index: int) -> FloatArray:
        """(4,) true xywh px for result number `index`; NaN where the target is absent."""
        return self.sequence.boxes[self.first + index]


def trace_sequence(tracker: Tracker, sequence: VideoSequence, max_frames: int = 0) -> SequenceTrace:
    """Record search windows and responses of every frame; else as `runs.track_sequence`."""
    first, images, first_result = start_sequence(tracker, sequence, max_frames)
    results, frames = [first_result], list[FrameTrace | None]([None])
    for image in images:
        # `Tracker.update` in its two halves.
        response, maps = tracker.search(image)
        frames.append(FrameTrace(np.array(response.score_logits), tuple(maps)))
        results.append(tracker.update_from_response(response, maps))
    fill_bgr = tracker.state.fill_bgr if tracker.state else (0.0, 0.0, 0.0)
    overlaps = overlaps_of(sequence, first, results)
    return SequenceTrace(sequence, first, results, overlaps, frames, fill_bgr)


def contains(crop_map: CropMap, point_xy: FloatArray) -> bool:
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


def diagnose_failure(trace: SequenceTrace, index: int, config: NetworkConfig) -> str:
    """Say what went wrong at a result that is not the first, as far as numbers show it."""
    frame, truth, box = trace.frames[index], trace.truth(index), trace.box(index)
    if frame is None or not np.isfinite(truth).all():
        return "there is nothing to compare with"
    number = frame.deciding_window(box)
    crop_map, scores = frame.maps[number], frame.scores(number)
    center = truth[:2] + truth[2:] / 2
    away = float((np.abs(center - box[:2] - box[2:] / 2) / truth[2:]).max())
    # 1. The network did not see the target.
    if not contains(crop_map, center):
        return f"the target is outside the search window, {away:.1f} of its sizes away"
    # 2. Something else has a higher response.
    row, column = cell_at(center, crop_map, len(scores), config)
    near = scores[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    peak, on_target = float(scores.max()), float(near.max())
    if on_target < peak:
        return f"the response is {peak:.2f} elsewhere and {on_target:.2f} on the target"
    # 3. The box did not follow the peak: cosine window, penalties or `min_peak`.
    if away > 0.5:
        return f"the peak is on the target ({on_target:.2f}), the box {away:.1f} of its sizes away"
    # 4. The size is wrong.
    size = box[2] * box[3] / (truth[2] * truth[3])
    return f"the peak is on the target ({on_target:.2f}); the box has {size:.2f} of its area"


# --- The gallery ----------------------------------------------------------------------------------

INDEX = "index.md"
MAX_FAILURES = 2
"""Rows of a picture: the longest failures, in order of time."""
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
    """Track every sequence once, draw the `worst` ones by success AUC; returns the index's path.

    Sequences that show the target in fewer than two frames are left out, those longer than
    `max_frames` (unless it is 0) cut. `out` gets a PNG per sequence and `index.md`.

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
    traces = []
    for sequence in tqdm(dataset, total=len(dataset), unit="sequence", disable=not progress):
        if sequence.visible.any():
            trace = trace_sequence(tracker, sequence, max_frames)
            if not np.isnan(trace.overlaps).all():
                traces.append(trace)
    if not traces:
        raise DatasetError(
            f"{dataset.spec} shows no target in two frames; give sequences with truth"
        )
    traces.sort(key=lambda trace: (trace.success_auc, trace.sequence.name))
    rows = []
    for trace in traces[:worst]:
        name = f"{trace.sequence.name.replace('/', '_')}.png"
        atomic_write(out / name, figure_bytes(draw_trace(trace, config), "png"))
        diagnoses = "; ".join(
            f"frame {trace.first + index}: {diagnose_failure(trace, index, config)}"
            for index in shown_failures(trace.overlaps)
        )
        figures = (f"{trace.success_auc:.3f}", f"{np.nanmean(trace.overlaps):.3f}")
        link = f"[{trace.sequence.name}]({name})"
        rows.append((link, *figures, str(len(trace.results)), diagnoses))
    headings = ("sequence", "success AUC", "AO", "frames", "what the numbers say")
    text = (
        f"The {min(worst, len(traces))} worst of {len(traces)} sequences by success AUC. Green is "
        "the truth, red the tracker's box, orange what it looked at."
    )
    atomic_write(out / INDEX, f"{text}\n\n{markdown_table(headings, rows, 'lrrrl')}\n")
    return out / INDEX


def shown_failures(overlaps: FloatArray) -> list[int]:
    """First frames of the longest failures in order; the worst frame where none lasts."""
    longest = sorted(lasting_failures(overlaps), key=lambda found: -found[1])[:MAX_FAILURES]
    return sorted(start for start, _ in longest) or [int(np.nanargmin(overlaps))]


def draw_trace(trace: SequenceTrace, config: NetworkConfig) -> Figure:
    """Frames and search windows around each failure, and overlap over time below."""
    rows, columns = shown_failures(trace.overlaps), len(OFFSETS)
    size = (PANEL_IN * columns, PANEL_IN * (1.85 * len(rows) + 0.75))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(2 * len(rows) + 1, columns, height_ratios=[3, 4] * len(rows) + [3])
    for row, start in enumerate(rows):
        shown = sorted({int(np.clip(start + o, 1, len(trace.results) - 1)) for o in OFFSETS})
        images = trace.sequence.iter_frames([trace.first + index for index in shown])
        for column, (index, image) in enumerate(zip(shown, images, strict=True)):
            _draw_frame(figure.add_subplot(grid[2 * row, column]), image, trace, index)
            axes = figure.add_subplot(grid[2 * row + 1, column])
            _draw_window(axes, image, trace, index, config)
    _draw_overlaps(figure.add_subplot(grid[-1, :]), trace, rows)
    names = {"truth": TRUTH, "tracker": BOX, "search windows": WINDOW}
    handles = [Line2D([], [], color=color, label=name) for name, color in names.items()]
    figure.legend(
        handles=handles, loc="outside upper right", ncols=len(names), frameon=False, fontsize=8
    )
    title = (
        f"{trace.sequence.name}, success AUC {trace.success_auc:.3f}; "
        f"frame {trace.first + rows[0]}: {diagnose_failure(trace, rows[0], config)}"
    )
    figure.suptitle(title, fontsize=10, ha="left", x=0.01)
    return figure


def _draw_frame(axes: Axes, image: Image, trace: SequenceTrace, index: int) -> None:
    """The part of the frame around truth, box and windows."""
    frame, truth, box = trace.frames[index], trace.truth(index), trace.box(index)
    windows = [_window_box(m) for m in frame.maps] if frame else []
    left, top, right, bottom = view_around((truth, box, *windows[:1]), image)
    _show(axes, image[top:bottom, left:right], (left, right, bottom, top))
    for window in windows:
        _add_box(axes, window, WINDOW, "--")
    _add_box(axes, truth, TRUTH)
    _add_box(axes, box, BOX)
    overlap, result = trace.overlaps[index], trace.results[index]
    counted = "absent" if np.isnan(overlap) else f"IoU {overlap:.2f}"
    axes.set_title(f"frame {trace.first + index}, {counted}, {result.status}", fontsize=8)


def _draw_window(
    axes: Axes, image: Image, trace: SequenceTrace, index: int, config: NetworkConfig
) -> None:
    """The deciding search window as the network saw it, under its response."""
    frame, box = trace.frames[index], trace.box(index)
    if frame is None:
        axes.set_visible(False)
        return
    number = frame.deciding_window(box)
    crop_map, scores = frame.maps[number], frame.scores(number)
    size = crop_map.size_px
    crop = crop_window(image, _window_box(crop_map), (size, size), fill_bgr=trace.fill_bgr)
    _show(axes, crop, (0, size, size, 0))
    # The response covers the middle of the window.
    half = len(scores) * config.total_stride / 2
    reach = (size / 2 - half, size / 2 + half)
    relative = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-12)
    axes.imshow(
        relative, cmap="turbo", alpha=0.1 + 0.55 * relative, extent=(*reach, *reach[::-1]), vmin=0
    )
    axes.set(xlim=(0, size), ylim=(size, 0))
    _add_box(axes, crop_map.to_crop(trace.truth(index)), TRUTH)
    _add_box(axes, crop_map.to_crop(box), BOX)
    which = f", window {number + 1} of {len(frame.maps)}" if len(frame.maps) > 1 else ""
    axes.set_title(f"response up to {scores.max():.2f}{which}", fontsize=8)


def _window_box(crop_map: CropMap) -> FloatArray:
    side = crop_map.size_px * crop_map.scale
    return np.array([*crop_map.origin_xy, side, side])


def _show(axes: Axes, image: Image, extent: tuple[float, float, float, float]) -> None:
    axes.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), extent=extent)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])


def _add_box(axes: Axes, box: FloatArray, color: str, line: str = "-") -> None:
    if np.isfinite(box).all():
        x, y, w, h = box.tolist()
        axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=color, lw=1.4, ls=line))


def _draw_overlaps(axes: Axes, trace: SequenceTrace, rows: Sequence[int]) -> None:
    """Overlap and score over time, the failures marked."""
    style(axes, "", "frame", "")
    frames = trace.first + np.arange(len(trace.results))
    scores = [result.score for result in trace.results]
    axes.plot(frames, scores, color="0.7", linewidth=0.8, label="score")
    axes.plot(frames, trace.overlaps, color=COLORS[1], linewidth=1.3, label="overlap")
    lost = np.array([result.status == "lost" for result in trace.results])
    axes.fill_between(frames, 0, 1, where=lost, color="0.92", linewidth=0, label="status lost")
    for start in rows:
        axes.axvline(trace.first + start, color=BOX, linewidth=1, linestyle="--")
    axes.set(xlim=(frames[0], frames[-1]), ylim=(0, 1))
    axes.legend(fontsize=7, frameon=False, loc="upper right", ncols=3)
