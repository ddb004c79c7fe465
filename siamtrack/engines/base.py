"""What a tracker needs from a network, whatever runs it: `Engine`, `Exemplar`, `Response`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from siamtrack.errors import EngineError, SiamTrackError
from siamtrack.models.config import NetworkConfig
from siamtrack.types import Float32Array, FloatArray, Image


class Exemplar(NamedTuple):
    """Embedded exemplars; `tensors` are the engine's own arrays, targets along the first axis."""

    tensors: tuple[Any, ...]
    targets: int


@dataclass(frozen=True, slots=True)
class Response:
    """Output of the network for B search crops; R is the response size in cells.

    `response[start:stop]` is the response of some of the crops.

    Attributes:
        score_logits: (B, R, R).
        ltrb_px: (B, 4, R, R) distances from the center of a cell to the target's left, top, right
            and bottom edge, px of the crop; None for networks without a box head.
        similarity: (B, R, R) cosine similarity of each cell's embedding and the exemplar's; None
            for networks without one.
        features: (B, C, R, R) float32, what the online filter learns from, at unit length over C;
            None for networks without, and from graphs exported before siamtrack had this output.
    """

    score_logits: Float32Array
    ltrb_px: Float32Array | None
    similarity: Float32Array | None
    features: Float32Array | None = None

    @property
    def is_finite(self) -> bool:
        """Whether all values are finite; logits of -inf are excluded cells."""
        if not (self.score_logits < np.inf).all():  # nor is NaN below
            return False
        others = (self.ltrb_px, self.similarity, self.features)
        return all(values is None or bool(np.isfinite(values).all()) for values in others)

    def __getitem__(self, crops: slice) -> Response:
        return Response(
            self.score_logits[crops],
            None if self.ltrb_px is None else self.ltrb_px[crops],
            None if self.similarity is None else self.similarity[crops],
            None if self.features is None else self.features[crops],
        )

    def __add__(self, other: Response) -> Response:
        """The responses to the crops of both, in order."""
        return Response.joined([self, other])

    @classmethod
    def joined(cls, responses: Sequence[Response]) -> Response:
        """The responses to the crops of all, in order."""
        if len(responses) == 1:
            return responses[0]

        def join(name: str) -> Any:
            parts = [getattr(response, name) for response in responses]
            return None if parts[0] is None else np.concatenate(parts)

        return cls(*map(join, ("score_logits", "ltrb_px", "similarity", "features")))


class Engine(Protocol):
    """Runs one set of weights. Stateless between calls: any number of trackers may share one.

    `name` is one of `siamtrack.engines.ENGINES`, `precision` is "f32", "bf16" or "int8".
    An engine of siamtrack also has the hash of its weights as `weights_sha256`; it can be pickled,
    and its copies are the engine itself.
    """

    name: str
    precision: str
    device: str
    architecture: str
    config: NetworkConfig

    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """Embed exemplar crops.

        Args:
            crops: B images, uint8 (exemplar_size_px, exemplar_size_px, 3) BGR.
            boxes_xywh: (B, 4) targets in px of their crop.
        """
        ...

    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """Concatenate exemplars, in order."""
        ...

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """Match search crops against exemplars: `infer(exemplar, prepare(crops))`.

        Args:
            exemplar: one target, or as many as there are crops.
            crops: B images, uint8 (S, S, 3) BGR. S is `search_size_px`; or, for an engine that
                `takes_any_size`, any multiple of the total stride from the exemplar's side on.
        """
        ...

    def prepare(self, crops: Sequence[Image]) -> Any:
        """First half of `track`: the batch in the form that `infer` takes."""
        ...

    def infer(self, exemplar: Exemplar, batch: Any) -> Response:
        """Second half of `track`: run the network on what `prepare` returned."""
        ...


def takes_any_size(engine: Engine) -> bool:
    """Whether search crops may be smaller than `search_size_px`, and larger.

    Such an engine has `any_search_size = True`: those of siamtrack for networks with a box head,
    unless their graphs were exported before the networks took crops of any size.
    """
    return bool(getattr(engine, "any_search_size", False))


@contextmanager
def engine_errors(engine: str) -> Iterator[None]:
    """Turn whatever a library raises in the block, while it runs a network, into `EngineError`."""
    try:
        yield
    except SiamTrackError:
        raise
    except Exception as error:  # none of the libraries has public classes for all it raises
        reason = " ".join(str(error).split())[-300:] or type(error).__name__
        raise EngineError(
            f'engine "{engine}" could not run the network ({reason}); its graphs or weights may be '
            "damaged, or do not fit this target; use another engine or get the files again"
        ) from error


def target_mask_array(boxes_xywh: FloatArray, config: NetworkConfig) -> Float32Array:
    """Mask of the target for the exemplar branch: `models.network.target_mask` without torch.

    `boxes_xywh` (B, 4) are targets in px of their exemplar crop. Returns (B, 1, h, w), the fraction
    of each exemplar cell that the target covers, in [0, 1].
    """
    x, y, w, h = np.asarray(boxes_xywh, dtype=np.float32).T
    stride = np.float32(config.total_stride)
    edges = np.arange(config.exemplar_cells, dtype=np.float32) * stride  # (cells,)

    def covered(start: Float32Array, length: Float32Array) -> Float32Array:
        """(B, cells) fraction of each interval [edge, edge + stride) in [start, start + length)."""
        low = np.maximum(edges, start[:, None])
        high = np.minimum(edges + stride, (start + length)[:, None])
        return np.maximum(high - low, np.float32(0)) / stride

    # A box covers the product of what it covers of the cell's columns and of its rows.
    mask: Float32Array = covered(y, h)[:, None, :, None] * covered(x, w)[:, None, None, :]
    return mask


@runtime_checkable
class ConcurrentEngine(Protocol):
    """An engine that computes some targets' responses while other targets' crops are being cut."""

    def track_each(self, jobs: Iterable[tuple[Exemplar, Sequence[Image]]]) -> Iterator[Response]:
        """Yield the response of each (exemplar, search crops), in order, as soon as it is there."""
        ...


def track_each(
    engine: Engine, jobs: Iterable[tuple[Exemplar, Sequence[Image]]]
) -> Iterator[Response]:
    """Yield the response of each (exemplar, search crops): concurrently, or in one batch per size.

    The crops of one target have one size.
    """
    if isinstance(engine, ConcurrentEngine):
        yield from engine.track_each(jobs)
        return
    targets = list(jobs)
    by_size: dict[int, list[int]] = {}
    for k, (_, crops) in enumerate(targets):
        by_size.setdefault(len(crops[0]), []).append(k)
    responses: dict[int, Response] = {}
    for chosen in by_size.values():
        # One row of the batch for each crop, with its target's exemplar.
        exemplars = [targets[k][0] for k in chosen for _ in targets[k][1]]
        batch = [crop for k in chosen for crop in targets[k][1]]
        response = engine.track(engine.stack(exemplars), batch)
        start = 0
        for k in chosen:
            stop = start + len(targets[k][1])
            responses[k], start = response[start:stop], stop
    yield from (responses[k] for k in range(len(targets)))
