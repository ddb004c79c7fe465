"""Training: from crops on disk to weights.

Reading order:
    config: `TrainConfig`, everything that a TOML file or `--set` can change.
    finetune: `siamtrack finetune`, from a folder of clips to weights that can be tracked with.
    train: a whole run from top to bottom, the initial network.
    checkpoints: writing, reading, and what may differ when a run is resumed.
    step: forward pass, labels and losses of one batch.
    batches: which pairs are in which batch.
    optim: learning rate, frozen layers, optimizer, moving average of the weights.
    validate: held-out loss, tracking of held-out sequences, separation of embeddings.
    clock: how much of its time a run has used.
    logs: log.jsonl, curves, TensorBoard.
    distributed: the processes that torchrun started.
    compare_losses: the same run with different losses, and the table.
    throughput: pairs per second on this machine.
    average: the mean of several weights.
"""
