"""Losses of response maps, boxes and embeddings behind one signature, their labels and mining."""

from siamtrack.losses.base import Loss, TrackingOutput, TrackingTarget
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
    "Mining",
    "TrackingOutput",
    "TrackingTarget",
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
