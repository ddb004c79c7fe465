"""`siamtrack export`: graphs for the fast engines."""

from __future__ import annotations

import click


@click.command("export", short_help="Write the ONNX graphs of weights, for the fast engines.")
@click.option("--weights", metavar="W", help="Name or .safetensors file; the default without.")
@click.option("--overwrite", is_flag=True, help="Replace graphs that exist.")
def command(weights: str | None, overwrite: bool) -> None:
    """Write two ONNX graphs beside a weights file: exemplar and track.

    They carry the hash of the weights. From then on `--engine auto` runs these weights in
    OpenVINO or ONNX Runtime. The graphs of the bundled weights come with siamtrack.
    """
    from siamtrack.engines.graphs import export_graphs, graph_paths
    from siamtrack.errors import OutputError
    from siamtrack.models.cards import sha256_of
    from siamtrack.models.weights import find_weights, load_network
    from siamtrack.tracking.loading import DEFAULT_WEIGHTS

    path = find_weights(weights or DEFAULT_WEIGHTS)
    targets = graph_paths(path)
    existing = [str(target) for target in targets.values() if target.exists()]
    if existing and not overwrite:
        raise OutputError(f"{', '.join(existing)} exist; give --overwrite to replace them")
    export_graphs(load_network(path), targets, sha256_of(path))
    for target in targets.values():
        click.echo(target)
