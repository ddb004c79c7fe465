"""Device names, and whether torch has to be asked."""

from __future__ import annotations

import ctypes
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

from siamtrack.engines import devices
from siamtrack.engines.devices import gpu_is_possible, resolve_device
from siamtrack.errors import DeviceError


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", "meta"])
def test_devices_that_are_not_there_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=repr(name)):
        resolve_device(name)


def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == "mps"


@pytest.fixture
def install_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pretend that a torch is installed, not imported, whose version.py has these lines."""
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "platform", "linux")

    def install(version: str | None) -> None:
        if version is not None:
            (tmp_path / "version.py").write_text(version)
        spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(devices, "find_spec", lambda name: spec)

    return install


@pytest.mark.parametrize("driver", [True, False])
@pytest.mark.parametrize(
    ("version", "needs"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", "never"),
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "driver"),
        ("cuda = '12.1'\nhip = None\n", "driver"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n", "nothing"),
        ("__version__ = '9.9'\n", "driver"),
        (None, "nothing"),
    ],
)
def test_a_gpu_needs_a_build_and_a_driver(
    version: str | None, needs: str, driver: bool, install_torch, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_torch(version)
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: driver)
    assert gpu_is_possible() == {"never": False, "driver": driver, "nothing": True}[needs]


def test_without_torch_there_is_no_gpu(install_torch, monkeypatch: pytest.MonkeyPatch) -> None:
    install_torch("")
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    assert not gpu_is_possible()
    assert resolve_device("auto") == "cpu"


def test_a_mac_may_have_a_gpu_always(install_torch, monkeypatch: pytest.MonkeyPatch) -> None:
    install_torch("cuda: Optional[str] = None\n")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert gpu_is_possible()


def test_a_gpu_is_possible_if_torch_is_imported_already() -> None:
    assert gpu_is_possible()


@pytest.mark.parametrize("devices_of_driver", [[], ["nvidia0"]])
def test_the_driver_is_a_library_or_a_device(
    devices_of_driver: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", asked.append)
    assert devices._has_nvidia_driver()
    assert asked == ["nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"]

    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    for name in devices_of_driver:
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "Path", lambda folder: tmp_path)
    assert devices._has_nvidia_driver() == bool(devices_of_driver)
