"""Data sets by name: `kind:root?option=value&option=value`.

    open_dataset("got10k:/data/GOT-10k?subset=val")
    open_dataset("folder:clips")

| kind | layout | options |
|---|---|---|
| folder | clips or folders of pictures with boxes beside them | uncertain |
| pack | siamtrack pack: `tracks.json` | only, set, without, label |
| coco | COCO JSON | annotations, pictures |
| voc | Pascal VOC XML | subset, first_pixel |
| yolo | YOLO txt | subset |
| got10k, lasot, trackingnet, vid | those benchmarks | subset, first_pixel |
| otb, uav123, vot | those benchmarks | version (not vot), first_pixel |
| nfs | Need for Speed | fps, first_pixel |
| dtb70, tcolor128 | those benchmarks | first_pixel |

`partial=1` works with all of them: parts that are missing are left out with a warning instead of
refusing the whole. Each reader's module says what its options mean.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from siamtrack.data.formats.benchmarks import open_toolkit
from siamtrack.data.formats.coco import open_coco
from siamtrack.data.formats.folder import open_folder
from siamtrack.data.formats.pack import open_pack
from siamtrack.data.formats.voc import open_voc
from siamtrack.data.formats.yolo import open_yolo
from siamtrack.data.sequence import Dataset, Request
from siamtrack.errors import ConfigError, DatasetError, failure

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Reader:
    """A function that opens a layout, and the options it understands."""

    open: Callable[[Request], Dataset]
    options: tuple[str, ...] = ()


_READERS: Mapping[str, _Reader] = {
    "folder": _Reader(open_folder, ("uncertain",)),
    "pack": _Reader(open_pack, ("only", "set", "without", "label")),
    "coco": _Reader(open_coco, ("annotations", "pictures")),
    "voc": _Reader(open_voc, ("subset", "first_pixel")),
    "yolo": _Reader(open_yolo, ("subset",)),
    "got10k": _Reader(open_toolkit, ("subset", "first_pixel")),
    "lasot": _Reader(open_toolkit, ("subset", "first_pixel")),
    "trackingnet": _Reader(open_toolkit, ("subset", "first_pixel")),
    "vid": _Reader(open_toolkit, ("subset", "first_pixel")),
    "otb": _Reader(open_toolkit, ("version", "first_pixel")),
    "uav123": _Reader(open_toolkit, ("version", "first_pixel")),
    "vot": _Reader(open_toolkit, ("first_pixel",)),
    "nfs": _Reader(open_toolkit, ("fps", "first_pixel")),
    "dtb70": _Reader(open_toolkit, ("first_pixel",)),
    "tcolor128": _Reader(open_toolkit, ("first_pixel",)),
}

KINDS: tuple[str, ...] = tuple(sorted(_READERS))


def open_dataset(spec: str, *, partial: bool = False) -> Dataset:
    """Open a data set by name.

    Args:
        spec: `kind:root?option=value&...`, see the module.
        partial: open what is there although parts are missing; each missing part is in
            `Dataset.problems`. Without it nothing that is listed may be missing. (Sequences are
            looked into only when they are loaded.)

    Raises:
        ConfigError: the name is malformed, or the kind, an option or its value unknown.
        DatasetError: the root does not exist, parts are missing, or nothing is in it.
    """
    request = parse_spec(spec, partial=partial)
    dataset = _READERS[request.kind].open(request)
    missing = [problem for problem in dataset.problems if problem.incomplete]
    if missing and not request.partial:
        raise failure(spec, missing)
    if not len(dataset):
        hint = f": {dataset.problems[0]}" if dataset.problems else ""
        raise DatasetError(f"{spec} holds no sequence{hint}", dataset.problems)
    if dataset.problems:
        counts = Counter(problem.kind for problem in dataset.problems)
        counted = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        _log.warning("%s: left out %s; tools/check_dataset.py lists them", spec, counted)
    return dataset


def parse_spec(spec: str, *, partial: bool = False) -> Request:
    """Take a data set's name apart without looking at the disk.

    Args:
        spec: `kind:root?option=value&...`.
        partial: see `open_dataset`; `partial=1` in the name says the same.

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
    if kind not in _READERS:
        raise ConfigError.unknown("kind of data set", kind, KINDS)
    options: dict[str, str] = {}
    known = (*_READERS[kind].options, "partial")
    for part in filter(None, query.split("&")):
        option, equals, value = part.partition("=")
        if not equals or option in options:
            raise ConfigError(f"data set {spec!r}: write each option once as name=value")
        if option not in known:
            raise ConfigError.unknown(f"option of {kind}", option, known)
        options[option] = value
    if options.pop("partial", "1" if partial else "0") not in ("0", "1"):
        raise ConfigError(f"data set {spec!r}: partial is 0 or 1")
    wanted = partial or "partial=1" in query.split("&")
    return Request(spec, kind, Path(root).expanduser(), options, wanted)
