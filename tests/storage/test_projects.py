"""Projects: names, sizes and counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ssn_core.errors import SettingError, SsnError
from storage import projects
from storage.db import Database


def test_a_new_project_is_listed_by_its_name(db: Database) -> None:
    second = projects.create(db, name="  Shaft   seals ", image_height=704, image_width=256)
    first = projects.create(db, name="gears")
    assert [project.name for project in projects.list_projects(db)] == ["gears", "Shaft seals"]
    assert projects.get(db, project_id=second.id) == second
    assert (second.image_height, second.image_width, first.image_height) == (704, 256, 256)
    assert second.created_at.tzinfo is not None


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "two\u0000halves", "bell\a"])
def test_a_name_that_cannot_be_shown_is_refused(db: Database, name: str) -> None:
    with pytest.raises(SettingError, match="1 to 200 printable characters"):
        projects.create(db, name=name)


@pytest.mark.parametrize(("first", "second"), [("Gears", "gEARS"), ("Zähler", "ZÄHLER"), ("Straße", "STRASSE")])
def test_names_that_differ_in_case_only_are_the_same_name(db: Database, first: str, second: str) -> None:
    projects.create(db, name=first)
    with pytest.raises(SettingError, match="of this name already"):
        projects.create(db, name=second)


def test_renaming_keeps_the_rules(db: Database) -> None:
    gears, seals = projects.create(db, name="Gears"), projects.create(db, name="Seals")
    assert projects.rename(db, project_id=gears.id, name="GEARS").name == "GEARS"
    with pytest.raises(SettingError, match="of this name already"):
        projects.rename(db, project_id=seals.id, name="gears")
    assert projects.get(db, project_id=seals.id).name == "Seals"


@pytest.mark.parametrize(("height", "width"), [(63, 256), (256, 2049), (0, 0), (-256, 256)])
def test_sizes_out_of_range_are_refused_and_named(db: Database, project: int, height: int, width: int) -> None:
    with pytest.raises(SettingError, match="64 to 2048 pixels"):
        projects.create(db, name="Other", image_height=height, image_width=width)
    with pytest.raises(SettingError, match="64 to 2048 pixels"):
        projects.set_image_size(db, project_id=project, image_height=height, image_width=width)


def test_the_image_size_can_be_changed(db: Database, project: int) -> None:
    projects.set_image_size(db, project_id=project, image_height=64, image_width=2048)
    found = projects.get(db, project_id=project)
    assert (found.image_height, found.image_width) == (64, 2048)


def test_a_project_that_does_not_exist_is_an_error_for_people(db: Database) -> None:
    for call in (
        lambda: projects.get(db, project_id=7),
        lambda: projects.rename(db, project_id=7, name="x"),
        lambda: projects.set_image_size(db, project_id=7, image_height=64, image_width=64),
    ):
        with pytest.raises(SsnError, match="no such project: 7"):
            call()


def test_counts_add_up_and_stay_within_the_project(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    other = projects.create(db, name="Other").id
    add_images(5, project_id=other, label="good")
    add_images(3, label="good", group_key="a")
    add_images(2, label="bad", mask_sha256="0" * 64)
    add_images(1, label="unsure")
    add_images(4)
    found = projects.counts(db, project_id=project)
    assert (found.total, found.good, found.bad, found.unsure, found.unlabelled) == (10, 3, 2, 1, 4)
    assert (found.labelled, found.with_mask, found.groups) == (6, 2, 8)
    assert projects.label_counts(db, project_id=project).bad == 2


def test_an_empty_project_counts_nothing(db: Database, project: int) -> None:
    found = projects.counts(db, project_id=project)
    assert (found.total, found.labelled, found.with_mask, found.groups) == (0, 0, 0, 0)
