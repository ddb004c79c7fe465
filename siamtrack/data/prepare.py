"""From data sets to a crop cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from collections.abc import Sequence as Items
from pathlib import Path

import numpy as np
from tqdm import tqdm

from siamtrack.crops import Image
from siamtrack.data.cache import CacheConfig, CropCache, TrackSource, build_cache
from siamtrack.data.open import open_dataset
from siamtrack.data.sequence import Sequence
from siamtrack.errors import DatasetError
from siamtrack.geometry import FloatArray

logger = logging.getLogger(__name__)

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


def _source(sequence: Sequence, config: CacheConfig) -> TrackSource:
    picture = sequence.picture_key() if sequence.kind == "picture" else ""
    return TrackSource(
        sequence.name,
        sequence.set_name,
        sequence.class_name,
        picture,
        _frames(sequence, config.max_frames),
    )


def _frames(sequence: Sequence, most: int) -> Iterator[tuple[int, Image, FloatArray]]:
    """Evenly spread visible frames; pictures that cannot be read are left out and logged."""
    large = (np.nan_to_num(sequence.boxes[:, 2:]) >= _LEAST_SIDE_PX).all(axis=1)
    numbers = np.flatnonzero(sequence.visible & large)
    if len(numbers) > most:
        numbers = numbers[np.linspace(0, len(numbers) - 1, most).round().astype(int)]
    for number, image in _readable(sequence, numbers.tolist()):
        box = sequence.boxes[number]
        if box[0] < image.shape[1] and box[1] < image.shape[0] and (box[:2] + box[2:] > 0).all():
            yield number, image, box


def _readable(sequence: Sequence, wanted: list[int]) -> Iterator[tuple[int, Image]]:
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
