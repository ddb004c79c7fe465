"""Names for the arrays and tuples that travel through the package."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) BGR, or (S, S, 3) RGB once it is a crop."""

FloatArray: TypeAlias = NDArray[np.float64]
Float32Array: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]

Box: TypeAlias = tuple[float, float, float, float]
"""x, y, w, h: px, 0-based, top-left corner."""

Color: TypeAlias = tuple[int, int, int]
"""Blue, green, red in 0 to 255."""
