"""Loss through the online filter: features are good if a filter solved on them finds the target.

As at run time (`siamtrack.tracking.online_filter`), a ridge regression is solved on windows that
show the target with its surroundings; it has a closed form, so that the loss of its response in
another frame has a gradient with respect to the features (Bertinetto et al. 2019, R2D2; Zheng et
al. 2020, DCFST, section 3). R is the side of the response in cells, C the number of feature
channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from siamtrack.errors import TrainingError
from siamtrack.losses.base import Loss, LossInput, LossTarget, at_least_float32, reduce_values
from siamtrack.utils.config import ranged

_TARGET_LABEL = 0.02  # cells with a higher label are the target's
_SHOWN_LABEL = 0.05  # cells with a higher label must reach it; others may be below 0


@dataclass(frozen=True, kw_only=True)
class FilterLoss(Loss):
    """Ranking and height of the response of a filter that was solved on the memory windows.

    Attributes:
        temperature: factor on the response before the softmax over the cells. Raising it asks for
            a clear peak and forgives what is far below it.
        fit: weight of the squared distance to the label; below 0 costs nothing in the background
            (as the hinge of Bhat et al. 2019, DiMP, equation 4). Raising it keeps responses
            comparable between targets, at the cost of the ranking.
        absent: weight of responses above 0 where the target is not: in negative pairs, and in the
            search crop of the next pair of the batch.
        sigma_cells, target_weight, ridge: of the filter itself, see the module at run time; other
            values train for another filter.
    """

    name: ClassVar[str] = "filter"
    needs_filter: ClassVar[bool] = True

    temperature: float = ranged(7.0, above=0.0)
    fit: float = ranged(1.0, 0.0)
    absent: float = ranged(0.3, 0.0)
    sigma_cells: float = ranged(0.85, above=0.0)
    target_weight: float = ranged(16.0, 1.0)
    ridge: float = ranged(0.003, above=0.0)

    def __call__(self, output: LossInput, target: LossTarget) -> Tensor:
        """Reduced loss of the pairs, of which B have memory windows."""
        if output.filter_features is None or target.filter_centers_xy is None:
            raise TrainingError(
                "the filter loss needs memory windows and their targets' centers; set "
                "pairs.memory to 1 or more"
            )
        features = at_least_float32(output.filter_features)  # (B, M + 1, C, R, R)
        centers = target.filter_centers_xy.to(features)  # (B, M + 1, 2) cells
        if not len(features):
            return reduce_values(features.sum(dim=(1, 2, 3, 4)), None, self.reduction)

        # Matrix products would be lowered by autocast.
        with torch.autocast(features.device.type, enabled=False):
            values = self._per_pair(features, centers, target)
        return reduce_values(values, None, self.reduction)

    def _per_pair(self, features: Tensor, centers: Tensor, target: LossTarget) -> Tensor:
        """(B,) loss of each pair."""
        pairs, cells = len(features), features.shape[-1]

        # 1. Solve the filter on the memory windows; its response in the search crop.
        label = gaussian_labels(centers, cells, self.sigma_cells)  # (B, M + 1, R, R)
        memory, search = features[:, :-1], features[:, -1]
        filters = solve_ridge(
            memory, label[:, :-1], target_weight=self.target_weight, ridge=self.ridge
        )
        response = respond(filters, search)  # (B, R, R)

        # 2. Ranking: the cells compete, and the target's must win.
        positive, background = target.positive[:pairs], target.background[:pairs]
        shown = positive.flatten(1).any(dim=1)  # (B,)
        wanted = label[:, -1] * shown[:, None, None]
        share = wanted / wanted.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
        log_softmax = (self.temperature * response).flatten(1).log_softmax(dim=1)
        ranking = -(share.flatten(1) * log_softmax).sum(dim=1)

        # 3. Height: the label at the target, at most 0 elsewhere.
        error = torch.where(wanted > _SHOWN_LABEL, response - wanted, response.clamp_min(0))
        fit = ((1 + (self.target_weight - 1) * wanted) * error**2).mean(dim=(1, 2))

        # 4. Another pair's search crop does not show the target.
        other = respond(filters, search.roll(1, dims=0)).clamp_min(0) if pairs > 1 else response * 0
        absent = (other**2).mean(dim=(1, 2))
        absent = absent + torch.where(shown, 0.0, response.clamp_min(0).amax(dim=(1, 2)) ** 2)

        # A pair whose cells are all ignored teaches nothing.
        known = (positive | background).flatten(1).any(dim=1)
        return torch.where(known, ranking + self.fit * fit + self.absent * absent, 0.0)


def gaussian_labels(centers_xy: Tensor, cells: int, sigma_cells: float) -> Tensor:
    """(..., 2) centers in cells to (..., R, R) Gaussians around them."""
    along = torch.arange(cells, device=centers_xy.device, dtype=centers_xy.dtype)
    x, y = torch.exp(-0.5 * ((along - centers_xy[..., None]) / sigma_cells) ** 2).unbind(dim=-2)
    return y[..., :, None] * x[..., None, :]


def solve_ridge(features: Tensor, label: Tensor, *, target_weight: float, ridge: float) -> Tensor:
    """Filters of B targets, in the closed form of the dual problem.

    The rows are those of `OnlineFilter.from_first_frame`: the 3 x 3 cells around every cell of the
    target, and around half of the others, in a checkerboard. There are fewer rows than columns, so
    w = X' (X X' + lambda I)^-1 y is the cheaper of the two equal solutions.

    Args:
        features: (B, M, C, R, R) unit-length features of M windows of each target.
        label: (B, M, R, R).
        target_weight: weight of a row with label 1 over one with label 0.
        ridge: lambda, as a fraction of the mean of the diagonal of X' X.

    Returns:
        (B, C, 3, 3).
    """
    batch, windows, channels, cells, _ = features.shape

    # 1. Rows: all of the target's, half of the background's; the weight 0 fills up to the number
    #    of the target that has most.
    number = torch.arange(windows * cells**2, device=label.device)
    window, cell = number // cells**2, number % cells**2
    even = ((window + cell // cells + cell % cells) % 2 == 0)[None]  # (1, M R R)
    flat = label.flatten(1)  # (B, M R R)
    is_target = flat > _TARGET_LABEL
    chosen = is_target | even
    rows = chosen.float().topk(int(chosen.sum(dim=1).max()), dim=1).indices  # (B, N)
    y = flat.gather(1, rows)
    weight = (1 + (target_weight - 1) * y) / (cells**2 * windows)
    weight = torch.where(is_target.gather(1, rows), weight, 2 * weight)
    weight = (weight * chosen.gather(1, rows)).sqrt()  # (B, N)

    # 2. The 3 x 3 cells around each, zeros outside.
    side = cells + 2
    padded = F.pad(features, (1, 1, 1, 1)).transpose(1, 2).reshape(batch, channels, -1)
    window, cell = rows // cells**2, rows % cells**2
    corner = window * side**2 + cell // cells * side + cell % cells  # (B, N)
    taps = torch.arange(3, device=rows.device)
    around = corner[..., None] + (taps[:, None] * side + taps).flatten()  # (B, N, 9)
    index = around.flatten(1)[:, None].expand(-1, channels, -1)
    x = padded.gather(2, index).reshape(batch, channels, rows.shape[1], 9)
    x = x.permute(0, 2, 1, 3).flatten(2) * weight[..., None]  # (B, N, 9 C)

    # 3. Solve.
    kernel = x @ x.transpose(1, 2)  # (B, N, N)
    diagonal = kernel.diagonal(dim1=1, dim2=2).sum(dim=1)
    damping = (ridge * diagonal / x.shape[2])[:, None, None]
    identity = torch.eye(rows.shape[1], device=x.device, dtype=x.dtype)
    factor = torch.linalg.cholesky(kernel + damping * identity)
    dual = torch.cholesky_solve((y * weight)[..., None], factor)  # (B, N, 1)
    return (x.transpose(1, 2) @ dual).reshape(batch, channels, 3, 3)


def respond(filters: Tensor, features: Tensor) -> Tensor:
    """(B, C, 3, 3) filters on (B, C, R, R) features, each on its own: (B, R, R)."""
    batch, _, cells, _ = features.shape
    stacked = features.reshape(1, -1, cells, cells)
    return F.conv2d(stacked, filters, padding=1, groups=batch)[0]
