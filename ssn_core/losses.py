"""Losses on scores and maps.

- score-focal: focal loss of the score against the label.
- map-focal: focal loss of every cell of the map against the cell's target.
- map-l1: truncated L1 loss of the map (SuperSimpleNet, arXiv 2408.03143, equation 4; SimpleNet, CVPR 2023, equation 7).

A recipe names those that it adds up.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssn_core.anomalies import Truth
from ssn_core.heads import Output
from ssn_core.recipe_settings import Recipe

_FLOOR = 1e-12  # far below float32's smallest step from 1, so no other value is touched


def focal_loss(logits: Tensor, targets: Tensor, *, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Binary focal loss without class weights, mean over all elements (Lin et al., ICCV 2017, equation 4).

    -(1 - p_t)^gamma * log(p_t), with p_t the predicted probability of the true class. gamma = 0 is cross-entropy.

    Args:
        logits: of any shape, before the sigmoid.
        targets: 0 = good, 1 = bad.
        weight: of each element, or None: all weigh 1. The mean is over the number of elements, not over the weights.

    Returns:
        A scalar, >= 0.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # -log(p_t)
    # The slope of x^gamma is infinite at 0 for gamma < 1: the floor keeps a perfect answer's gradient finite.
    losses = (1 - (-cross_entropy).exp()).clamp_min(_FLOOR) ** gamma * cross_entropy
    return (losses if weight is None else losses * weight).mean()


def truncated_l1(cells: Tensor, bad: Tensor, *, margin: float, weight: Tensor | None = None) -> Tensor:
    """mean(max(0, M + margin)) over good cells + mean(max(0, margin - M)) over bad cells; a mean over nothing is 0.

    Args:
        cells: the map M, of any shape.
        bad: bool, of the same shape.
        weight: of each cell, or None: all weigh 1. The means are over the numbers of cells.

    Returns:
        A scalar, >= 0.
    """
    losses = F.relu(margin + torch.where(bad, -cells, cells))
    if weight is not None:
        losses = losses * weight
    n_bad = bad.sum()
    of_bad = (losses * bad).sum() / n_bad.clamp_min(1)
    return of_bad + (losses * ~bad).sum() / (bad.numel() - n_bad).clamp_min(1)


def total_loss(recipe: Recipe, output: Output, truth: Truth) -> Tensor:
    """The sum of the recipe's losses.

    Images whose cells are not known (bad ones that nobody has marked) take part in the loss on the score alone.
    """
    loss = output.score.new_zeros(())
    if "score-focal" in recipe.losses:
        loss = loss + focal_loss(output.score, truth.bad, gamma=recipe.focal_gamma)
    if truth.cells is None or not bool(truth.cells.known.any()):
        return loss
    known = truth.cells.known
    cells, bad, weight = output.cam[known], truth.cells.bad[known, 0], truth.cells.weight[known, 0]
    if "map-focal" in recipe.losses:
        loss = loss + focal_loss(cells, bad.float(), gamma=recipe.focal_gamma, weight=weight)
    if "map-l1" in recipe.losses:
        loss = loss + truncated_l1(cells, bad, margin=recipe.l1_margin, weight=weight)
    return loss
