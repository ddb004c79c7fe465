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
def command(weights: str | None, int8: bool, clips: tuple[str, ...], overwrite: bool) -> None:
    """Write two ONNX graphs beside a weights file: exemplar and track.

    They carry the hash of the weights. From then on `--engine auto` runs these weights in
    OpenVINO or ONNX Runtime. The graphs of the bundled weights come with siamtrack.

    With --int8 a third one is written from these two (which are made if they are not there): the
    track graph with the backbone in 8 bits, which `--engine openvino:int8` and `onnx:int8` run, and
    `auto` where that is fastest. It may be a little less accurate; CLIP shows it how large
    activations become.
    """
    if int8 != bool(clips):
        wrong = "--int8 needs clips; add --calibrate CLIP" if int8 else "--calibrate is for --int8"
        raise click.UsageError(wrong, click.get_current_context())
    from siamtrack.api import DEFAULT_WEIGHTS
    from siamtrack.export.onnx import export_weights
    from siamtrack.models.weights import find_weights

    path = find_weights(weights or DEFAULT_WEIGHTS)
    if int8:
        from siamtrack.export.quantize import export_int8

        written = export_int8(path, clips, overwrite)
    else:
        written = export_weights(path, overwrite)
    for target in written:
        click.echo(target)
