"""What a tracker's boxes depend on, hashed: results of other weights are never taken for these.

Results lie under a key made of the tracker's readable name and a hash of its identity: weights,
options, and the code that turns them into boxes. Any change of those is another key, so that
nothing stale is ever reused and nothing that still holds is computed again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path

import cv2

from siamtrack.errors import ConfigError, EvaluationError
from siamtrack.evaluation.specs import OptionValue, TrackerSpec

TRACKING = frozenset({"tracking", "engines", "models", "crops.py", "geometry.py"})
"""Parts of the package that boxes depend on."""


def identity(spec: TrackerSpec) -> dict[str, object]:
    """Everything the boxes of `spec` depend on, as plain data.

    Raises:
        ConfigError: a class that cannot be found.
        EvaluationError: a model file that is missing.
        WeightsError: weights that are missing.
    """
    options = dict(sorted(spec.options.items()))
    if spec.name == "identity":
        return {"name": spec.name}
    if spec.name.startswith("opencv:"):
        files = _option_files(options)
        return {"name": spec.name, "opencv": cv2.__version__, "files_sha256": files}
    if ":" in spec.name:
        source = _source_file(spec.name)
        code = sha256_of(source) if source else "builtin"
        return {"name": spec.name, "options": options, "source_sha256": code}
    return {**_weights(spec.name), "options": options, "code_sha256": code_sha256()}


def tracker_key(spec: TrackerSpec) -> str:
    """Folder name of a tracker's results: its name and ten digits of its identity's hash."""
    text = json.dumps(identity(spec), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    name = spec.name
    if "/" in name or "\\" in name:
        name = re.split(r"[/\\]", name)[-1].removesuffix(".safetensors")
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}-{digest}"


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _source_file(name: str) -> Path | None:
    where = name.rpartition(":")[0]
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise ConfigError(f"{where} does not exist; write path/to/file.py:Class")
        return Path(where)
    try:
        found = importlib.util.find_spec(where)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(
            f"module {where!r} cannot be found; write package.module:Class for something on the "
            "Python path, or path/to/file.py:Class"
        )
    return Path(found.origin) if found.origin and Path(found.origin).is_file() else None


def _option_files(options: Mapping[str, OptionValue]) -> dict[str, str]:
    files = {}
    for key, value in sorted(options.items()):
        if not Path(str(value)).is_file():
            raise EvaluationError(f"model file {value} (option {key}) does not exist")
        files[key] = sha256_of(Path(str(value)))
    return files


def _weights(name: str) -> dict[str, object]:
    """Hash of the weights, and the options on their card, which are part of the tracker."""
    from siamtrack.models.cards import card_path
    from siamtrack.models.weights import find_weights, read_card
    from siamtrack.tracking.loading import DEFAULT_WEIGHTS

    path = find_weights(DEFAULT_WEIGHTS if name == "siamtrack" else name)
    tuned = dict(read_card(path).tracker) if card_path(path).is_file() else {}
    return {"weights_sha256": sha256_of(path), "card_options": tuned}


def code_sha256() -> str:
    """Hash of the source that turns weights and frames into boxes."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if parts[0] in TRACKING:
            digest.update("/".join(parts).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
