"""The mean of several weights ("model soup")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from siamtrack.errors import ConfigError, WeightsError
from siamtrack.models.weights import (
    build_network,
    config_to_dict,
    load_network,
    read_card,
    save_network,
)


def average_weights(
    out: Path, sources: Sequence[str | PathLike[str]], *, search_size_px: int = 0
) -> Path:
    """Write the mean of networks that were fine-tuned from the same weights.

    Such runs mostly end in the same basin of the loss. The mean of their weights is often better
    than each of them (Wortsman et al. 2022, "Model soups"). Do not average networks that started
    from different weights.

    Args:
        out: the weights file to write; its card names the data of all sources.
        sources: names or files; one alone is copied.
        search_size_px: side of the search crop; 0 keeps that of the first source. Lowering it saves
            time and covers less of the frame.

    Raises:
        ConfigError: no sources, or a size that the network cannot have.
        WeightsError: sources that cannot be read or are not the same network.
        OutputError: `out` exists or cannot be written.
    """
    # 1. The networks must be the same, up to the size of the search crop.
    if not sources:
        raise ConfigError("no weights to average; name one or more")
    networks = [load_network(source) for source in sources]
    first = networks[0]
    for source, network in zip(sources, networks, strict=True):
        same = network.architecture == first.architecture
        # Another architecture may refuse this size, so it is not tried.
        size_px = first.config.search_size_px
        if not same or replace(network.config, search_size_px=size_px) != first.config:
            raise WeightsError(
                f"{source} is {network.architecture} {network.config}, {sources[0]} is "
                f"{first.architecture} {first.config}; average weights of one network"
            )

    # 2. Mean of every floating-point tensor; counters come from the first network.
    config = replace(first.config, search_size_px=search_size_px or first.config.search_size_px)
    mean = build_network(first.architecture, config_to_dict(config))
    states = [network.state_dict() for network in networks]
    means = dict(states[0])
    for name, value in means.items():
        if value.is_floating_point():
            means[name] = torch.stack([state[name] for state in states]).mean(dim=0)
    mean.load_state_dict(means)

    # 3. Save, with the training data of all of them on the card.
    cards = [read_card(source) for source in sources]
    names = " and ".join(Path(source).name for source in sources)
    save_network(
        mean,
        out,
        training_data=list(dict.fromkeys(d for card in cards for d in card.training_data)),
        license=cards[0].license,
        tracker=cards[0].tracker,
        notes=f"Mean of {names}." if len(cards) > 1 else cards[0].notes,
    )
    return out
