"""Reading images: pages by key, filters, and what leaves the package."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ssn_core.errors import SsnError
from storage import images, labels, projects
from storage.db import Database


def test_pages_follow_each_other_without_gap_or_overlap(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    wanted = add_images(7)
    found: list[int] = []
    after = None
    while batch := images.page(db, project_id=project, after_id=after, limit=3):
        found += [image.id for image in batch]
        after = batch[-1].id
    assert found == wanted == images.ids(db, project_id=project)


def test_filters_by_label_take_the_unlabelled_as_a_label_of_their_own(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    add_images(2, project_id=projects.create(db, name="Other").id)
    good, bad, unsure = (add_images(2, label=label) for label in ("good", "bad", "unsure"))
    none = add_images(2)

    def ids(*wanted: str) -> list[int]:
        assert [image.id for image in images.page(db, project_id=project, labels=wanted, limit=99)] == images.ids(
            db, project_id=project, labels=wanted
        )
        return images.ids(db, project_id=project, labels=wanted)

    assert ids("good") == good
    assert ids("bad", "none") == bad + none
    assert ids("good", "bad", "unsure", "none") == good + bad + unsure + none
    assert ids("none") == none
    assert ids() == []


def test_an_unknown_filter_is_refused_by_name(db: Database, project: int) -> None:
    with pytest.raises(ValueError, match="godo"):
        images.ids(db, project_id=project, labels=("godo",))


def test_many_images_come_in_the_order_asked_for(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    first, second, third = add_images(3)
    found = images.get_many(db, image_ids=[third, 999, first, second])
    assert [image.id for image in found] == [third, first, second]


def test_an_image_carries_its_label_and_who_gave_it(
    db: Database, project: int, add_images: Callable[..., list[int]]
) -> None:
    (image_id,) = add_images(1, mask_sha256="0" * 64)
    assert images.get(db, image_id=image_id).label_inspector is None
    labels.record(
        db, project_id=project, events=[labels.LabelEvent("tab", 1, image_id, "bad", inspector="Ada", origin="board")]
    )
    found = images.get(db, image_id=image_id)
    assert (found.label, found.label_inspector, found.has_mask) == ("bad", "Ada", True)


def test_an_image_that_does_not_exist_is_an_error_for_people(db: Database) -> None:
    with pytest.raises(SsnError, match="no such image: 3"):
        images.get(db, image_id=3)
