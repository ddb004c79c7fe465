"""Data sets by name: `kind:root?option=value&option=value`.

    open_dataset("got10k:/data/GOT-10k?subset=val")
    open_dataset("folder:clips")

| kind | layout | options |
|---|---|---|
| folder | clips or folders of images with boxes beside them | uncertain |
| pack | siamtrack pack: `tracks.json` | only, set, without, label |
| coco | COCO JSON | annotations, pictures |
| voc | Pascal VOC XML | subset, first_pixel |
| yolo | YOLO txt | subset |
| got10k, lasot, trackingnet, vid | those benchmarks | subset, first_pixel |
| otb, uav123, vot | those benchmarks | version (not vot), first_pixel |
| nfs | Need for Speed | fps, first_pixel |
| dtb70, tcolor128 | those benchmarks | first_pixel |

All kinds take `partial=1`: missing parts are left out with a warning; otherwise the data set is
refused. The modules of `siamtrack.data.formats` explain the options.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from siamtrack.data.formats.benchmarks import open_benchmark_layout
from siamtrack.data.formats.coco import open_coco
from siamtrack.data.formats.folder import open_folder
from siamtrack.data.formats.pack import open_pack
from siamtrack.data.formats.voc import open_voc
from siamtrack.data.formats.yolo import open_yolo
from siamtrack.data.sequence import Dataset, DatasetSpec
from siamtrack.errors import ConfigError, DatasetError, dataset_error

_log = logging.getLogger(__name__)

# The function that opens each kind, and the options it understands.
_FORMATS: dict[str, tuple[Callable[[DatasetSpec], Dataset], tuple[str, ...]]] = {
    "folder": (open_folder, ("uncertain",)),
    "pack": (open_pack, ("only", "set", "without", "label")),
    "coco": (open_coco, ("annotations", "pictures")),
    "voc": (open_voc, ("subset", "first_pixel")),
    "yolo": (open_yolo, ("subset",)),
    "got10k": (open_benchmark_layout, ("subset", "first_pixel")),
    "lasot": (open_benchmark_layout, ("subset", "first_pixel")),
    "trackingnet": (open_benchmark_layout, ("subset", "first_pixel")),
    "vid": (open_benchmark_layout, ("subset", "first_pixel")),
    "otb": (open_benchmark_layout, ("version", "first_pixel")),
    "uav123": (open_benchmark_layout, ("version", "first_pixel")),
    "vot": (open_benchmark_layout, ("first_pixel",)),
    "nfs": (open_benchmark_layout, ("fps", "first_pixel")),
    "dtb70": (open_benchmark_layout, ("first_pixel",)),
    "tcolor128": (open_benchmark_layout, ("first_pixel",)),
}

KINDS: tuple[str, ...] = tuple(sorted(_FORMATS))


def open_dataset(spec: str, *, partial: bool = False) -> Dataset:
    """Open a data set by name.

    Args:
        spec: `kind:root?option=value&...`.
        partial: open the data set although parts are missing, which `Dataset.problems` lists.
            Sequences themselves are read later, when they are loaded.

    Raises:
        ConfigError: the name is malformed, or the kind, an option or its value unknown.
        DatasetError: the root does not exist, parts are missing, or it holds no sequence.
    """
    parsed = parse_spec(spec, partial=partial)
    open_format, _ = _FORMATS[parsed.kind]
    dataset = open_format(parsed)
    missing = [problem for problem in dataset.problems if problem.incomplete]
    if missing and not parsed.partial:
        raise dataset_error(spec, missing)
    if not len(dataset):
        hint = f": {dataset.problems[0]}" if dataset.problems else ""
        raise DatasetError(f"{spec} holds no sequence{hint}", dataset.problems)
    if dataset.problems:
        counts = Counter(problem.kind for problem in dataset.problems)
        counted = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        _log.warning("%s: left out %s; siamtrack check-dataset lists them", spec, counted)
    return dataset


def parse_spec(spec: str, *, partial: bool = False) -> DatasetSpec:
    """Split a data set's name into its parts without looking at the disk.

    Raises:
        ConfigError: it is malformed, or the kind or an option is unknown.
    """
    kind, colon, rest = spec.partition(":")
    root, _, query = rest.partition("?")
    if not colon or not root:
        raise ConfigError(
            f"data set {spec!r} is not KIND:ROOT; write for example folder:clips, with KIND one "
            f"of {', '.join(KINDS)}"
        )
    if kind not in _FORMATS:
        raise ConfigError.unknown("kind of data set", kind, KINDS)
    options: dict[str, str] = {}
    known = (*_FORMATS[kind][1], "partial")
    for part in filter(None, query.split("&")):
        option, equals, value = part.partition("=")
        if not equals or option in options:
            raise ConfigError(f"data set {spec!r}: write each option once as name=value")
        if option not in known:
            raise ConfigError.unknown(f"option of {kind}", option, known)
        options[option] = value
    given_partial = options.pop("partial", "0")
    if given_partial not in ("0", "1"):
        raise ConfigError(f"data set {spec!r}: partial is 0 or 1")
    use_partial = partial or given_partial == "1"
    return DatasetSpec(spec, kind, Path(os.path.expanduser(root)), options, use_partial)
