"""A plain folder of clips with their truth as a data set; the layout is `siamtrack.data`'s."""

from __future__ import annotations

from pathlib import Path

from siamtrack.data.open import open_dataset
from siamtrack.evaluation.attributes import computed_attributes
from siamtrack.evaluation.protocols import CLIPS
from siamtrack.evaluation.scores import Truth
from siamtrack.evaluation.sequence import Benchmark, EvalSequence


class ClipBenchmark(Benchmark):
    """Clips under a folder: `clip.mp4` or pictures in `clip/`, boxes in `clip.txt` or `clip.csv`.

    Args:
        root: the folder.

    Raises:
        DatasetError: there is no clip with its truth under it.
    """

    def __init__(self, root: Path):
        super().__init__(
            name="clips",
            folder="clips",
            protocol=CLIPS,
            root=root,
            dataset=open_dataset(f"folder:{root}", partial=True),
        )

    def load(self, name: str) -> EvalSequence:
        """Read one clip's truth; see `Benchmark.load`."""
        clip = self.dataset[name]
        return EvalSequence(
            name=name,
            frames=clip.frames,
            truth=Truth(clip.boxes, clip.visible),
            attributes=computed_attributes(clip.boxes) | self.annotated.get(name, frozenset()),
        )
