"""A tracker for the VOT toolkit: the TraX protocol, version 4, on two text streams.

A message is a line `@@TRAX:name "argument" ... "key=value" ...`; other lines mean nothing.

| from | message | means |
|---|---|---|
| us | hello | what this tracker can do |
| toolkit | initialize "x,y,w,h" | one more target, on the next frame |
| toolkit | initialize | forget all targets; new ones follow |
| toolkit | frame "file:///..." | the next frame |
| us | state "x,y,w,h" "confidence=..." | a target in that frame; in the order of initialization |
| both | quit | the end |

Reference: the TraX protocol, Cehovin, "TraX: The visual Tracking eXchange protocol and library",
Neurocomputing 2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO
from urllib.parse import unquote

from siamtrack._version import __version__
from siamtrack.errors import EvaluationError, SiamTrackError
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.result import Result
from siamtrack.types import Image
from siamtrack.utils.images import read_image
from siamtrack.video.run import first_frame_result

PREFIX = "@@TRAX:"
_ARGUMENT = re.compile(r'"((?:\\.|[^"\\])*)"|(\S+)')
_PROPERTY = re.compile(r"([A-Za-z0-9._]{1,64})=(.*)", re.DOTALL)

WhenLost = Literal["box", "empty"]
"""What is answered of a lost target: the box that is guessed, or a rectangle without area."""


@dataclass(frozen=True, slots=True)
class TraxMessage:
    """One message; `arguments` in their order, `properties` by their keys."""

    name: str
    arguments: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> TraxMessage | None:
        """Read a line; None if it is no message."""
        if not line.startswith(PREFIX):
            return None
        name, _, rest = line[len(PREFIX) :].strip().partition(" ")
        arguments, properties = [], {}
        for quoted, bare in _ARGUMENT.findall(rest):
            text = bare or re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], quoted)
            if found := _PROPERTY.fullmatch(text):
                properties[found[1]] = found[2]
            else:
                arguments.append(text)
        return cls(name, tuple(arguments), properties)

    def __str__(self) -> str:
        texts = [*self.arguments, *(f"{key}={value}" for key, value in self.properties.items())]
        return " ".join([f"{PREFIX}{self.name}", *map(_quote, texts)])


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def serve(
    tracker: MultiTracker,
    requests: Iterable[str],
    answers: TextIO,
    *,
    multi: bool,
    when_lost: WhenLost = "box",
) -> None:
    """Answer until the toolkit quits or its stream ends.

    Args:
        tracker: without targets.
        requests: lines of the toolkit.
        answers: where to write ours.
        multi: take several targets; otherwise every initialization replaces the one before.
        when_lost: what to answer of a lost target.

    Raises:
        SiamTrackError: a message, frame or box that cannot be used; the toolkit was told.
    """

    def send(message: TraxMessage) -> None:
        answers.write(f"{message}\n")
        answers.flush()

    several = {"trax.multiobject": "1"} if multi else {}
    facts = {
        "trax.version": "4",
        "trax.name": "siamtrack",
        "trax.family": "siamese",
        "trax.description": f"siamtrack {__version__}",
        "trax.image": "path;",
        "trax.region": "rectangle;",
        "trax.channels": "color;",
    }
    send(TraxMessage("hello", (), {**facts, **several}))
    waiting: list[tuple[float, ...]] = []  # boxes for the next frame
    try:
        for message in filter(None, map(TraxMessage.parse, requests)):
            if message.name == "initialize":
                if not message.arguments or not multi:
                    tracker.reset()
                    waiting.clear()
                if message.arguments:
                    waiting.append(_region(message.arguments[0]))
            elif message.name == "frame":
                results = _track(tracker, _frame(message), waiting)
                waiting.clear()
                for result in results.values():
                    send(_state(result, when_lost))
            elif message.name == "quit":
                send(TraxMessage("quit"))
                return
            else:
                raise EvaluationError(
                    f"the message {message.name} is not one of TraX 4; give initialize, frame or "
                    "quit"
                )
    except SiamTrackError as error:
        send(TraxMessage("quit", (), {"trax.reason": str(error)}))
        raise


def _track(
    tracker: MultiTracker, image_bgr: Image, waiting: Iterable[tuple[float, ...]]
) -> dict[int, Result]:
    """Results of the targets there are, then of those that begin on this frame."""
    results = tracker.update(image_bgr)
    for box in waiting:
        results[tracker.add(image_bgr, box)] = first_frame_result(box, image_bgr)
    if not results:
        raise EvaluationError("a frame came before any target; send initialize first")
    return results


def _region(text: str) -> tuple[float, ...]:
    """A rectangle; the toolkit's library makes one of whatever it has."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4:
        raise EvaluationError(f"the region {text!r} is no rectangle; give x,y,w,h")
    return numbers


def _frame(message: TraxMessage) -> Image:
    """Read the picture of a frame, as it is stored."""
    if not message.arguments:
        raise EvaluationError("a frame came without its picture; give its path")
    location = message.arguments[0].removeprefix("file://")
    # Names come as they are; only one that is not there may be written as in an address.
    path = Path(location)
    if not path.exists() and Path(unquote(location)).exists():
        path = Path(unquote(location))
    return read_image(path, upright=False)


def _state(result: Result, when_lost: WhenLost) -> TraxMessage:
    box = result.box
    if result.status == "lost" and when_lost == "empty":
        box = (0.0, 0.0, 0.0, 0.0)
    region = ",".join(f"{value:.4f}" for value in box)
    return TraxMessage("state", (region,), {"confidence": f"{result.score:.4f}"})
