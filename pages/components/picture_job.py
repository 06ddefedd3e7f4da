"""Pictures made ahead: started when somebody had to wait for one."""

from __future__ import annotations

import logging
import threading

from sqlalchemy.exc import DBAPIError

from pages.components import resources
from pages.components.workers import look_after_jobs
from ssn_core.errors import SsnError
from storage import projects, thumbnails

log = logging.getLogger("ssn.pictures")

LEAST_IMAGES = 500  # a smaller project has its pictures made while they are looked at
_lock = threading.Lock()
_started: set[int] = set()  # projects that had their job since this process started


def start_once(project_id: int) -> None:
    """Have the rest of a project's pictures made by a job, once for each server process.

    Called when a picture was asked for that had to be made first: its neighbours are probably missing too. A job that
    cannot be started is logged and no more, because the picture itself was there.
    """
    with _lock:
        if project_id in _started:
            return
        _started.add(project_id)
    try:
        if projects.label_counts(resources.database(), project_id=project_id).total >= LEAST_IMAGES:
            thumbnails.submit(resources.database(), project_id=project_id)
            look_after_jobs()
    except (SsnError, DBAPIError):
        log.exception("the job that makes pictures ahead could not be started")
