"""The demo: a project of generated surfaces, made and brought in as a job.

Nothing about it is special: the job writes the surfaces into a staging folder and imports that folder as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ssn_core.errors import SsnError
from storage import archives, imports, jobs, projects
from storage.db import Database

N_IMAGES = 300  # a quarter of them bad, half of them without a label
LABELLED_BY = "Demo"  # named in the label events, as an inspector's name is
NAME = "Demo"


@dataclass(frozen=True)
class Demo:
    """A demo project and the job that fills it."""

    project: projects.Project
    job_id: int


def create(db: Database, *, n_images: int = N_IMAGES, seed: int = 0) -> Demo:
    """Create a demo project and queue the job that fills it.

    While another demo is being filled, that one is returned: a double click makes one project.

    Args:
        n_images: 1 to 100,000.
        seed: the same seed makes the same images; 0 to 2**32 - 1.
    """
    for job in jobs.active(db, kinds=("demo",)):
        if job.project_id is not None:
            return Demo(projects.get(db, project_id=job.project_id), job.id)
    project = projects.create(db, name=_free_name(db), image_height=256, image_width=256)
    payload = {
        "source": str(archives.staging_path(db.data_dir).absolute()),
        "layout": "csv",
        "staged": True,
        "inspector": LABELLED_BY,
        "n_images": n_images,
        "seed": seed,
    }
    return Demo(project, jobs.submit(db, kind="demo", project_id=project.id, payload=payload))


def job_of(db: Database, *, project_id: int) -> jobs.Job | None:
    """The job that filled (or fills) this project with generated surfaces; None for any other project."""
    return next(iter(jobs.list_jobs(db, project_id=project_id, kinds=("demo",), limit=1)), None)


def run_job(context: imports.ImportContext) -> dict[str, int]:
    """The handler of demo jobs: makes the surfaces, then imports them; returns the import's report.

    Raises:
        SsnError: the data folder cannot be written.
    """
    from ssn_core.surfaces import write_surfaces  # scipy: pages that only queue the job need not wait for it

    payload = context.job.payload
    folder = Path(payload["source"])
    if not (folder / "labels.csv").is_file():  # it comes last: what an interrupted attempt left is incomplete
        archives.discard(context.db.data_dir, folder)
        tell = partial(context.progress, "Making surfaces")
        try:
            write_surfaces(folder, payload["n_images"], seed=payload["seed"], half_labelled=True, progress=tell)
        except OSError as error:
            raise SsnError(
                f"The surfaces could not be written ({error.strerror})",
                value=str(folder),
                action="Make room on the disk or correct its permissions, then try again",
            ) from error
    return imports.run_job(context)


def _free_name(db: Database) -> str:
    taken = {project.name.casefold() for project in projects.list_projects(db)}
    names = (NAME, *(f"{NAME} {number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name.casefold() not in taken)
