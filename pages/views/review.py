"""Review: the images with their scores and heat-maps, and the verdict corrected in place."""

from __future__ import annotations

from pages.components.errors import show_errors
from pages.components.project import need_model, need_project
from pages.components.review_panel import draw_review, draw_scoring

project = need_project()
model = need_model(project, title="Review")
with show_errors():
    draw_scoring(project, model)
draw_review(model.id)
