"""`siamtrack vot`: the tracker as the VOT toolkit starts it."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from siamtrack.cli.options import model_options, tracker_options


@click.command("vot")
@click.option("--multi", is_flag=True, help="Take several targets at once.")
@click.option(
    "--when-lost",
    type=click.Choice(["box", "empty"]),
    default="box",
    show_default=True,
    help="Answer for a lost target: the box that is guessed, or an empty rectangle.",
)
@model_options
def command(
    multi: bool, when_lost: Any, settings: tuple[tuple[str, Any], ...], **model: Any
) -> None:
    """Track for the VOT toolkit: TraX 4 on standard input and output.

    In the toolkit's trackers.ini: protocol = trax, command = siamtrack vot --multi. Nobody needs to
    start it by hand.
    """
    # What libraries print must not come between the messages.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        sys.stdout.flush()
        os.dup2(2, 1)
        import siamtrack
        from siamtrack.evaluation.vot_server import serve

        tracker = siamtrack.load_multi(**model, **tracker_options(settings))
        with os.fdopen(os.dup(0), encoding="utf-8", errors="surrogateescape") as requests:
            serve(tracker, requests, answers, multi=multi, when_lost=when_lost)
