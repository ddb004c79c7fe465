"""The configuration of a run: dataclasses with defaults, TOML over them, `--set` over that.

Unknown keys are refused with the nearest spelling at every level. The merged configuration is
written into the run's folder and into its checkpoints.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from siamtrack.data import augment
from siamtrack.data.pairs import PairConfig
from siamtrack.errors import ConfigError
from siamtrack.losses.base import check_choice
from siamtrack.utils.config import parse_value, replace_old_names


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """Which network is trained, and from which weights it starts.

    Attributes:
        architecture: a name of `siamtrack.models.registry`.
        config: fields of its configuration that differ from the defaults.
        start: "imagenet" for a pretrained backbone (networks that have one), "random", or the name
            or path of siamtrack weights to go on from.
    """

    architecture: str = "siamtrack-lite0"
    config: Mapping[str, Any] = field(default_factory=dict)
    start: str = "imagenet"


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """How weights are changed.

    Attributes:
        optimiser: "adamw" or "sgd" (momentum 0.9).
        rate: peak learning rate. Raising it learns faster until it diverges.
        backbone_factor: factor on the rate for pretrained layers. Lowering it keeps more of what
            ImageNet taught.
        frozen_stages: stages of the backbone, from the input, that are not trained; 3 of Lite0
            reach stride 8 and leave about half of the cost of a step. 0 trains everything.
        frozen_batch_norm: keep batch norm at its present statistics, as pretrained or resumed
            networks want.
        schedule: "cosine" falls to `final_share` of the rate in a half wave, "geometric" by a
            constant factor per step (SiamFC: 1e-2 to 1e-5), "constant" stays.
        final_share: learning rate at the end over `rate`.
        warmup_steps: steps in which the rate rises from 0.
        weight_decay: pull of the weights towards 0.
        clip_norm: largest norm of the gradient; 0 turns clipping off.
        ema_decay: share of the moving average kept per step; 0 turns it off. Raising it averages
            over more steps. Validation and the final weights use the average.
    """

    optimiser: str = "adamw"
    rate: float = 1e-3
    backbone_factor: float = 0.1
    frozen_stages: int = 3
    frozen_batch_norm: bool = False
    schedule: str = "cosine"
    final_share: float = 0.02
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    ema_decay: float = 0.998


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How long, how much at once, and how often what is done.

    Attributes:
        steps: optimiser steps.
        batch_size: pairs per step and process.
        cross_negatives: weight, in the loss, of each exemplar against the search region of the
            next pair of the batch, which does not show it. Costs no embedding, only a
            correlation; 0 leaves it out.
        workers: loader processes per training process.
        seed: of pairs and initial weights.
        device: "auto", "cpu", "cuda", "cuda:0", "mps".
        precision: "bfloat16", "float16" (CUDA only) or "float32".
        threads: CPU threads of the network; 0 leaves it to torch.
        compile: run the network through torch.compile.
        log_every: steps between two lines of the log.
        checkpoint_every: steps between two checkpoints.
        validate_every: steps between two validations; 0 validates only at the end.
        tensorboard: write TensorBoard files too.
    """

    steps: int = 6000
    batch_size: int = 32
    cross_negatives: float = 0.5
    workers: int = 2
    seed: int = 0
    device: str = "auto"
    precision: str = "bfloat16"
    threads: int = 0
    compile: bool = False
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 0
    tensorboard: bool = False


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """What a run is judged by while it goes on.

    Attributes:
        held_out: share of the cache's tracks that are never trained on and measure the loss.
        batches: batches of held-out pairs per validation.
        sequences: data set (`kind:root`) for one-pass evaluation; "" leaves it out. Sequences
            that choose the best checkpoint must not be those that are reported.
        max_frames: frames of each sequence that are tracked; 0 for all.
    """

    held_out: float = 0.02
    batches: int = 8
    sequences: str = ""
    max_frames: int = 0


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run.

    Attributes:
        cache: folder made by siamtrack prepare.
        network, pairs, optim, loop, validation: see their classes.
        loss: weight, or table of weight and options, of each loss by name; see
            `siamtrack.losses.combine`. Empty takes the architecture's own default.
    """

    cache: str = ""
    network: NetworkChoice = field(default_factory=NetworkChoice)
    pairs: PairConfig = field(default_factory=PairConfig)
    loss: Mapping[str, Any] = field(default_factory=dict)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        check_choice("optim.optimiser", self.optim.optimiser, ("adamw", "sgd"))
        check_choice("optim.schedule", self.optim.schedule, ("cosine", "geometric", "constant"))
        check_choice("loop.precision", self.loop.precision, ("float32", "bfloat16", "float16"))
        positive = {
            "optim.rate": self.optim.rate,
            "loop.steps": self.loop.steps,
            "loop.batch_size": self.loop.batch_size,
            "loop.log_every": self.loop.log_every,
            "loop.checkpoint_every": self.loop.checkpoint_every,
        }
        for name, value in positive.items():
            if value <= 0:
                raise ConfigError(f"{name} is {value}; it must be positive")
        shares = {
            "optim.final_share": self.optim.final_share,
            "optim.ema_decay": self.optim.ema_decay,
            "validation.held_out": self.validation.held_out,
            "pairs.negative": self.pairs.negative,
        }
        for name, value in shares.items():
            if not 0 <= value < 1 and not (name == "optim.final_share" and value == 1):
                raise ConfigError(f"{name} is {value}; it must be at least 0 and below 1")
        if self.loop.cross_negatives and self.loop.batch_size < 2:
            raise ConfigError(
                "loop.cross_negatives needs the search region of another pair, and "
                "loop.batch_size is 1; raise the one or set the other to 0"
            )


def load_config(path: Path | None, assignments: tuple[str, ...] = ()) -> TrainConfig:
    """Merge the defaults, a file and `key=value` assignments, in this order.

    Args:
        path: TOML file, or None for the defaults alone.
        assignments: "a.b=c" with c as TOML writes it (strings may go without quotes).

    Raises:
        ConfigError: no such file, not TOML, unknown keys, wrong types, contradictions.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"configuration {path} is not TOML: {error}") from error
    for text in assignments:
        _assign(values, text)
    return config_from(_with_new_names(values, "key in section pairs.augment:"))


def _assign(values: dict[str, Any], text: str) -> None:
    key, equals, literal = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{text!r} is not an assignment; write section.key=value")
    *sections, last = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{text!r}: {section} is a value, not a section")
    values[last] = parse_value(literal)


def config_from(values: Mapping[str, Any]) -> TrainConfig:
    """Build the configuration from plain data, e.g. a checkpoint's.

    Raises:
        ConfigError: unknown keys, wrong types, contradictions.
    """
    return _build(TrainConfig, _with_new_names(values, None), "")


def _with_new_names(values: Mapping[str, Any], kind: str | None) -> dict[str, Any]:
    """The same values with today's keys in section pairs.augment; see `replace_old_names`."""
    values, pairs = dict(values), values.get("pairs")
    if isinstance(pairs, Mapping) and isinstance(pairs.get("augment"), Mapping):
        renamed = replace_old_names(pairs["augment"], augment.OLD_NAMES, kind)
        values["pairs"] = {**pairs, "augment": renamed}
    return values


def config_to(config: TrainConfig) -> dict[str, Any]:
    """Plain data that `config_from` takes back."""
    return asdict(config)


def _build(cls: type[Any], values: Mapping[str, Any], path: str) -> Any:
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    built: dict[str, Any] = {}
    for name, value in values.items():
        where = f"{path}{name}"
        if name not in known:
            raise ConfigError.unknown(f"key in section {path[:-1] or 'top'}:", name, known)
        built[name] = _convert(hints[name], value, where)
    return cls(**built)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {value!r}; it is a section of keys, write [{where}]")
        return _build(hint, value, where + ".")
    if get_origin(hint) is not None:  # a mapping
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {value!r}; give a table of names and values")
        inner = get_args(hint)[1]
        return {k: _convert(inner, v, f"{where}.{k}") for k, v in value.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{where} is {value!r}; give a value of type {hint.__name__}")
    return value
