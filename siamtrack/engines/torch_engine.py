"""The reference engine: the network as PyTorch runs it, on any of its devices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from siamtrack.crops import to_network
from siamtrack.engines.base import Exemplar, Response
from siamtrack.errors import DeviceError
from siamtrack.models.network import TrackerNetwork, exemplar_mask
from siamtrack.types import FloatArray, Image


def resolve_device(device: str) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1" or "mps" into a device that this machine has.

    Raises:
        DeviceError: no such device here, or not a device's name.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(
            f'device {device!r} is not a device; give "auto", "cpu", "cuda", "cuda:0" or "mps"'
        ) from error
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(wanted.type, 0)
    if (wanted.index or 0) >= count:
        raise DeviceError(
            f"device {device!r} is not on this machine ({count} of type {wanted.type}); "
            'give "auto" or "cpu"'
        )
    return wanted


class TorchEngine:
    """Eager PyTorch in inference mode, channels-last."""

    name = "torch"
    precision = "f32"

    def __init__(self, network: TrackerNetwork, device: str | torch.device = "auto") -> None:
        """Take a network in evaluation mode; it is moved to the device and never changed again.

        Raises:
            DeviceError: see `resolve_device`.
        """
        self._device = resolve_device(device) if isinstance(device, str) else device
        self.device = str(self._device)
        self.architecture = network.architecture
        self.config = network.config
        self._network = network.eval().to(self._device)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def embed_exemplar(self, crops: Sequence[Image], boxes_xywh: FloatArray) -> Exemplar:
        """See `Engine.embed_exemplar`."""
        boxes = torch.as_tensor(boxes_xywh, dtype=torch.float32)
        mask = exemplar_mask(boxes, self.config)
        z = to_network(crops).to(self._device)
        features = self._network.embed_exemplar(z, mask.to(self._device))
        tensors = (features,) if isinstance(features, Tensor) else tuple(features)
        return Exemplar(tensors, len(crops))

    @torch.inference_mode()
    def stack(self, exemplars: Sequence[Exemplar]) -> Exemplar:
        """See `Engine.stack`."""
        parts = zip(*(e.tensors for e in exemplars), strict=True)
        tensors = tuple(torch.cat(tuple(p)) for p in parts)
        return Exemplar(tensors, sum(e.targets for e in exemplars))

    def track(self, exemplar: Exemplar, crops: Sequence[Image]) -> Response:
        """See `Engine.track`."""
        return self.infer(exemplar, self.prepare(crops))

    def prepare(self, crops: Sequence[Image]) -> Tensor:
        """See `Engine.prepare`."""
        return to_network(crops).to(self._device)

    @torch.inference_mode()
    def infer(self, exemplar: Exemplar, batch: Tensor) -> Response:
        """See `Engine.infer`."""
        x = self._network.embed_search(batch)
        z = self._network.exemplar_from(exemplar.tensors)
        output = self._network.correlate(z, x)
        similarity = self._network.similarity(z, output)
        return Response(
            output.score_logits[:, 0].float().cpu().numpy(),
            None if output.ltrb_px is None else output.ltrb_px.float().cpu().numpy(),
            None if similarity is None else similarity.float().cpu().numpy(),
        )
