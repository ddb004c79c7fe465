"""What `siamtrack bench` does once its command line is understood."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from siamtrack.bench.clips import make_clip, parse_size, read_clip
from siamtrack.bench.run import Order, benchmark, report_to_dict
from siamtrack.bench.targets import benchmark_targets, targets_text, targets_to_dict
from siamtrack.bench.text import as_text
from siamtrack.engines.graph_engine import default_threads
from siamtrack.evaluation.specs import TrackerSpec


@dataclass(frozen=True, slots=True)
class Wish:
    """The command line.

    Attributes:
        clip: video to run on; None to make one.
        box: target on its first frame, xywh px.
        size: WIDTHxHEIGHT of a clip that is made.
        clip_frames: length of the clip.
        weights: see `Order`, as for all that follow.
        device: as there.
        engines: as there.
        threads: as there; empty for one, and for what an engine would take by itself.
        rivals: as there.
        frames: as there.
        targets: numbers of targets to compare; empty to compare engines and rivals.
    """

    clip: Path | None
    box: list[float] | None
    size: str
    clip_frames: int
    weights: str | None
    device: str
    engines: tuple[str, ...]
    threads: tuple[int, ...]
    rivals: tuple[TrackerSpec, ...]
    frames: int
    targets: tuple[int, ...] = ()


def bench(wish: Wish, *, as_json: bool) -> str:
    """Make or read the clip, measure, and return the report as text.

    Raises:
        SiamTrackError: see `siamtrack.bench.run.benchmark`, `make_clip` and `read_clip`.
    """
    order = Order(
        weights=wish.weights,
        engines=wish.engines,
        device=wish.device,
        threads=wish.threads or tuple(dict.fromkeys((1, default_threads()))),
        rivals=wish.rivals,
        frames=wish.frames,
    )
    with tempfile.TemporaryDirectory(prefix="siamtrack-bench-") as name:
        folder = Path(name)
        if wish.clip is None or wish.box is None:
            clip = make_clip(folder / "clip.mp4", parse_size(wish.size), wish.clip_frames)
        else:
            clip = read_clip(wish.clip, wish.box, wish.clip_frames)
        with tqdm(desc="bench", unit="turn") as bar:

            def on_turn(total: int) -> None:
                bar.total = total
                bar.update()

            if wish.targets:
                rows = benchmark_targets(order, clip, wish.targets, on_turn)
                return (
                    json.dumps(targets_to_dict(rows), indent=2) if as_json else targets_text(rows)
                )
            report = benchmark(order, clip, folder, on_turn)
    return json.dumps(report_to_dict(report), indent=2) if as_json else as_text(report)
