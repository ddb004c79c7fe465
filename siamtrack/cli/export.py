"""`siamtrack export`: graphs for the fast engines."""

from __future__ import annotations

import click


@click.command("export")
@click.option("--weights", metavar="W", help="Name or .safetensors file; the default without.")
@click.option("--int8", is_flag=True, help="Write the quantized track graph; needs --calibrate.")
@click.option(
    "--calibrate",
    "clips",
    multiple=True,
    metavar="CLIP",
    help="Video or folder of pictures like those that will be tracked in; may be repeated. No "
    "boxes are needed.",
)
@click.option("--overwrite", is_flag=True, help="Replace graphs that exist.")
@click.option(
    "--card", is_flag=True, help="Write no graph, only the hashes of those that exist on the card."
)
def command(
    weights: str | None, int8: bool, clips: tuple[str, ...], overwrite: bool, card: bool
) -> None:
    """Write two ONNX graphs beside a weights file: exemplar and track.

    They carry the hash of the weights, and the card of the weights gets their hashes: a graph that
    is damaged later is refused. From then on `--engine auto` runs these weights in
    OpenVINO or ONNX Runtime. The graphs of the bundled weights come with siamtrack.

    With --int8 a third one is written from these two (which are made if they are not there): the
    track graph with the backbone in 8 bits, which `--engine openvino:int8` and `onnx:int8` run, and
    `auto` where that is fastest. It may be a little less accurate; CLIP shows it how large
    activations become.
    """
    if card and (int8 or clips):
        raise click.UsageError("--card writes no graph; give it alone", click.get_current_context())
    if int8 != bool(clips):
        wrong = "--int8 needs clips; add --calibrate CLIP" if int8 else "--calibrate is for --int8"
        raise click.UsageError(wrong, click.get_current_context())
    from siamtrack.api import DEFAULT_WEIGHTS
    from siamtrack.export.onnx import export_weights, refresh_card
    from siamtrack.models.weights import find_weights

    path = find_weights(weights or DEFAULT_WEIGHTS)
    if card:
        written = refresh_card(path)
    elif int8:
        from siamtrack.export.quantize import export_int8

        written = export_int8(path, clips, overwrite)
    else:
        written = export_weights(path, overwrite)
    for target in written:
        click.echo(target)
