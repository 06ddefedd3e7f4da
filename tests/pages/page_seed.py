"""Rows that the page tests start from, written through the use-cases wherever there is one."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from storage import files, jobs, labels, projects
from storage.db import Database
from storage.tables import ImageRow, JobRow, utc_now

SHELL = Path(__file__).resolve().parents[2] / "pages" / "shell.py"
HOSTILE = "**x** <b>y</b> :smile: $z$ `q`.png"


def open_page(view: str | None = None) -> AppTest:
    """The app with one of its pages open."""
    app = AppTest.from_file(str(SHELL), default_timeout=30)
    app.run()
    if view is not None:
        app.switch_page(f"views/{view}.py").run()
    assert not app.exception, app.exception
    return app


def texts(app: AppTest) -> str:
    """Everything the page says, in one string."""
    kinds = ("markdown", "caption", "info", "warning", "error", "success", "title", "subheader", "text")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))


def png(seed: int = 0, size: tuple[int, int] = (24, 16)) -> bytes:
    """A small PNG; other seeds give other bytes."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def add_images(
    db: Database, project_id: int, verdicts: Sequence[str | None], *, name: str = "part-{}.png"
) -> list[int]:
    """Images with these labels (None: unlabelled); returns their numbers in the same order."""
    rows = []
    for index in range(len(verdicts)):
        stored = files.put_image(db.data_dir, data=png(1000 * project_id + index), extension=".png")
        rows.append(
            ImageRow(
                project_id=project_id,
                sha256=stored.sha256,
                name=name.format(index),
                extension=".png",
                width=16,
                height=24,
                n_bytes=100,
                group_key=stored.sha256,
                part="train",
            )
        )
    with db.write() as session:
        session.add_all(rows)
        session.flush()
        ids = [row.id for row in rows]
    client = f"seed-{project_id}-{hashlib.sha256(repr(ids).encode()).hexdigest()[:8]}"
    labels.record(
        db,
        project_id=project_id,
        events=[
            labels.LabelEvent(client, seq, image_id, verdict, "Ada", "board")
            for seq, (image_id, verdict) in enumerate(zip(ids, verdicts, strict=True), start=1)
            if verdict is not None
        ],
    )
    return ids


def project_with_images(db: Database, verdicts: Sequence[str | None], name: str = "Commutators") -> projects.Project:
    """A project with images of these labels."""
    project = projects.create(db, name=name, image_height=64, image_width=64)
    add_images(db, project.id, verdicts)
    return project


def set_job(db: Database, job_id: int, **values: Any) -> jobs.Job:
    """Put a job into a state that only a worker could bring about."""
    with db.write() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(**values))
    return jobs.get(db, job_id=job_id)


def running(**more: Any) -> dict[str, Any]:
    """The columns of a job that a live process works on."""
    now = utc_now()
    return {"status": "running", "started_at": now - timedelta(seconds=30), "heartbeat_at": now, "attempt": 1, **more}
