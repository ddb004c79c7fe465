"""What a tracker needs of a network, whatever runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from siamtrack.models.network import NetworkConfig
from siamtrack.types import Float32Array, FloatArray, Image


class Exemplar(NamedTuple):
    """Embedded exemplars, opaque to everyone but the engine that made them.

    Attributes:
        tensors: the engine's arrays, each with the targets along its first axis.
        targets: how many.
    """

    tensors: tuple[Any, ...]
    targets: int


class Response(NamedTuple):
    """What the network says about B search crops; R is the response size in cells.

    Attributes:
        score_logits: (B, R, R).
        ltrb_px: (B, 4, R, R) distances from the cell's centre to the target's left, top, right
            and bottom edge, px of the crop; None for networks without a box head.
        similarity: (B, R, R) cosine between each cell's embedding and the exemplar's; None for
            networks without one.
    """

    score_logits: Float32Array
    ltrb_px: Float32Array | None
    similarity: Float32Array | None

    def rows(self, start: int, stop: int) -> Response:
        """The part of the batch that belongs to one target."""
        ltrb = None if self.ltrb_px is None else self.ltrb_px[start:stop]
        similarity = None if self.similarity is None else self.similarity[start:stop]
        return Response(self.score_logits[start:stop], ltrb, similarity)


class Engine(Protocol):
    """Runs one set of weights. Stateless between calls, so any number of trackers share one.

    Attributes:
        name: one of `siamtrack.engines.ENGINES`.
        precision: what the network computes in, "f32", "bf16" or "int8".
        device: where it runs.
        architecture: of the network.
        config: of the network.
    """

    name: str
    precision: str
    device: str
    architecture: str
    config: NetworkConfig

    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """Embed exemplar crops.

        Args:
            crops: B pictures, uint8 (exemplar_size_px, exemplar_size_px, 3) BGR.
            boxes_xywh: (B, 4) targets in px of their crop.
        """
        ...

    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """Put exemplars together, in order."""
        ...

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """Match search crops against exemplars.

        Args:
            exemplar: one target, or as many as there are crops.
            crops: B pictures, uint8 (search_size_px, search_size_px, 3) BGR.
        """
        ...

    def prepare(self, crops: Sequence[Image]) -> Any:
        """First half of `track`: the batch as the engine takes it, opaque to everyone else."""
        ...

    def infer(self, exemplar: Exemplar, batch: Any) -> Response:
        """Second half of `track`: run the network.

        Args:
            exemplar: see `track`.
            batch: of `prepare`.
        """
        ...


Job = tuple[Exemplar, Sequence[Image]]
"""One target's exemplar and its search crops."""


@runtime_checkable
class Overlapping(Protocol):
    """An engine that works on some targets' crops while others are still being cut."""

    def track_each(self, jobs: Iterable[Job]) -> Iterator[Response]:
        """Match every target's crops against its exemplar.

        Args:
            jobs: taken one by one, each begun at once.

        Yields:
            The responses, in order, each as soon as it is there.
        """
        ...


def track_each(engine: Engine, jobs: Iterable[Job]) -> Iterator[Response]:
    """The responses of many targets: side by side where the engine can, else in one batch."""
    if isinstance(engine, Overlapping):
        yield from engine.track_each(jobs)
        return
    work = list(jobs)
    exemplars = [exemplar for exemplar, crops in work for _ in crops]
    response = engine.track(engine.stack(exemplars), [crop for _, crops in work for crop in crops])
    start = 0
    for _, crops in work:
        yield response.rows(start, start + len(crops))
        start += len(crops)
