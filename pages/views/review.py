"""Review: the images with their scores and heat-maps, and the verdict corrected in place."""

from __future__ import annotations

from pages.components.project import need_project
from pages.components.review_panel import draw_review

draw_review(need_project())
