"""The browser's label queue (tabs.js and queue.js), and what a component needs to hand to it.

Streamlit gives each component a module of its own, which cannot import another one: the queue's source is put in front
of each component's, and the queue itself lives once per tab.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pages.components import resources, state
from storage import projects

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("tabs.js", "queue.js"))


def with_queue(*component_js: Path) -> str:
    """The source of a component's module with the queue in front: its code may use `queue`."""
    return "\n".join(path.read_text(encoding="utf-8") for path in (*_SOURCES, *component_js))


def queue_data(known: list[projects.Project]) -> dict[str, Any]:
    """What `queue.configure` takes: where to send, as whom, and how far the chosen project has come."""
    project_id = state.project_id()
    now = time.time()  # before the reading: what is stored later counts as newer
    counts = projects.label_counts(resources.database(), project_id=project_id) if project_id is not None else None
    return {
        "installation": resources.installation(),
        "tokens": {str(p.id): resources.token(p.id, state.session_id()) for p in known},
        "project": project_id,
        "inspector": state.inspector(),
        "counts": asdict(counts) if counts else None,
        "now": now,
    }
