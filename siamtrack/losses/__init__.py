"""Losses of response maps, boxes and embeddings behind one signature, their labels and mining."""

from siamtrack.losses.boxes import GIoULoss, IoULoss
from siamtrack.losses.labels import box_target, disc_target
from siamtrack.losses.response import BalancedLogisticLoss, FocalLoss, IoUAwareLoss
from siamtrack.losses.signature import Loss, TrackingOutput, TrackingTarget

__all__ = [
    "BalancedLogisticLoss",
    "FocalLoss",
    "GIoULoss",
    "IoUAwareLoss",
    "IoULoss",
    "Loss",
    "TrackingOutput",
    "TrackingTarget",
    "box_target",
    "disc_target",
]
