"""Leases: nobody is served what another one is served, and nothing is blocked for long."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from storage import labels, leases, projects
from storage.db import Database
from storage.leases import Leases
from storage.tables import LeaseRow, utc_now

AddImages = Callable[..., list[int]]


def take(
    db: Database, project: int, who: str, images: list[int], *, client: str = "", release: tuple[int, ...] = ()
) -> Leases:
    return leases.take(
        db, project_id=project, inspector=who, client=client or f"tab of {who}", image_ids=images, release=release
    )


def expire(db: Database) -> None:
    with db.write() as session:
        session.execute(update(LeaseRow).values(expires_at=utc_now() - timedelta(seconds=1)))


def test_two_inspectors_are_not_served_the_same_image(db: Database, project: int, add_images: AddImages) -> None:
    one, two, three = add_images(3)
    assert take(db, project, "Ada", [two, one]) == Leases([two, one], {})
    assert take(db, project, "Bo", [one, two, three]) == Leases([three], {one: "Ada", two: "Ada"})
    assert leases.at_work(db, project_id=project) == {"Ada": 2, "Bo": 1}


def test_renewing_makes_a_lease_last_longer_and_keeps_it(db: Database, project: int, add_images: AddImages) -> None:
    [image] = add_images(1)
    take(db, project, "Ada", [image])
    with db.write() as session:
        session.execute(update(LeaseRow).values(expires_at=utc_now() + timedelta(seconds=2)))
    assert take(db, project, "Ada", [image]).granted == [image]
    with db.read() as session:
        [expires_at] = session.scalars(select(LeaseRow.expires_at)).all()
    assert expires_at > utc_now() + timedelta(seconds=leases.SECONDS - 10)


def test_a_lease_that_nobody_renews_ends_by_itself(db: Database, project: int, add_images: AddImages) -> None:
    [image] = add_images(1)
    take(db, project, "Ada", [image])
    expire(db)
    assert leases.at_work(db, project_id=project) == {}
    assert take(db, project, "Bo", [image]).granted == [image]
    assert take(db, project, "Ada", [image]).held == {image: "Bo"}


def test_what_is_given_back_is_free_at_once_but_only_by_its_own_tab(
    db: Database, project: int, add_images: AddImages
) -> None:
    one, two = add_images(2)
    take(db, project, "Ada", [one, two])
    take(db, project, "Bo", [], release=(one,))  # not Bo's to give back
    assert take(db, project, "Bo", [one]).held == {one: "Ada"}
    take(db, project, "Ada", [], release=(one,))
    assert take(db, project, "Bo", [one, two]) == Leases([one], {two: "Ada"})


def test_two_tabs_of_one_inspector_do_not_block_each_other(db: Database, project: int, add_images: AddImages) -> None:
    [image] = add_images(1)
    take(db, project, "Ada", [image], client="first")
    assert take(db, project, "Ada", [image], client="second").granted == [image]
    take(db, project, "Ada", [], client="first", release=(image,))  # the second tab holds it now
    assert take(db, project, "Bo", [image]).held == {image: "Ada"}


def test_images_of_another_project_and_unusable_numbers_are_neither_granted_nor_held(
    db: Database, project: int, add_images: AddImages
) -> None:
    [image] = add_images(1)
    other = projects.create(db, name="Others").id
    [foreign] = add_images(1, project_id=other)
    wanted = [image, foreign, 10**12, -1, 0]
    assert take(db, project, "Ada", wanted) == Leases([image], {})
    assert take(db, other, "Bo", [image]) == Leases([], {})
    take(db, other, "Ada", [], release=(image,))  # nor given back
    assert take(db, project, "Bo", [image]).held == {image: "Ada"}


def test_a_verdict_on_an_image_that_is_leased_to_somebody_else_is_stored(
    db: Database, project: int, add_images: AddImages
) -> None:
    [image] = add_images(1)
    take(db, project, "Ada", [image])
    said = [labels.LabelEvent("tab", 1, image, "bad", "Bo", "board")]
    assert labels.record(db, project_id=project, events=said).stored == 1


def test_eight_inspectors_who_ask_at_once_share_the_images_out(
    db: Database, project: int, add_images: AddImages
) -> None:
    images = add_images(64)
    names = [f"inspector {n}" for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda who: take(db, project, who, images), names))
    granted = [image for answer in answers for image in answer.granted]
    assert sorted(granted) == images
    assert all(set(answer.granted) | set(answer.held) == set(images) for answer in answers)


@pytest.mark.parametrize(("who", "client"), [("", "tab"), ("x" * 101, "tab"), ("Ada", "y" * 65), ("Ada\0", "tab")])
def test_names_that_cannot_be_stored_are_refused(db: Database, project: int, who: str, client: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        leases.take(db, project_id=project, inspector=who, client=client, image_ids=[])
