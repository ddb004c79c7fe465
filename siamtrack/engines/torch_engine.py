"""The reference engine: the network in PyTorch, on any of its devices."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from siamtrack.crops import to_network
from siamtrack.engines.base import Exemplar, Response, engine_errors, target_mask_array
from siamtrack.engines.devices import resolve_device
from siamtrack.errors import EngineError
from siamtrack.models.network import SiameseNetwork
from siamtrack.types import FloatArray, Image


class TorchEngine:
    """Eager PyTorch in inference mode, channels-last."""

    name = "torch"
    precision = "f32"

    def __init__(
        self, network: SiameseNetwork, device: str = "auto", weights_sha256: str = ""
    ) -> None:
        """Take a network in evaluation mode; it is moved to the device and never changed again.

        `weights_sha256` is the hash of the weights file; "" takes that of the tensors.

        Raises:
            DeviceError: see `resolve_device`.
        """
        self.device = resolve_device(device)
        self.architecture = network.architecture
        self.config = network.config
        self.any_search_size = network.any_search_size
        self._network = network.eval().to(self.device)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._file_sha256, self._process = weights_sha256, os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._network, self.device, self.weights_sha256)

    def __copy__(self) -> Self:
        """The engine itself, which keeps nothing of a target."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the weights file, or of the tensors of a network that was in memory."""
        if self._file_sha256:
            return self._file_sha256
        digest = hashlib.sha256()
        for name, tensor in self._network.state_dict().items():
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def _adopt_process(self) -> None:
        """Make torch usable in a child that its process forked, where it would hang for ever.

        The parent's pool of threads does not exist there, so torch must not wait for it.
        """
        if os.getpid() == self._process:
            return
        if self.device != "cpu":
            raise EngineError(
                f"a tracker on {self.device} cannot be used in a process made by fork; start the "
                'process with the method "spawn", or load the tracker in it'
            )
        torch.set_num_threads(1)
        self._process = os.getpid()

    @torch.inference_mode()
    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """Embed exemplar crops on the device."""
        self._adopt_process()
        with engine_errors(self.name):
            mask = torch.from_numpy(target_mask_array(boxes_xywh, self.config)).to(self.device)
            features = self._network.embed_exemplar(self.prepare(crops), mask)
        tensors = (features,) if isinstance(features, Tensor) else tuple(features)
        return Exemplar(tensors, len(crops))

    @torch.inference_mode()
    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """Concatenate exemplars on the device, in order."""
        parts = zip(*(e.tensors for e in exemplars), strict=True)
        tensors = tuple(torch.cat(tuple(p)) for p in parts)
        return Exemplar(tensors, sum(e.targets for e in exemplars))

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """Match search crops against exemplars."""
        return self.infer(exemplar, self.prepare(crops))

    def prepare(self, crops: Sequence[Image]) -> Tensor:
        """Convert B crops to one batch of RGB on the device."""
        return to_network(crops).to(self.device)  # (B, 3, S, S) uint8 RGB

    @torch.inference_mode()
    def infer(self, exemplar: Exemplar, batch: Tensor) -> Response:
        """Embed the batch, correlate, and copy the outputs to the CPU."""
        self._adopt_process()
        with engine_errors(self.name):
            x = self._network.embed_search(batch)
            z = self._network.exemplar_from_tensors(exemplar.tensors)
            output = self._network.correlate(z, x)
            similarity, features = self._network.similarity(z, output), output.filter_features
            return Response(
                output.score_logits[:, 0].float().cpu().numpy(),  # (B, 1, R, R) to (B, R, R)
                None if output.ltrb_px is None else output.ltrb_px.float().cpu().numpy(),
                None if similarity is None else similarity.float().cpu().numpy(),
                None if features is None else features.float().cpu().numpy(),
            )
