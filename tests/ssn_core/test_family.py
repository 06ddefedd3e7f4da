"""All recipes at once: tiny images, few steps; what must hold whatever the recipe."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_core import marks, tap_store, training
from ssn_core.anomalies import Cells, Truth, draw_places, marked_bad, with_noise
from ssn_core.calibration import Calibration
from ssn_core.checkpoint import Model, load_model, save_model
from ssn_core.crossval import cross_validate
from ssn_core.dataset import LabelledImage, examples
from ssn_core.errors import SettingError, TooFewLabelsError
from ssn_core.features import TapCache
from ssn_core.inference import score_cached
from ssn_core.model import CamNet, Features
from ssn_core.pipeline import train_model
from ssn_core.recipes import RECIPES, Recipe, chosen, get_recipe, lacking, recorded
from ssn_core.reporting import Silent
from ssn_core.sampling import Example
from ssn_core.training import EpochReport, Trainer

CPU = torch.device("cpu")
SMALL = {"image_size": (64, 64), "head_width": 16, "map_width": 32}
FIGURES = ("i_auroc", "ap_det", "p_auroc", "ap_loc", "aupro")


def small(name: str, **more: object) -> Recipe:
    quick = {"epochs": 6, "batch_size": 16, "adaptor_lr": 5e-4, "head_lr": 1e-3, "feature_scale": 1}
    return get_recipe(name).with_settings({**SMALL, **quick, **more})


def train(recipe: Recipe, labelled: list[LabelledImage], caches: dict[str, TapCache]) -> tuple[CamNet, list[float]]:
    reports: list[EpochReport] = []
    trainer = Trainer(recipe, examples(labelled, recipe), caches[recipe.padding], CPU)
    return trainer.run(on_epoch=reports.append), [report.loss for report in reports]


VARIANTS = [(name, adaptor, "gaussian") for name, adaptor in itertools.product(RECIPES, ("linear", "conv"))] + [
    (name, "linear", "learned") for name in RECIPES
]


@pytest.mark.parametrize(("name", "adaptor", "noise"), VARIANTS)
def test_every_recipe_learns_and_comes_back_from_its_folder_bit_by_bit(
    name: str, adaptor: str, noise: str, labelled: list[LabelledImage], caches: dict[str, TapCache], tmp_path: Path
) -> None:
    recipe = small(name, adaptor=adaptor, **get_recipe(name).noise_settings(noise))
    net, losses = train(recipe, labelled, caches)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-2:]) < losses[0]
    keys = [image.key for image in labelled]
    scored = list(score_cached(net, caches[recipe.padding], keys, device=CPU))
    cells = (16, 16) if recipe.has_local_head else (8, 8)
    assert all(np.isfinite(s.score) and np.isfinite(s.cam).all() and s.cam.shape == cells for s in scored)

    backbone = caches[recipe.padding].backbone
    card = dict.fromkeys(FIGURES) | {"held_out": "out_of_fold", "n_good": 1, "n_bad": 0, "n_masks": 0}
    calibration = Calibration(0.5, 0.0, 1.0, "out_of_fold", n_good=1, n_bad=0)
    save_model(Model(recipe, net, backbone.weights_hash, "random", calibration, [], card), tmp_path / "m")
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.recipe == recipe
    assert loaded.net.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in loaded.net.state_dict().items())
    again = list(score_cached(loaded.net, caches[recipe.padding], keys, device=CPU))
    assert [s.score for s in again] == [s.score for s in scored]


@pytest.mark.parametrize("name", RECIPES)
def test_inference_is_the_same_whatever_noise_was_trained_with(name: str) -> None:
    nets = []
    for noise in ("gaussian", "learned"):
        recipe = small(name, **get_recipe(name).noise_settings(noise))
        torch.manual_seed(4)
        nets.append(CamNet(recipe).eval())
    assert [(k, v.shape) for k, v in nets[0].state_dict().items()] == [
        (k, v.shape) for k, v in nets[1].state_dict().items()
    ]
    taps = (torch.rand(2, 128, 8, 8), torch.rand(2, 256, 4, 4), torch.rand(2, 64, 16, 16))
    with torch.no_grad():
        first, second = (net(*taps[: 3 if net.local is not None else 2]) for net in nets)
    assert torch.equal(first.score, second.score)
    assert torch.equal(first.cam, second.cam)


@pytest.mark.parametrize("name", ["gap-cam", "supersimplenet-supervised"])
def test_a_run_with_learned_noise_goes_on_where_it_was(
    name: str, labelled: list[LabelledImage], caches: dict[str, TapCache], tmp_path: Path
) -> None:
    recipe = small(name, epochs=2, generator_every=2, **get_recipe(name).noise_settings("learned"))
    given_ = examples(labelled, recipe)
    taps = caches[recipe.padding]
    whole = Trainer(recipe, given_, taps, CPU).run()

    class PowerCutError(Exception):
        pass

    first = Trainer(recipe, given_, taps, CPU)

    def stop(_: EpochReport) -> None:
        first.save(tmp_path / "state.pt")
        raise PowerCutError

    with pytest.raises(PowerCutError):
        first.run(on_epoch=stop)
    second = Trainer(recipe, given_, taps, CPU)
    assert second.restore(tmp_path / "state.pt")
    resumed = second.run()
    for found, wanted in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


WEAK = [name for name, recipe in RECIPES.items() if not recipe.reads_marks]


@pytest.mark.parametrize("name", WEAK)
def test_a_recipe_without_masks_never_opens_one_and_learns_the_same_without_them(
    name: str, labelled: list[LabelledImage], caches: dict[str, TapCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise AssertionError("a mask was opened")

    monkeypatch.setattr(marks, "decode_mask", refuse)
    monkeypatch.setattr(training, "read_marks", refuse)
    recipe = small(name, epochs=1)
    assert not any(example.marks for example in examples(labelled, recipe))
    bare = [dataclasses.replace(image, mask=None) for image in labelled]
    first, second = (train(recipe, images, caches)[0].state_dict() for images in (labelled, bare))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    with pytest.raises(ValueError, match="takes no masks"):
        Trainer(recipe, [*examples(labelled, recipe), Example("k", False, Path("m.png"))], caches[recipe.padding], CPU)


def test_good_images_alone_teach_the_unsupervised_recipes(
    labelled: list[LabelledImage], caches: dict[str, TapCache]
) -> None:
    for name in ("supersimplenet", "simplenet"):
        recipe = small(name, epochs=1)
        without_bad = [image for image in labelled if not image.bad]
        first, second = (train(recipe, images, caches)[0].state_dict() for images in (labelled, without_bad))
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_masks_of_some_images_teach_more_than_labels_alone(
    labelled: list[LabelledImage], caches: dict[str, TapCache]
) -> None:
    """The same images, labels and seed: only the number of masks differs, and only the loss on the map sees it."""
    bad = [image.key for image in labelled if image.bad]
    found = []
    for kept in (3, 9):
        images = [dataclasses.replace(i, mask=i.mask if i.key in bad[:kept] else None) for i in labelled]
        recipe = small("mixed", epochs=1)
        trainer = Trainer(recipe, examples(images, recipe), caches["zeros"], CPU)
        assert len(trainer.marks) == kept
        truth = trainer._truth(np.array([[n, 0] for n in range(len(labelled))]))
        assert truth.cells is not None
        assert int(truth.cells.known.sum()) == 18 + kept
        found.append(trainer.run().state_dict())
    assert any(not torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_targets_are_flipped_with_their_image(labelled: list[LabelledImage], caches: dict[str, TapCache]) -> None:
    recipe = small("supersimplenet-supervised", dilation=0)
    trainer = Trainer(recipe, examples(labelled, recipe), caches["zeros"], CPU)
    index = next(iter(trainer.marks))
    truth = trainer._truth(np.array([[index, orientation] for orientation in range(4)]))
    assert truth.cells is not None
    cells = truth.cells.bad[:, 0].numpy()
    for orientation, axes in enumerate(((), (0,), (1,), (0, 1))):
        np.testing.assert_array_equal(cells[orientation], np.flip(cells[0], axes))
    assert not np.array_equal(cells[1], cells[0])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(RECIPES)),
    skip=st.sampled_from([0.0, 0.5]),
    height=st.integers(4, 12),
    width=st.integers(4, 12),
)
def test_noise_never_touches_a_marked_defect_and_labels_only_ever_turn_bad(
    seed: int, name: str, skip: float, height: int, width: int
) -> None:
    recipe = get_recipe(name).with_settings({"noise_skip": skip})
    generator = torch.Generator().manual_seed(seed)
    shape = (6, 1, height, width)
    marked = torch.rand(shape, generator=generator) < 0.3
    bad = (torch.rand(6, generator=generator) < 0.5).float()
    marked &= bad.bool()[:, None, None, None]
    truth = Truth(bad, Cells(marked, torch.ones(shape), torch.ones(6, dtype=torch.bool)))
    places = draw_places(recipe, truth, (height, width), generator)
    after = marked_bad(truth.twice(), places)
    assert after.cells is not None
    twice_bad, twice_marked = torch.cat((bad, bad)), torch.cat((marked, marked))
    assert not (places & twice_marked).any()
    assert (after.bad >= twice_bad).all()
    assert torch.equal(after.bad.bool(), twice_bad.bool() | places.flatten(1).any(1))
    assert torch.equal(after.cells.bad, twice_marked | places)
    if recipe.noise_on == "copy":
        assert not places[:6].any()

    x = torch.randn(6, 3, height, width, generator=generator)
    noise = torch.ones(12 if recipe.noise_on == "both" else 6, 3, height, width)
    noisy = with_noise(recipe, Features(x, x + 1), noise, places)
    changed = (noisy.adapted != torch.cat((x, x))).any(1, keepdim=True)
    assert torch.equal(changed, places)
    assert (noisy.plain is not None) == recipe.plain_class_features
    if noisy.plain is not None:  # the same noise on the un-adapted features
        torch.testing.assert_close(noisy.plain - 1, noisy.adapted)


def test_without_bad_images_a_model_has_a_threshold_and_no_figures(
    labelled: list[LabelledImage], caches: dict[str, TapCache], tmp_path: Path
) -> None:
    recipe = small("simplenet", epochs=1)
    good = [image for image in labelled if not image.bad]
    trained = train_model(recipe, good, caches["zeros"], device=CPU, reporter=Silent())
    assert trained.held_out == "out_of_fold"
    assert trained.model.calibration.threshold > max(p.score for p in trained.predictions.values())
    assert trained.model.calibration.scale_low < trained.model.calibration.scale_high
    assert all(trained.model.figures[name] is None for name in FIGURES)
    assert trained.model.figures["n_bad"] == 0
    assert "above every good part" in trained.model.operating_point.how
    save_model(trained.model, tmp_path / "m")
    assert load_model(tmp_path / "m")[0].calibration == trained.model.calibration


def test_bad_images_are_measured_by_networks_that_never_saw_them_even_in_one_fold(
    labelled: list[LabelledImage], caches: dict[str, TapCache]
) -> None:
    folds = {i.key: "bad ones" if i.bad else str(n % 2) for n, i in enumerate(labelled)}
    report = cross_validate(
        small("supersimplenet", epochs=1), labelled, caches["zeros"], folds=folds, device=CPU, reporter=Silent()
    )
    assert report["pooled"]["n_bad"] == 9
    assert 0 <= report["pooled"]["ap_det"] <= 1


@pytest.mark.parametrize(
    ("name", "n_good", "n_bad", "n_marked", "words"),
    [
        ("cam", 4, 3, 0, None),
        ("cam", 4, 2, 2, "1 more bad image"),
        ("simplenet", 4, 0, 0, None),
        ("supersimplenet", 3, 9, 9, "1 more good image,"),
        ("supersimplenet-supervised", 9, 9, 0, "no bad image has one"),
        ("supersimplenet-supervised", 9, 9, 8, "1 of 9 bad images has no defect mask"),
        ("supersimplenet-supervised", 9, 9, 9, None),
        ("mixed", 9, 9, 0, "no bad image has one"),
        ("mixed", 9, 9, 2, "masks of 1 more bad image,"),
        ("mixed", 9, 9, 3, None),
    ],
)
def test_what_a_recipe_lacks_is_said_as_an_instruction(
    name: str, n_good: int, n_bad: int, n_marked: int, words: str | None
) -> None:
    found = lacking(get_recipe(name), n_good=n_good, n_bad=n_bad, n_marked=n_marked)
    assert (found is None) == (words is None)
    assert (words or "") in (found or "")


def test_masks_that_are_all_in_one_fold_are_explained(
    labelled: list[LabelledImage], caches: dict[str, TapCache]
) -> None:
    images = [dataclasses.replace(i, mask=i.mask if i.fold == "0" else None) for i in labelled]
    folds = {i.key: str(i.fold) for i in images}
    with pytest.raises(TooFewLabelsError, match="no defect mask to learn from"):
        cross_validate(small("mixed"), images, caches["zeros"], folds=folds, device=CPU, reporter=Silent())


def test_a_model_from_before_a_setting_existed_is_read_as_it_was() -> None:
    """What model.json held before the family: 20 settings, and none of them said adaptor, head or losses."""
    then = {
        "backbone": "resnet18",
        "image_size": [64, 96],
        "padding": "zeros",
        "standardise": False,
        "feature_scale": 2,
        "pooling_fraction": 1.0,
        "noise_skip": 0.5,
        "focal_gamma": 4.0,
    }
    recipe = recorded("gap-cam", then)
    assert (recipe.head, recipe.adaptor, recipe.losses) == ("cam", "linear", ("score-focal",))
    assert (recipe.noise, recipe.noise_on, recipe.align_corners) == ("gaussian", "copy", True)
    assert recipe.image_size == (64, 96)
    assert recipe.pooling_fraction == 1.0


def test_choices_by_name_are_the_recipes_own_where_nothing_is_chosen() -> None:
    assert chosen("cam", {"epochs": None, "inspector": "Ada"}) == get_recipe("cam")
    learned = chosen("cam", {"noise": "learned", "beta": 0.1, "adaptor": "conv", "image_size": [64, 64]})
    assert (learned.noise_kind, learned.beta, learned.adaptor) == ("learned", 0.1, "conv")
    assert chosen("gap-cam", {"noise": "none"}).noise_kind == "none"
    assert chosen("cam", {"noise": "gaussian"}, {"noise_skip": 0.2}).noise_skip == 0.2
    with pytest.raises(SettingError, match="Good images alone"):
        chosen("simplenet", {"noise": "none"})
    with pytest.raises(SettingError, match="pooling_fraction"):
        chosen("mixed", {"pooling_fraction": 0.1})


@pytest.mark.parametrize("name", RECIPES)
def test_taps_held_on_the_device_teach_the_same(
    name: str, labelled: list[LabelledImage], caches: dict[str, TapCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(name, epochs=1)
    first, _ = train(recipe, labelled, caches)
    monkeypatch.setattr(tap_store, "_room", lambda _device, _beside: 10**9)
    trainer = Trainer(recipe, examples(labelled, recipe), caches[recipe.padding], CPU)
    assert trainer.taps.holds_all
    for found, wanted in zip(trainer.run().state_dict().values(), first.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_taps_that_do_not_fit_are_read_batch_by_batch(
    labelled: list[LabelledImage], caches: dict[str, TapCache]
) -> None:
    keys = [image.key for image in labelled]
    needed = 2 * len(keys) * (128 * 8 * 8 + 256 * 4 * 4)
    for room, held in ((needed, True), (needed - 1, False), (0, False)):
        assert tap_store.TapStore(caches["zeros"], keys, CPU, room=room).holds_all is held


def test_taps_leave_a_gpu_what_a_training_needs_and_count_what_torch_has_cached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (600, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 100)
    assert [tap_store._room(gpu, beside) for beside in (0, 400, 700, 1200)] == [500, 500, 300, 0]
    assert tap_store._room(CPU, 0) == 0


@pytest.mark.parametrize("name", RECIPES)
def test_half_precision_trains_as_well(
    name: str, labelled: list[LabelledImage], caches: dict[str, TapCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, tried on a CPU: the losses stay finite and near those of float32."""
    recipe = small(name, epochs=3, **get_recipe(name).noise_settings("learned"))
    monkeypatch.setattr(training, "bfloat16_pays", lambda *_, **__: False)
    _, wanted = train(recipe, labelled, caches)
    monkeypatch.setattr(training, "bfloat16_pays", lambda *_, **__: True)
    net, losses = train(recipe, labelled, caches)
    assert all(value.dtype in (torch.float32, torch.int64) for value in net.state_dict().values())
    np.testing.assert_allclose(losses, wanted, rtol=0.25, atol=0.02)
