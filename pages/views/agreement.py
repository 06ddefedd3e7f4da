"""Agreement: do inspectors, and the model, say the same of the same parts? Studies, judged blind."""

from __future__ import annotations

from pages.components import study
from pages.components.errors import show_errors
from pages.components.inspector import require_inspector
from pages.components.project import need_project

project = need_project()
with show_errors():
    judged = study.being_judged(project)
    if judged is not None:
        study.judge(judged, require_inspector())
    else:
        study.draw(project)
