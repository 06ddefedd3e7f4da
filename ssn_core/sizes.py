"""The sizes at which an image is looked at: its own, and smaller ones, half an octave apart.

Nothing here imports torch: recipes check their settings with it.
"""

from __future__ import annotations

STEP = 2**-0.5  # from one size to the next: half the pixels
LEAST = 32  # pixels of a side: two cells of layer3
_MULTIPLE = 8  # of which the sides of the smaller sizes are: layer2's stride


def sizes_of(image_size: tuple[int, int], scales: int) -> list[tuple[int, int]]:
    """So many sizes (H, W), pixels, the image's own first.

    >>> sizes_of((704, 256), 3)
    [(704, 256), (496, 184), (352, 128)]
    """
    height, width = image_size
    smaller = [STEP**number for number in range(1, scales)]
    return [image_size, *((_rounded(height * share), _rounded(width * share)) for share in smaller)]


def _rounded(side: float) -> int:
    return max(1, round(side / _MULTIPLE)) * _MULTIPLE
