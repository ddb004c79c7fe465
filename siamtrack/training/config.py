"""Configuration of a training run: defaults, a TOML file over them, `--set` over that.

Unknown keys are refused with the nearest spelling at every level. The merged configuration is
written to the run's folder and into its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siamtrack.data import augment
from siamtrack.data.pairs import PairConfig
from siamtrack.errors import ConfigError
from siamtrack.utils.config import (
    build,
    check_choice,
    check_number,
    check_ranges,
    parse_assignment,
    parse_value,
    ranged,
    read_toml,
    replace_old_names,
)

OLD_NAMES: Mapping[str, Mapping[str, str]] = {
    "optim": {"optimiser": "optimizer"},
    "pairs.augment": augment.OLD_NAMES,
}
"""New name of each renamed key, by section. Old keys still load."""


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """Which network is trained, and its initial weights.

    Attributes:
        architecture: one of `siamtrack.models.weights.architecture_names`.
        config: fields of its configuration that differ from the defaults.
        start: "imagenet" for a pretrained backbone (networks that have one), "random", or the name
            or path of siamtrack weights to fine-tune.
    """

    architecture: str = "siamtrack-lite0"
    config: Mapping[str, Any] = field(default_factory=dict)
    start: str = "imagenet"


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """Optimizer, learning rate schedule, frozen layers, weight average.

    Attributes:
        optimizer: "adamw" or "sgd" (momentum 0.9).
        rate: peak learning rate. Raising it learns faster until training diverges.
        backbone_factor: factor on the rate for pretrained layers. Lowering it keeps more of the
            ImageNet features.
        frozen_stages: stages of the backbone, from the input, that are not trained. 3 of Lite0
            reach stride 8 and save about half of the time of a step; 0 trains everything.
        frozen_batch_norm: keep batch norm at its present statistics, for fine-tuning.
        only_filter: train nothing but the features of the online filter (`filter_channels`), so
            that boxes and scores stay as they are.
        schedule: "cosine" decays to `final_share` of the rate in a half wave, "geometric" by a
            constant factor per step (SiamFC: 1e-2 to 1e-5), "constant" does not decay.
        final_share: learning rate at the end over `rate`.
        warmup_steps: steps in which the rate rises linearly from 0.
        weight_decay: raising it pulls the weights more towards 0.
        clip_norm: largest norm of the gradient; 0 turns clipping off.
        ema_decay: fraction of the weight average that is kept per step; 0 turns averaging off.
            Raising it averages over more steps. Validation and the final weights use the average.
    """

    optimizer: str = "adamw"
    rate: float = ranged(1e-3, above=0.0)
    backbone_factor: float = 0.1
    frozen_stages: int = 3
    frozen_batch_norm: bool = False
    only_filter: bool = False
    schedule: str = "cosine"
    final_share: float = ranged(0.02, 0.0, 1.0)
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    ema_decay: float = ranged(0.998, 0.0, below=1.0)

    def __post_init__(self) -> None:
        check_ranges(self, "optim.")
        check_choice("optim.optimizer", self.optimizer, ("adamw", "sgd"))
        check_choice("optim.schedule", self.schedule, ("cosine", "geometric", "constant"))


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """Length of the run, batches, machine, and how often something is logged or saved.

    Attributes:
        steps: optimizer steps.
        batch_size: pairs per step and process.
        cross_negatives: loss weight of additional negative pairs: each exemplar against the search
            crop of the next pair of the batch. They cost a correlation each, no embedding. 0 leaves
            them out; raising it lowers scores on other objects.
        device_pairs: make the pairs on the training device, a batch at once, instead of in loader
            processes; the crops of the cache must fit into its memory. Pays on a GPU; on a CPU the
            loader is faster. Held-out pairs come from the loader in any case.
        workers: loader processes per training process; with `device_pairs` threads that decode the
            crops once.
        seed: of pairs and initial weights.
        device: "auto", "cpu", "cuda", "cuda:0", "mps".
        precision: "bfloat16", "float16" (CUDA only) or "float32".
        threads: CPU threads of the network; 0 takes torch's default.
        compile: run the network through torch.compile.
        channels_last: keep images in memory with the channels of a pixel side by side, the faster
            order on CPUs and on GPUs with tensor cores.
        max_minutes: the run ends by itself after this time, as after its last step, with the
            learning rate fallen as far; 0 is no limit. Resumed runs go on counting. What is
            validated and written at the end comes on top.
        log_every, checkpoint_every, validate_every: steps from one to the next. Without
            `validate_every` the network is validated only at the end.
        tensorboard: write TensorBoard files too.
    """

    steps: int = ranged(6000, 1)
    batch_size: int = ranged(32, 1)
    cross_negatives: float = ranged(0.5, 0.0, below=float("inf"))
    device_pairs: bool = False
    workers: int = ranged(2, 0)
    seed: int = ranged(0, 0, 2**63 - 1)
    device: str = "auto"
    precision: str = "bfloat16"
    threads: int = ranged(0, 0)
    compile: bool = False
    channels_last: bool = True
    max_minutes: float = ranged(0.0, 0.0, below=float("inf"))
    log_every: int = ranged(50, 1)
    checkpoint_every: int = ranged(500, 1)
    validate_every: int = ranged(0, 0)
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "loop.")
        check_choice("loop.precision", self.precision, ("float32", "bfloat16", "float16"))
        if self.cross_negatives and self.batch_size < 2:
            raise ConfigError(
                "loop.cross_negatives needs the search region of another pair, and "
                "loop.batch_size is 1; raise the one or set the other to 0"
            )


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """Data that a run is validated on.

    Attributes:
        held_out: fraction of the cache's tracks that is not trained on and measures the loss.
        batches: batches of held-out pairs per validation.
        sequences: data set (`kind:root`) for one-pass evaluation; "" leaves it out. Report results
            on other sequences than these, because these choose the best checkpoint.
        max_frames: of each sequence; 0 for all.
    """

    held_out: float = ranged(0.02, 0.0, below=1.0)
    batches: int = ranged(8, 0)
    sequences: str = ""
    max_frames: int = ranged(0, 0)

    def __post_init__(self) -> None:
        check_ranges(self, "validation.")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run.

    Attributes:
        cache: folder that `siamtrack prepare` made.
        loss: weight, or table of weight and options, of each loss by name, as
            `siamtrack.losses.build_loss` takes it. Empty takes the architecture's default.
    """

    cache: str = ""
    network: NetworkChoice = field(default_factory=NetworkChoice)
    pairs: PairConfig = field(default_factory=PairConfig)
    loss: Mapping[str, Any] = field(default_factory=dict)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        check_number("pairs.negative", self.pairs.negative, 0.0, below=1.0)


def list_configs() -> dict[str, Path]:
    """Configurations that come along, by name, in a checkout as in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    folders = (package / "training" / "configs", package.parent / "tools" / "configs")
    found = [path for folder in folders for path in sorted(folder.glob("*.toml"))]
    return {path.stem: path for path in reversed(found)}


def find_config(name_or_path: Path) -> Path:
    """The file, or the configuration of that name that comes along.

    Raises:
        ConfigError: there is neither.
    """
    known = list_configs()
    if name_or_path.is_file() or str(name_or_path) not in known:
        if not name_or_path.exists():
            raise ConfigError(
                f"there is no configuration {name_or_path}; give a TOML file, or one of the names "
                f"{', '.join(sorted(known))}"
            )
        return name_or_path
    return known[str(name_or_path)]


def load_config(path: Path | None, assignments: tuple[str, ...] = ()) -> TrainConfig:
    """Merge the defaults, a TOML file and assignments, in this order.

    Args:
        path: the file or the name of one that comes along, such as `lite0`; None for the defaults
            alone.
        assignments: "a.b=c" with c as TOML writes it (strings may go without quotes).

    Raises:
        ConfigError: no such file, not TOML, unknown keys, wrong types, contradictions.
    """
    values = {}
    if path is not None:
        values = _rename_keys(read_toml(find_config(path)), "configuration key")
    for text in assignments:
        # Nest the value, {"a": {"b": c}}, because keys are renamed by their section.
        key, literal = parse_assignment(text, "section.key=value")
        *sections, last = key.split(".")
        given: dict[str, Any] = {last: parse_value(literal)}
        for section in reversed(sections):
            given = {section: given}
        given = _rename_keys(given, "configuration key")

        # Walk down to the section in both, and put the value there.
        target = values
        for section in sections:
            target, given = target.setdefault(section, {}), given[section]
            if not isinstance(target, dict):
                raise ConfigError(f"{text!r}: {section} is a value, not a section")
        target.update(given)
    return build(TrainConfig, values)


def stored_config(values: Mapping[str, Any]) -> TrainConfig:
    """Build the configuration from its `dataclasses.asdict`; old keys load without a warning."""
    return build(TrainConfig, _rename_keys(values, None))


def _rename_keys(values: Mapping[str, Any], kind: str | None, section: str = "") -> dict[str, Any]:
    """Replace old keys at every level; `kind` as for `replace_old_names`."""
    renamed = replace_old_names(values, OLD_NAMES.get(section, {}), kind)
    prefix = f"{section}." if section else ""
    return {
        key: _rename_keys(value, kind, prefix + key) if isinstance(value, Mapping) else value
        for key, value in renamed.items()
    }
