"""Early stop: whether a training has settled.

It is told from the training loss alone. The images that figures rest on may have no say in it, or the figures would be
of a model that was chosen on them; and out-of-fold that is every image. Those of the calibration part could, but with
a handful of bad images their figure is 1.000 long before the maps are what they can be, and the threshold is to be
chosen on them as images that the training knows nothing of.
"""

from __future__ import annotations

from collections.abc import Sequence

_LEAST_GAIN = 0.01  # share of the loss by which a window must be better than the one before


def has_settled(losses: Sequence[float], window: int) -> bool:
    """Whether the mean loss of the last epochs is hardly lower than that of as many before them.

    Single epochs differ by chance (noise, order), windows hardly do: with 20 epochs a loss that still falls by a tenth
    in 200 epochs counts as settled, one that falls faster does not.

    Args:
        losses: mean loss of each epoch so far, >= 0.
        window: epochs; 0 = a training never settles.
    """
    if window == 0 or len(losses) < 2 * window:
        return False
    before, now = (sum(part) / window for part in (losses[-2 * window : -window], losses[-window:]))
    return now > (1 - _LEAST_GAIN) * before
