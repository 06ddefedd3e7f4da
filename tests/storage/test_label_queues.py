"""The orders in which images are offered for labelling, and their stacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from storage import descriptors, images, label_queues, labels
from storage.db import Database
from tests.model_seed import add_model

Add = Callable[..., list[int]]


def label(db: Database, project: int, verdicts: dict[int, str]) -> None:
    events = [
        labels.LabelEvent(f"tab-{image_id}", 1, image_id, verdict, "Ada", "board")
        for image_id, verdict in verdicts.items()
    ]
    assert not labels.record(db, project_id=project, events=events).rejected


def describe(
    db: Database, project: int, values: dict[int, list[float]], outliers: Mapping[int, float] = MappingProxyType({})
) -> Path:
    where = descriptors.folder(db, project_id=project, setup="made-up")
    found = images.get_many(db, image_ids=list(values))
    rows = [
        (image.sha256, np.array(values[image.id], dtype=np.float16), outliers.get(image.id, 0.0)) for image in found
    ]
    descriptors.add(where, rows)
    return where


def test_the_oldest_come_first_unless_another_order_is_asked_for(db: Database, project: int, add_images: Add) -> None:
    ids = add_images(4)
    assert label_queues.listing(db, project_id=project) == label_queues.Listing(ids, [], None)
    label(db, project, {ids[1]: "good"})
    assert label_queues.listing(db, project_id=project, labels=("none",)).ids == [ids[0], ids[2], ids[3]]
    with pytest.raises(ValueError, match="order"):
        label_queues.listing(db, project_id=project, order="score")


def test_a_random_order_is_the_same_for_the_same_seed(db: Database, project: int, add_images: Add) -> None:
    ids = add_images(30)
    first = label_queues.listing(db, project_id=project, order="random", seed=1).ids
    assert sorted(first) == ids
    assert first != ids
    assert label_queues.listing(db, project_id=project, order="random", seed=1).ids == first
    assert label_queues.listing(db, project_id=project, order="random", seed=2).ids != first


def test_orders_that_need_a_model_say_so_without_one(db: Database, project: int, add_images: Add) -> None:
    add_images(3)
    for order in ("suspicious", "disagreement"):
        found = label_queues.listing(db, project_id=project, order=order)
        assert found.ids == []
        assert found.stacks == []
        assert found.reason is not None
        assert "no model yet" in found.reason
    reason = label_queues.listing(db, project_id=project, order="informative").reason
    assert reason is not None
    assert "Home" in reason


def test_suspicious_ones_come_by_score_and_those_without_last(db: Database, project: int, add_images: Add) -> None:
    ids = add_images(5)
    add_model(db, project, [(ids[1], 2.0, "unseen"), (ids[3], 5.0, "unseen"), (ids[4], -1.0, "unseen")])
    found = label_queues.listing(db, project_id=project, order="suspicious")
    assert found.ids == [ids[3], ids[1], ids[4], ids[0], ids[2]]


def test_a_model_without_scores_says_what_to_do(db: Database, project: int, add_images: Add) -> None:
    add_images(2)
    add_model(db, project)
    reason = label_queues.listing(db, project_id=project, order="suspicious").reason
    assert reason is not None
    assert "Score the images" in reason


def test_labels_that_honest_scores_contradict_come_first(db: Database, project: int, add_images: Add) -> None:
    ids = add_images(12)
    truth = ["bad" if place < 4 else "good" for place in range(12)]
    scores = [(ids[place], 3.0 if place < 4 else -3.0, "out_of_fold") for place in range(10)]
    # Learned by heart: its score says nothing about its label.
    scores += [(ids[10], 3.0, "train"), (ids[11], 3.0, "unseen")]
    given = dict(zip(ids[:11], truth, strict=False)) | {ids[2]: "good", ids[7]: "bad"}
    label(db, project, given)
    add_model(db, project, scores)
    found = label_queues.listing(db, project_id=project, order="disagreement").ids
    assert set(found[:2]) == {ids[2], ids[7]}
    assert sorted(found) == ids[:10]
    assert label_queues.listing(db, project_id=project, order="disagreement", labels=("bad",)).ids[0] == ids[7]
    nothing = label_queues.listing(db, project_id=project, order="disagreement", labels=("none",))
    assert nothing.ids == []
    assert nothing.reason is not None  # else the page would say that every image has a verdict
    assert "Show all images" in nothing.reason


def test_without_honest_scores_of_both_labels_it_says_why(db: Database, project: int, add_images: Add) -> None:
    ids = add_images(3)
    label(db, project, dict.fromkeys(ids, "good"))
    add_model(db, project, [(image_id, 1.0, "out_of_fold") for image_id in ids])
    reason = label_queues.listing(db, project_id=project, order="disagreement").reason
    assert reason is not None
    assert "both good and bad" in reason


def test_before_any_model_images_unlike_each_other_come_first(db: Database, project: int, add_images: Add) -> None:
    ids = add_images(6)
    kinds = [[0.0, 0.0], [0.0, 0.5], [9.0, 0.0], [9.0, 0.5], [0.0, 9.0], [0.5, 9.0]]
    label(db, project, {ids[0]: "good"})
    where = describe(db, project, dict(zip(ids, kinds, strict=True)))
    assert label_queues.build(db, project_id=project, described=where) == 6
    found = label_queues.listing(db, project_id=project, order="informative", labels=("none",)).ids
    # In turns with the outliers, which are in the order of their numbers here: 2, then the most unlike image 1.
    assert found[0] == ids[1]
    assert {ids.index(image_id) // 2 for image_id in (found[1], found[3])} == {1, 2}
    assert sorted(found) == ids[1:]


def test_before_any_model_outliers_come_in_turns_with_images_unlike_each_other(
    db: Database, project: int, add_images: Add
) -> None:
    ids = add_images(6)
    kinds = {image_id: [float(place), 0.0] for place, image_id in enumerate(ids)}
    label(db, project, {ids[0]: "good"})
    unlike = {ids[3]: 9.0, ids[1]: 8.0, ids[0]: 99.0}
    label_queues.build(db, project_id=project, described=describe(db, project, kinds, unlike))
    found = label_queues.listing(db, project_id=project, order="informative", labels=("none",)).ids
    assert found[:3] == [ids[3], ids[5], ids[1]]  # an outlier, the one most unlike the labelled one, an outlier
    assert sorted(found) == ids[1:]
    suspicious = label_queues.listing(db, project_id=project, order="suspicious")
    assert suspicious.ids[:3] == [ids[0], ids[3], ids[1]]
    later = add_images(1)
    assert label_queues.listing(db, project_id=project, order="suspicious").ids[-1:] == later


def test_scores_of_a_model_count_for_more_than_outliers(db: Database, project: int, add_images: Add) -> None:
    ids = add_images(3)
    where = describe(db, project, {image_id: [1.0, float(image_id)] for image_id in ids}, {ids[0]: 9.0})
    add_model(db, project, [(ids[2], 3.0, "unseen"), (ids[1], 2.0, "unseen"), (ids[0], 1.0, "unseen")])
    label_queues.build(db, project_id=project, described=where)
    assert label_queues.listing(db, project_id=project, order="suspicious").ids == ids[::-1]


def test_with_a_model_the_unsure_ones_come_first_and_new_images_last(
    db: Database, project: int, add_images: Add
) -> None:
    ids = add_images(6)
    where = describe(db, project, {image_id: [place * 5.0, 0.0] for place, image_id in enumerate(ids)})
    scores = [-9.0, -8.0, 0.1, -9.5, -8.5, -9.0]
    label(db, project, {ids[0]: "good"})
    add_model(db, project, [(image_id, score, "unseen") for image_id, score in zip(ids, scores, strict=True)])
    label_queues.build(db, project_id=project, described=where)
    later = add_images(1)
    found = label_queues.listing(db, project_id=project, order="informative", labels=("none",)).ids
    assert found[0] == ids[2]
    assert found[-1] == later[0]


def test_stacks_follow_the_filter_and_the_order(db: Database, project: int, add_images: Add) -> None:
    part = add_images(3, group_key="one part")
    others = add_images(4)
    values = {image_id: [0.1 * image_id, 0.0, 1.0] for image_id in part}
    far = [[50.0, 50.0, 0.0], [50.0, 50.0, 0.01], [-70.0, 3.0, 9.0], [8.0, -60.0, 4.0]]
    values |= dict(zip(others, far, strict=True))
    label_queues.build(db, project_id=project, described=describe(db, project, values))
    assert label_queues.listing(db, project_id=project).stacks == [part, others[:2]]
    label(db, project, {part[0]: "good", others[0]: "good"})
    left = label_queues.listing(db, project_id=project, labels=("none",))
    assert left.stacks == [part[1:]]
    mixed = label_queues.listing(db, project_id=project, order="random", seed=3)
    places = {image_id: place for place, image_id in enumerate(mixed.ids)}
    for stack in mixed.stacks:
        assert [places[image_id] for image_id in stack] == sorted(places[image_id] for image_id in stack)


def test_stacks_come_by_their_first_images_and_hold_no_image_alone(db: Database, project: int, add_images: Add) -> None:
    parts = [add_images(n, group_key=f"part {n}") for n in (2, 1, 4, 3)]
    others = add_images(5)
    values = {image_id: [30.0 * place, 0.1 * image_id, 0.0] for place, part in enumerate(parts) for image_id in part}
    values |= {image_id: [0.0, 0.0, 40.0 * image_id] for image_id in others}
    label_queues.build(db, project_id=project, described=describe(db, project, values))
    for seed in range(5):
        found = label_queues.listing(db, project_id=project, order="random", seed=seed)
        expected = [
            [image_id for image_id in found.ids if image_id in part]
            for part in sorted(parts, key=lambda part: min(found.ids.index(image_id) for image_id in part))
            if len(part) > 1
        ]
        assert found.stacks == expected


def test_images_without_descriptors_are_listed_and_in_no_stack(db: Database, project: int, add_images: Add) -> None:
    add_images(2, group_key="one part")
    add_images(2)
    nothing = descriptors.folder(db, project_id=project, setup="made-up")
    label_queues.build(db, project_id=project, described=nothing)
    assert label_queues.listing(db, project_id=project).stacks == []
    assert len(label_queues.listing(db, project_id=project, order="informative").ids) == 4


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"hello"])
def test_a_damaged_file_of_queues_costs_the_order_and_never_a_list(
    db: Database, project: int, add_images: Add, damage: bytes
) -> None:
    ids = add_images(3)
    label_queues.build(db, project_id=project, described=describe(db, project, {ids[0]: [1.0]}))
    assert label_queues.listing(db, project_id=project, order="informative").reason is None
    (db.data_dir / "queues" / f"{project}.npz").write_bytes(damage)
    assert label_queues.listing(db, project_id=project).ids == ids
    assert label_queues.listing(db, project_id=project, order="informative").reason is not None
