"""Options and parameter types that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from siamtrack.errors import ConfigError
from siamtrack.utils.config import parse_value

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class BoxType(click.ParamType):  # type: ignore[type-arg]
    """`x,y,w,h`: four numbers with commas (or spaces) between them."""

    name = "x,y,w,h"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Turn text into a box; whether it lies in the frame is seen when there is one."""
        from siamtrack.errors import InvalidBoxError
        from siamtrack.geometry import parse_box

        parts = str(value).replace(",", " ").split()
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            self.fail(f"{value!r} is not numeric; give four numbers x,y,w,h in pixels", param, ctx)
        if len(numbers) != 4:
            self.fail(
                f"{value!r} has {len(numbers)} numbers; give four, x,y,w,h in pixels", param, ctx
            )
        try:
            return tuple(parse_box(numbers).tolist())
        except InvalidBoxError as error:
            self.fail(str(error), param, ctx)


class SettingType(click.ParamType):  # type: ignore[type-arg]
    """`option=value`, the value as TOML has it: 3, 0.5, true, "text"; bare words are text."""

    name = "option=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split at the first `=` and read the value."""
        option, equals, text = str(value).partition("=")
        if not (option.strip() and equals and text.strip()):
            self.fail(f"{value!r} is not option=value, as in window_influence=0.3", param, ctx)
        return option.strip().replace("-", "_"), parse_value(text.strip())


def model_options(function: Decorated) -> Decorated:
    """Add `--weights`, `--device`, `--engine` and `--set`: the arguments of `siamtrack.load`."""
    for option in reversed(
        (
            click.option(
                "--weights",
                metavar="W",
                help="Bundled weights by name (`siamtrack info` lists them), a .safetensors file, "
                "or a SiamFC checkpoint (.pth, .mat).  [default: siamtrack-lite0]",
            ),
            click.option(
                "--device",
                metavar="D",
                default="auto",
                show_default=True,
                help="auto, cpu, cuda, cuda:1, mps.",
            ),
            click.option(
                "--engine",
                metavar="E",
                default="auto",
                show_default=True,
                help="What computes the network; `siamtrack info` lists what there is.",
            ),
            click.option(
                "--set",
                "settings",
                type=SettingType(),
                multiple=True,
                metavar="OPTION=VALUE",
                help="Change an option of the tracker; may be repeated.",
            ),
        )
    ):
        function = option(function)
    return function


def tracker_options(settings: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """The values of `--set` as keyword arguments.

    Raises:
        ConfigError: an option given twice, or one that is an option of the command itself.
    """
    options: dict[str, Any] = {}
    for name, value in settings:
        if name in ("weights", "device", "engine"):
            raise ConfigError(f"--set {name} is not an option of the tracker; give --{name}")
        if name in options:
            raise ConfigError(f"--set {name} is given twice; give it once")
        options[name] = value
    return options
