"""From labelled images to a calibrated model: what is held out, and that it stays held out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssn_core import crossfit, metrics, pipeline
from ssn_core.backbone import load_backbone
from ssn_core.calibration import calibrate, check_scale_crosswise, map_peaks
from ssn_core.crossval import assign_folds, cross_validate
from ssn_core.dataset import Groups, LabelledImage, assign_parts, check_labels, deal_folds, from_sources
from ssn_core.errors import LayoutError, SettingError, SsnError, TooFewLabelsError
from ssn_core.evidence import pooled_mean
from ssn_core.features import TapCache
from ssn_core.map_files import MapFiles
from ssn_core.pipeline import fixed_parts_suffice, train_model
from ssn_core.recipes import Recipe, get_recipe
from ssn_core.reporting import Silent
from ssn_core.rules import YOUDEN
from ssn_core.sources import scan
from ssn_core.splits import group_part, part_for

CPU = torch.device("cpu")


def image(number: int, *, bad: bool, group: str | None = None, part: str | None = None) -> LabelledImage:
    return LabelledImage(f"{number:064x}", f"{number}.png", bad, group or str(number), part)


def quick() -> Recipe:
    return get_recipe("cam").with_settings({"image_size": (64, 64), "epochs": 2, "batch_size": 16})


@pytest.fixture(scope="session")
def labelled(surfaces: Path) -> list[LabelledImage]:
    return from_sources(scan(surfaces / "labels.csv").items, on_reject=lambda *_: None, progress=lambda *_: None)


@pytest.fixture(scope="session")
def taps(tmp_path_factory: pytest.TempPathFactory) -> TapCache:
    backbone = load_backbone("resnet18", weights="random", local=True)
    return TapCache(tmp_path_factory.mktemp("pipeline-taps"), backbone, (64, 64))


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        (20, 0, "Label 3 more bad images, then"),
        (20, 2, "Label 1 more bad image, then"),
        (0, 0, "Label 4 more good images and 3 more bad images"),
        (3, 9, "Label 1 more good image, then"),
    ],
)
def test_too_few_labels_say_how_many_are_missing(good: int, bad: int, words: str) -> None:
    images = [image(i, bad=i < bad) for i in range(good + bad)]
    with pytest.raises(TooFewLabelsError, match=words):
        check_labels(images, get_recipe("cam"))


def test_folds_never_split_a_group_and_share_out_bad_images() -> None:
    images = [image(i, bad=i % 7 == 0, group=str(i // 3)) for i in range(120)]
    folds = deal_folds(images, 3)
    for group in {i.group for i in images}:
        assert len({folds[i.key] for i in images if i.group == group}) == 1
    bad = [sum(folds[i.key] == fold for i in images if i.bad) for fold in range(3)]
    good = [sum(folds[i.key] == fold for i in images if not i.bad) for fold in range(3)]
    assert max(bad) - min(bad) <= 1
    assert max(good) - min(good) <= 4


def test_folds_do_not_depend_on_the_order_of_the_images() -> None:
    images = [image(i, bad=i % 5 == 0, group=str(i // 2)) for i in range(60)]
    assert deal_folds(images, 3) == deal_folds(images[::-1], 3)


def test_bad_images_of_two_parts_give_two_folds_and_of_one_part_none() -> None:
    two = [image(i, bad=i < 4, group=f"part {i % 2}" if i < 4 else None) for i in range(20)]
    assert set(deal_folds(two, 3).values()) == {0, 1}
    one = [image(i, bad=i < 4, group="part" if i < 4 else None) for i in range(20)]
    with pytest.raises(TooFewLabelsError, match="one part"):
        deal_folds(one, 3)


def test_good_images_that_share_parts_with_bad_ones_are_never_all_in_one_fold() -> None:
    parts = (("B", 6, 0), ("A", 5, 2), ("E", 1, 2))  # name, bad, good: A and E would both go beside B
    labels = [(name, bad) for name, n_bad, n_good in parts for bad in [True] * n_bad + [False] * n_good]
    images = [image(i, bad=bad, group=name) for i, (name, bad) in enumerate(labels)]
    folds = deal_folds(images, 3)
    for bad in (False, True):
        assert len({folds[i.key] for i in images if i.bad is bad}) > 1
    for name in "BAE":
        assert len({folds[i.key] for i in images if i.group == name}) == 1


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=40), st.integers(2, 5))
def test_without_any_fold_both_classes_are_left(labels: list[tuple[int, bool]], n_folds: int) -> None:
    images = [image(i, bad=bad, group=f"part {group}") for i, (group, bad) in enumerate(labels)]
    try:
        folds = deal_folds(images, n_folds)
    except TooFewLabelsError:
        return
    for fold in set(folds.values()):
        assert {i.bad for i in images if folds[i.key] != fold} == {False, True}


def test_a_group_on_both_sides_of_an_imported_split_is_kept_for_testing() -> None:
    said = {"a": ("train", "test"), "b": ("train", None), "c": (None, None), "d": ("calibration", "train")}
    images = [
        image(n, bad=False, group=group, part=part)
        for n, (group, part) in enumerate((group, part) for group, parts in said.items() for part in parts)
    ]
    parts = {group: {i.part for i in assign_parts(images) if i.group == group} for group in said}
    assert parts == {
        "a": {"test"},
        "b": {part_for("b", "train")},
        "c": {group_part("c")},
        "d": {part_for("d", "train")},
    }


def test_groups_that_share_an_image_are_one() -> None:
    groups = Groups()
    groups.join("a", "b")
    groups.join("c", "d")
    groups.join("d", "b")
    assert len({groups.find(name) for name in "abcd"}) == 1
    assert groups.find("e") == "e"


def test_copies_are_read_once_and_join_their_groups(surfaces: Path, tmp_path: Path) -> None:
    for name, source in (("a1", "00"), ("a2", "01"), ("b1", "00"), ("b2", "02")):
        (tmp_path / f"{name}.png").write_bytes((surfaces / f"{source}.png").read_bytes())
    (tmp_path / "labels.csv").write_text(
        "image,label,group\na1.png,bad,A\na2.png,good,A\nb1.png,bad,B\nb2.png,good,B\n"
    )
    images = from_sources(scan(tmp_path).items, on_reject=lambda *_: None, progress=lambda *_: None)
    assert len(images) == 3
    assert len({i.group for i in images}) == 1


def read(
    folder: Path, rows: str, surfaces: Path, **copies: str
) -> tuple[dict[str, LabelledImage], list[tuple[str, str]]]:
    for name, source in copies.items():
        (folder / f"{name}.png").write_bytes((surfaces / f"{source}.png").read_bytes())
    (folder / "labels.csv").write_text(rows)
    rejected: list[tuple[str, str]] = []
    images = from_sources(scan(folder).items, on_reject=lambda *given: rejected.append(given), progress=lambda *_: None)
    return {i.path.stem: i for i in images}, rejected


def test_a_copy_brings_the_label_that_is_missing_and_contradicts_only_another_label(
    surfaces: Path, tmp_path: Path
) -> None:
    rows = "image,label\na.png,\nb.png,bad\nc.png,\nd.png,\ne.png,good\nf.png,bad\n"
    images, rejected = read(tmp_path, rows, surfaces, a="00", b="00", c="01", d="01", e="02", f="02")
    assert {name: i.bad for name, i in images.items()} == {"a": True, "c": None, "e": False}
    assert [name for name, _ in rejected] == ["f.png"]


def test_a_copy_of_a_test_image_takes_its_group_to_the_test_part(surfaces: Path, tmp_path: Path) -> None:
    rows = "image,label,group,split\na.png,good,A,train\nb.png,good,A,train\nc.png,good,C,test\n"
    images, _ = read(tmp_path, rows, surfaces, a="01", b="02", c="01")
    assert {i.part for i in assign_parts(list(images.values()))} == {"test"}


def test_an_unreadable_mask_costs_the_mask_and_not_the_image(surfaces: Path, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    images, rejected = read(tmp_path, "image,label,mask\na.png,bad,m.png\n", surfaces, a="00")
    assert images["a"].bad
    assert images["a"].mask is None
    assert rejected[0][0] == "m.png"


def test_few_labels_are_measured_out_of_fold(labelled: list[LabelledImage], taps: TapCache, tmp_path: Path) -> None:
    maps = MapFiles(tmp_path)
    trained = train_model(quick(), labelled, taps, device=CPU, reporter=Silent(), maps=maps)
    assert trained.held_out == "out_of_fold"
    assert {p.role for p in trained.predictions.values()} == {"out_of_fold"}
    assert set(trained.predictions) == {i.key for i in labelled}
    assert trained.model.calibration.n_bad == 9
    assert trained.model.figures["n_masks"] == 9
    assert 0 <= trained.model.figures["aupro"] <= 1
    # Escapes and overkill travel with the model, each image counted at a threshold chosen without it; so does the check
    # of the colour scale.
    labels = np.array([bool(i.bad) for i in labelled], dtype=np.int8)
    scores = np.array([trained.predictions[i.key].score for i in labelled])
    blocks = crossfit.deal_blocks(labels, [i.group for i in labelled])
    counted = crossfit.crosswise(labels, scores, blocks, YOUDEN.choose)
    assert counted is not None
    at_threshold = trained.model.figures["at_threshold"]
    assert at_threshold == {"rule": "Youden's J", "basis": "crosswise", **dataclasses.asdict(counted)}
    peaks = map_peaks((maps.read(i.key) for i in labelled), (64, 64), sigma=trained.model.recipe.map_sigma)
    assert trained.model.calibration.scale_check == check_scale_crosswise(
        labels == 1, np.array(peaks), [i.group for i in labelled]
    )
    # Each map is of the network that made the score: what the map leaves of it is that network's bias, one a fold.
    folds, q = deal_folds(labelled, pipeline.N_FOLDS), trained.model.recipe.pooling_fraction
    biases: dict[int, list[float]] = {}
    for key, prediction in trained.predictions.items():
        rest = prediction.score - pooled_mean(maps.read(key), fraction=q)
        biases.setdefault(folds[key], []).append(rest)
    assert len(biases) == pipeline.N_FOLDS
    assert max(np.ptp(found) for found in biases.values()) < 1e-5


def test_no_image_is_scored_by_a_network_that_was_trained_on_its_group(
    labelled: list[LabelledImage], taps: TapCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: dict[int, set[str]] = {}
    fit, score = pipeline.fit, pipeline.score_cached

    def watch_fit(recipe: Recipe, images: list[LabelledImage], *args: object, **kwargs: object) -> object:
        net = fit(recipe, images, *args, **kwargs)  # type: ignore[arg-type]
        trained_on[id(net)] = {i.group for i in images}
        kept.append(net)
        return net

    def watch_score(net: object, taps: TapCache, keys: list[str], **kwargs: object) -> object:
        groups = {i.group for i in labelled if i.key in keys}
        assert not groups & trained_on[id(net)]
        return score(net, taps, keys, **kwargs)  # type: ignore[arg-type]

    kept: list[object] = []
    monkeypatch.setattr(pipeline, "fit", watch_fit)
    monkeypatch.setattr(pipeline, "score_cached", watch_score)
    train_model(quick(), labelled, taps, device=CPU, reporter=Silent())
    assert len(trained_on) == 4  # three folds, and the model itself


@pytest.mark.usefixtures("two_threads")
def test_networks_at_a_time_are_what_they_are_one_after_the_other(
    labelled: list[LabelledImage], taps: TapCache
) -> None:
    """To the bit, where each has one thread either way."""
    beside = train_model(quick(), labelled, taps, device=CPU, reporter=Silent())
    torch.set_num_threads(1)
    alone = train_model(quick(), labelled, taps, device=CPU, reporter=Silent())
    assert alone.predictions == beside.predictions
    for one, other in zip(alone.model.net.state_dict().values(), beside.model.net.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert alone.model.calibration == beside.model.calibration


@pytest.mark.usefixtures("two_threads")
def test_progress_of_networks_at_a_time_never_goes_back(labelled: list[LabelledImage], taps: TapCache) -> None:
    seen: list[tuple[int, int, dict[str, str | float]]] = []
    points: list[str] = []

    class Listener(Silent):
        def progress(self, phase: str, done: int, total: int, **metrics: str | float) -> None:
            if phase == "Training":
                seen.append((done, total, metrics))

        def point(self, series: str, step: int, value: float) -> None:  # noqa: ARG002
            points.append(series)

    train_model(quick(), labelled, taps, device=CPU, reporter=Listener())
    done = [one for one, _, _ in seen]
    assert done == sorted(done)
    assert {total for _, total, _ in seen} == {done[-1]}
    assert {series: points.count(series) for series in points} == dict.fromkeys(
        ("Fold 1 of 3", "Fold 2 of 3", "Fold 3 of 3", "Model"), 2
    )
    assert "2 networks at a time" in {metrics["network"] for _, _, metrics in seen}


def test_with_enough_labels_the_fixed_parts_are_used(
    labelled: list[LabelledImage], taps: TapCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MIN_TEST_PER_CLASS", 3)
    monkeypatch.setattr(pipeline, "MIN_CALIBRATION_PER_CLASS", 3)
    parts = ("train", "calibration", "test")
    images = [dataclasses.replace(i, part=parts[int(i.group[4:]) % 3]) for i in labelled]
    assert fixed_parts_suffice(images)
    trained = train_model(quick(), images, taps, device=CPU, reporter=Silent())
    assert trained.held_out == "test"
    assert trained.model.calibration.source == "calibration"
    assert trained.model.calibration.n_bad == 3
    assert trained.model.figures["n_bad"] == 3
    at_threshold = trained.model.figures["at_threshold"]
    assert (at_threshold["basis"], at_threshold["n_bad"]) == ("separate", 3)
    check = trained.model.calibration.scale_check
    assert check is not None
    assert (check.checked, check.n_good) == ("test", sum(i.part == "test" and not i.bad for i in images))
    assert {i.key: trained.predictions[i.key].role for i in images} == {i.key: i.part for i in images}


def test_a_good_part_stays_dark_and_a_bad_one_does_not() -> None:
    rng = np.random.default_rng(0)
    bad = np.arange(200) < 50
    peaks = rng.normal(np.where(bad, 6.0, 1.0), 0.5)
    found = calibrate(bad.tolist(), peaks.tolist(), peaks.tolist(), source="calibration")
    assert np.mean(peaks[~bad] > found.scale_low) <= 0.06
    assert found.scale_low < found.scale_high
    assert np.mean(peaks[bad] > found.scale_low) > 0.95


def test_the_scale_of_a_blind_model_is_still_usable() -> None:
    found = calibrate([True, False, True, False], [0.0] * 4, [1.0] * 4, source="out_of_fold")
    assert found.scale_high > found.scale_low


def test_cross_validation_scores_every_image_once(
    labelled: list[LabelledImage], taps: TapCache, tmp_path: Path
) -> None:
    folds, maps = assign_folds(labelled, from_data=True), MapFiles(tmp_path)
    report = cross_validate(
        quick(), labelled, taps, folds=folds, pooling_fractions=[0.02, 1.0], device=CPU, reporter=Silent(), maps=maps
    )
    assert all(np.isfinite(maps.read(image.key)).all() for image in labelled)
    assert [fold["fold"] for fold in report["folds"]] == ["0", "1", "2"]
    assert len(report["scores"]) == 27
    for part in (report["pooled"], *report["folds"]):
        for name in ("i_auroc", "ap_det", "p_auroc", "ap_loc", "aupro"):
            assert 0 <= part[name] <= 1
    assert report["pooled"]["n_bad"] == 9
    assert report["pooled"]["at_threshold"]["basis"] == "crosswise"
    assert report["pooled"]["at_threshold"]["n_bad"] == 9
    for fold in report["folds"]:
        assert [trial["pooling_fraction"] for trial in fold["pooling_fraction_trials"]] == [0.02, 1.0]
        assert fold["pooling_fraction"] in (0.02, 1.0)


def test_folds_that_leave_nothing_to_train_or_to_choose_on_are_explained(
    labelled: list[LabelledImage], taps: TapCache
) -> None:
    def run(folds: dict[str, str], *candidates: float) -> None:
        cross_validate(
            quick(), labelled, taps, folds=folds, pooling_fractions=candidates, device=CPU, reporter=Silent()
        )

    with pytest.raises(TooFewLabelsError, match="All bad images are in one fold"):
        run({i.key: "a" if i.bad else i.group for i in labelled})
    halves = {i.key: str(int(i.group[4:]) % 2) for i in labelled}
    with pytest.raises(SettingError, match="needs folds"):
        run(halves, 0.5)
    uneven = {i.key: "2" if not i.bad and halves[i.key] == "1" else halves[i.key] for i in labelled}
    with pytest.raises(SsnError, match="--choose-q"):
        run(uneven, 0.5)


def test_a_group_in_two_folds_is_refused() -> None:
    images = [dataclasses.replace(image(i, bad=i < 2, group="same"), fold=str(i)) for i in range(4)]
    with pytest.raises(LayoutError, match="two folds"):
        assign_folds(images, from_data=True)


def test_a_mask_of_an_image_that_a_person_calls_good_marks_nothing(labelled: list[LabelledImage]) -> None:
    bad = next(i for i in labelled if i.bad)
    marked = bad.load_mask((64, 64))
    assert marked is not None
    assert marked.any()
    corrected = dataclasses.replace(bad, bad=False).load_mask((64, 64))
    assert corrected is not None
    assert not corrected.any()
    assert dataclasses.replace(bad, mask=None).load_mask((64, 64)) is None


def test_the_regions_of_a_mask_are_those_that_were_drawn_and_its_pixels_those_of_the_mask(
    labelled: list[LabelledImage], tmp_path: Path
) -> None:
    drawn = np.zeros((128, 128), dtype=np.uint8)
    for step in range(100):
        drawn[10 + step // 2, 10 + step] = 255  # a crack, one pixel wide
    drawn[100:110, 20:40] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(drawn).save(path)
    bad = dataclasses.replace(next(i for i in labelled if i.bad), mask=path)
    for size in ((128, 128), (64, 64), (48, 80)):
        mask, regions = bad.load_mask(size), bad.load_regions(size)
        assert mask is not None
        assert regions is not None
        assert ((regions > 0) == mask).all()
        assert set(np.unique(regions)) == {0, 1, 2}
    mask = bad.load_mask((48, 80))
    assert mask is not None
    assert metrics.regions_of(mask).max() > 5  # scaling has torn the crack
    good = dataclasses.replace(bad, bad=False).load_regions((64, 64))
    assert good is not None
    assert not good.any()
    assert dataclasses.replace(bad, mask=None).load_regions((64, 64)) is None
