"""Generated inspection surfaces: photographs of made-up parts with small defects and exact masks.

Four materials with natural variation, lit, photographed and seeded; for demonstrations, tests and measurements where
no real images may go. numpy, scipy and Pillow only.

    >>> bad = next(p for p in map(plan, range(100)) if p.defect == "crack")              # doctest: +SKIP
    >>> render(bad).mask.mean()                                                          # doctest: +SKIP
    0.004
"""

from ssn_core.surfaces.defects import KINDS
from ssn_core.surfaces.generator import DEFAULT_SIZE, MATERIALS, Plan, Surface, plan, render
from ssn_core.surfaces.writing import write_surfaces

__all__ = ["DEFAULT_SIZE", "KINDS", "MATERIALS", "Plan", "Surface", "plan", "render", "write_surfaces"]
