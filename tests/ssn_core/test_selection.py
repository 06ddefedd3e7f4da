"""What to label next, and what goes together as a stack."""

from __future__ import annotations

import numpy as np
import pytest

from ssn_core import selection

RNG = np.random.default_rng(0)


def far_apart(n: int, length: int = 48) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, length)).astype(np.float32)


def test_reducing_never_lengthens_a_distance_and_keeps_what_lies_in_few_directions() -> None:
    flat = far_apart(50, 5) @ far_apart(5, 200)[:, :200]
    points = selection.reduced(flat)
    full = np.linalg.norm(flat[:25] - flat[25:], axis=1)
    np.testing.assert_allclose(np.linalg.norm(points[:25] - points[25:], axis=1), full, rtol=1e-4)
    wide = far_apart(50, 200)
    shorter = selection.reduced(wide, axes=8)
    assert (
        np.linalg.norm(shorter[:25] - shorter[25:], axis=1) <= np.linalg.norm(wide[:25] - wide[25:], axis=1) + 1e-4
    ).all()
    assert selection.reduced(np.zeros((0, 7))).shape[0] == 0


def test_a_verdict_tells_most_from_the_threshold_on_and_less_the_further_below_it() -> None:
    scores = np.array([-4.0, -1.0, 0.0, 1.0, 4.0, -5.0, -6.0])
    found = selection.uncertainty(scores, threshold=0.0)
    assert (found[2:5] == 1.0).all()
    assert (np.diff(found[:3]) > 0).all()
    assert ((found > 0) & (found <= 1)).all()
    assert (selection.uncertainty(np.full(3, 2.0), threshold=2.0) == 1.0).all()


def test_of_equally_uncertain_images_each_kind_comes_before_a_second_of_any() -> None:
    kinds = np.repeat(np.eye(4, dtype=np.float32) * 10, 5, axis=0) + RNG.normal(size=(20, 4)).astype(np.float32) * 0.01
    order = selection.informative(kinds, np.array([], dtype=np.int64), np.arange(20), None, n=20)
    assert sorted(order.tolist()) == list(range(20))
    assert {place // 5 for place in order[:4].tolist()} == {0, 1, 2, 3}


def test_what_is_like_a_labelled_image_comes_late() -> None:
    points = np.array([[0.0], [0.1], [5.0], [9.0]], dtype=np.float32)
    order = selection.informative(points, np.array([0]), np.array([1, 2, 3]), np.ones(3), n=3)
    assert order.tolist() == [3, 2, 1]


def test_a_sure_verdict_comes_after_an_unsure_one_however_unlike_it_is() -> None:
    points = np.array([[0.0], [1.0], [3.0]], dtype=np.float32)
    order = selection.informative(points, np.array([0]), np.array([1, 2]), np.array([1.0, 0.01]), n=2)
    assert order.tolist() == [1, 2]


def test_beyond_those_chosen_one_by_one_uncertainty_alone_decides() -> None:
    weights = np.linspace(0.1, 1.0, 30)
    order = selection.informative(far_apart(30), np.array([], dtype=np.int64), np.arange(30), weights, n=3)
    assert sorted(order.tolist()) == list(range(30))
    assert (np.diff(weights[order[3:]]) <= 0).all()


def test_images_of_one_part_and_near_duplicates_are_stacks() -> None:
    descriptors = far_apart(14)
    descriptors[7] = descriptors[3] + 0.001
    descriptors[[1, 5]] = descriptors[0] * np.array([[1.2], [0.8]], np.float32)  # taken again, a little aside
    groups = ["a", "a", "b", "c", "d", "a", "e", "f", "g", "h", "i", "j", "k", "l"]
    found = selection.stacks(descriptors, groups)
    assert found[0] == found[1] == found[5] >= 0
    assert found[3] == found[7] >= 0
    assert found[3] != found[0]
    assert (found[[2, 4, 6, 8, 9, 10, 11, 12, 13]] == -1).all()


def test_sides_of_a_part_that_look_different_are_no_stack() -> None:
    descriptors, groups = far_apart(28), ["part"] * 8 + [f"stranger {n}" for n in range(20)]
    assert (selection.stacks(descriptors, groups) == -1).all()
    descriptors[6] = descriptors[2] * 0.7  # taken again: 0.3 of its length away
    assert selection.stacks(descriptors, groups)[:8].tolist() == [-1, -1, 0, -1, -1, -1, 0, -1]


@pytest.mark.parametrize("n_strangers", [1, 3, 8])
def test_a_few_strangers_far_away_make_no_stack_of_different_sides(n_strangers: int) -> None:
    descriptors, groups = far_apart(8 + n_strangers), ["part"] * 8 + [f"stranger {n}" for n in range(n_strangers)]
    descriptors[8:] += 3  # another product
    assert (selection.stacks(descriptors, groups) == -1).all()


def test_the_only_part_of_its_kind_is_no_stack_either() -> None:
    descriptors = far_apart(8 + 60)
    descriptors[:8] += 8
    assert (selection.stacks(descriptors, ["part"] * 8 + [f"other {n // 3}" for n in range(60)])[:8] == -1).all()


def test_images_that_a_model_judges_differently_never_share_a_stack() -> None:
    descriptors = np.concatenate([far_apart(10), far_apart(10)])
    sides = np.zeros(20, dtype=bool)
    sides[3] = True
    groups = [f"g{n}" for n in range(20)]
    found = selection.stacks(descriptors, groups, sides)
    assert found[3] == found[13] == -1
    assert found[4] == found[14] >= 0
    same_view = far_apart(14)
    same_view[1:3] = same_view[0] * np.array([[0.9], [1.1]], np.float32)
    groups = ["part"] * 3 + [f"other {n}" for n in range(11)]
    assert selection.stacks(same_view, groups).tolist() == [0, 0, 0, *[-1] * 11]
    assert selection.stacks(same_view, groups, np.arange(14) == 2).tolist() == [0, 0, -1, *[-1] * 11]


def test_a_batch_that_shares_a_group_is_no_stack() -> None:
    n = selection.MAX_STACK + 1
    centre, *strangers = far_apart(n)
    aside = 0.25 * selection.typical_distance(np.stack(strangers)) * np.eye(48, dtype=np.float32)[:n]
    alike = centre + aside  # 0.35 of the typical distance from each other: too much for near-duplicates
    names = [f"stranger {k}" for k in range(n - 1)]
    assert (selection.stacks(np.stack((*alike, *strangers)), ["batch"] * n + names) == -1).all()
    assert (selection.stacks(np.stack((*alike[1:], *strangers)), ["part"] * (n - 1) + names)[: n - 1] == 0).all()


def test_the_nearest_image_of_another_part_is_found_as_by_looking_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors, groups = far_apart(600), RNG.integers(0, 250, 600)
    described = RNG.random(600) < 0.9
    found = selection.nearest_of_others(descriptors, groups, described)
    for place in range(600):
        if not described[place] or (groups == groups[place]).sum() < 2:
            assert found[place] == 0
            continue
        others = descriptors[described & (groups != groups[place])]
        expected = np.linalg.norm(others - descriptors[place], axis=1).min()
        assert found[place] == pytest.approx(expected, rel=1e-4)
    counted, drawn = (groups == groups[:, None]).sum(axis=1), 40
    monkeypatch.setattr(selection, "_STRANGERS", drawn)
    some = selection.nearest_of_others(descriptors, groups, described)
    assert (some[described & (counted > 1)] >= found[described & (counted > 1)] * (1 - 1e-4)).all()
    for place in np.flatnonzero(described & (counted > 1))[:50]:  # each is the distance of an image of another group
        distances = np.linalg.norm(descriptors - descriptors[place], axis=1)
        nearest = np.abs(distances - some[place]).argmin()
        assert distances[nearest] == pytest.approx(some[place], rel=1e-4)
        assert groups[nearest] != groups[place]
    alone = selection.nearest_of_others(descriptors[:3], np.zeros(3, int), np.ones(3, bool))
    assert alone.tolist() == [0, 0, 0]  # nothing to compare with: no stack


def test_images_without_a_descriptor_stand_alone() -> None:
    descriptors = np.full((3, 4), np.nan, dtype=np.float32)
    assert selection.stacks(descriptors, ["a", "b", "a"]).tolist() == [-1, -1, -1]
    assert selection.stacks(np.zeros((0, 4), np.float32), []).tolist() == []


def test_a_slowly_changing_series_does_not_become_one_stack() -> None:
    series = np.zeros((200, 3), dtype=np.float32)
    series[:, 0] = np.arange(200) * 0.9
    for duplicates in selection.near_duplicates(series, within=1.0):
        assert len(duplicates) <= 3


def test_many_equal_images_make_stacks_that_can_be_looked_at() -> None:
    found = list(selection.near_duplicates(np.ones((100, 5), np.float32), within=0.1))
    assert all(len(duplicates) <= selection.MAX_STACK for duplicates in found)
    assert sorted(np.concatenate(found).tolist()) == list(range(100))


@pytest.mark.parametrize("n", [40, 700])
def test_every_pair_that_is_near_is_found_with_any_number_of_images(n: int) -> None:
    descriptors = far_apart(n)
    descriptors[n // 2 :] = descriptors[: n // 2] + RNG.normal(size=(n // 2, 48)).astype(np.float32) * 1e-3
    pairs = {tuple(duplicates.tolist()) for duplicates in selection.near_duplicates(descriptors, within=0.1)}
    assert pairs == {(place, place + n // 2) for place in range(n // 2)}


def test_a_random_order_depends_on_the_seed_and_survives_images_that_leave() -> None:
    numbers = np.arange(1, 101)
    first = selection.shuffled(numbers, seed=1)
    assert sorted(first.tolist()) == numbers.tolist()
    assert first.tolist() == selection.shuffled(numbers, seed=1).tolist()
    assert first.tolist() != selection.shuffled(numbers, seed=2).tolist()
    left = [number for number in first.tolist() if number % 3]
    assert selection.shuffled(np.array([number for number in numbers if number % 3]), seed=1).tolist() == left
    assert abs(float(np.corrcoef(numbers, first)[0, 1])) < 0.3


def test_two_orders_take_turns_and_each_place_comes_once() -> None:
    first, second = np.array([7, 3, 5, 1]), np.array([3, 1, 7, 5])
    assert selection.in_turns(first, second).tolist() == [7, 3, 1, 5]
    assert selection.in_turns(first, first).tolist() == first.tolist()
    assert selection.in_turns(first[:0], second[:0]).tolist() == []
