"""Losses on image scores."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_FLOOR = 1e-12  # far below float32's smallest step from 1, so no other value is touched


def focal_loss(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """Binary focal loss without class weights, mean over the batch (Lin et al., ICCV 2017, equation 4).

    -(1 - p_t)^gamma * log(p_t), with p_t the predicted probability of the true class. gamma = 0 is cross-entropy.

    Args:
        logits: (B,) scores before the sigmoid.
        targets: (B,) 0 = good, 1 = bad.

    Returns:
        A scalar, >= 0.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # -log(p_t)
    # The slope of x^gamma is infinite at 0 for gamma < 1: the floor keeps a perfect answer's gradient finite.
    return ((1 - (-cross_entropy).exp()).clamp_min(_FLOOR) ** gamma * cross_entropy).mean()
