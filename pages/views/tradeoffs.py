"""Trade-offs: how fast is each model, how good, how large, and what does the fast one get wrong?"""

from __future__ import annotations

from pages.components.project import models_or_stop, need_project
from pages.components.regrets import draw_regrets
from pages.components.tradeoffs import draw_head, draw_measuring, draw_points, draw_table, measured_points

project = need_project()
draw_head()
models = models_or_stop(project)
points = measured_points(project, models)
draw_measuring(project, models, points)
draw_points(project, points)
draw_regrets(project, points)
draw_table(points)
