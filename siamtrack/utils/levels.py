"""From the values that a file holds to the 8 bits that everything here works on.

Pictures of 8 bits are taken as they are. Deeper ones (10 to 16 bits in 16, 32 bits, signed, float)
are mapped linearly, with one range for all pictures of a clip: what is black in one stays black in
the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import ConfigError, DatasetError
from siamtrack.types import Image

_log = logging.getLogger(__name__)

ValueRange: TypeAlias = tuple[float, float]
"""The values that become black and white."""

SAMPLES = 8
"""Pictures of a clip, spread over it, that its range is found in."""
TAIL = 5e-4
"""Share of the pixels at either end that the range may leave out: reflections, clusters of hot
pixels. Single ones are filtered out before."""
NARROW = 8
"""A range is too wide where the pictures use less than this part of it: below 32 of 256 levels."""
MARGIN = 1 / 8
"""Part of the range that is added at either end, up to the values that occur: the filter takes the
brightest and darkest details away, and some pictures of the clip are not looked at."""
_MEDIAN_PX = 5
_FULL_16 = (0.0, 65535.0)


@dataclass(frozen=True, slots=True, eq=False)
class RawImage:
    """A decoded picture before it is brought to 8 bits.

    Attributes:
        values: (H, W) gray, (H, W, 3) BGR or (H, W, 4) BGRA, of any integer or float type.
        stated: black and white by the file's own word, where it says more than the type does.
    """

    values: NDArray[Any]
    stated: ValueRange | None = None


def check_range(value_range: Any) -> ValueRange:
    """Check a range that a user gave, and return it as floats.

    Raises:
        ConfigError: not two finite numbers, the lower one first.
    """
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError, OverflowError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise ConfigError(
            f"range is {value_range!r}; give the value that is black and the one that is white, "
            "such as 29300,30600"
        )
    return low, high


class Levels:
    """Map the pictures of one clip to 8 bits, all with the same range.

    The range is that which the user gave; else the one the file states (maxval of a PGM, precision
    of a JPEG 2000); else all 16 bits, where the pictures use them; else that of the pictures:
    without NaN, single hot or dead pixels, and values that only mark missing data. A stated range
    of more than 8 bits of which the pictures use less than an eighth is not used either. A range
    that was taken from the pictures is logged once.

    Args:
        name: of the clip, for the log.
        samples: gives pictures spread over the clip; called when the first deep one is met.
        given: range to use whatever the pictures hold.
        log_level: of the line that tells the range.
    """

    def __init__(
        self,
        name: str,
        samples: Callable[[], Iterable[RawImage]] = tuple,
        *,
        given: ValueRange | None = None,
        log_level: int = logging.WARNING,
    ) -> None:
        self._name = name
        self._samples = samples
        self._given = given
        self._log_level = log_level
        self._ranges: dict[tuple[str, ValueRange | None], ValueRange] = {}
        self._tables: dict[tuple[str, ValueRange], NDArray[np.uint8]] = {}

    def to_8_bits(self, raw: RawImage, *, alpha: bool = False) -> Image:
        """Return a picture as uint8 (H, W, 3) BGR, what is transparent before black.

        Args:
            raw: any picture of the clip.
            alpha: keep transparency, as (H, W, 4) BGRA, where the picture has it.

        Raises:
            DatasetError: its values are no real numbers, or it is no picture by its shape.
        """
        values = raw.values
        if values.dtype.kind not in "buif":
            raise DatasetError(f"{self._name} has {values.dtype} values; convert it to 16 bits")
        if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (1, 3, 4))):
            raise DatasetError(
                f"{self._name} has pixels of shape {values.shape}, which are no gray or colors"
            )
        if values.dtype == np.bool_:
            values = values.astype(np.uint8) * np.uint8(255)
        elif values.dtype == np.int8 and self._given is None:
            values = values.view(np.uint8) ^ np.uint8(128)
        if values.ndim == 3 and values.shape[2] == 4:
            color = self._scale(values[..., :3], raw.stated)
            opacity = _opacity(values[..., 3])
            if alpha:
                return np.dstack([color, np.rint(opacity * 255).astype(np.uint8)])
            if (opacity < 1).any():
                color = np.rint(color * opacity[..., None]).astype(np.uint8)
            return np.ascontiguousarray(color)
        color = self._scale(values, raw.stated)
        if color.ndim == 2 or color.shape[2] == 1:
            color = np.asarray(cv2.cvtColor(color, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
        return np.ascontiguousarray(color)

    def _scale(self, values: NDArray[Any], stated: ValueRange | None) -> Image:
        """Map values to 0..255; NaN becomes 0."""
        if values.dtype == np.uint8 and self._given is None and stated is None:
            return values
        low, high = self._range_for(values, stated)
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            key = (values.dtype.str, (low, high))
            if key not in self._tables:
                every = np.arange(256**values.dtype.itemsize, dtype=np.float64)
                self._tables[key] = _to_bytes(every, low, high)
                if (low, high) == _FULL_16:
                    self._tables[key] = (every // 256).astype(np.uint8)
            return self._tables[key][values]
        # Wide integers and doubles far from 0 lose their last digits as float32.
        exact = np.float32 if values.dtype.itemsize <= 2 else np.float64
        return _to_bytes(values.astype(exact), low, high)

    def _range_for(self, values: NDArray[Any], stated: ValueRange | None) -> ValueRange:
        if self._given is not None:
            return self._given
        if stated is not None and values.dtype.itemsize == 1:
            return stated  # Nothing is lost by it.
        kind = (values.dtype.str, stated)
        if kind not in self._ranges:
            alike = [s.values for s in self._samples() if s.values.dtype == values.dtype]
            self._ranges[kind] = self._find_range(alike or [values], stated)
        return self._ranges[kind]

    def _find_range(self, samples: Iterable[NDArray[Any]], stated: ValueRange | None) -> ValueRange:
        """Choose the range of a clip, and log it where it comes from the pictures."""
        samples = list(samples)
        limits = [found for found in map(robust_limits, samples) if found is not None]
        dtype = samples[0].dtype
        low = min((lower for lower, _ in limits), default=0.0)
        high = max((upper for _, upper in limits), default=0.0)
        if stated is None and dtype == np.uint16:
            # Half of the range and more: these are the 16 bits that the type promises.
            is_full = high >= 2**15 and NARROW / 2 * (high - low) >= 2**15
            if is_full or low == high:
                return _FULL_16
        if stated is not None and NARROW * (high - low) >= stated[1] - stated[0]:
            return stated
        if low == high:
            return stated or _range_of_nothing(low)
        what = "float" if dtype.kind == "f" else f"{8 * dtype.itemsize}-bit"
        _log.log(
            self._log_level,
            "%s: %s values from %.6g to %.6g are shown as black to white in the whole clip; for "
            "others give --range LO,HI (Python: range=(lo, hi))",
            self._name,
            what,
            low,
            high,
        )
        return low, high


def robust_limits(values: NDArray[Any]) -> ValueRange | None:
    """Lowest and highest value of a picture, whatever single pixels hold; None where all are NaN.

    NaN and infinity are left out, and so are single hot or dead pixels and columns (a median over
    5x5 px), the extreme `TAIL` of what is left, and a value that stands for missing data: the
    lowest or highest, where the others lie close together and far from it. `MARGIN` is added.

    Args:
        values: (H, W) or (H, W, C) of any real type; of 4 channels the last is left out.
    """
    planes = values[..., :3] if values.ndim == 3 else values
    is_finite = np.isfinite(planes)
    if not is_finite.any():
        return None
    # 1. As float32 from the lowest value on, which keeps the digits of wide integers.
    base = float(planes[is_finite].min())
    offsets = (planes.astype(np.float64) - base).astype(np.float32)
    if not is_finite.all():
        offsets[~is_finite] = np.median(offsets[is_finite])

    # 2. Without what is smaller than an object. At the border the filter repeats pixels.
    margin = _MEDIAN_PX // 2
    found = offsets
    if min(offsets.shape[:2]) > 2 * _MEDIAN_PX:
        found = np.asarray(cv2.medianBlur(np.ascontiguousarray(offsets), _MEDIAN_PX))
        found = found[margin:-margin, margin:-margin]
    found = found.ravel()

    # 3. Without values that mark missing data.
    for extreme in (found.min(), found.max()):
        rest = found[found != extreme]
        if rest.size and NARROW * np.ptp(rest) < np.ptp(found) and np.ptp(rest) > 0:
            found = rest
    low, high = np.quantile(found, [TAIL, 1 - TAIL])

    # 4. With some room, as far as there are values.
    room = MARGIN * (high - low)
    low, high = max(low - room, offsets.min()), min(high + room, offsets.max())
    return base + float(low), base + float(high)


def _to_bytes(values: NDArray[Any], low: float, high: float) -> Image:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values - values.dtype.type(low)) * values.dtype.type(255 / (high - low))
    scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _opacity(alpha: NDArray[Any]) -> NDArray[Any]:
    """Alpha as a share, 0 to 1."""
    full = 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    return np.clip(alpha.astype(np.float32) / np.float32(full), 0, 1)


def _range_of_nothing(value: float) -> ValueRange:
    """A range around pictures of one single value: within 0..1 as floats are, else mid gray."""
    return (0.0, 1.0) if 0 <= value <= 1 else (value - 1, value + 1)
