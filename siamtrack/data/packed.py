"""A crop cache in one file of a given size, for a machine that only little can be sent to.

`pack_cache` chooses crops as often as a run draws them, until the file is full. The result is a
zip archive of the three files of a cache, stored without compression, so that `CropCache` maps
its crops into memory where they lie.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from siamtrack.data.cache import (
    CROPS,
    INDEX,
    TRACKS,
    CachedTrack,
    CropCache,
    CropIndex,
    describe,
)
from siamtrack.errors import ConfigError, DatasetError, OutputError
from siamtrack.types import FloatArray, IntArray
from siamtrack.utils.files import atomic_path, to_bytes

logger = logging.getLogger(__name__)

_BYTES_PER_CROP = 80  # in index.npz
_BYTES_AROUND = 8192  # headers, and what tracks.json says besides the tracks


@dataclass(frozen=True, slots=True)
class Packed:
    """What came into a packed cache.

    Attributes:
        path: the file.
        crops: number of crops by set.
        tracks: number of targets by set.
    """

    path: Path
    crops: dict[str, int]
    tracks: dict[str, int]


def pack_cache(
    cache: CropCache,
    weights: FloatArray,
    out: Path,
    *,
    megabytes: float,
    quality: int | None = None,
) -> Packed:
    """Pack as much of a cache as fits into one file.

    Args:
        cache: what to pack.
        weights: (tracks,) how often a run draws from each track, such as `track_weights` gives; 0
            leaves one out. A track gets crops in this proportion, up to all that it has.
        out: the file to make. It opens as `CropCache(out)`.
        megabytes: largest size of the file, in 1e6 bytes.
        quality: 0 to 100, of the JPEGs; None keeps them as they are. Lowering it packs more
            crops, with more artifacts in each.

    Raises:
        ConfigError: a size or a quality that cannot be.
        DatasetError: not one crop fits or can be decoded.
        OutputError: the file exists or cannot be written.
    """
    if not megabytes > 0:
        raise ConfigError(f"a packed cache of {megabytes} MB is nothing; give a size above 0")
    if quality is not None and not 0 <= quality <= 100:
        raise ConfigError(f"JPEG quality {quality} is not between 0 and 100")
    if out.exists():
        raise OutputError(f"{out} exists; remove it or give another name")

    # 1. Take crops in their order until the file is full.
    budget = megabytes * 1e6 - _BYTES_AROUND
    order, track_of = packing_order(cache, weights)
    taken, tracks = dict[int, bytes](), set[int]()
    with tqdm(total=len(order), unit="crop", delay=1) as bar:
        for crop in order.tolist():
            number = int(track_of[crop])
            try:
                jpeg = _encode(cache, crop, quality)
            except DatasetError as error:
                logger.warning("%s; it is left out", error)
                continue
            row = 0 if number in tracks else _row_bytes(cache.tracks[number])
            budget -= len(jpeg) + _BYTES_PER_CROP + row
            if budget < 0:
                break
            taken[crop] = jpeg
            tracks.add(number)
            bar.update()
    if not taken:
        raise DatasetError(
            f"no crop of cache {cache.folder} fits into {megabytes} MB or can be decoded; give "
            "more megabytes"
        )

    # 2. Describe them, in the order of the cache.
    index, rows = CropIndex(), list[CachedTrack]()
    crops_of, tracks_of = Counter[str](), Counter[str]()
    for number in sorted(tracks):
        track = cache.tracks[number]
        chosen = [c for c in range(track.first, track.first + track.count) if c in taken]
        rows.append(replace(track, first=len(index.boxes), count=len(chosen)))
        for crop in chosen:
            index.add(taken[crop], int(cache.numbers[crop]), cache.boxes[crop], cache.maps[crop])
        crops_of[track.set_name] += len(chosen)
        tracks_of[track.set_name] += 1
    config = cache.config if quality is None else replace(cache.config, jpeg_quality=quality)
    made_from = {"packed_from": cache.identity, "crops": len(taken), "cache": cache.made_from}
    arrays = index.to_npz()
    described = describe(rows, arrays, config, made_from)

    # 3. Write.
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(TRACKS, described)
            archive.writestr(INDEX, arrays)
            with archive.open(CROPS, "w", force_zip64=True) as stream:
                for crop in sorted(taken):
                    stream.write(taken[crop])
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    return Packed(out, dict(crops_of), dict(tracks_of))


def packing_order(cache: CropCache, weights: FloatArray) -> tuple[IntArray, IntArray]:
    """Crops in the order in which they are packed, and the track of each crop.

    The first n crops of the order, for any n, hold of each track a number in proportion to its
    weight, up to all that it has: its k-th crop has the rank (k + u) / weight with u from a hash of
    its clip or image. The objects of one image have the same u and come together. The crops of a
    clip are taken by the van der Corput sequence, which spreads the first k of them evenly.

    Returns:
        (M,) numbers of the crops of tracks with a weight, and (N,) the track of each crop.
    """
    track_of = np.zeros(len(cache), np.int64)
    ranks = np.full(len(cache), np.inf)
    for number, track in enumerate(cache.tracks):
        crops = slice(track.first, track.first + track.count)
        track_of[crops] = number
        if weights[number] > 0:
            # Another hash than the one that holds tracks out.
            name = hashlib.sha256(to_bytes(track.image or track.name)).digest()
            start = int.from_bytes(name[:4], "big") / 2**32
            position = np.empty(track.count)
            position[_spread(track.count)] = np.arange(track.count)
            ranks[crops] = (position + start) / weights[number]
    order = np.argsort(ranks, kind="stable")
    return order[: int(np.isfinite(ranks).sum())], track_of


def _spread(count: int) -> list[int]:
    """0 to count - 1 in the order of the van der Corput sequence: first, middle, quarters..."""
    bits = max(count - 1, 0).bit_length()
    reversed_bits = (int(f"{k:0{bits}b}"[::-1], 2) if bits else 0 for k in range(1 << bits))
    return [number for number in reversed_bits if number < count]


def _encode(cache: CropCache, crop: int, quality: int | None) -> bytes:
    """JPEG of a crop, as it is stored or of another quality."""
    image, _ = cache.read(crop)  # also checks it
    if quality is None:
        return cache.jpeg(crop).tobytes()
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _row_bytes(track: CachedTrack) -> int:
    """Largest size of a track in tracks.json."""
    return len(json.dumps(list(asdict(track).values()))) + 24
