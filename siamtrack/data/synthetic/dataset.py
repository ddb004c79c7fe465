"""Data sets of synthetic clips: `clip-00000.mp4` with its boxes in `clip-00000.txt`, and so on.

`siamtrack.data` opens such a folder as `folder:...`. Each clip depends only on the seed and its
number. A run that was stopped can therefore be continued with any number of processes, and a set
can be enlarged later.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from siamtrack.data.synthetic.config import SceneConfig
from siamtrack.data.synthetic.scene import render_scene
from siamtrack.data.synthetic.textures import Textures
from siamtrack.errors import ConfigError, OutputError
from siamtrack.utils.files import atomic_path, atomic_write
from siamtrack.video.video_writer import VideoSink

MANIFEST = "manifest.json"
FORMAT = 1
"""Increase it when the same manifest would give other clips."""


@dataclasses.dataclass(frozen=True, slots=True)
class SetReport:
    """Result of `make_data_set`: how many clips were rendered, and how many were there before."""

    made: int
    kept: int


def make_data_set(
    out_dir: str | Path,
    textures: Textures,
    config: SceneConfig | None = None,
    *,
    clips: int,
    seed: int = 0,
    workers: int = 1,
    on_clip: Callable[[int], object] | None = None,
) -> SetReport:
    """Render clips, skipping those that an earlier run with the same settings has finished.

    The settings are in `manifest.json` beside the clips.

    Args:
        out_dir: folder to write to; made if it is missing.
        textures: source of the pictures; it is pickled for worker processes.
        config: how hard the scenes are; None for the defaults.
        clips: number of clips in the set.
        seed: varies the clips; each takes its randomness from this and its number.
        workers: rendering processes; 1 renders in this process. More than the number of cores
            gains nothing.
        on_clip: called with the number of clips that were there before, then with 1 after each.

    Raises:
        ConfigError: fewer than 1 clip or worker, or a negative seed.
        DatasetError: a picture is needed and none can be read.
        OutputError: the folder holds clips with other settings, or cannot be written.
    """
    config = SceneConfig() if config is None else config
    for name, value, least in (("clips", clips, 1), ("workers", workers, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name} = {value}; give {least} or more")

    # 1. The manifest: write that of a new set, compare with that of an older one.
    folder = Path(out_dir)
    wanted = {
        "format": FORMAT,
        "seed": seed,
        "textures": textures.fingerprint,
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
    }
    path = folder / MANIFEST
    if path.exists():
        _compare_manifest(path, wanted)
    elif any(folder.glob("clip-*.mp4")):
        raise OutputError(f"{folder} holds clips without a {MANIFEST}; give another folder")
    else:
        advice = "free some space or give another folder"
        atomic_write(path, json.dumps(wanted, indent=2) + "\n", advice)

    # 2. The clips that are missing.
    missing = [n for n in range(clips) if not all(f.is_file() for f in _clip_files(folder, n))]
    kept = clips - len(missing)
    if on_clip is not None and kept:
        on_clip(kept)
    render = functools.partial(_render_clip, folder, textures, config, seed)
    try:
        for _ in _run(render, missing, workers):
            if on_clip is not None:
                on_clip(1)
    except BrokenProcessPool as error:
        raise OutputError(
            f"a process that rendered for {folder} was killed, perhaps for lack of memory; run "
            "again with fewer workers, finished clips are kept"
        ) from error
    return SetReport(made=len(missing), kept=kept)


def _compare_manifest(path: Path, wanted: dict[str, Any]) -> None:
    """Refuse a manifest with other settings than the wanted ones."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path} cannot be read ({error}); give another folder, or remove it with its clips"
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise OutputError(f"{path} is not the manifest of synthetic clips; give another folder")
    differing = [name for name in wanted if name != "config" and found.get(name) != wanted[name]]
    old, new = found["config"], wanted["config"]
    differing += [name for name in new.keys() | old.keys() if old.get(name) != new.get(name)]
    if differing:
        raise OutputError(
            f"{path.parent} holds clips with another {', '.join(differing)}; give another folder, "
            f"or the settings in its {MANIFEST}"
        )


def _clip_files(folder: Path, number: int) -> tuple[Path, Path]:
    """Video and boxes of a clip. The boxes are written last."""
    return folder / f"clip-{number:05d}.mp4", folder / f"clip-{number:05d}.txt"


def _run(render: Callable[[int], None], numbers: list[int], workers: int) -> Iterator[None]:
    """Render clips in any order; yields after each."""
    if workers == 1 or len(numbers) <= 1:
        for number in numbers:
            render(number)
            yield
        return
    # Not `utils.workers`: textures are any objects that can be pickled, not plain data, and after
    # Ctrl-C the clips in progress are finished. A forked process may hang, because OpenCV and torch
    # have started threads; so processes are spawned.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(numbers)), context, _start_worker)
    try:
        for future in as_completed([pool.submit(render, number) for number in numbers]):
            future.result()
            yield
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Ignore Ctrl-C, which the parent handles, and use one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _render_clip(
    folder: Path, textures: Textures, config: SceneConfig, seed: int, number: int
) -> None:
    rng = np.random.default_rng([seed, number])
    video, boxes = _clip_files(folder, number)
    rows = []
    try:
        for part_of_killed_run in folder.glob(f".{video.stem}.*part.mp4"):
            part_of_killed_run.unlink()
        with (
            atomic_path(video) as part,
            VideoSink(part, config.fps, config.frame_wh, overwrite=True) as sink,
        ):
            for index, frame in enumerate(render_scene(config, textures, rng)):
                sink.write(frame.image_bgr, index / config.fps)
                rows.append(",".join(f"{value:g}" for value in frame.box_xywh))
        atomic_write(boxes, "\n".join(rows) + "\n")
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{video} cannot be written ({error.strerror}); free some space or give another folder"
        ) from error
