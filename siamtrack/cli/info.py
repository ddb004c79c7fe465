"""`siamtrack info`: versions, devices, engines, windows, weights."""

from __future__ import annotations

import click


@click.command("info", short_help="Show versions, devices, engines, windows and weights.")
@click.option("--weights", metavar="W", help="Show these weights and their card in full.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
def command(weights: str | None, as_json: bool) -> None:
    """Show what siamtrack finds on this machine and what it would choose.

    With --weights the file is loaded and checked against its card.
    """
    import json

    from siamtrack.cli._inventory import as_text, inventory

    found = inventory(weights)
    click.echo(json.dumps(found, indent=2) if as_json else as_text(found))
