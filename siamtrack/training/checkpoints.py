"""Checkpoints that survive kill -9 and a full disk, and refuse what does not fit."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from siamtrack.errors import OutputError, TrainingError

FORMAT = 1
LAST = "last.pt"
BEST = "best.pt"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; until it is complete the one before it stays.

    Raises:
        OutputError: it cannot be written; the one before is intact.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            torch.save({"format": FORMAT, **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        kept = "the checkpoint before it is intact" if path.exists() else "nothing was saved yet"
        raise OutputError(f"cannot write checkpoint {path}: {error}; {kept}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only plain data and tensors are unpickled.

    Raises:
        TrainingError: missing, damaged or of another format.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no checkpoint {path}; start the run without --resume"
        ) from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise TrainingError(f"checkpoint {path} is damaged ({error}); use an older one") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a checkpoint of this version; start the run anew")
    return state
