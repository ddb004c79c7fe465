"""Trackers by name: what a command line says, turned into a tracker and into a stable key.

A tracker is written `NAME` or `NAME@key=value,key=value`. NAME is one of

- `siamtrack` (bundled default weights), a registered weights name, or a path of weights;
- `opencv:kcf|csrt|mil|mosse|medianflow|nano|vit`;
- `package.module:Class` or `path/to/file.py:Class`, any class with `init` and `update`; a class
  derived from the got10k toolkit's `Tracker` is given what the toolkit would give it;
- `identity`, which never moves.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from siamtrack.errors import ConfigError, EvaluationError, SiamTrackError
from siamtrack.evaluation.rivals import EvaluatedTracker, IdentityTracker, opencv_tracker
from siamtrack.literals import read_value

OptionValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TrackerSpec:
    """One tracker with its options.

    Attributes:
        name: see the module's docstring.
        options: passed to the tracker when it is built.
    """

    name: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> TrackerSpec:
        """Read `NAME` or `NAME@key=value,key=value`; numbers and true/false are recognised.

        Raises:
            ConfigError: an empty name, or an option that is not `key=value`.
        """
        name, _, rest = text.strip().partition("@")
        options: dict[str, OptionValue] = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not equals or not key.strip():
                raise ConfigError(
                    f"tracker {text!r} has the option {part!r}; write NAME@key=value,key=value"
                )
            options[key.strip()] = _literal(value.strip())
        if not name:
            raise ConfigError(f"tracker {text!r} has no name; write NAME or NAME@key=value")
        return cls(name, options)

    def with_defaults(self, options: Mapping[str, OptionValue]) -> TrackerSpec:
        """The same tracker with `options` added where it does not set them itself."""
        return TrackerSpec(self.name, {**options, **self.options})

    def __str__(self) -> str:
        options = ",".join(f"{k}={_short(v)}" for k, v in sorted(self.options.items()))
        return f"{self.name}@{options}" if options else self.name

    @property
    def label(self) -> str:
        """The tracker as reports write it: no folders, no model files that opencv needs."""
        if self.name.startswith("opencv:"):
            return self.name
        return str(TrackerSpec(re.split(r"[/\\]", self.name)[-1], self.options))

    @property
    def is_ours(self) -> bool:
        """Whether it is named by weights of ours."""
        return self.name != "identity" and ":" not in self.name

    def build(self) -> EvaluatedTracker:
        """A fresh tracker that has seen nothing.

        Raises:
            ConfigError: unknown name or options.
            EvaluationError: it cannot be built here.
            WeightsError: weights that are missing or damaged.
        """
        kind, _, rest = self.name.partition(":")
        if self.name == "identity":
            _refuse_options(self)
            return IdentityTracker()
        if kind == "opencv":
            return opencv_tracker(rest, self.options)
        if ":" in self.name:
            return _from_class(self)
        import siamtrack

        options: dict[str, Any] = dict(self.options)
        return siamtrack.load(None if self.name == "siamtrack" else self.name, **options)


def parse_trackers(
    texts: Sequence[str], files: Mapping[str, Mapping[str, str | None]]
) -> list[TrackerSpec]:
    """Read trackers from a command line.

    Args:
        texts: one `NAME` or `NAME@key=value,...` each.
        files: model files given once for all, by name of OpenCV's tracker and of its option.

    Raises:
        ConfigError: a tracker that cannot be read.
    """
    specs = []
    for text in texts:
        spec = TrackerSpec.parse(text)
        given = files.get(spec.name.removeprefix("opencv:"), {})
        if spec.name.startswith("opencv:"):
            spec = spec.with_defaults({k: v for k, v in given.items() if v is not None})
        specs.append(spec)
    return specs


def _from_class(spec: TrackerSpec) -> EvaluatedTracker:
    where, _, class_name = spec.name.rpartition(":")
    cls = getattr(_import(where), class_name, None)
    if not callable(cls):
        raise ConfigError(f"{where} has no class {class_name!r}; write package.module:Class")
    try:
        made = cls(**spec.options)
    except SiamTrackError:
        raise
    except Exception as error:
        raise EvaluationError(
            f"{spec.name} cannot be built with the options {dict(spec.options)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    from siamtrack.evaluation.toolkit.trackers import is_toolkit_tracker, with_our_frames

    if is_toolkit_tracker(made):
        return with_our_frames(made)
    missing = [call for call in ("init", "update") if not callable(getattr(made, call, None))]
    if missing:
        raise ConfigError(f"{spec.name} has no method {' and '.join(missing)}; it needs both")
    return made


def _import(where: str) -> ModuleType:
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = Path(where)
        found = importlib.util.spec_from_file_location(f"siamtrack_evaluated_{path.stem}", path)
        if not path.is_file() or found is None or found.loader is None:
            raise ConfigError(f"{where} is not a Python file; write path/to/file.py:Class")
        module = importlib.util.module_from_spec(found)
        sys.modules[found.name] = module
        found.loader.exec_module(module)
        return module
    except SiamTrackError:
        raise
    except Exception as error:
        raise EvaluationError(
            f"{where} cannot be imported ({type(error).__name__}: {error}); write "
            "package.module:Class for something on the Python path, or path/to/file.py:Class"
        ) from error


def _literal(text: str) -> OptionValue:
    """A TOML value where the text is one, else the text."""
    value = read_value(text)
    return value if isinstance(value, bool | int | float | str) else text


def _short(value: OptionValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_options(spec: TrackerSpec) -> None:
    if spec.options:
        raise ConfigError(f"{spec.name} takes no options, not {', '.join(spec.options)}")
