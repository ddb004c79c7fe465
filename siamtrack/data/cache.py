"""The crop cache: training images, cropped in advance.

Training reads each image many times and needs only the surroundings of the target. For every
frame of every track the cache holds the part of the image that a search window can reach, in the
resolution at which it is used. The outside of the image is not stored; training fills it.

`prepare` makes a cache from data sets, `CropCache` reads it. A cache is a folder of `crops.bin`
(JPEGs one after the other), `index.npz` (offset, box, map and checksum of each) and `tracks.json`
(tracks, configuration, and the state of the data sets when they were cropped); or one file, a zip
archive of these three, stored without compression (`siamtrack.data.packed`).
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from siamtrack.crops import crop_window
from siamtrack.errors import ConfigError, DatasetError
from siamtrack.geometry import context_side
from siamtrack.types import Float32Array, FloatArray, Image, IntArray
from siamtrack.utils.config import build, check_ranges, ranged
from siamtrack.utils.files import Stamp, atomic_path, to_bytes

# A cache is read, and trained on, where PyAV is not installed: only `prepare` opens data sets.
if TYPE_CHECKING:
    from siamtrack.data.sequence import Dataset, VideoSequence

logger = logging.getLogger(__name__)

FORMAT = 4
_WITHOUT_CHECKSUMS = 3  # the format before, which still opens for training
MIN_SIDE_PX = 4.0
"""Smallest width and height of a target; smaller ones have no texture to learn from."""
CROPS, INDEX, TRACKS = "crops.bin", "index.npz", "tracks.json"


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """How images are cropped. Raising any value costs disk space.

    Attributes:
        reach: side of the stored window / side of the exemplar window. A search window has 2;
            raising it leaves room for larger shifts.
        px_per_exemplar: side of the exemplar window in the stored crop. Raising it allows larger
            network inputs.
        jpeg_quality: 0 to 100. Lowering it adds artifacts.
        max_frames: frames of one track, evenly spread.
    """

    reach: float = ranged(3.5, 1.0, below=float("inf"))
    px_per_exemplar: int = ranged(128, 8)
    jpeg_quality: int = ranged(92, 0, 100)
    max_frames: int = ranged(150, 1)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class CachedTrack:
    """One object of one sequence in the cache."""

    name: str  # of the sequence
    set_name: str  # data set it came from, which the sampling weights refer to
    label: str  # class name, "" when unknown
    image: str  # key shared by the objects of one still image, "" for video
    first: int  # index of its first crop
    count: int  # number of its crops


@dataclass(frozen=True, slots=True)
class TrackFrames:
    """A track to store, described as in `CachedTrack`.

    Each frame is (frame number, uint8 (H, W, 3) BGR, (4,) xywh box); they are read once.
    """

    name: str
    set_name: str
    label: str
    image: str
    frames: Iterable[tuple[int, Image, FloatArray]]


def prepare(
    specs: Items[str], out: Path, config: CacheConfig, *, partial: bool = False
) -> CropCache:
    """Crop data sets for training.

    Args:
        specs: names of data sets, `kind:root?option=value`.
        out: folder to make. One that was made from the same data sets in the same state with the
            same configuration is opened instead.
        config: how to crop.
        partial: use data sets with missing parts as well.

    Raises:
        ConfigError, DatasetError: a data set cannot be opened, none has a usable target, or `out`
            was made from something else.
    """
    from siamtrack.data.datasets import open_dataset

    datasets = [open_dataset(spec, partial=partial) for spec in specs]
    made_from = {"partial": partial, "data_sets": [_state_of(dataset) for dataset in datasets]}
    if out.exists():
        cache = CropCache(out)
        if cache.config != config:
            raise DatasetError(
                f"cache {out} was made with {cache.config}, not with {config}; remove it, or give "
                "another folder"
            )
        if why := _difference(cache.made_from, made_from):
            raise DatasetError(
                f"cache {out} was made from other data sets or settings: {why}; remove it and make "
                "it again, or give another folder"
            )
        return cache
    sequences = (sequence for dataset in datasets for sequence in dataset.usable())
    tracks = (
        TrackFrames(
            name=sequence.name,
            set_name=sequence.set_name,
            label=sequence.class_name,
            image=sequence.image_key() if sequence.kind == "image" else "",
            frames=_frames_to_store(sequence, config.max_frames),
        )
        for sequence in tqdm(sequences, total=sum(map(len, datasets)), unit="target")
    )
    return build_cache(tracks, out, config, made_from)


def _state_of(dataset: Dataset) -> dict[str, Any]:
    """What a cache takes from a data set, as plain data: a hash over all sequences.

    It covers names, classes and boxes as they are read, and size and time of each picture's file.
    """
    from siamtrack.data.sequence import stamp_files

    digest, stamps = hashlib.sha256(), dict[Path, Stamp]()
    for number, name in enumerate(tqdm(dataset.names, unit="target", desc="looking", delay=2)):
        try:
            sequence = dataset[number]
        except DatasetError:
            digest.update(to_bytes(f"{name} is left out"))
            continue
        facts = [name, sequence.set_name, sequence.class_name]
        facts += (f"{file} {size} {ns}" for file, size, ns in stamp_files(sequence.frames, stamps))
        digest.update(json.dumps(facts).encode())
        digest.update(sequence.boxes.tobytes())
    return {"name": dataset.spec, "sequences": len(dataset), "state": digest.hexdigest()[:16]}


def _difference(stored: Any, wanted: Mapping[str, Any]) -> str:
    """In which way a cache was made from something else, in words; empty if it was not."""
    names = [data_set["name"] for data_set in wanted["data_sets"]]
    if stored == names:
        return "an older version made it, which did not note the state of the files"
    if not isinstance(stored, Mapping) or "data_sets" not in stored:
        return f"it was made from {str(stored)[:80]}"
    before, now = stored["data_sets"], wanted["data_sets"]
    if [data_set["state"] for data_set in before] != [data_set["state"] for data_set in now]:
        if [data_set["name"] for data_set in before] != names:
            return f"it was made from {', '.join(data_set['name'] for data_set in before)}"
        old, new = next(pair for pair in zip(before, now, strict=True) if pair[0] != pair[1])
        counts = f"{old['sequences']} sequences then, {new['sequences']} now"
        return f"pictures or boxes of {new['name']} have changed since ({counts})"
    if stored["partial"] != wanted["partial"]:
        return f"it was made {'with' if stored['partial'] else 'without'} --partial"
    return ""


def _frames_to_store(
    sequence: VideoSequence, max_frames: int
) -> Iterator[tuple[int, Image, FloatArray]]:
    """Number, image and box of the frames to store; logs unreadable ones."""
    # 1. Evenly spread frames in which the target is visible and large enough.
    large = (np.nan_to_num(sequence.boxes[:, 2:]) >= MIN_SIDE_PX).all(axis=1)
    numbers = np.flatnonzero(sequence.visible & large)
    if len(numbers) > max_frames:
        numbers = numbers[np.linspace(0, len(numbers) - 1, max_frames).round().astype(int)]

    # 2. Decode forward; after a damaged frame go on with the next one.
    wanted = numbers.tolist()
    damaged = list[DatasetError]()
    while wanted:
        done = 0
        try:
            for image in sequence.iter_frames(wanted):
                number = wanted[done]
                box = sequence.boxes[number]
                starts_inside = box[0] < image.shape[1] and box[1] < image.shape[0]
                if starts_inside and (box[:2] + box[2:] > 0).all():
                    yield number, image, box
                done += 1
        except DatasetError as error:
            damaged.append(error)
        wanted = wanted[done + 1 :]
    if damaged:
        left_out = f"{len(damaged)} of {len(numbers)} pictures cannot be read and are left out"
        logger.warning("%s: %s, the first: %s", sequence.name, left_out, damaged[0])


def build_cache(
    tracks: Iterable[TrackFrames], out: Path, config: CacheConfig, made_from: Any
) -> CropCache:
    """Crop and store all tracks; the folder gets its name when it is complete.

    `made_from` is plain data that describes the tracks, compared when the cache is opened. Each
    track is read once.

    Raises:
        DatasetError: `out` exists, or there is not one usable track.
    """
    if out.exists():
        raise DatasetError(f"cache {out} exists; remove it or give another folder")
    index, rows = CropIndex(), list[CachedTrack]()
    quality = [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality]
    with atomic_path(out) as part:
        part.mkdir()
        with (part / CROPS).open("wb") as stream:
            for track in tracks:
                first = len(index.boxes)
                for number, image, box in track.frames:
                    crop, crop_box, crop_map = crop_surroundings(image, box, config)
                    data = cv2.imencode(".jpg", crop, quality)[1].tobytes()
                    stream.write(data)
                    index.add(data, number, crop_box, crop_map)
                if len(index.boxes) > first:
                    described = (track.name, track.set_name, track.label, track.image)
                    rows.append(CachedTrack(*described, first, len(index.boxes) - first))
        if not rows:
            raise DatasetError(
                f"no usable track for cache {out}: see what siamtrack check-dataset says"
            )
        arrays = index.to_npz()
        (part / INDEX).write_bytes(arrays)
        (part / TRACKS).write_text(describe(rows, arrays, config, made_from))
    return CropCache(out)


class CropIndex:
    """What index.npz holds, collected crop by crop."""

    def __init__(self) -> None:
        # One entry per crop in each list; a crop's JPEG ends where the next one starts.
        self.offsets, self.numbers, self.checksums = [0], list[int](), list[int]()
        self.boxes, self.maps = list[FloatArray](), list[FloatArray]()

    def add(self, jpeg: bytes, number: int, box: FloatArray, crop_map: FloatArray) -> None:
        """Note a crop that was appended to crops.bin, the frame that it shows, its box and map."""
        self.offsets.append(self.offsets[-1] + len(jpeg))
        self.checksums.append(zlib.crc32(jpeg))
        self.numbers.append(number)
        self.boxes.append(box)
        self.maps.append(crop_map)

    def to_npz(self) -> bytes:
        """Content of index.npz."""
        stream = io.BytesIO()
        np.savez(
            stream,
            offsets=np.array(self.offsets, np.int64),  # (N + 1,)
            boxes=np.array(self.boxes, np.float32),  # (N, 4)
            numbers=np.array(self.numbers, np.int64),  # (N,)
            maps=np.array(self.maps, np.float64),  # (N, 4)
            checksums=np.array(self.checksums, np.uint32),  # (N,) CRC-32 of each JPEG
        )
        return stream.getvalue()


def describe(rows: Items[CachedTrack], index: bytes, config: CacheConfig, made_from: Any) -> str:
    """Content of tracks.json of a cache with this index.npz."""
    meta = {
        "format": FORMAT,
        "fingerprint": _fingerprint(made_from, asdict(config)),
        "made_from": made_from,
        "config": asdict(config),
        "tracks": [list(asdict(row).values()) for row in rows],
        "index_sha256": hashlib.sha256(index).hexdigest(),
    }
    meta = json.loads(json.dumps(meta, default=str))
    meta["checksum"] = _checksum(meta)
    return json.dumps(meta)


def _checksum(meta: Mapping[str, Any]) -> str:
    """Hash of the content of tracks.json, except for the hash itself."""
    text = json.dumps({k: v for k, v in meta.items() if k != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(made_from: Any, config: dict[str, Any]) -> str:
    text = json.dumps([made_from, config], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def crop_surroundings(
    image: Image, box_xywh: FloatArray, config: CacheConfig
) -> tuple[Image, FloatArray, FloatArray]:
    """Crop what a search window can reach around a target, clipped to the image.

    Returns:
        uint8 (h, w, 3), never enlarged; the target's box in crop px, (4,) xywh; and the map of
        the crop, (4,): left and top edge in image px, image px per crop px in x and y.
    """
    # 1. Window of whole pixels, clipped to the image.
    exemplar_side = float(context_side(box_xywh[2], box_xywh[3]))
    half = config.reach * exemplar_side / 2
    cx, cy = box_xywh[:2] + box_xywh[2:] / 2
    x0, x1 = max(0, int(cx - half)), min(image.shape[1], int(np.ceil(cx + half)))
    y0, y1 = max(0, int(cy - half)), min(image.shape[0], int(np.ceil(cy + half)))
    window = (x0, y0, x1 - x0, y1 - y0)

    # 2. Shrink to the resolution of the exemplar, at least to 8 px.
    shrink = min(1.0, config.px_per_exemplar / exemplar_side)
    width, height = (max(8, round(length * shrink)) for length in window[2:])
    crop = crop_window(image, window, (width, height))

    # 3. Box and map. Each axis has its own scale, since the size was rounded.
    crop_map = np.array([x0, y0, window[2] / width, window[3] / height])
    moved = np.asarray(box_xywh) - np.array([x0, y0, 0.0, 0.0])
    return crop, moved / np.tile(crop_map[2:], 2), crop_map


class CropCache:
    """A finished cache, memory-mapped: processes share its pages.

    It is a folder, or the one file that `siamtrack.data.packed` makes of it. With `made_from` the
    cache must have been made from just that.

    Raises:
        DatasetError: not a finished cache, damaged, or made from something else.
    """

    def __init__(self, folder: Path, made_from: Any = None) -> None:
        files = _open_packed(folder) if folder.is_file() else _open_folder(folder)
        # 1. Tracks and configuration.
        meta = _read_meta(files.tracks, folder)
        try:
            self.config = build(CacheConfig, meta["config"])
            self.tracks = [CachedTrack(*row) for row in meta["tracks"]]
            self.fingerprint = str(meta["fingerprint"])
            self.made_from = meta["made_from"]
        except (KeyError, TypeError, AttributeError, ConfigError) as error:
            raise _damaged(folder / TRACKS, error) from error
        if made_from is not None and self.fingerprint != _fingerprint(made_from, meta["config"]):
            raise DatasetError(
                f"cache {folder} was made from other data sets or settings; remove it and "
                "make it again"
            )

        # 2. Index: (N,) start and checksum of each JPEG, and what belongs to it.
        index = _read_index(files.index, folder / INDEX, meta)
        self.folder = folder
        self.offsets: IntArray = index["offsets"]  # (N + 1,) start of each JPEG in crops.bin
        self.boxes: Float32Array = index["boxes"]  # (N, 4) xywh of the target, crop px
        self.numbers: IntArray = index["numbers"]  # (N,) frame number
        self.maps: FloatArray = index["maps"]  # (N, 4) as `crop_surroundings` returns them
        rows = json.dumps(meta["tracks"])
        index_hash = hashlib.sha256(files.index).hexdigest()
        digest = hashlib.sha256(f"{index_hash} {rows}".encode())
        self.identity = digest.hexdigest()  # of the content, wherever the folder lies
        self._checksums = index.get("checksums")  # (N,) CRC-32, None in an older cache
        for track in self.tracks:
            if not (track.first >= 0 and 0 < track.count <= len(self.boxes) - track.first):
                wrong = f"track {track.name!r} has crops that index.npz lacks"
                raise _damaged(folder / TRACKS, wrong)

        # 3. Crops.
        if files.crops_bytes != self.offsets[-1]:
            wrong = f"{files.crops_bytes} bytes instead of {self.offsets[-1]}"
            raise _damaged(folder / CROPS, wrong)
        try:
            self._bytes: NDArray[np.uint8] = np.memmap(
                files.crops, np.uint8, "r", files.crops_start, (files.crops_bytes,)
            )
        except (OSError, ValueError) as error:
            raise _damaged(folder / CROPS, error) from error

    def __reduce__(self) -> tuple[type[CropCache], tuple[Path]]:
        """Pickle the folder, not its content."""
        return CropCache, (self.folder,)

    def __len__(self) -> int:
        """Number of stored crops."""
        return len(self.boxes)

    def jpeg(self, crop: int) -> NDArray[np.uint8]:
        """Stored bytes of one crop, (bytes,).

        Raises:
            DatasetError: they are not those that were stored.
        """
        data = self._bytes[self.offsets[crop] : self.offsets[crop + 1]]
        if self._checksums is not None and zlib.crc32(data.tobytes()) != self._checksums[crop]:
            raise _damaged(self.folder / CROPS, f"crop {crop} has changed")
        return data

    def read(self, crop: int) -> tuple[Image, FloatArray]:
        """Decode one crop: uint8 (h, w, 3) BGR, and the target's box in its px, (4,) xywh.

        Raises:
            DatasetError: the stored image cannot be decoded.
        """
        data = self.jpeg(crop)
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
        if image is None:
            raise DatasetError(f"crop {crop} of cache {self.folder} cannot be decoded")
        return image, self.boxes[crop].astype(np.float64)  # type: ignore[return-value]


def _damaged(path: Path, wrong: object) -> DatasetError:
    return DatasetError(
        f"{path} of a crop cache is damaged ({wrong}); remove the cache and make it again"
    )


@dataclass(frozen=True, slots=True)
class _CacheFiles:
    """Where the three parts of a cache lie; the two small ones are read."""

    tracks: bytes
    index: bytes
    crops: Path  # the file that holds the JPEGs
    crops_start: int  # their first byte in it
    crops_bytes: int


def _open_folder(folder: Path) -> _CacheFiles:
    missing = [name for name in (CROPS, INDEX, TRACKS) if not (folder / name).is_file()]
    if missing:
        raise DatasetError(
            f"{folder} is not a finished crop cache ({', '.join(missing)} missing); make it "
            "with siamtrack prepare"
        )
    small = dict[str, bytes]()
    for name in (TRACKS, INDEX):
        try:
            small[name] = (folder / name).read_bytes()
        except (OSError, MemoryError) as error:
            raise _damaged(folder / name, error) from error
    crops = folder / CROPS
    return _CacheFiles(small[TRACKS], small[INDEX], crops, 0, crops.stat().st_size)


def _open_packed(path: Path) -> _CacheFiles:
    """Find the three parts in the archive; that of the crops is memory-mapped where it lies."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename: info for info in archive.infolist()}
            if missing := {CROPS, INDEX, TRACKS} - found.keys():
                raise ValueError(f"{', '.join(sorted(missing))} missing")
            if any(info.compress_type != zipfile.ZIP_STORED for info in found.values()):
                raise ValueError("it is compressed")
            tracks, index = archive.read(TRACKS), archive.read(INDEX)
        # A member's bytes follow its local header: 30 bytes, its name and an extra field.
        crops = found[CROPS]
        with path.open("rb") as stream:
            stream.seek(crops.header_offset + 26)
            lengths = np.frombuffer(stream.read(4), "<u2")
        start = crops.header_offset + 30 + int(lengths.sum())
        if start + crops.file_size > path.stat().st_size:
            raise ValueError("it ends early")
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise _not_packed(path, error) from error
    except (NotImplementedError, RuntimeError) as error:
        raise _not_packed(path, error) from error
    return _CacheFiles(tracks, index, path, start, crops.file_size)


def _not_packed(path: Path, wrong: Exception) -> DatasetError:
    return DatasetError(
        f"{path} is not a packed crop cache, or is damaged ({wrong}); make it with "
        "siamtrack pack-cache"
    )


_ROW_TYPES = [str, str, str, str, int, int]  # of `CachedTrack`


def _read_meta(content: bytes, folder: Path) -> dict[str, Any]:
    """Read tracks.json: a table of the right format, with rows for `CachedTrack`."""
    path = folder / TRACKS
    try:
        meta = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(meta, dict):
        raise _damaged(path, "it is not a table")
    if meta.get("format") not in (FORMAT, _WITHOUT_CHECKSUMS):
        raise DatasetError(
            f"cache {folder} has format {meta.get('format')}, {FORMAT} is needed; remove it "
            "and make it again"
        )
    if meta["format"] == FORMAT and meta.get("checksum") != _checksum(meta):
        raise _damaged(path, "its checksum is another one")
    rows = meta.get("tracks")
    if not isinstance(rows, list) or not rows:
        raise _damaged(path, "it lists no tracks")
    for row in rows:
        if not isinstance(row, list) or [type(value) for value in row] != _ROW_TYPES:
            raise _damaged(path, f"{str(row)[:60]} is not a track")
    return meta


def _read_index(content: bytes, path: Path, meta: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Read the arrays of index.npz, all of which must fit each other; `path` is for messages."""
    shapes = {"offsets": (1, np.int64), "boxes": (2, np.float32), "numbers": (1, np.int64)}
    shapes["maps"] = (2, np.float64)
    if meta["format"] == FORMAT:
        shapes["checksums"] = (1, np.uint32)
    try:
        # 1. Arrays are stored, not compressed: none can unpack to more than the file.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(i.compress_type or i.file_size > len(content) for i in archive.infolist()):
                raise ValueError("it is compressed")
        if meta["format"] == FORMAT and hashlib.sha256(content).hexdigest() != meta.get(
            "index_sha256"
        ):
            raise ValueError("its checksum is another one")
        with np.load(io.BytesIO(content), allow_pickle=False) as index:
            arrays = {name: np.asarray(index[name]) for name in shapes}
    except (OSError, ValueError, LookupError, EOFError, MemoryError) as error:
        raise _damaged(path, error) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _damaged(path, error) from error

    # 2. Shapes and types: N crops each, boxes and maps of four numbers.
    count = len(arrays["offsets"]) - 1 if arrays["offsets"].ndim == 1 else 0
    for name, (axes, kind) in shapes.items():
        length = count + (name == "offsets")
        wanted = (length,) if axes == 1 else (length, 4)
        if arrays[name].shape != wanted or arrays[name].dtype != kind:
            raise _damaged(path, f"{name} has {arrays[name].dtype} {arrays[name].shape}")

    # 3. Values: JPEGs one after the other, boxes with area, maps with a scale.
    offsets, boxes, maps = arrays["offsets"], arrays["boxes"], arrays["maps"]
    if offsets[0] != 0 or (np.diff(offsets) <= 0).any():
        raise _damaged(path, "offsets do not ascend from 0")
    for name, values in (("boxes", boxes), ("maps", maps)):
        if not np.isfinite(values).all() or (values[:, 2:] <= 0).any():
            raise _damaged(path, f"{name} are not finite and positive")
    return arrays
