"""Names of devices, resolved without importing torch where there can be no GPU."""

from __future__ import annotations

import ctypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from siamtrack.errors import DeviceError, shown


def resolve_device(device: str) -> str:
    """Turn "auto", "cpu", "cuda", "cuda:1" or "mps" into the name of a device of this machine.

    Raises:
        DeviceError: no such device here, or not a device's name.
    """
    given, device = device, str(device)  # a torch.device has the same texts
    if device == "cpu" or (device == "auto" and not gpu_is_possible()):
        return "cpu"
    try:
        import torch
    except ModuleNotFoundError as error:
        raise DeviceError(
            f"device {device!r} needs torch, which is not installed; pip install torch, or give "
            '"cpu"'
        ) from error

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except (RuntimeError, ValueError) as error:
        raise DeviceError(
            f'device {shown(given)} is not a device; give "auto", "cpu", "cuda", "cuda:0" or "mps"'
        ) from error
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(wanted.type, 0)
    if (wanted.index or 0) >= count:
        raise DeviceError(
            f"device {shown(given)} is not on this machine ({count} of type {wanted.type}); "
            'give "auto" or "cpu"'
        )
    return str(wanted)


def gpu_is_possible() -> bool:
    """Whether torch might find a GPU; False only where it cannot.

    Importing torch takes longer than loading a tracker for the CPU. So it is only asked if its
    build has a GPU backend and the machine has the driver.
    """
    if sys.modules.get("torch"):
        return True
    spec = find_spec("torch")  # does not import it
    if spec is None or spec.origin is None:
        return False
    if sys.platform == "darwin":
        return True
    try:
        version = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return True
    build = dict(re.findall(r"^(cuda|hip)\b[^=]*=\s*(.+?)\s*$", version, re.MULTILINE))
    if build.get("hip", "None") != "None":
        return True
    return build.get("cuda") != "None" and _has_nvidia_driver()


def _has_nvidia_driver() -> bool:
    """Whether the library that every CUDA program loads is there, or a device of the driver."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return any(Path("/dev").glob("nvidia*"))
    return True
