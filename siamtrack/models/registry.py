"""Architectures by name, and their configurations from plain data such as a weights card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from siamtrack.errors import ConfigError
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.network import NetworkConfig, TrackerNetwork
from siamtrack.models.siamfc import SiamFC, SiamFCConfig


class Architecture(NamedTuple):
    """A network class and the class of its configuration."""

    network: type[TrackerNetwork]
    config: type[NetworkConfig]


_ARCHITECTURES = {
    SiamFC.architecture: Architecture(SiamFC, SiamFCConfig),
    SiamTrackLite0.architecture: Architecture(SiamTrackLite0, Lite0Config),
}


def architecture_names() -> tuple[str, ...]:
    """Names that `build_network` knows."""
    return tuple(_ARCHITECTURES)


def find_architecture(name: str) -> Architecture:
    """Look an architecture up.

    Raises:
        ConfigError: no architecture has that name.
    """
    if name not in _ARCHITECTURES:
        raise ConfigError.unknown("architecture", name, _ARCHITECTURES)
    return _ARCHITECTURES[name]


def build_network(
    architecture: str, config: Mapping[str, Any] | NetworkConfig | None = None
) -> TrackerNetwork:
    """Make a network with random weights.

    Args:
        architecture: a name of `architecture_names`.
        config: its configuration, or the fields that differ from the defaults.

    Raises:
        ConfigError: unknown architecture or field, a value of the wrong type or out of range, or
            the configuration of another architecture.
    """
    known = find_architecture(architecture)
    if config is None or isinstance(config, Mapping):
        config = config_from_dict(known.config, config or {})
    if type(config) is not known.config:
        raise ConfigError(
            f"{architecture} was given a {type(config).__name__}; it needs a "
            f"{known.config.__name__}"
        )
    return known.network(config)


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """Configuration as JSON-able data: tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def config_from_dict(cls: type[NetworkConfig], values: Mapping[str, Any]) -> NetworkConfig:
    """Turn plain data into a configuration; fields left out keep their defaults.

    Raises:
        ConfigError: a field that `cls` does not have, or a value of the wrong type or out of
            range.
    """
    defaults = {field.name: field.default for field in fields(cls)}
    for name in values:
        if name not in defaults:
            raise ConfigError.unknown(f"{cls.__name__} field", name, defaults)
    return cls(**{k: _like(defaults[k], v, f"{cls.__name__}.{k}") for k, v in values.items()})


def _like(default: Any, value: Any, name: str) -> Any:
    """Convert `value` to the type of `default` where nothing is lost by it."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        if len(value) == len(default):
            return tuple(_like(d, v, name) for d, v in zip(default, value, strict=True))
    elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is type(default):
        return value
    raise ConfigError(f"{name} is {value!r}; give a value like {default!r}")
