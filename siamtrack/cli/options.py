"""Options and parameter types that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from siamtrack.errors import ConfigError, InvalidBoxError, shown
from siamtrack.utils.config import parse_value

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DATASET_METAVAR = "KIND:ROOT"
"""How help texts write a data set, such as `folder:clips`; see `siamtrack.data.datasets`."""


# -- Parameter types

PATH = click.Path(path_type=Path)
"""A file or folder, as a `Path`; whether it is there is checked by what uses it."""

POSITIVE = click.FloatRange(min=0, min_open=True)
"""A number above 0."""


class BoxType(click.ParamType):  # type: ignore[type-arg]
    """`x,y,w,h` in px: four numbers with commas (or spaces) between them."""

    name = "x,y,w,h"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse a box; whether it lies in the frame is checked with the frame at hand."""
        from siamtrack.geometry import parse_box

        try:
            numbers = [float(part) for part in str(value).replace(",", " ").split()]
        except ValueError:
            wrong = f"{shown(value)} is not numeric; give four numbers x,y,w,h in pixels"
            self.fail(wrong, param, ctx)
        if len(numbers) != 4:
            wrong = f"{shown(value)} has {len(numbers)} numbers; give four, x,y,w,h in pixels"
            self.fail(wrong, param, ctx)
        try:
            return tuple(parse_box(numbers).tolist())
        except InvalidBoxError as error:
            self.fail(str(error), param, ctx)


class RangeType(click.ParamType):  # type: ignore[type-arg]
    """`lo,hi`: two numbers, the lower one first."""

    name = "lo,hi"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Parse the values that become black and white."""
        from siamtrack.utils.levels import check_range

        if isinstance(value, tuple):
            return check_range(value)
        try:
            return check_range(str(value).replace(",", " ").split())
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class SettingType(click.ParamType):  # type: ignore[type-arg]
    """`option=value`, the value as TOML has it: 3, 0.5, true, "text"; bare words are text."""

    name = "option=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split at the first `=` and parse the value; `window-influence` is accepted, too."""
        option, equals, text = str(value).partition("=")
        if not (option.strip() and equals and text.strip()):
            self.fail(f"{shown(value)} is not option=value, as in window_influence=0.3", param, ctx)
        return option.strip().replace("-", "_"), parse_value(text.strip())


# -- Groups of options, as decorators


settings_option = click.option(
    "--set",
    "settings",
    type=SettingType(),
    multiple=True,
    metavar="OPTION=VALUE",
    help="Change an option of the tracker; may be repeated.",
)
"""`--set`, tracker options for `tracker_options`."""


def model_options(function: Decorated) -> Decorated:
    """Add `--weights`, `--device`, `--engine` and `--set`: the arguments of `siamtrack.load`."""
    common: dict[str, Any] = {"default": "auto", "show_default": True}
    engines = "What computes the network; `siamtrack info` lists the engines."
    function = settings_option(function)
    function = click.option("--engine", metavar="E", help=engines, **common)(function)
    devices = "auto, cpu, cuda, cuda:1, mps."
    function = click.option("--device", metavar="D", help=devices, **common)(function)
    return click.option(
        "--weights",
        metavar="W",
        help="Bundled weights by name (`siamtrack info` lists them), a .safetensors file, "
        "or a SiamFC checkpoint (.pth, .mat).  [default: siamtrack-lite0]",
    )(function)


fps_option = click.option(
    "--fps",
    type=POSITIVE,
    metavar="F",
    help="Frames per second, instead of the rate and time stamps of a recording.",
)


def source_options(function: Decorated) -> Decorated:
    """Add `--fps`, `--stream` and `--range`: arguments of `siamtrack.open_source`."""
    function = click.option(
        "--range",
        "value_range",
        type=RangeType(),
        metavar="LO,HI",
        help="Values that are black and white, for pictures of more than 8 bits.  [default: what "
        "the file states, else what its pictures hold]",
    )(function)
    function = click.option(
        "--stream",
        type=click.IntRange(min=0),
        metavar="N",
        help="Which video stream of a file that has several, from 0.  [default: the main one]",
    )(function)
    return fps_option(function)


max_frames_option = click.option(
    "--max-frames",
    default=0,
    show_default=False,
    help="Most frames of a sequence.  [default: all]",
)

views_option = click.option(
    "--views",
    default="start",
    show_default=True,
    metavar="NAME,NAME",
    callback=lambda context, option, text: tuple(text.split(",")),
    help="Every sequence in each of these views: start, third (from a third of it on), mirror "
    "(left to right), reverse (backwards), half (every second frame).",
)


scheduler_option = click.option(
    "--scheduler",
    default="",
    show_default=False,
    metavar="ADDRESS",
    help="Run on a Dask cluster instead, such as tcp://10.0.0.1:8786.",
)


def part_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose frames; the command gets a `Stretch` of them as `part`."""
    whole, seconds = click.IntRange(min=0), click.FloatRange(min=0.0)

    @click.option(
        "--start-frame",
        type=whole,
        default=0,
        show_default=True,
        metavar="N",
        help="First frame to look at, 0-based; --box is on it and the files begin with it.",
    )
    @click.option(
        "--end-frame",
        type=whole,
        metavar="N",
        help="Last frame to track, 0-based.  [default: the last one there is]",
    )
    @click.option(
        "--start-s",
        type=seconds,
        default=0.0,
        metavar="S",
        help="Time of the first frame to look at, in s.",
    )
    @click.option("--end-s", type=seconds, metavar="S", help="Time of the last one, in s.")
    @click.option(
        "--every",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="Track on every N-th frame only; frames keep their numbers.",
    )
    @click.option(
        "--reverse",
        is_flag=True,
        help="Track from the end to the start; --box is on the last frame then. Recordings only.",
    )
    @functools.wraps(function)
    def command(
        *,
        start_frame: int,
        end_frame: int | None,
        start_s: float,
        end_s: float | None,
        every: int,
        reverse: bool,
        **arguments: Any,
    ) -> Any:
        from siamtrack.video.stretch import Stretch

        end_s = math.inf if end_s is None else end_s
        part = Stretch(start_frame, end_frame, start_s, end_s, every, reverse)
        return function(part=part, **arguments)

    return command


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name what is written; the command gets `OutputPaths` as `outputs`."""

    @click.option(
        "--csv",
        type=PATH,
        metavar="F.csv",
        help="Write the boxes as a table; - for standard output, here and with --json and --mot.",
    )
    @click.option(
        "--json",
        type=PATH,
        metavar="F.jsonl",
        help="Write the boxes as JSON lines, one object per frame.",
    )
    @click.option(
        "--mot",
        type=PATH,
        metavar="F.txt",
        help="Write the boxes as MOTChallenge's results, without lost targets.",
    )
    @click.option(
        "--save",
        "video",
        type=PATH,
        metavar="F.mp4",
        help="Write the annotated video (mp4, mkv or webm), with the sound of the source.",
    )
    @click.option(
        "--crops",
        type=PATH,
        metavar="DIR",
        help="Write what is inside the boxes as pictures, a folder for each target.",
    )
    @click.option(
        "--picture-names",
        "pictures",
        is_flag=True,
        help="Add the file names of pictures to --csv (last column) and --json.",
    )
    @click.option("--overwrite", is_flag=True, help="Replace files that exist.")
    @functools.wraps(function)
    def command(**arguments: Any) -> Any:
        from siamtrack.video.outputs import OutputPaths

        names = [field.name for field in dataclasses.fields(OutputPaths)]
        outputs = OutputPaths(**{name: arguments.pop(name) for name in names})
        return function(outputs=outputs, **arguments)

    return command


def tracker_options(settings: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The values of `--set` as keyword arguments of `siamtrack.load`, each given once."""
    options: dict[str, Any] = {}
    for name, value in settings:
        if name in ("weights", "device", "engine"):
            raise ConfigError(f"--set {name} is not an option of the tracker; give --{name}")
        if name in options:
            raise ConfigError(f"--set {name} is given twice; give it once")
        options[name] = value
    return options


def opencv_model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the model files of OpenCV's trackers; the command gets all as `model_files`."""

    @click.option("--backbone", metavar="FILE.onnx", help="Model file of opencv:nano.")
    @click.option("--head", metavar="FILE.onnx", help="Model file of opencv:nano.")
    @click.option("--net", metavar="FILE.onnx", help="Model file of opencv:vit.")
    @functools.wraps(function)
    def command(
        *, backbone: str | None, head: str | None, net: str | None, **arguments: Any
    ) -> Any:
        files = {"nano": {"backbone": backbone, "head": head}, "vit": {"net": net}}
        return function(model_files=files, **arguments)

    return command


def config_options(
    config_help: str, set_help: str, *, metavar: str
) -> Callable[[Decorated], Decorated]:
    """Add `--config F.toml` and `--set`, as arguments `config_file` and `assignments`."""

    def decorate(function: Decorated) -> Decorated:
        assign = click.option("--set", "assignments", multiple=True, metavar=metavar, help=set_help)
        config = click.option(
            "--config",
            "config_file",
            type=PATH,
            metavar="F.toml",
            help=config_help,
        )
        return config(assign(function))

    return decorate


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--config` and `--set`; the command gets the `TrainConfig` they make as `config`."""

    @config_options(
        "Settings that replace the defaults, or lite0 or siamfc for those of these trackers; "
        "siamtrack/training/config.py explains them.",
        "A setting that replaces the file's, such as loop.steps=1500; may be repeated.",
        metavar="A.B=C",
    )
    @functools.wraps(function)
    def command(*, config_file: Path | None, assignments: tuple[str, ...], **arguments: Any) -> Any:
        from siamtrack.training.config import load_config

        return function(config=load_config(config_file, assignments), **arguments)

    return command


# -- Options with several values


class WordsOption(click.Option):
    """An option (`multiple=True`) of a `WordsCommand` that takes several words: `--only a b`."""


class WordsCommand(click.Command):
    """A command with options that take all words up to the next option, as argparse has them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write `--only one two` as `--only one --only two`, which click understands."""
        words_options = [option for option in self.params if isinstance(option, WordsOption)]
        names = {name for option in words_options for name in option.opts}
        repeated: list[str] = []
        option = ""  # the option that takes the words that follow, if there is one
        for k, word in enumerate(args):
            if word.startswith("-"):
                option = word if word in names else ""
            elif option and args[k - 1] != option:
                repeated.append(option)
            repeated.append(word)
        return super().parse_args(ctx, repeated)
