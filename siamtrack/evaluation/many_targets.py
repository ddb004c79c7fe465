"""Several targets per clip: HOTA, MOTA and IDF1 of tracking by given boxes.

Every target is shown to the tracker once, where it is first visible; from there on boxes and
identities are the tracker's. This is not detection and tracking together, as on the leaderboards of
MOTChallenge: the figures cannot be compared with those.

In order: `open_mot`, which reads a data set in MOTChallenge's layout; `evaluate_mot`, which tracks
and scores; `score_tracks`, figures by TrackEval, which is imported here alone.

HOTA: Luiten et al., IJCV 2021. MOTA: Bernardin and Stiefelhagen, 2008. IDF1: Ristani et al., 2016.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.convert import read_tracks
from siamtrack.data.formats.mot import write_mot_results
from siamtrack.data.formats.tracks import ClipTracks, label_of
from siamtrack.errors import ConfigError, DatasetError, EvaluationError, explain_missing
from siamtrack.evaluation.clip_worker import worker_setup
from siamtrack.evaluation.metrics import toolkit_overlap
from siamtrack.evaluation.store import OUT_ADVICE
from siamtrack.evaluation.task import RunConfig
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.types import Box
from siamtrack.utils.files import atomic_write
from siamtrack.utils.images import choose_images, list_pages, stamp_source
from siamtrack.utils.workers import TaskFailure, WorkerPool
from siamtrack.video.tables import TableRow, read_table

COMBINED = "combined"
FIGURES = ("hota", "det_a", "ass_a", "mota", "id_switches", "idf1", "ao")


@dataclass(frozen=True, slots=True)
class MotSequence:
    """A clip with its truth; `frames` is the folder of its pictures."""

    name: str
    frames: Path
    truth: ClipTracks

    @property
    def starts(self) -> list[tuple[int, Box, int]]:
        """First frame, box and number of every target, in the order in which they begin."""
        firsts = [rows[0] for rows in self.truth.targets.values()]
        return sorted((row.frame, row.box, row.target) for row in firsts)


@dataclass(frozen=True, slots=True)
class MotFigures:
    """Figures of one tracker on one sequence, or on all of them together.

    Attributes:
        tracker, sequence, label: what they are of; label "" for all labels together.
        hota, det_a, ass_a: HOTA and its two parts, means over 19 thresholds.
        mota: at an overlap of 0.5, as are `id_switches` and `idf1`.
        ao: mean overlap of the targets, each its mean over the frames after its first in which it
            is visible, as GOT-10k has it.
    """

    tracker: str
    sequence: str
    label: str
    hota: float
    det_a: float
    ass_a: float
    mota: float
    id_switches: int
    idf1: float
    ao: float


def open_mot(root: Path, only: Sequence[str] = ()) -> list[MotSequence]:
    """Read the sequences of a folder: NAME/gt/gt.txt with the pictures in NAME/img1.

    Boxes that are marked as not to be counted are left out.

    Raises:
        DatasetError: there are none, or one cannot be used.
    """
    folders = [folder.parent.parent for folder in sorted(root.glob("**/gt/gt.txt"))]
    chosen = [f for f in folders if not only or any(fnmatch(f.name, name) for name in only)]
    if not chosen:
        lack = "has no sequence" if root.is_dir() else "is no folder"
        raise DatasetError(
            f"{root} {lack}{' of that name' if folders else ''}; give a folder of "
            "NAME/gt/gt.txt and NAME/img1, as siamtrack convert --to mot --images writes them"
        )
    sequences = []
    for folder in chosen:
        truth = read_tracks(folder, "mot")
        truth = replace(truth, rows=tuple(row for row in truth.rows if row.status == "tracked"))
        if not truth.rows:
            raise DatasetError(f"{folder} has no target that counts; leave it out with --only")
        if not (folder / "img1").is_dir():
            raise DatasetError(f"{folder} has no folder img1 with its pictures")
        count = len(list_pages(choose_images((folder / "img1").iterdir())))
        last = max(row.frame for row in truth.rows)
        if 0 < count <= last:  # without any, tracking fails
            raise DatasetError(
                f"{folder} has boxes up to frame {last + 1}, but img1 has {count} picture(s); the "
                "missing ones would count as misses"
            )
        sequences.append(MotSequence(folder.name, folder / "img1", truth))
    names = [sequence.name for sequence in sequences]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DatasetError(f"{root} has two sequences named {min(twice)}; choose with --root")
    return sequences


def evaluate_mot(config: RunConfig) -> tuple[list[MotFigures], list[str]]:
    """Track every sequence with every tracker and score them; returns what failed, too.

    Tables of boxes are in OUT/mot; those that are there are not computed again. Figures are in
    OUT/mot.json.

    Raises:
        ConfigError: a tracker that is not one of ours.
        DatasetError: see `open_mot`.
        MissingPackageError: TrackEval is not installed.
        OutputError: results cannot be written.
    """
    with explain_missing("eval mot"):
        import trackeval  # noqa: F401  before the work
    sequences = open_mot(config.root, config.only)
    figures: list[MotFigures] = []
    failures: list[str] = []
    for spec in config.trackers:
        found = _track(spec, sequences, config, failures)
        complete = [sequence for sequence in sequences if sequence.name in found]
        if complete:
            figures += score_tracks(spec.label, complete, found)
    content = [
        {name: getattr(one, name) for name in ("tracker", "sequence", "label", *FIGURES)}
        for one in figures
    ]
    atomic_write(config.out / "mot.json", json.dumps(content, indent=2) + "\n", OUT_ADVICE)
    return figures, failures


def _track(
    spec: TrackerSpec, sequences: Sequence[MotSequence], config: RunConfig, failures: list[str]
) -> dict[str, list[TableRow]]:
    """Rows of every sequence that was tracked, with the numbers of the truth."""
    if not spec.is_ours:
        raise ConfigError(f"{spec} follows one target; eval mot takes siamtrack's own weights")
    options = dict(spec.options)
    setup, identity = worker_setup(
        None if spec.name == "siamtrack" else spec.name,
        str(options.pop("device", "auto")),
        str(options.pop("engine", "auto")),
        config.threads,
        options,
    )
    paths: dict[str, Path] = {}
    groups = []
    for sequence in sequences:
        # The file's name holds everything that the boxes depend on.
        stamps = stamp_source(sequence.frames)
        key = json.dumps([identity, sequence.starts, stamps], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:10]
        paths[sequence.name] = config.out / "mot" / f"{sequence.name}-{digest}.csv"
        if not paths[sequence.name].is_file():
            task = {
                "name": sequence.name,
                "source": str(sequence.frames.resolve()),
                "starts": [(frame, box) for frame, box, _ in sequence.starts],
                "start_frame": 0,
                "end_frame": None,
                "step": 1,
            }
            groups.append([task])

    def keep(worker: int, task: Any, result: Any, failure: TaskFailure | None) -> None:
        if failure is not None:
            failures.append(f"{spec.label} on {task['name']}: {failure}")
        else:
            atomic_write(paths[task["name"]], result["table"], OUT_ADVICE)

    with WorkerPool(
        "siamtrack.evaluation.clip_worker:track_clip",
        setup,
        workers=max(1, min(config.workers, len(groups))),
        logs=config.out / "logs",
        start_timeout_s=config.start_timeout_s,
        task_timeout_s=config.frame_timeout_s,
        threads=config.threads,
    ) as pool:
        pool.run(groups, on_result=keep)
    found = {}
    for sequence in sequences:
        if paths[sequence.name].is_file():
            numbers = [target for _, _, target in sequence.starts]
            rows = read_table(paths[sequence.name])
            found[sequence.name] = [replace(row, target=numbers[row.target]) for row in rows]
    return found


def score_tracks(
    tracker: str, sequences: Sequence[MotSequence], found: Mapping[str, Sequence[TableRow]]
) -> list[MotFigures]:
    """Figures of every sequence and combined; with several labels also combined for each.

    Args:
        tracker: its name in the figures.
        sequences: with their truth.
        found: rows of every sequence, with the target numbers of the truth. A lost target has no
            box in HOTA, MOTA and IDF1; in the AO it has the tracker's guess.

    Raises:
        EvaluationError: TrackEval cannot score them.
    """
    figures = _score(tracker, sequences, found, "")
    labels = sorted({label_of(row) for sequence in sequences for row in sequence.truth.rows})
    if len(labels) > 1:
        for label in labels:
            of_label = []
            for sequence in sequences:
                rows = tuple(row for row in sequence.truth.rows if label_of(row) == label)
                if rows:
                    of_label.append(replace(sequence, truth=replace(sequence.truth, rows=rows)))
            targets = {s.name: {row.target for row in s.truth.rows} for s in of_label}
            rows_of = {
                name: [row for row in found[name] if row.target in numbers]
                for name, numbers in targets.items()
            }
            figures.append(_score(tracker, of_label, rows_of, label)[-1])
    return figures


def _score(
    tracker: str,
    sequences: Sequence[MotSequence],
    found: Mapping[str, Sequence[TableRow]],
    label: str,
) -> list[MotFigures]:
    overlaps = {s.name: _average_overlaps(s, found[s.name]) for s in sequences}
    scored = _trackeval({s.name: s.truth for s in sequences}, found)
    figures = []
    for name in [*(s.name for s in sequences), COMBINED]:
        result = scored["COMBINED_SEQ" if name == COMBINED else name]["pedestrian"]
        chosen = list(overlaps) if name == COMBINED else [name]
        aos = [ao for one in chosen for ao in overlaps[one].values()]
        figures.append(
            MotFigures(
                tracker,
                name,
                label,
                hota=float(np.mean(result["HOTA"]["HOTA"])),
                det_a=float(np.mean(result["HOTA"]["DetA"])),
                ass_a=float(np.mean(result["HOTA"]["AssA"])),
                mota=float(result["CLEAR"]["MOTA"]),
                id_switches=int(result["CLEAR"]["IDSW"]),
                idf1=float(result["Identity"]["IDF1"]),
                ao=float(np.mean(aos)) if aos else float("nan"),
            )
        )
    return figures


def _average_overlaps(sequence: MotSequence, rows: Sequence[TableRow]) -> dict[int, float]:
    """AO by target; one that is visible in a single frame has none."""
    boxes = {(row.target, row.frame): row.box for row in rows}
    nowhere = (0.0, 0.0, 0.0, 0.0)
    found = {}
    for target, truth in sequence.truth.targets.items():
        if len(truth) > 1:
            pairs = [(boxes.get((target, row.frame), nowhere), row.box) for row in truth[1:]]
            ours, true = zip(*pairs, strict=True)
            found[target] = float(toolkit_overlap(ours, true).mean())
    return found


def _trackeval(
    truth: Mapping[str, ClipTracks], found: Mapping[str, Sequence[TableRow]]
) -> dict[str, Any]:
    """TrackEval's results by sequence; it reads files in a layout of its own."""
    import trackeval

    with tempfile.TemporaryDirectory(prefix="siamtrack-mot-") as folder:
        gt, trackers = Path(folder, "gt"), Path(folder, "trackers")
        atomic_write(gt / "seqmaps" / "siam-test.txt", "\n".join(["name", *truth, ""]))
        for name, tracks in truth.items():
            # Its only class is the first one, so all labels are written as that.
            boxes = "".join(
                f"{row.frame + 1},{row.target + 1},{','.join(map(repr, row.box))},1,1,1\n"
                for row in tracks.rows
            )
            seen = [row for row in found[name] if row.status != "lost"]
            length = max([tracks.length, *(row.frame + 1 for row in seen)])
            clip = gt / "siam-test" / name
            atomic_write(clip / "gt" / "gt.txt", boxes)
            atomic_write(clip / "seqinfo.ini", f"[Sequence]\nname={name}\nseqLength={length}\n")
            results = write_mot_results(ClipTracks.of(seen, name=name))["results.txt"]
            atomic_write(trackers / "siam-test" / "siamtrack" / "data" / f"{name}.txt", results)
        config = {
            **trackeval.Evaluator.get_default_eval_config(),
            "USE_PARALLEL": False,
            "PRINT_CONFIG": False,
            "PRINT_RESULTS": False,
            "OUTPUT_SUMMARY": False,
            "OUTPUT_DETAILED": False,
            "PLOT_CURVES": False,
            "TIME_PROGRESS": False,
            "BREAK_ON_ERROR": True,
            "LOG_ON_ERROR": None,
        }
        data = {
            **trackeval.datasets.MotChallenge2DBox.get_default_dataset_config(),
            "GT_FOLDER": str(gt),
            "TRACKERS_FOLDER": str(trackers),
            "BENCHMARK": "siam",
            "SPLIT_TO_EVAL": "test",
            "DO_PREPROC": False,  # MOTChallenge's own rules for its detectors' mistakes
            "TRACKERS_TO_EVAL": ["siamtrack"],
            "CLASSES_TO_EVAL": ["pedestrian"],
            "PRINT_CONFIG": False,
        }
        at_half = {"THRESHOLD": 0.5, "PRINT_CONFIG": False}
        metrics = [
            trackeval.metrics.HOTA(),
            trackeval.metrics.CLEAR(at_half),
            trackeval.metrics.Identity(at_half),
        ]
        try:
            with redirect_stdout(io.StringIO()):  # it prints a banner whatever it is told
                evaluator = trackeval.Evaluator(config)
                dataset = trackeval.datasets.MotChallenge2DBox(data)
                results, _ = evaluator.evaluate([dataset], metrics)
        except trackeval.utils.TrackEvalException as error:
            raise EvaluationError(f"TrackEval cannot score the boxes: {error}") from error
    scored: dict[str, Any] = results["MotChallenge2DBox"]["siamtrack"]
    return scored


def mot_markdown(figures: Sequence[MotFigures]) -> str:
    """The figures as a table."""
    lines = [
        "| tracker | sequence | HOTA | DetA | AssA | MOTA | ID switches | IDF1 | AO |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        name = f"{one.sequence}, {one.label}" if one.label else one.sequence
        lines.append(
            f"| {one.tracker} | {name} | {one.hota:.3f} | {one.det_a:.3f} | {one.ass_a:.3f} | "
            f"{one.mota:.3f} | {one.id_switches} | {one.idf1:.3f} | {one.ao:.3f} |"
        )
    return "\n".join(lines)
