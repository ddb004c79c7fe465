"""Ways to run a tracker over a sequence: one pass, or one pass made harder.

- `ope`: one-pass evaluation, started on the first frame's true box.
- `sre`: spatial robustness, 12 one-pass runs from a first box that is shifted by a tenth of the
  target's size in 8 directions or scaled by 0.8, 0.9, 1.1, 1.2. Wu, Lim and Yang, "Object Tracking
  Benchmark", PAMI 2015, section 4.3.
- `tre`: temporal robustness, 20 one-pass runs from 20 frames spread over the sequence to its end.
  Same paper.
- `realtime`: frames come at a fixed rate whether the tracker is ready or not; see `loops`.
- `corruptions`: noise, blur, JPEG and brightness at five strengths; see `corruptions`.
- `supervised`: VOT's, restarted five frames after every failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation.corruptions import CORRUPTIONS, STRENGTHS

FloatArray = NDArray[np.float64]

Family = Literal["ope", "sre", "tre", "realtime", "corruptions", "supervised"]
FAMILIES: tuple[Family, ...] = ("ope", "sre", "tre", "realtime", "corruptions", "supervised")

SHIFT = 0.1
"""Size of a shift in widths and heights of the target."""

SHIFTS_XY: dict[str, tuple[float, float]] = {
    "left": (-SHIFT, 0.0),
    "right": (SHIFT, 0.0),
    "up": (0.0, -SHIFT),
    "down": (0.0, SHIFT),
    "up-left": (-SHIFT, -SHIFT),
    "up-right": (SHIFT, -SHIFT),
    "down-left": (-SHIFT, SHIFT),
    "down-right": (SHIFT, SHIFT),
}
SCALES = (0.8, 0.9, 1.1, 1.2)
SEGMENTS = 20


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of running.

    Attributes:
        family: which of the protocols it belongs to.
        name: unique; names the folder of its results.
        shift_xy: of the first box, in its widths and heights.
        scale: of the first box, about its centre.
        segment: which of `SEGMENTS` starts (TRE); 0 is the first frame.
        fps: rate at which frames come (realtime).
        corruption: kind and strength, or None.
    """

    family: Family
    name: str
    shift_xy: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    segment: int = 0
    fps: float = 0.0
    corruption: tuple[str, int] | None = None

    def first_box(self, box_xywh: FloatArray) -> FloatArray:
        """(4,) the box the tracker is given, from the true one."""
        size = box_xywh[2:] * self.scale
        centre = box_xywh[:2] + box_xywh[2:] / 2 + np.array(self.shift_xy) * box_xywh[2:]
        unchanged = self.scale == 1.0 and self.shift_xy == (0.0, 0.0)
        return box_xywh.copy() if unchanged else np.concatenate([centre - size / 2, size])

    def start_frame(self, visible: NDArray[np.bool_]) -> int:
        """Frame to start on: the segment's, or the nearest where the target can be pointed at.

        That is the first frame at or after the segment's start, failing that the last before it,
        where the target is visible and is seen again afterwards.

        Args:
            visible: (N,) frames with a true box.

        Raises:
            EvaluationError: the target is visible in fewer than two frames.
        """
        if self.segment == 0:
            return 0
        usable = np.flatnonzero(visible)[:-1]
        if len(usable) == 0:
            raise EvaluationError(
                f"{self.name} needs two frames in which the target is visible; leave the sequence "
                "out of tre"
            )
        start = self.segment * len(visible) // SEGMENTS
        later = usable[usable >= start]
        return int(later[0] if len(later) else usable[-1])


def variants_of(family: str, *, fps: float = 25.0) -> tuple[Variant, ...]:
    """All runs of one family.

    Args:
        family: one of `FAMILIES`.
        fps: rate of `realtime`.

    Raises:
        ConfigError: unknown family, or a rate that is not positive.
    """
    if family in ("ope", "supervised"):
        return (Variant(family, family),)  # type: ignore[arg-type]
    if family == "sre":
        shifted = [Variant("sre", f"sre-{name}", shift_xy=s) for name, s in SHIFTS_XY.items()]
        scaled = [Variant("sre", f"sre-scale-{s:g}", scale=s) for s in SCALES]
        return (*shifted, *scaled)
    if family == "tre":
        return tuple(Variant("tre", f"tre-{k:02d}", segment=k) for k in range(SEGMENTS))
    if family == "realtime":
        if not fps > 0:
            raise ConfigError(f"realtime at {fps} frames per second; give a positive rate")
        return (Variant("realtime", f"realtime-{fps:g}", fps=fps),)
    if family == "corruptions":
        return tuple(
            Variant("corruptions", f"{kind}-{strength}", corruption=(kind, strength))
            for kind in CORRUPTIONS
            for strength in range(1, STRENGTHS + 1)
        )
    raise ConfigError.unknown("protocol", family, FAMILIES)


def variant_named(name: str) -> Variant:
    """Find a variant by the name that names its results.

    Raises:
        ConfigError: there is none.
    """
    rate = name.removeprefix("realtime-")
    if rate != name and rate.replace(".", "", 1).isdigit():
        return variants_of("realtime", fps=float(rate))[0]
    fixed = {v.name: v for f in FAMILIES if f != "realtime" for v in variants_of(f)}
    if name not in fixed:
        raise ConfigError.unknown("variant", name, [*fixed, "realtime-25"])
    return fixed[name]
