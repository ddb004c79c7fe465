"""Training losses for response maps, boxes and embeddings.

Reading order:
    base: `Loss`, its inputs `LossInput` and `LossTarget`, weighting and reduction.
    labels: which cells of the response map are positive and which are background.
    response: logistic, focal and IoU-aware loss of the scores.
    boxes: IoU and GIoU loss of the predicted boxes.
    metric: contrastive, Euclidean and triplet loss of region embeddings.
    mining: which pairs and triplets of a batch a metric loss uses.
    combined: the weighted sum of losses that a configuration describes.
"""

from siamtrack.losses.base import Loss, LossInput, LossTarget
from siamtrack.losses.boxes import GIoULoss, IoULoss
from siamtrack.losses.combined import LOSSES, CombinedLoss, build_loss
from siamtrack.losses.labels import box_target, disc_target
from siamtrack.losses.metric import (
    ContrastiveLoss,
    Distance,
    EuclideanLoss,
    TripletLoss,
    all_distances,
    pair_distance,
    pool_region,
    stack_regions,
)
from siamtrack.losses.mining import Mining, count_triplets, sample_pairs, sample_triplets
from siamtrack.losses.response import BalancedLogisticLoss, FocalLoss, IoUAwareLoss

__all__ = [
    "LOSSES",
    "BalancedLogisticLoss",
    "CombinedLoss",
    "ContrastiveLoss",
    "Distance",
    "EuclideanLoss",
    "FocalLoss",
    "GIoULoss",
    "IoUAwareLoss",
    "IoULoss",
    "Loss",
    "LossInput",
    "LossTarget",
    "Mining",
    "TripletLoss",
    "all_distances",
    "box_target",
    "build_loss",
    "count_triplets",
    "disc_target",
    "pair_distance",
    "pool_region",
    "sample_pairs",
    "sample_triplets",
    "stack_regions",
]
