"""Pseudo-labels: a data set from clips without boxes (`siamtrack pseudo-label`).

The folder opens as `folder:OUT`. It holds

- `NAME.mp4` (a link to the clip) and `NAME.csv`, the boxes of its objects, for clips with any;
- `sheets/NAME.0.jpg`, a contact sheet of every object, to be looked at;
- `reports/NAME.json` for every clip, and `reports/report.csv` with a line per start box;
- `settings.json`, which a later run is compared with.

Frames without a box are not annotated, which the format cannot tell from an absent target: the
labels are made for training, not for evaluation.
"""

from __future__ import annotations

import csv
import dataclasses
import glob
import hashlib
import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from siamtrack.data.formats.folder import list_clips, open_frames
from siamtrack.data.pseudo.agreement import find_runs, track_back, track_out
from siamtrack.data.pseudo.start_boxes import Candidate, FrameCues, find_cues, shrink
from siamtrack.errors import DatasetError, OutputError
from siamtrack.tracking.tracker import Tracker
from siamtrack.types import FloatArray, Image
from siamtrack.utils.config import check_ranges, ranged
from siamtrack.utils.files import atomic_write
from siamtrack.utils.images import list_images, stamp_source
from siamtrack.video.decode import VIDEO_SUFFIXES
from siamtrack.video.draw import draw_outlines
from siamtrack.video.frames import DEFAULT_FPS
from siamtrack.video.random_access import Frames, VideoFile
from siamtrack.video.run import defer_interrupts

logger = logging.getLogger(__name__)

SETTINGS, REPORT = "settings.json", "report.csv"
SHEETS, REPORTS = "sheets", "reports"
FORMAT = 1
"""Increase it when the same settings would give other labels."""

_TRACK_SIDE_PX = 960  # larger frames are shrunk: they are all in memory
_FLOW_S = 0.1  # between a frame and those its motion is measured to
_NEAR_FRAMES = 3  # a box is compared with one of a frame as near as that
_SHEET_TILES, _TILE_WH = 8, (320, 240)
_COLUMNS = (
    "clip", "result", "start_frame", "cue", "cue_score", "x", "y", "w", "h",
    "tracked", "support", "agreeing", "agreement", "kept", "targets",
)  # fmt: skip


Table: TypeAlias = dict[int, tuple[FloatArray, float, float]]
"""Box, score and agreement of an object by frame number."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PseudoLabelConfig:
    """How clips are labeled.

    Attributes:
        max_boxes: start boxes tried in one clip. Raising it finds more objects and more mistakes.
        max_frames: most frames tracked from a start box, in either direction of time.
        every: every which frame is tracked. Raising it saves time and loses fast objects.
        samples: frames of a clip in which start boxes are looked for.
        min_agreement: least IoU of tracking out and back. Raising it keeps fewer, better boxes.
        min_score: least score, both ways, of a box that is kept.
        min_run: least number of tracked frames in a row that are kept. Every run is a target of its
            own, since what is between may have swapped the object.
        min_support: least part of the sampled frames in which motion or saliency, too, finds the
            tracked object. Raising it drops boxes on background and on parts of objects.
    """

    max_boxes: int = ranged(3, 1, 100)
    max_frames: int = ranged(150, 2, 100_000)
    every: int = ranged(1, 1, 100)
    samples: int = ranged(8, 2, 1000)
    min_agreement: float = ranged(0.6, 0.0, 1.0)
    min_score: float = ranged(0.5, 0.0, 1.0)
    min_run: int = ranged(8, 2, 100_000)
    min_support: float = ranged(0.4, 0.0, 1.0)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclasses.dataclass(frozen=True, slots=True)
class PseudoLabelReport:
    """Result of `pseudo_label`: counts over all clips of the folder."""

    clips: int
    labeled_clips: int
    start_boxes: int
    kept_boxes: int  # start boxes that gave a target or more
    targets: int
    tracked_frames: int
    kept_frames: int
    results: Mapping[str, int]  # number of clips by outcome


def find_clips(patterns: Iterable[str], out: Path | None = None) -> dict[str, Path]:
    """Clips by the names of their labels.

    Args:
        patterns: videos, folders (of images, or of clips at any depth) and glob patterns.
        out: folder of labels, which may lie among the clips and is passed over.

    Raises:
        DatasetError: one matches no clip, two clips have the same name, or one cannot be used.
    """
    clips: dict[str, Path] = {}
    for text in patterns:
        path = Path(text).expanduser()
        paths = [path] if path.exists() else [Path(p) for p in glob.glob(str(path), recursive=True)]
        found = [
            clip
            for p in sorted(paths)
            for clip in list_clips(p)
            if out is None or out.absolute() not in clip.absolute().parents
        ]
        if not found:
            raise DatasetError(
                f"{text} matches no clip; give videos ({', '.join(sorted(VIDEO_SUFFIXES))}), "
                "folders of images, folders of those, or a pattern in quotes"
            )
        for clip in found:
            name = clip.name if clip.is_dir() else clip.stem
            other = clips.setdefault(name, clip)
            if other.resolve() != clip.resolve():
                raise DatasetError(
                    f"{other} and {clip} have the same name; rename one, or label them into two "
                    "folders"
                )
    for name in (SHEETS, REPORTS):
        if name in clips and clips[name].is_dir():
            raise DatasetError(f"{clips[name]} has a name that the labels need; rename it")
    return clips


def pseudo_label(
    clips: Mapping[str, Path],
    out: Path,
    tracker: Tracker,
    config: PseudoLabelConfig,
    *,
    settings: Mapping[str, Any] | None = None,
    on_clip: Callable[[str, str], object] | None = None,
) -> PseudoLabelReport:
    """Label clips, skipping those that an earlier run with the same settings has finished.

    Args:
        clips: files and folders of images by name, as `find_clips` gives them.
        out: folder to write to; made if it is missing.
        tracker: follows the objects.
        config: how.
        settings: further facts that the labels depend on, such as the weights; plain data.
        on_clip: called with the name of each clip and its outcome.

    Raises:
        OutputError: the folder holds something else or labels with other settings, or cannot be
            written.
    """
    _open_folder(out, json.loads(json.dumps({
        "format": FORMAT, **dataclasses.asdict(config), **(settings or {}),
    })))  # fmt: skip
    for name, clip in clips.items():
        path = out / REPORTS / f"{name}.json"
        report = _read_report(path, clip) if path.exists() else None
        files = _fingerprint(clip)
        # Reports of older versions lack the files.
        if report is not None and report.get("files", files) != files:
            logger.warning("clip %s has changed since it was labeled; it is labeled anew", name)
            _remove_labels(name, clip, out)
            report = None
        if report is None or report["result"] == "unreadable":  # it may have been mended
            report = _label_clip(name, clip, files, out, tracker, config)
            with defer_interrupts():
                atomic_write(path, json.dumps(report, indent=1) + "\n")
                _write_table(out)
        if report["result"] == "unreadable":
            logger.warning("clip %s is left out: %s", name, report["error"])
        if on_clip is not None:
            on_clip(name, report["result"])
    return _summarize(_write_table(out))


# -- One clip


def _label_clip(
    name: str, clip: Path, files: str, out: Path, tracker: Tracker, config: PseudoLabelConfig
) -> dict[str, Any]:
    """Label a clip, write its boxes and sheets, and return its report.

    `files` is the `_fingerprint` of the clip.
    """
    report: dict[str, Any] = {
        "clip": str(clip.resolve()),
        "files": files,
        "result": "",
        "start_boxes": [],
    }
    try:
        frames = open_frames(clip)
        report["frames"] = len(frames)
        samples = _sample_cues(frames, config)
        tables: list[Table] = []
        for number, candidate in _rank_candidates(samples):
            if len(report["start_boxes"]) == config.max_boxes:
                break
            if any(_is_same(table, number, candidate.box_xywh) for table in tables):
                continue
            kept, facts = _track_candidate(frames, number, candidate, samples, tracker, config)
            facts["targets"] = list(range(len(tables), len(tables) + len(kept)))
            tables += kept
            report["start_boxes"].append(facts)
    except DatasetError as error:
        return {**report, "result": "unreadable", "error": str(error)}
    report["result"] = "labeled" if tables else "nothing kept" if samples else "no motion"
    if tables:
        with defer_interrupts():
            _write_labels(name, clip, out, frames, tables)
    return report


def _sample_cues(frames: Frames, config: PseudoLabelConfig) -> dict[int, FrameCues]:
    """Cues of spread frames that are not still, by frame number."""
    fps = (frames.fps if isinstance(frames, VideoFile) else None) or DEFAULT_FPS
    gap = max(1, min(round(_FLOW_S * fps), (len(frames) - 1) // 4))
    if len(frames) < 2 * gap + 1:
        return {}
    spread = np.linspace(gap, len(frames) - 1 - gap, config.samples + 2)[1:-1]
    numbers = sorted({int(n) for n in spread.round()})
    wanted = sorted({n + shift for n in numbers for shift in (-gap, 0, gap)})
    seen: dict[int, Image] = {}
    samples = {}
    for number, picture in zip(wanted, frames.iterate(wanted), strict=True):
        seen[number] = picture
        middle = number - gap
        if middle in numbers:
            triple = [seen[n] for n in (middle - gap, middle, number)]
            seen = {n: p for n, p in seen.items() if n > middle - gap}
            cues = find_cues(*triple) if len({p.shape for p in triple}) == 1 else None
            if cues is not None:
                samples[middle] = cues
    return samples


def _rank_candidates(
    samples: Mapping[int, FrameCues],
) -> list[tuple[int, Candidate]]:
    """Candidates with the numbers of their frames, in the order in which they are tracked.

    Those by motion come first, and those that the sampled frames before and after show as well.
    """
    ranked = []
    for number, cues in samples.items():
        for candidate in cues.candidates:
            seen = sum(
                any(_is_like(candidate, other) for other in samples[n].candidates)
                for n in _neighbors(samples, number)
            )
            ranked.append((candidate.cue, -candidate.score * (1 + seen), number, candidate))
    ranked.sort(key=lambda item: item[:3])
    return [(number, candidate) for _, _, number, candidate in ranked]


def _is_like(a: Candidate, b: Candidate) -> bool:
    """Whether two candidates may be one object: of half to double the size, and not far apart."""
    (a_xy, a_wh), (b_xy, b_wh) = np.split(a.box_xywh, 2), np.split(b.box_xywh, 2)
    distance = np.abs(a_xy + a_wh / 2 - b_xy - b_wh / 2)
    return bool((distance <= 2 * a_wh).all() and (np.abs(np.log2(a_wh / b_wh)) <= 1).all())


def _track_candidate(
    frames: Frames,
    number: int,
    candidate: Candidate,
    samples: Mapping[int, FrameCues],
    tracker: Tracker,
    config: PseudoLabelConfig,
) -> tuple[list[Table], dict[str, Any]]:
    """Track a candidate of frame `number`; returns its kept runs and facts to report."""
    # 1. The frames around it, every so many.
    first = max(number % config.every, number - config.max_frames * config.every)
    end = min(len(frames), number + config.max_frames * config.every + 1)
    numbers = range(first, end, config.every)
    shrunken = [shrink(picture, _TRACK_SIDE_PX) for picture in frames.iterate(numbers)]
    start = numbers.index(number)
    pictures, scale = [picture for picture, _ in shrunken], shrunken[start][1]

    # 2. Out. If neither the sampled frame before nor the one after shows an object in the box, it
    #    holds none, which is the common case and ends here.
    def support(boxes: Mapping[int, FloatArray]) -> float:
        in_clip = {numbers[k]: box / scale for k, box in boxes.items()}
        return _support(in_clip, samples, number)

    gap = max((abs(n - number) for n in _neighbors(samples, number)), default=0)
    ways = track_out(
        tracker, pictures, start, candidate.box_xywh * scale, reach=-(-gap // config.every),
        is_object=lambda boxes: support(boxes) >= config.min_support,
    )  # fmt: skip
    tracked = {**ways[0].by_frame(), **ways[1].by_frame()}

    # 3. Back, and the runs that stand on their own.
    agreeing: Table = {}
    kept: list[Table] = []
    if support(tracked) >= config.min_support:
        track = track_back(tracker, pictures, ways, min_agreement=config.min_agreement)
        runs = find_runs(
            track, pictures[start].shape[1::-1], min_agreement=config.min_agreement,
            min_score=config.min_score, min_run=config.min_run,
        )  # fmt: skip
        for run in runs:
            table: Table = {
                numbers[k]: (track.boxes[k] / scale, track.scores[k], track.agreement[k])
                for k in run
            }
            agreeing.update(table)
            if support({k: track.boxes[k] for k in run}) >= config.min_support:
                kept.append(table)
    agreement = [row[2] for row in agreeing.values()]
    facts = {
        "start_frame": number,
        "box": [round(v, 2) for v in candidate.box_xywh.tolist()],
        "cue": candidate.cue,
        "cue_score": round(candidate.score, 4),
        "tracked": len(tracked),
        "support": round(support(tracked), 4),
        "agreeing": len(agreeing),
        "agreement": round(float(np.mean(agreement)), 4) if agreement else 0.0,
        "kept": sum(map(len, kept)),
        "runs": [[min(table), max(table)] for table in kept],
    }
    return kept, facts


def _neighbors(samples: Iterable[int], number: int) -> list[int]:
    """The sampled frames just before and just after a frame."""
    before = [n for n in samples if n < number]
    after = [n for n in samples if n > number]
    return [*before[-1:], *after[:1]]


def _support(
    boxes: Mapping[int, FloatArray], samples: Mapping[int, FrameCues], start: int
) -> float:
    """Part of the sampled frames, except the start, in which the boxes hold an object."""
    tracked = np.array(sorted(boxes))
    seen = []
    for number, cues in samples.items():
        if number == start or not len(tracked):
            continue
        nearest = int(tracked[np.abs(tracked - number).argmin()])
        if abs(nearest - number) <= _NEAR_FRAMES:
            seen.append(cues.support(boxes[nearest]))
    return float(np.mean(seen)) if seen else 0.0


def _is_same(table: Table, number: int, box_xywh: FloatArray) -> bool:
    """Whether a box is that of a tracked object, or lies in it, or it in the box."""
    nearest = min(table, key=lambda n: abs(n - number))
    if abs(nearest - number) > _NEAR_FRAMES:
        return False
    other = table[nearest][0]
    both = (
        np.maximum(other[:2], box_xywh[:2]),
        np.minimum(other[:2] + other[2:], box_xywh[:2] + box_xywh[2:]),
    )
    shared = float(np.clip(both[1] - both[0], 0, None).prod())
    return shared > 0.5 * min(other[2] * other[3], box_xywh[2] * box_xywh[3])


# -- Files


def _open_folder(out: Path, wanted: dict[str, Any]) -> None:
    """Make the folder, or check that it holds labels with the same settings."""
    path = out / SETTINGS
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(f"{path} cannot be read ({error}); give another folder") from error
        if not isinstance(found, dict) or "min_agreement" not in found:
            raise OutputError(f"{path} is not of pseudo-labels; give another folder")
        differing = [
            k for k in sorted(found.keys() | wanted.keys()) if found.get(k) != wanted.get(k)
        ]
        if differing:
            raise OutputError(
                f"{out} holds labels with another {', '.join(differing)}; give another folder, or "
                f"the settings in its {SETTINGS}"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "holds something else" if out.is_dir() else "is a file"
        raise OutputError(f"{out} {what}; give a new folder")
    atomic_write(path, json.dumps(wanted, indent=2) + "\n", "give a folder you may write to")


def _fingerprint(clip: Path) -> str:
    """Hash of names, sizes and times of the files of a clip."""
    return hashlib.sha256(json.dumps(stamp_source(clip)).encode()).hexdigest()[:16]


def _read_report(path: Path, clip: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        known = report["clip"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path} cannot be read ({error}); give another folder") from error
    if known != str(clip.resolve()):
        raise OutputError(f"{path} is that of {known}, not of {clip}; give another folder")
    return dict(report)


def _write_labels(
    name: str,
    clip: Path,
    out: Path,
    frames: Frames,
    tracks: Sequence[Table],
) -> None:
    """Write the sheets, the clip and its boxes; the boxes last."""
    for target, table in enumerate(tracks):
        sheet = draw_sheet(frames, {n: row[0] for n, row in table.items()}, f"{name}.{target}")
        data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        atomic_write(out / SHEETS / f"{name}.{target}.jpg", data)
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow("frame target x y w h score status agreement".split())
    order = sorted((n, target) for target, table in enumerate(tracks) for n in table)
    for number, target in order:
        box, score, agreement = tracks[target][number]
        cells = [f"{v:.2f}" for v in box.tolist()]
        writer.writerow([number, target, *cells, f"{score:.4f}", "tracked", f"{agreement:.4f}"])
    _link(clip.resolve(), out / clip.name)
    atomic_write(out / f"{name}.csv", rows.getvalue())


def _remove_labels(name: str, clip: Path, out: Path) -> None:
    """Remove what `_write_labels` wrote for a clip; the boxes first."""
    (out / f"{name}.csv").unlink(missing_ok=True)
    link = out / clip.name
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    else:
        link.unlink(missing_ok=True)
    for sheet in (out / SHEETS).glob(f"{glob.escape(name)}.*.jpg"):
        sheet.unlink()


def _link(clip: Path, link: Path) -> None:
    """Link a clip (a folder of images picture by picture), or copy it where links are refused."""
    if clip.is_dir():
        link.mkdir(exist_ok=True)
        for picture in list_images(clip):
            _link(clip / picture, link / picture)
        return
    if link.exists() and link.samefile(clip):
        return
    link.unlink(missing_ok=True)
    try:
        os.symlink(clip, link)
    except OSError:
        shutil.copyfile(clip, link)


def draw_sheet(frames: Frames, boxes: Mapping[int, FloatArray], title: str) -> Image:
    """Draw a contact sheet: frames spread over those with a box, with the box.

    Returns:
        uint8 (480, 1280, 3) BGR: four tiles by two.
    """
    numbers = sorted(boxes)
    chosen = np.unique(np.linspace(0, len(numbers) - 1, _SHEET_TILES).round().astype(int))
    shown = [numbers[k] for k in chosen]
    width, height = _TILE_WH
    tiles = []
    for number, picture in zip(shown, frames.iterate(shown), strict=True):
        scale = min(width / picture.shape[1], height / picture.shape[0])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        drawn = draw_outlines(np.asarray(small, np.uint8), [(boxes[number] * scale, (0, 255, 0))])
        text, font = f"{title} #{number}", cv2.FONT_HERSHEY_SIMPLEX
        for ink, line_px in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(drawn, text, (4, 14), font, 0.45, ink, line_px, cv2.LINE_AA)
        tile = np.zeros((height, width, 3), np.uint8)
        tile[: drawn.shape[0], : drawn.shape[1]] = drawn[:height, :width]
        tiles.append(tile)
    tiles += [np.zeros((height, width, 3), np.uint8)] * (_SHEET_TILES - len(tiles))
    half = _SHEET_TILES // 2
    return np.vstack([np.hstack(tiles[:half]), np.hstack(tiles[half:])])


def _write_table(out: Path) -> list[dict[str, Any]]:
    """Write `report.csv` from the reports of all clips, which are returned."""
    reports = []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for path in sorted((out / REPORTS).glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        reports.append(report)
        for s in report["start_boxes"] or [None]:
            cells = [""] * (len(_COLUMNS) - 2)
            if s is not None:
                facts = [s["start_frame"], s["cue"], s["cue_score"], *s["box"]]
                facts += [s[name] for name in _COLUMNS[9:-1]]
                cells = [*facts, " ".join(map(str, s["targets"]))]
            writer.writerow([path.stem, report["result"], *cells])
    atomic_write(out / REPORTS / REPORT, text.getvalue())
    return reports


def _summarize(reports: Sequence[Mapping[str, Any]]) -> PseudoLabelReport:
    boxes = [s for report in reports for s in report["start_boxes"]]
    return PseudoLabelReport(
        clips=len(reports),
        labeled_clips=sum(report["result"] == "labeled" for report in reports),
        start_boxes=len(boxes),
        targets=sum(len(s["targets"]) for s in boxes),
        kept_boxes=sum(bool(s["targets"]) for s in boxes),
        tracked_frames=sum(s["tracked"] for s in boxes),
        kept_frames=sum(s["kept"] for s in boxes),
        results=Counter(report["result"] for report in reports),
    )
