"""Pictures of a clip by number, as JPEG.

One thread of each clip decodes and encodes. Pictures that nobody waits for any more are left out
before they are decoded; encoded ones are kept.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from siamtrack.errors import OutputError, SiamTrackError
from siamtrack.studio.project import RefusedError
from siamtrack.types import Image
from siamtrack.utils.files import Closing, atomic_write
from siamtrack.video.random_access import ClipIndex

CACHE_BYTES = 96 << 20
WIDTHS = (640, 960, 1280, 1920)
QUALITIES = (75, 85, 92)
MAX_REGION_WH = (1920, 1080)
MAX_WAITING = 256
"""Pictures that may wait. A page asks for eight; more are an accident or an attack."""


class DroppedError(SiamTrackError, RuntimeError):
    """Nobody waits for the picture any more."""


class BusyError(SiamTrackError, RuntimeError):
    """Too many pictures are waited for."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture that is asked for.

    Attributes:
        frame: its number.
        width: scale it down to this width in px; None: as it is.
        quality: of the JPEG.
        region: x, y, w, h in px of the frame; only this part, as it is.
        lossless: PNG.
    """

    frame: int
    width: int | None = None
    quality: int = 85
    region: tuple[int, int, int, int] | None = None
    lossless: bool = False


class ShotCache:
    """Encoded pictures, those used last, up to `CACHE_BYTES`; for several threads."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes, self._size_bytes = limit_bytes, 0
        self._shots: OrderedDict[tuple[object, Shot], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, clip: object, shot: Shot) -> bytes | None:
        """A picture, if it is kept."""
        with self._lock:
            data = self._shots.get((clip, shot))
            if data is not None:
                self._shots.move_to_end((clip, shot))
            return data

    def put(self, clip: object, shot: Shot, data: bytes) -> None:
        """Keep a picture, and drop others where there is no room."""
        with self._lock:
            self._size_bytes += len(data) - len(self._shots.pop((clip, shot), b""))
            self._shots[clip, shot] = data
            while self._size_bytes > self._limit_bytes:
                self._size_bytes -= len(self._shots.popitem(last=False)[1])


class FrameService(Closing):
    """Encodes pictures of one clip in a thread of its own.

    Args:
        read: decodes a frame by its number; called from that thread alone.
        rest: lets go of what decoding needs until the next frame; from that thread, too.
        cache: shared by all clips.
    """

    def __init__(
        self, read: Callable[[int], Image], rest: Callable[[], object], cache: ShotCache
    ) -> None:
        self._read, self._rest, self._cache = read, rest, cache
        self._queue: deque[tuple[Shot, Future[bytes]]] = deque()
        self._changed = threading.Condition()
        self._closed = self._resting = False
        self._thread = threading.Thread(target=self._work, name="studio-frames", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for a picture."""
        return not self._queue

    def request(self, shot: Shot) -> Future[bytes]:
        """Ask for a picture; one that is cancelled before its turn is not decoded.

        Raises:
            BusyError: too many are waited for.
        """
        future: Future[bytes] = Future()
        kept = self._cache.get(self, shot)
        if kept is not None:
            future.set_result(kept)
            return future
        with self._changed:
            if self._closed or len(self._queue) >= MAX_WAITING:
                raise BusyError("too many pictures are waited for; ask again")
            self._queue.append((shot, future))
            self._changed.notify()
        return future

    def rest(self) -> None:
        """Let go of the decoder once nobody waits for a picture."""
        with self._changed:
            self._resting = True
            self._changed.notify()

    def close(self) -> None:
        """End the thread; what waits is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for _, future in self._queue:
            if future.set_running_or_notify_cancel():
                future.set_exception(DroppedError("the studio ends"))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed or self._resting)
                if self._closed:
                    return
                waiting = self._queue.popleft() if self._queue else None
                self._resting &= waiting is not None
            if waiting is None:
                self._rest()
                continue
            shot, future = waiting
            if not future.set_running_or_notify_cancel():
                continue
            data = self._cache.get(self, shot)  # meanwhile made for another request
            try:
                if data is None:
                    data = encode(self._read(shot.frame), shot)
                    self._cache.put(self, shot, data)
            except (SiamTrackError, OSError, cv2.error) as error:
                future.set_exception(error)
            else:
                future.set_result(data)


def round_width(width: int) -> int | None:
    """The next of `WIDTHS`, so that the cache has few sizes; None above them."""
    return next((known for known in WIDTHS if known >= width), None)


def encode(image: Image, shot: Shot) -> bytes:
    """Encode a frame, or the part of it that is asked for.

    Raises:
        RefusedError: the part is empty or too large.
    """
    height, width = image.shape[:2]
    if shot.region is not None:
        x, y, w, h = shot.region
        image = image[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)]
        if not image.size or image.shape[1] > MAX_REGION_WH[0] or image.shape[0] > MAX_REGION_WH[1]:
            raise RefusedError(
                f"the part {shot.region} of a {width}x{height} frame is empty or larger than "
                f"{MAX_REGION_WH[0]}x{MAX_REGION_WH[1]}"
            )
        image = np.ascontiguousarray(image)
    elif shot.width is not None and shot.width < width:
        size = (shot.width, max(1, round(height * shot.width / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    if shot.lossless:
        return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    quality = [cv2.IMWRITE_JPEG_QUALITY, shot.quality]
    return cv2.imencode(".jpg", image, quality)[1].tobytes()


# --- What is known of a clip, kept from one time to the next --------------------------------------


def load_index(path: Path, stamp: Sequence[int]) -> ClipIndex | None:
    """The index of a clip with its fingerprints; None where there is none of this very file.

    Args:
        path: of `save_index`.
        stamp: numbers that are others for another clip.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            if found["stamp"].tolist() != list(stamp):
                return None
            return ClipIndex(
                stamps=found["stamps"],
                times_s=found["times_s"],
                starts=found["starts"],
                fingerprints=found["fingerprints"],
                is_searchable=True,
                unreadable=int(found["unreadable"]),
            )
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return None


def save_index(path: Path, stamp: Sequence[int], index: ClipIndex) -> None:
    """Keep the index of a clip that can be searched; it may be deleted at any time."""
    content = io.BytesIO()
    np.savez(
        content,
        stamp=np.array(stamp, np.int64),
        stamps=index.stamps,
        times_s=index.times_s,
        starts=index.starts,
        fingerprints=index.fingerprints,
        unreadable=index.unreadable,
    )
    with suppress(OutputError):
        atomic_write(path, content.getvalue())
