"""Evaluate: how good the model is on images it has never seen, and where to draw the line."""

from __future__ import annotations

from pages.components.evaluation import draw_evaluation
from pages.components.project import need_model, need_project

project = need_project()
model = need_model(project, title="Evaluate")
draw_evaluation(model.id)
