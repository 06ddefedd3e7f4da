"""Limit samples: pinned references, with a beginning and an end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from ssn_core.errors import SettingError, SsnError
from storage import limit_samples, projects
from storage.db import Database
from storage.tables import LimitSampleRow


def pinned(db: Database, project: int) -> list[tuple[int, str, str]]:
    return [(s.image_id, s.verdict, s.inspector) for s in limit_samples.of_project(db, project_id=project)]


def test_pins_are_listed_good_first_and_end_when_they_are_taken_away(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    first, second, third = add_images(3)
    limit_samples.pin(db, project_id=project, image_id=first, verdict="bad", inspector="Ada")
    limit_samples.pin(db, project_id=project, image_id=second, verdict="good", inspector=" Bob ")
    limit_samples.pin(db, project_id=project, image_id=third, verdict="good", inspector="Ada")
    assert pinned(db, project) == [(second, "good", "Bob"), (third, "good", "Ada"), (first, "bad", "Ada")]
    limit_samples.unpin(db, project_id=project, image_id=second, inspector="Cleo")
    assert pinned(db, project) == [(third, "good", "Ada"), (first, "bad", "Ada")]
    with db.read() as session:
        row = session.scalars(select(LimitSampleRow).where(LimitSampleRow.image_id == second)).one()
    assert (row.inspector, row.removed_by) == ("Bob", "Cleo")
    assert row.removed_at is not None
    assert row.removed_at >= row.created_at


def test_pinning_on_the_other_side_moves_the_pin_and_on_the_same_side_changes_nothing(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    (image,) = add_images(1)
    for inspector, verdict in (("Ada", "good"), ("Bob", "good"), ("Cleo", "bad")):
        limit_samples.pin(db, project_id=project, image_id=image, verdict=verdict, inspector=inspector)
    assert pinned(db, project) == [(image, "bad", "Cleo")]
    with db.read() as session:
        assert len(session.scalars(select(LimitSampleRow)).all()) == 2


@pytest.mark.parametrize("verdict", ["unsure", "cleared", "", "Good"])
def test_only_good_and_bad_can_be_pinned(
    db: Database, project: int, add_images: Callable[..., list[int]], verdict: str
) -> None:
    (image,) = add_images(1)
    with pytest.raises(SettingError, match="good or bad"):
        limit_samples.pin(db, project_id=project, image_id=image, verdict=verdict, inspector="Ada")
    assert pinned(db, project) == []


def test_an_image_of_another_project_cannot_be_pinned(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    other = projects.create(db, name="Other").id
    (image,) = add_images(1, project_id=other)
    with pytest.raises(SsnError, match="no such image in this project"):
        limit_samples.pin(db, project_id=project, image_id=image, verdict="good", inspector="Ada")
    limit_samples.pin(db, project_id=other, image_id=image, verdict="good", inspector="Ada")
    limit_samples.unpin(db, project_id=project, image_id=image, inspector="Ada")  # of another project: left alone
    assert pinned(db, other) == [(image, "good", "Ada")]


def test_there_is_a_limit_to_limit_samples_and_a_name_is_needed(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    *some, last = add_images(limit_samples.MOST + 1)
    for image in some:
        limit_samples.pin(db, project_id=project, image_id=image, verdict="bad", inspector="Ada")
    with pytest.raises(SettingError, match="too many limit samples"):
        limit_samples.pin(db, project_id=project, image_id=last, verdict="bad", inspector="Ada")
    limit_samples.pin(db, project_id=project, image_id=some[0], verdict="good", inspector="Ada")  # only moves
    with pytest.raises(SettingError, match="name cannot be used"):
        limit_samples.unpin(db, project_id=project, image_id=some[0], inspector="  ")
    assert len(pinned(db, project)) == limit_samples.MOST
