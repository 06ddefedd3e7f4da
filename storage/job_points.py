"""A job's curves: one (step, value) sequence for each series, over all attempts of the job."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sqlalchemy import select

from storage.db import Database, insert_for
from storage.tables import JobPointRow


def add_points(db: Database, *, job_id: int, attempt: int, series: str, points: Iterable[tuple[int, float]]) -> None:
    """Add (step, value) points to a curve of the job; a step given again replaces its value.

    Values that are not finite are left out: SQLite cannot hold a NaN, and a curve has a gap there anyway.
    """
    newest = {int(step): float(value) for step, value in points if math.isfinite(value)}
    if not newest:
        return
    rows = [
        {"job_id": job_id, "attempt": attempt, "series": series[:32], "step": step, "value": value}
        for step, value in newest.items()
    ]
    with db.write() as session:
        statement = insert_for(session, JobPointRow)
        statement = statement.on_conflict_do_update(
            index_elements=["job_id", "attempt", "series", "step"], set_={"value": statement.excluded.value}
        )
        session.execute(statement, rows)


def points(db: Database, *, job_id: int) -> list[tuple[str, int, float]]:
    """The job's curves as (series, step, value), ordered by series (in order of appearance) and step.

    A resumed attempt continues a curve: older attempts count up to the step at which the newer one takes over.
    """
    with db.read() as session:
        rows = session.execute(
            select(JobPointRow.series, JobPointRow.attempt, JobPointRow.step, JobPointRow.value, JobPointRow.id)
            .where(JobPointRow.job_id == job_id)
            .order_by(JobPointRow.attempt.desc(), JobPointRow.step)
        ).all()
    first_seen: dict[str, int] = {}
    taken_from: dict[str, int] = {}  # the step from which a newer attempt has the word
    curves: dict[str, dict[int, float]] = {}
    current: dict[str, int] = {}
    for series, attempt, step, value, point_id in rows:
        first_seen[series] = min(first_seen.get(series, point_id), point_id)
        curve = curves.setdefault(series, {})
        if current.get(series, attempt) != attempt:
            taken_from[series] = min(curve)
        current[series] = attempt
        if series not in taken_from or step < taken_from[series]:
            curve[step] = value
    return [
        (series, step, curves[series][step])
        for series in sorted(curves, key=first_seen.__getitem__)
        for step in sorted(curves[series])
    ]
