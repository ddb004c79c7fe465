"""`siamtrack info`: versions, devices, engines, windows, weights."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import click

import siamtrack
from siamtrack.errors import MissingPackageError, SiamTrackError, WeightsError

# Imported name -> package, where another package may provide the module as well.
_MODULES = {
    "av": "av",
    "cv2": "opencv",
    "got10k": "got10k",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "torch": "torch",
}

_ADDS = {
    "openvino": "a faster engine on CPUs with bf16",
    "torch": "training, export, SiamFC weights and GPUs",
    "scipy": "reports of siamtrack eval, with matplotlib and jinja2",
    "got10k": "the got10k toolkit's readers and scores, with six",
}
"""What a package that is not there would add."""


@click.command("info")
@click.option("--weights", metavar="W", help="Show these weights and their card in full.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
def command(weights: str | None, as_json: bool) -> None:
    """Show what siamtrack finds on this machine and what it would choose.

    With --weights the file is loaded and checked against its card.
    """
    from siamtrack.models.weights import list_weights
    from siamtrack.video.window import display_problem, toolkit_name

    found = {
        "siamtrack": siamtrack.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(),
        "devices": _devices(),
        "engine": _engine(weights),
        "window": {"toolkit": toolkit_name() or None, "problem": display_problem()},
        "advice": _advice(),
        "weights": [_weights(name) for name in list_weights()],
        "shown": None if weights is None else _weights(weights),
    }
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))


# What is found, as data for JSON


def _packages() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for module, name in _MODULES.items():
        versions[name] = None
        with suppress(ImportError, metadata.PackageNotFoundError):
            versions[name] = getattr(import_module(module), "__version__", None)
            versions[name] = versions[name] or metadata.version(name)
    return dict(sorted(versions.items()))


def _advice() -> dict[str, str]:
    """What can be installed here, as commands, and what each adds."""
    from siamtrack.video.window import toolkit_name

    advice = {
        {"scipy": "pip install scipy matplotlib jinja2", "got10k": "pip install got10k six"}.get(
            name, f"pip install {name}"
        ): adds
        for name, adds in _ADDS.items()
        if find_spec(name) is None
    }
    if not toolkit_name():
        both = "pip uninstall opencv-python-headless, then pip install opencv-python"
        advice[both] = "windows: drawing boxes, looking on while tracking"
    return advice


def _devices() -> list[dict[str, Any]]:
    from siamtrack.engines.devices import resolve_device
    from siamtrack.engines.graphs import default_threads

    cores = f"{os.cpu_count()} cores, engines use {default_threads()} threads"
    devices = [{"name": "cpu", "detail": cores}]
    if find_spec("torch"):
        import torch

        devices[0]["detail"] += f", torch {torch.get_num_threads()}"
        for k in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(k)
            gib = card.total_memory / 2**30
            devices.append({"name": f"cuda:{k}", "detail": f"{card.name}, {gib:.0f} GiB"})
        if torch.backends.mps.is_available():
            devices.append({"name": "mps", "detail": "Apple GPU"})
    chosen = resolve_device("auto")
    first = next(device["name"] for device in devices if device["name"].startswith(chosen))
    return [{**device, "chosen": device["name"] == first} for device in devices]


def _engine(weights: str | None) -> dict[str, Any]:
    """The engine that "auto" takes, found by loading it, and why each faster one is skipped."""
    from siamtrack.api import DEFAULT_WEIGHTS, read_source
    from siamtrack.engines import ENGINES, choose_engine
    from siamtrack.engines.graphs import export_command, graph_paths
    from siamtrack.models.weights import INT8, TRACK

    unknown = dict.fromkeys(("chosen", "precision", "device", "reason"))
    known = [name for name in ENGINES if name != "auto"]
    engine: dict[str, Any] = {"known": known, **unknown, "passed_over": {}, "int8": None}
    try:
        source, _ = read_source(DEFAULT_WEIGHTS if weights is None else weights)
        with suppress(MissingPackageError):
            _ = source.network  # checks the tensors, which graph engines do not load
        taken, skipped = choose_engine(source)
    except SiamTrackError as error:
        if weights is not None:
            raise
        return {**engine, "reason": str(error)}
    engine |= {
        "chosen": taken.name,
        "precision": taken.precision,
        "device": taken.device,
        "reason": f"the fastest one that can run these weights on {taken.device} here",
        "passed_over": skipped,
    }
    if source.path is not None:
        graph = graph_paths(source.path, INT8)[TRACK]
        engine["int8"] = (
            f"{graph}, for engines openvino:int8 and onnx:int8"
            if graph.is_file()
            else f"there is no graph {graph} ({export_command(INT8)} makes it)"
        )
    return engine


def _weights(name: str) -> dict[str, Any]:
    from siamtrack.api import DEFAULT_WEIGHTS
    from siamtrack.models.weights import find_weights, read_card

    weights: dict[str, Any] = {"name": name, "default": name == DEFAULT_WEIGHTS}
    try:
        weights["path"] = str(find_weights(name))
        return {**weights, "card": read_card(name).to_dict(), "problem": None}
    except WeightsError as error:
        return {**weights, "card": None, "problem": str(error)}


# The same as text


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"siamtrack {found['siamtrack']}, Python {found['python']}, {found['platform']}"
    yield ""
    yield from _table("packages", {k: v or "not installed" for k, v in found["packages"].items()})
    devices = {
        device["name"]: device["detail"] + (" (auto takes this one)" if device["chosen"] else "")
        for device in found["devices"]
    }
    yield from _table("devices", devices)

    engine = found["engine"]
    chosen = "none"
    if engine["chosen"]:
        chosen = f"{engine['chosen']} ({engine['precision']}) on {engine['device']}"
    rows = {"known": engine["known"], "auto": f"{chosen}: {engine['reason']}"}
    if engine["int8"]:
        rows["int8"] = engine["int8"]
    rows |= {f"not {name}": why for name, why in engine["passed_over"].items()}
    yield from _table("engines", rows)

    window, problem = found["window"], found["window"]["problem"]
    can_open = "can be opened" if problem is None else f"cannot be opened: {problem}"
    yield from _table("window", {"toolkit": window["toolkit"] or "none", "now": can_open})

    if found["advice"]:
        yield from _table("can be added", found["advice"])

    bundled = {}
    for one in found["weights"]:
        title = f"{one['name']}{' (default)' if one['default'] else ''}"
        card = one["card"]
        bundled[title] = one["problem"]
        if card is not None:
            figures = _text(card["figures"])
            bundled[title] = f"{card['architecture']}; license {card['licence']}; figures {figures}"
    yield from _table("weights", bundled or {"none": "came with this installation"})

    if one := found["shown"]:
        yield from _table(one.get("path", one["name"]), one["card"] or {"problem": one["problem"]})


def _table(title: str, rows: dict[str, Any]) -> Iterator[str]:
    width = max(map(len, rows), default=0)
    yield title
    for name, value in rows.items():
        yield f"  {name:<{width}}  {_text(value)}".rstrip()
    yield ""


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_text(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "-"
    return "-" if value is None or value == "" else str(value)
