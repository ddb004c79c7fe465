"""Pre-cropped training pictures: one file of JPEGs and an index, read by any number of workers.

Training reads each picture many times and needs only the surroundings of the target. The cache
holds, for every frame of every track, the part of the picture that any augmented search window can
reach, shrunk to the resolution at which it will be used. Pixels outside the picture are not
stored: how they look is decided at training time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from siamtrack.crops import crop_window
from siamtrack.data.datasets import open_dataset
from siamtrack.data.sequence import VideoSequence
from siamtrack.errors import DatasetError
from siamtrack.geometry import context_side
from siamtrack.types import FloatArray, Image

logger = logging.getLogger(__name__)

FORMAT = 3
_FILES = ("crops.bin", "index.npz", "tracks.json")


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """How pictures are cut.

    Attributes:
        reach: side of the stored window over the side of an exemplar window. The search window
            is 2 of them; raising the reach leaves room for larger shifts and costs space.
        px_per_exemplar: resolution of the exemplar window in the stored picture.
        jpeg_quality: 0..100.
        max_frames: frames kept of one track, evenly spread.
    """

    reach: float = 3.5
    px_per_exemplar: int = 128
    jpeg_quality: int = 92
    max_frames: int = 150


@dataclass(frozen=True, slots=True)
class CachedTrack:
    """One object of one sequence in the cache.

    Attributes:
        name: sequence name.
        set_name: data set it came from; sampling weights go by it.
        label: class name, "" when unknown.
        picture: key shared by the objects of one still picture, "" for video.
        first: index of its first crop.
        count: number of its crops.
    """

    name: str
    set_name: str
    label: str
    picture: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class TrackFrames:
    """What `build_cache` needs of a track.

    Attributes:
        name, set_name, label, picture: see `CachedTrack`.
        frames: yields (frame number, uint8 BGR picture, (4,) xywh box) of the frames to store.
    """

    name: str
    set_name: str
    label: str
    picture: str
    frames: Iterable[tuple[int, Image, FloatArray]]


def fingerprint(description: Any) -> str:
    """Hash of what a cache is made from (JSON-able); a cache of another one is stale."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_cache(
    sources: Iterable[TrackFrames], out: Path, config: CacheConfig, made_from: Any
) -> CropCache:
    """Cut and store all tracks; the folder appears under its name only when it is complete.

    Args:
        sources: the tracks, each read once.
        out: folder to make.
        config: how to cut.
        made_from: JSON-able description of the sources, compared when the cache is opened.

    Raises:
        DatasetError: `out` exists, or there is not one usable track.
    """
    if out.exists():
        raise DatasetError(f"cache {out} exists; remove it or give another folder")
    part = out.with_name(out.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    offsets, numbers = [0], list[int]()
    boxes: list[FloatArray] = []
    maps: list[FloatArray] = []
    tracks: list[tuple[str, str, str, str, int, int]] = []
    with (part / "crops.bin").open("wb") as stream:
        for source in sources:
            first = len(boxes)
            for number, picture, box in source.frames:
                crop, crop_box = cut(picture, box, config)
                quality = [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality]
                data = cv2.imencode(".jpg", crop, quality)[1].tobytes()
                stream.write(data)
                offsets.append(offsets[-1] + len(data))
                boxes.append(crop_box)
                maps.append(crop_map(picture.shape[1::-1], box, config))
                numbers.append(number)
            if len(boxes) > first:
                info = (source.name, source.set_name, source.label, source.picture)
                tracks.append((*info, first, len(boxes) - first))
    if not tracks:
        raise DatasetError(f"no usable track for cache {out}: check the data set's boxes")
    np.savez(
        part / "index.npz",
        offsets=np.array(offsets, np.int64),
        boxes=np.array(boxes, np.float32),
        numbers=np.array(numbers, np.int64),
        maps=np.array(maps, np.float64),
    )
    meta = {
        "format": FORMAT,
        "fingerprint": fingerprint([made_from, _as_dict(config)]),
        "made_from": made_from,
        "config": _as_dict(config),
        "tracks": tracks,
    }
    (part / "tracks.json").write_text(json.dumps(meta, default=str))
    os.replace(part, out)
    return CropCache(out)


def cut(picture: Image, box_xywh: FloatArray, config: CacheConfig) -> tuple[Image, FloatArray]:
    """Cut one target's surroundings, never enlarging, never going outside the picture.

    Returns:
        The crop, and the target's box in crop px.
    """
    window, size_wh = _window(picture.shape[1::-1], box_xywh, config)
    x0, y0, *px_per_crop_px = crop_map(picture.shape[1::-1], box_xywh, config)
    moved = np.asarray(box_xywh) - np.array([x0, y0, 0.0, 0.0])
    return crop_window(picture, window, size_wh), moved / np.tile(px_per_crop_px, 2)


def crop_map(picture_wh: Items[int], box_xywh: FloatArray, config: CacheConfig) -> FloatArray:
    """Where in its picture a crop lies.

    Returns:
        (4,) left and top edge in picture px, and picture px per crop px on each axis.
    """
    (x0, y0, width, height), size_wh = _window(picture_wh, box_xywh, config)
    return np.array([x0, y0, width / size_wh[0], height / size_wh[1]])


def _window(
    picture_wh: Items[int], box_xywh: FloatArray, config: CacheConfig
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Window to cut, xywh in picture px, and the size to store it at."""
    exemplar_side = float(context_side(box_xywh[2], box_xywh[3]))
    half = config.reach * exemplar_side / 2
    cx, cy = box_xywh[:2] + box_xywh[2:] / 2
    x0, x1 = max(0, int(cx - half)), min(picture_wh[0], int(np.ceil(cx + half)))
    y0, y1 = max(0, int(cy - half)), min(picture_wh[1], int(np.ceil(cy + half)))
    shrink = min(1.0, config.px_per_exemplar / exemplar_side)
    size_wh = (max(8, round((x1 - x0) * shrink)), max(8, round((y1 - y0) * shrink)))
    return (x0, y0, x1 - x0, y1 - y0), size_wh


def _as_dict(config: CacheConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in CacheConfig.__slots__}


class CropCache:
    """A finished cache, memory-mapped, so that any number of processes share its pages."""

    def __init__(self, folder: Path, made_from: Any = None) -> None:
        """Open a cache.

        Args:
            folder: what `build_cache` made.
            made_from: when given, what the cache must have been made from.

        Raises:
            DatasetError: not a finished cache, or made from something else.
        """
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise DatasetError(
                f"{folder} is not a finished crop cache ({', '.join(missing)} missing); make it "
                "with siamtrack prepare"
            )
        meta = json.loads((folder / "tracks.json").read_text())
        if meta.get("format") != FORMAT:
            raise DatasetError(
                f"cache {folder} has format {meta.get('format')}, {FORMAT} is needed; remove it "
                "and make it again"
            )
        self.config = CacheConfig(**meta["config"])
        expected = fingerprint([made_from, meta["config"]])
        if made_from is not None and meta["fingerprint"] != expected:
            raise DatasetError(
                f"cache {folder} was made from something else than is asked for; remove it and "
                "make it again"
            )
        self.folder = folder
        self.fingerprint: str = meta["fingerprint"]
        self.tracks = [CachedTrack(*row) for row in meta["tracks"]]
        index = np.load(folder / "index.npz")
        self.offsets: NDArray[np.int64] = index["offsets"]
        self.boxes: NDArray[np.float32] = index["boxes"]
        self.numbers: NDArray[np.int64] = index["numbers"]
        self.maps: FloatArray = index["maps"]
        self._bytes = np.memmap(folder / "crops.bin", np.uint8, "r")

    def __reduce__(self) -> tuple[type[CropCache], tuple[Path]]:
        """Another process opens the folder, instead of being sent what is in it."""
        return CropCache, (self.folder,)

    def __len__(self) -> int:
        """Number of stored crops."""
        return len(self.boxes)

    def __iter__(self) -> Iterator[CachedTrack]:
        """Tracks in storage order."""
        return iter(self.tracks)

    def read(self, crop: int) -> tuple[Image, FloatArray]:
        """Decode one crop.

        Returns:
            uint8 (h, w, 3) BGR and the target's box in its px, (4,) xywh.

        Raises:
            DatasetError: the stored picture cannot be decoded.
        """
        data = self._bytes[self.offsets[crop] : self.offsets[crop + 1]]
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if picture is None:
            raise DatasetError(f"crop {crop} of cache {self.folder} cannot be decoded")
        return picture, self.boxes[crop].astype(np.float64)  # type: ignore[return-value]


_LEAST_SIDE_PX = 4.0
"""Targets narrower or lower than this show nothing that could be told apart."""


def prepare(
    specs: Items[str], out: Path, config: CacheConfig, *, partial: bool = False
) -> CropCache:
    """Crop data sets for training.

    Args:
        specs: names of data sets, see `siamtrack.data.open`.
        out: folder to make. When it exists and was made from the same data sets with the same
            configuration it is opened and returned as it is.
        config: how to cut.
        partial: use what is there of data sets of which parts are missing.

    Raises:
        ConfigError, DatasetError: a data set cannot be opened, none has a usable target, or `out`
            was made from something else.
    """
    made_from = list(specs)
    if out.exists():
        cache = CropCache(out, made_from)
        if cache.config != config:
            raise DatasetError(
                f"cache {out} was made with {cache.config}, not with {config}; remove it, or give "
                "another folder"
            )
        return cache
    datasets = [open_dataset(spec, partial=partial) for spec in specs]
    total = sum(len(d) for d in datasets)
    usable = (s for d in datasets for s in d.usable())
    bar = tqdm(usable, total=total, unit="target")
    return build_cache((_source(s, config) for s in bar), out, config, made_from)


def _source(sequence: VideoSequence, config: CacheConfig) -> TrackFrames:
    picture = sequence.image_key() if sequence.kind == "image" else ""
    return TrackFrames(
        sequence.name,
        sequence.set_name,
        sequence.class_name,
        picture,
        _frames(sequence, config.max_frames),
    )


def _frames(sequence: VideoSequence, most: int) -> Iterator[tuple[int, Image, FloatArray]]:
    """Evenly spread visible frames; pictures that cannot be read are left out and logged."""
    large = (np.nan_to_num(sequence.boxes[:, 2:]) >= _LEAST_SIDE_PX).all(axis=1)
    numbers = np.flatnonzero(sequence.visible & large)
    if len(numbers) > most:
        numbers = numbers[np.linspace(0, len(numbers) - 1, most).round().astype(int)]
    for number, image in _readable(sequence, numbers.tolist()):
        box = sequence.boxes[number]
        if box[0] < image.shape[1] and box[1] < image.shape[0] and (box[:2] + box[2:] > 0).all():
            yield number, image, box


def _readable(sequence: VideoSequence, wanted: list[int]) -> Iterator[tuple[int, Image]]:
    damaged: list[DatasetError] = []
    total = len(wanted)
    while wanted:
        done = 0
        try:
            for image in sequence.iter_frames(wanted):
                yield wanted[done], image
                done += 1
        except DatasetError as error:
            damaged.append(error)
        wanted = wanted[done + 1 :]
    if damaged:
        logger.warning(
            "%s: %d of %d pictures cannot be read and are left out, the first: %s",
            sequence.name,
            len(damaged),
            total,
            damaged[0],
        )
