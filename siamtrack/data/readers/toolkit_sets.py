"""The got10k toolkit's data sets, made to work offline on what is really on disk.

These classes keep the toolkit's interface (`seq_names`, `seq_dirs`, `anno_files`, indexing gives
picture files and the rows of the annotation) and its lists of sequences and frame ranges. What
they mend in version 0.1.3:

- none downloads, prints, or writes a cache into the current folder;
- `LaSOT` and `TrackingNet` cannot be constructed or indexed at all: a wrong number of arguments,
  a `basename` of a generator; frames looked for beside the folder `frames`, their numbers parsed
  out of whole paths;
- `UAV123` refuses a root with fewer than four entries and stops at a stray text file;
- `TColor128` stops at the first folder without a frame range;
- `ImageNetVID` drops frames without the target (which makes a hidden target jump) and reuses a
  cache made from another root;
- `VOT` turns a polygon into a rectangle of the same area, 1 px too large; here it is the enclosing
  rectangle, as VOT's own protocol sends it to trackers that ask for one.
"""

from __future__ import annotations

import glob
import json
import os
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from got10k import datasets

from siamtrack.data.frames import natural_key
from siamtrack.geometry import FloatArray

Rows = tuple[list[str], FloatArray]

_FOUR, _POLYGON = 4, 8
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TABLES = Path(str(datasets.__file__)).parent


class OfflineGOT10k(datasets.GOT10k):
    """`list.txt` of one subset."""

    def _check_integrity(self, *_: Any) -> None:
        pass


class OfflineOTB(datasets.OTB):
    """The sequences of one version of OTB that are there."""

    def _check_integrity(self, *_: Any) -> None:
        pass

    @staticmethod
    def expected(version: int | str) -> list[str]:
        """Folders that a version consists of."""
        return sorted(datasets.OTB._OTB__version_dict[version])


class OfflineNfS(datasets.NfS):
    """Every sequence with an annotation at one frame rate."""

    def _check_integrity(self, *_: Any) -> None:
        pass


class OfflineDTB70(datasets.DTB70):
    """Every folder with an annotation."""

    def _check_integrity(self, *_: Any) -> None:
        pass


class OfflineVOT(datasets.VOT):
    """`list.txt`; pictures in the sequence's folder or, since VOT2018-LT, in `color`."""

    def __init__(self, root: str) -> None:
        super().__init__(root, anno_type="default", download=False)
        folders = [os.path.join(root, name) for name in self.seq_names]
        colour = [os.path.join(folder, "color") for folder in folders]
        pairs = zip(colour, folders, strict=True)
        self.seq_dirs = [c if os.path.isdir(c) else folder for c, folder in pairs]

    def _check_integrity(self, *_: Any) -> None:
        pass

    def __getitem__(self, index: int) -> Rows:
        files, rows = super().__getitem__(index)
        if rows.shape[1] == _POLYGON:
            low = rows.reshape(-1, _FOUR, 2).min(axis=1)
            high = rows.reshape(-1, _FOUR, 2).max(axis=1)
            rows = np.hstack([low, high - low])
        return files, rows


class OfflineLaSOT(datasets.LaSOT):
    """One subset of the toolkit's split; class folders (`cat/cat-1`) may be left out (`cat-1`)."""

    def __init__(self, root: str, subset: str) -> None:
        splits = json.loads((_TABLES / "lasot.json").read_text())
        self.root_dir, self.subset, self.return_meta = root, subset, False
        self.seq_names = splits[subset]
        folders = [self._folder(root, name) for name in self.seq_names]
        self.seq_dirs = [os.path.join(folder, "img") for folder in folders]
        self.anno_files = [os.path.join(folder, "groundtruth.txt") for folder in folders]

    @staticmethod
    def _folder(root: str, name: str) -> str:
        flat = os.path.join(root, name)
        return flat if os.path.isdir(flat) else os.path.join(root, name.rpartition("-")[0], name)


class OfflineTrackingNet(datasets.TrackingNet):
    """`TEST`, or `TRAIN_0` to `TRAIN_11`: annotations in `anno`, pictures in `frames`."""

    def __init__(self, root: str, subset: str) -> None:
        self.root_dir, self.subset = root, subset
        self.subset_dirs = ["TEST"] if subset == "test" else [f"TRAIN_{n}" for n in range(12)]
        annotations = sorted(
            file for part in self.subset_dirs for file in Path(root, part, "anno").glob("*.txt")
        )
        self.anno_files = list(map(str, annotations))
        self.seq_names = [file.stem for file in annotations]
        self.seq_dirs = [str(file.parent.parent / "frames" / file.stem) for file in annotations]

    def __getitem__(self, index: int) -> Rows:
        files = glob.glob(os.path.join(self.seq_dirs[index], "*.jpg"))
        return sorted(files, key=natural_key), np.loadtxt(self.anno_files[index], delimiter=",")


class OfflineUAV123(datasets.UAV123):
    """The sequences of the toolkit's table, UAV123 or UAV20L."""

    def __init__(self, root: str, version: str) -> None:
        self.root_dir, self.version = root, version
        self.seq_metas = json.loads((_TABLES / "uav123.json").read_text())
        self.seq_names = sorted(self.seq_metas[version])
        folders = [self.seq_metas[version][name]["folder_name"] for name in self.seq_names]
        self.seq_dirs = [os.path.join(root, "data_seq", "UAV123", folder) for folder in folders]
        anno = os.path.join(root, "anno", version)
        self.anno_files = [os.path.join(anno, f"{name}.txt") for name in self.seq_names]


class OfflineTColor128(datasets.TColor128):
    """Every folder with an annotation; the frame range is in a file beside it."""

    def __init__(self, root: str) -> None:
        self.root_dir = root
        self.anno_files = sorted(glob.glob(os.path.join(root, "*", "*_gt.txt")))
        folders = [os.path.dirname(file) for file in self.anno_files]
        self.seq_names = [os.path.basename(folder) for folder in folders]
        self.seq_dirs = [os.path.join(folder, "img") for folder in folders]
        self.range_files = [
            next(iter(glob.glob(os.path.join(f, "*_frames.txt"))), os.path.join(f, "*_frames.txt"))
            for f in folders
        ]

    def __getitem__(self, index: int) -> Rows:
        first, last = np.loadtxt(self.range_files[index], dtype=int, delimiter=",", ndmin=1)
        folder = self.seq_dirs[index]
        files = [os.path.join(folder, f"{number:04d}.jpg") for number in range(first, last + 1)]
        return files, np.loadtxt(self.anno_files[index], delimiter=",", ndmin=2)


class OfflineVID:
    """Every target of every snippet of ImageNet-VID that is seen at least twice.

    The toolkit's class does all its work while it is constructed, so nothing of it is left to
    inherit. A target's sequence goes from its first frame to its last, NaN in between where it is
    not annotated; the box counts xmax and ymax as part of the target, as the toolkit does.

    Attributes:
        seq_names: `snippet.track`, as in the toolkit.
        seq_dirs: folder of the snippet's pictures.
        anno_files: folder of the snippet's XML files.
        classes: WordNet id of each target.
    """

    def __init__(self, root: str, subset: str) -> None:
        folder = Path(root) / "Annotations" / "VID" / subset
        # Snippets of the training set are one level deeper, in ILSVRC2015_VID_train_0000 to 0003.
        self.snippets = sorted({file.parent for file in folder.rglob("*.xml")})
        self.seq_names: list[str] = []
        self.seq_dirs: list[str] = []
        self.anno_files: list[str] = []
        self.classes: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        self._tracks: list[tuple[list[str], FloatArray]] = []
        for snippet in self.snippets:
            pictures = (
                Path(root) / "Data" / "VID" / snippet.relative_to(Path(root) / "Annotations/VID")
            )
            self._add(snippet, str(pictures))

    def __getitem__(self, index: int) -> Rows:
        stems, rows = self._tracks[index]
        return [os.path.join(self.seq_dirs[index], f"{stem}.JPEG") for stem in stems], rows

    def _add(self, snippet: Path, pictures: str) -> None:
        files = sorted(snippet.glob("*.xml"))
        tracks: dict[str, dict[int, list[float]]] = defaultdict(dict)
        classes: dict[str, str] = {}
        for number, file in enumerate(files):
            try:
                for thing in ET.parse(file).getroot().findall("object"):
                    track = _text(thing, "trackid")
                    corners = [
                        float(_text(thing, f"bndbox/{c}")) for c in ("xmin", "ymin", "xmax", "ymax")
                    ]
                    left, top, right, bottom = corners
                    tracks[track][number] = [left, top, right - left + 1, bottom - top + 1]
                    classes[track] = _text(thing, "name")
            except (ET.ParseError, ValueError, OSError) as error:
                self.unreadable.append((str(file), f"cannot be understood: {error}"))
        for track, boxes in sorted(tracks.items(), key=lambda item: natural_key(item[0])):
            if len(boxes) > 1:
                first, last = min(boxes), max(boxes)
                rows = np.full((last - first + 1, _FOUR), np.nan)
                rows[[n - first for n in boxes]] = list(boxes.values())
                self._tracks.append(([f.stem for f in files[first : last + 1]], rows))
                self.seq_names.append(f"{snippet.name}.{track}")
                self.seq_dirs.append(pictures)
                self.anno_files.append(str(snippet))
                self.classes.append(classes[track])


def _text(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if not text:
        raise ValueError(f"an object lacks {path}")
    return text.strip()
