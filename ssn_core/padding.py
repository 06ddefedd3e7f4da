"""How a convolution's border is filled.

Zero padding makes a convolution see an edge that is not there, and the map of the published method shows it as a bright
frame. "replicate" continues the edge in the head, in the 3x3 average and in the backbone, so a uniform surface has a
uniform map. "zeros" stays for comparison with the published methods.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ssn_core.recipe_settings import Padding


def pad_edges(x: Tensor, width: int, padding: Padding) -> Tensor:
    """Pad both spatial axes by `width` cells: continue the edge, or zeros."""
    return F.pad(x, (width,) * 4, mode="replicate") if padding == "replicate" else F.pad(x, (width,) * 4)
