"""Data sets of synthetic clips: `clip-00000.mp4` with its boxes in `clip-00000.txt`, and so on.

`siamtrack.data` opens such a folder as `folder:...` like any other clips of one's own. Each clip
depends on the seed and its number alone, so a run that was stopped goes on where it was, in any
number of processes, and a set can be enlarged later.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from siamtrack.data.synthetic.config import SceneConfig
from siamtrack.data.synthetic.scene import render_scene
from siamtrack.data.synthetic.textures import Textures
from siamtrack.errors import ConfigError, OutputError
from siamtrack.utils.files import atomic_write
from siamtrack.video.video_writer import VideoSink

_log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 1
"""Changes when the same manifest would give other clips."""


@dataclass(frozen=True, slots=True)
class SetReport:
    """What `make_data_set` did.

    Attributes:
        made: clips that were rendered.
        kept: clips that were there before.
    """

    made: int
    kept: int


@dataclass(frozen=True, slots=True)
class _Job:
    """One clip to render."""

    folder: Path
    number: int
    seed: int
    config: SceneConfig
    textures: Textures

    @property
    def video(self) -> Path:
        return self.folder / f"clip-{self.number:05d}.mp4"

    @property
    def boxes(self) -> Path:
        return self.video.with_suffix(".txt")

    @property
    def is_done(self) -> bool:
        """The boxes are written last."""
        return self.boxes.is_file() and self.video.is_file()


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
        textures: where the pictures come from.
        config: how hard the scenes are; None for the defaults.
        clips: how many clips the set is to have.
        seed: which clips; each takes its randomness from this and its number.
        workers: processes that render; 1 renders in this one. Raising it beyond the number of
            cores gains nothing.
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
    folder = Path(out_dir)
    _settle_manifest(folder, textures, config, seed)
    jobs = [_Job(folder, number, seed, config, textures) for number in range(clips)]
    missing = [job for job in jobs if not job.is_done]
    kept = clips - len(missing)
    if on_clip is not None and kept:
        on_clip(kept)
    for _ in _render_all(missing, workers):
        if on_clip is not None:
            on_clip(1)
    return SetReport(made=len(missing), kept=kept)


def _settle_manifest(folder: Path, textures: Textures, config: SceneConfig, seed: int) -> None:
    """Write the manifest of a new set, or make sure that an older one says the same."""
    wanted = {
        "format": FORMAT,
        "seed": seed,
        "textures": textures.fingerprint,
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
    }
    path = folder / MANIFEST
    if path.exists():
        differing = _differences(_read_manifest(path), wanted)
        if differing:
            raise OutputError(
                f"{folder} holds clips with another {', '.join(differing)}; give another folder, "
                "or the settings in its manifest.json"
            )
        return
    with _writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("clip-*.mp4")):
            raise OutputError(f"{folder} holds clips without a manifest.json; give another folder")
        atomic_write(path, json.dumps(wanted, indent=2) + "\n")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path} cannot be read ({error}); give another folder, or remove it with its clips"
        ) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("config"), dict):
        raise OutputError(f"{path} is not the manifest of synthetic clips; give another folder")
    return manifest


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Names of the settings that are not the same."""
    names = [name for name in wanted if name != "config" and found.get(name) != wanted[name]]
    old, new = found["config"], wanted["config"]
    return names + [name for name in new.keys() | old.keys() if old.get(name) != new.get(name)]


def _render_all(jobs: list[_Job], workers: int) -> Iterator[None]:
    """Render clips in any order, one item for each."""
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            _render_clip(job)
            yield
        return
    # Forking a process in which OpenCV or torch have started threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker)
    try:
        futures: list[Future[None]] = [pool.submit(_render_clip, job) for job in jobs]
        for future in as_completed(futures):
            future.result()
            yield
    except BrokenProcessPool as error:
        raise OutputError(
            f"a process that rendered for {jobs[0].folder} was killed, perhaps for want of memory; "
            "run again with fewer workers, finished clips are kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which lets clips in the making finish, and take one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _render_clip(job: _Job) -> None:
    rng = np.random.default_rng([job.seed, job.number])
    part = job.video.with_name(f".{job.video.stem}.part{job.video.suffix}")
    rows = []
    with _writing(job.video):
        with VideoSink(part, job.config.fps, job.config.frame_wh, overwrite=True) as video:
            for index, frame in enumerate(render_scene(job.config, job.textures, rng)):
                video.write(frame.image_bgr, index / job.config.fps)
                rows.append(",".join(f"{value:g}" for value in frame.box_xywh))
        os.replace(part, job.video)
        atomic_write(job.boxes, "\n".join(rows) + "\n")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into an error with a way out."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); free some space or give another folder"
        ) from error
