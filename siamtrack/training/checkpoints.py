"""Checkpoints of a run: written whole, checked when read, and of the same run when resumed.

`last.pt` is replaced only when the new one is complete, and the one before it stays as
`previous.pt`: neither kill -9 nor a full disk nor a damaged file loses a run.
"""

from __future__ import annotations

import logging
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from siamtrack.errors import ConfigError, OutputError, TrainingError
from siamtrack.models.weights import build_config, config_to_dict
from siamtrack.training.config import TrainConfig, stored_config
from siamtrack.utils.files import atomic_path

logger = logging.getLogger(__name__)

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
FORMAT = 1  # version of the checkpoint layout


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a run that can be resumed."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; `last.pt` leaves the one before it as `previous.pt`.

    Raises:
        OutputError: it cannot be written; the one before it is intact.
    """
    try:
        with atomic_path(path) as part:
            with part.open("wb") as stream:
                torch.save({"format": FORMAT, **state}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            # A damaged one must not take the place of the one that was resumed from.
            if path.name == LAST and path.exists() and not _damage(path):
                os.replace(path, path.with_name(PREVIOUS))
    except (OSError, RuntimeError) as error:
        kept = "the checkpoint before it is intact" if path.exists() else "nothing was saved yet"
        raise OutputError(f"cannot write checkpoint {path}: {error}; {kept}") from error


def read_last_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the newest checkpoint of a run that is not damaged; a warning says if one is left out.

    Raises:
        TrainingError: there is none.
    """
    try:
        return read_checkpoint(folder / LAST)
    except TrainingError as error:
        if not (folder / PREVIOUS).exists():
            raise
        state = read_checkpoint(folder / PREVIOUS)
        logger.warning("%s; going on from %s, step %s", error, PREVIOUS, state.get("step"))
        return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only plain data and tensors are unpickled.

    Raises:
        TrainingError: it is missing, damaged, or not a checkpoint.
    """
    if not path.exists():
        raise TrainingError(f"there is no checkpoint {path}; start the run without --resume")
    try:
        damage = _damage(path)
        state: Any = None if damage else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        damage = str(error) or type(error).__name__
    except (pickle.UnpicklingError, EOFError, MemoryError) as error:
        damage = str(error) or type(error).__name__
    if damage:
        raise TrainingError(f"checkpoint {path} is damaged ({damage}); use an older one")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a checkpoint of this version; start a new run")
    return state


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint's file; empty if nothing is.

    It is a zip archive whose members are stored as they are, each with a CRC-32 that torch does not
    look at.
    """
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            if any(i.compress_type or i.file_size > size for i in archive.infolist()):
                return "it is compressed"
            bad = archive.testzip()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        return str(error)
    except (NotImplementedError, RuntimeError) as error:
        return str(error)
    return f"the checksum of {bad} is another one" if bad else ""


# Resuming

_MAY_DIFFER_UNSAID = ("loop.steps", "loop.max_minutes")
_MAY_DIFFER = (
    "cache",  # its content is compared
    "network.start",  # the weights are those of the checkpoint
    "loop.batch_size",
    "loop.device",
    "loop.device_pairs",
    "loop.precision",
    "loop.workers",
    "loop.threads",
    "loop.compile",
    "loop.channels_last",
    "loop.log_every",
    "loop.checkpoint_every",
    "loop.validate_every",
    "loop.tensorboard",
    "validation.batches",
    "validation.sequences",
    "validation.max_frames",
)
"""Keys that change neither what is learned from which data nor how; a warning names them."""


def check_same_run(
    checkpoint: Mapping[str, Any],
    config: TrainConfig,
    cache_identity: str,
    default_loss: Mapping[str, Any],
    out: Path,
) -> None:
    """Check that a run goes on as it began; warns of other differences that are allowed.

    Args:
        checkpoint: from `read_last_checkpoint`.
        config: what the run is to go on with.
        cache_identity: `CropCache.identity` of its cache.
        default_loss: losses of a configuration that names none.
        out: folder of the run, for messages.

    Raises:
        TrainingError: the network, the data, the losses or the optimizer differ; all keys that do
            are listed.
    """
    try:
        stored = stored_config(checkpoint["config"])
        before, now = (_flat(c, default_loss) for c in (stored, config))
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise TrainingError(
            f"the checkpoint in {out} is of another version ({error}); start in another folder"
        ) from error

    # 1. The network has its own message: nothing of the checkpoint would fit.
    if any(before.get(key) != now.get(key) for key in _keys(before, now) if _is_of_network(key)):
        names = [(c.network.architecture, dict(c.network.config)) for c in (stored, config)]
        raise TrainingError(
            f"the checkpoint in {out} is of {names[0][0]} {names[0][1]}, the run asks for "
            f"{names[1][0]} {names[1][1]}; resume with the same network, or start in another folder"
        )

    # 2. All other keys.
    said, refused = list[str](), list[str]()
    for key in _keys(before, now):
        if before.get(key) == now.get(key) or key in _MAY_DIFFER_UNSAID:
            continue
        difference = f"{key} {now.get(key)!r} instead of {before.get(key)!r}"
        (said if key in _MAY_DIFFER else refused).append(difference)

    # 3. The cache, wherever it lies.
    known = checkpoint.get("cache_identity")
    if known is None and before.get("cache") != now.get("cache"):
        known = "that of another folder"
    if known is not None and known != cache_identity:
        refused.append(f"a cache {config.cache!r} with other crops than {stored.cache!r} had")
    if refused:
        raise TrainingError(
            f"the run in {out} cannot be resumed with {', '.join(refused)}; give the same as "
            "before (loop.steps and loop.max_minutes may differ), or start in another folder"
        )
    if said := [text for text in said if not text.startswith("cache ")]:
        logger.warning("%s is resumed with %s", out, ", ".join(said))


def _is_of_network(key: str) -> bool:
    return key.startswith("network.") and key != "network.start"


def _keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*before, *now]))


def _flat(config: TrainConfig, default_loss: Mapping[str, Any]) -> dict[str, Any]:
    """Every value by its dotted key, with the defaults of network and losses filled in."""
    values = asdict(config)
    network = build_config(config.network.architecture, config.network.config)
    values["network"]["config"] = config_to_dict(network)
    values["loss"] = dict(config.loss or default_loss)
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            flat[prefix] = value
            return
        for key, inner in value.items():
            add(f"{prefix}.{key}" if prefix else str(key), inner)

    add("", values)
    return flat
