"""Frames that are some of those of a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from siamtrack.types import Image, IntArray
from siamtrack.video.random_access import Frames

BLOCK_FRAMES = 32
"""Frames that are decoded at once where they go backwards."""


class ViewFrames:
    """`Frames` that are some of others, in an order of their own, perhaps mirrored."""

    def __init__(self, frames: Frames, numbers: IntArray, *, mirrored: bool = False) -> None:
        self._frames, self._numbers, self._mirrored = frames, numbers.tolist(), mirrored

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, index: int) -> Image:
        """Decode one frame."""
        return next(self.iterate([index]))

    def iterate(self, indices: Iterable[int]) -> Iterator[Image]:
        """Decode several frames in the order given."""
        for image in self._in_order([self._numbers[index] for index in indices]):
            yield np.ascontiguousarray(image[:, ::-1]) if self._mirrored else image

    def _in_order(self, numbers: list[int]) -> Iterator[Image]:
        if numbers == sorted(numbers):
            yield from self._frames.iterate(numbers)
            return
        # A clip decodes forwards only, so that each block is decoded in ascending order.
        for start in range(0, len(numbers), BLOCK_FRAMES):
            block = numbers[start : start + BLOCK_FRAMES]
            ascending = sorted(set(block))
            images = dict(zip(ascending, self._frames.iterate(ascending), strict=True))
            yield from (images[number] for number in block)

    def path(self, index: int) -> Path:
        """File that holds the frame."""
        return self._frames.path(self._numbers[index])

    def key(self, index: int) -> str:
        """Identity of the picture; a mirrored one is another."""
        return self._frames.key(self._numbers[index]) + ("|mirrored" if self._mirrored else "")
