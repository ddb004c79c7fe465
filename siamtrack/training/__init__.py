"""Training: configuration, the step, the loop, checkpoints, logs and validation."""
