"""Networks and their weights.

Reading order:
    config: geometry and widths of each network; importable without torch.
    network: the interface of all networks, and the target mask.
    correlation: how exemplar features are matched against search features.
    lite0: the default network; its backbone is in `efficientnet`, a layer of it in `depthwise`.
    siamfc: the network of 2016.
    weights: weights files and their cards; `build_network` makes networks by name.
    import_siamfc: checkpoints of other projects.
"""
