"""Each idea of benchmarks/detection_ideas.py changes what it says, and nothing else; the figures are counted right."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import detection_ideas as ideas
from benchmarks.detection_ideas import IDEAS, IdeaTrainer
from ssn_core.backbone import load_backbone
from ssn_core.dataset import LabelledImage, examples
from ssn_core.errors import LayoutError
from ssn_core.features import TapCache
from ssn_core.inference import Scored
from ssn_core.recipes import get_recipe
from ssn_core.sampling import FLIPS
from ssn_core.training import Trainer

CPU = torch.device("cpu")
SIZE = (64, 64)
RECIPE = get_recipe("cam").with_settings({"image_size": SIZE, "epochs": 2})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledImage]:
    """Two folds of grey noise, 4 bad images with a dark bar and 6 good ones each."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    found = []
    for n in range(20):
        bad = n % 10 < 4
        pixels = rng.integers(120, 160, SIZE, dtype=np.uint8)
        mask = np.zeros(SIZE, dtype=np.uint8)
        if bad:
            mask[20 + n : 24 + n, 10:50] = 255
            pixels[mask > 0] = 10
            Image.fromarray(mask).save(folder / f"{n}-mask.png")
        (folder / f"kos{n}").mkdir()
        path = folder / f"kos{n}" / "Part0.png"
        Image.fromarray(pixels).save(path)
        marks = folder / f"{n}-mask.png" if bad else None
        found.append(LabelledImage(f"{n:064d}", str(path), bad, f"kos{n}", None, str(n // 10), marks))
    return found


@pytest.fixture(scope="module")
def taps(images: list[LabelledImage], tmp_path_factory: pytest.TempPathFactory) -> TapCache:
    found = TapCache(tmp_path_factory.mktemp("taps"), load_backbone("resnet18", weights="bundled", local=True), SIZE)
    found.fill([(image.key, image.path) for image in images], device=CPU)
    ideas.fill_renditions(found, images, IDEAS["renditions"].renditions, device=CPU)
    return found


def trained(idea: str, images: list[LabelledImage], taps: TapCache) -> dict[str, torch.Tensor]:
    return IdeaTrainer(IDEAS[idea], RECIPE, images, taps, CPU).run().state_dict()


@pytest.mark.parametrize("idea", ["annealed-q", "renditions", "pasted"])
def test_an_idea_changes_the_training_and_gives_the_same_again(
    idea: str, images: list[LabelledImage], taps: TapCache
) -> None:
    plain = trained("recipe", images, taps)
    first = trained(idea, images, taps)
    again = trained(idea, images, taps)
    assert all(torch.isfinite(value).all() for value in first.values())
    assert any((first[name] != plain[name]).any() for name in plain)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_recipe_itself_is_trained_as_ever(images: list[LabelledImage], taps: TapCache) -> None:
    found = trained("recipe", images, taps)
    wanted = Trainer(RECIPE, examples(images, RECIPE), taps, CPU).run().state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_pooling_fraction_falls_to_its_last_value(images: list[LabelledImage], taps: TapCache) -> None:
    trainer = IdeaTrainer(IDEAS["annealed-q"], RECIPE, images, taps, CPU)
    used: list[float] = []
    trainer.run(on_step=lambda *_: used.append(trainer.net.head.pooling_fraction))
    steps = used[: trainer.planned]  # the rest is the local head's
    assert steps[0] == pytest.approx(0.1)
    assert steps == sorted(steps, reverse=True)
    late = -(-4 * trainer.planned // 5)
    assert steps[late:] == pytest.approx([0.002] * (trainer.planned - late))
    assert steps[late - 2] > 0.002


def test_half_of_what_is_read_is_a_smaller_rendition(images: list[LabelledImage], taps: TapCache) -> None:
    trainer = IdeaTrainer(IDEAS["renditions"], RECIPE, images, taps, CPU)
    samples = np.array([[index % 20, index % 4] for index in range(200)])
    read = trainer._oriented(samples)[0]
    plain = Trainer(RECIPE, examples(images, RECIPE), taps, CPU)._oriented(samples)[0]
    same = (read == plain).flatten(1).all(1).numpy()
    assert 0.35 < same.mean() < 0.65
    for row in np.flatnonzero(~same):
        key, axes = images[int(samples[row, 0])].key, FLIPS[int(samples[row, 1])]
        smaller = [taps.read([ideas.rendition(key, n)])[0][0] for n in (1, 2, 3)]
        assert any(torch.equal(tap.flip(axes), read[row]) for tap in smaller)


def test_a_rendition_shows_the_whole_image_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((*SIZE, 3), 100, dtype=np.uint8)
    pixels[28:36, 28:36] = 255  # in the middle, which no mirrored margin of 0.3 shows again
    Image.fromarray(pixels).save(tmp_path / "dot.png")
    dot = LabelledImage("d" * 64, str(tmp_path / "dot.png"), False, "g")
    taps = TapCache(tmp_path / "taps", load_backbone("resnet18", weights="random", local=True), SIZE)
    shown: list[np.ndarray] = []

    def fill(files: list[tuple[str, Path]], **_: object) -> None:
        shown.extend(np.asarray(Image.open(path)) for _, path in files)

    monkeypatch.setattr(TapCache, "fill", lambda _self, files, **more: fill(files, **more))
    ideas.fill_renditions(taps, [dot], 12, device=CPU)
    assert len(shown) == 12
    areas = [float((one[..., 0].astype(float) - 100).sum()) / 155 for one in shown]
    assert all(one.shape == (*SIZE, 3) and one.min() >= 99 for one in shown)
    assert all(0.45 * 64 < area < 1.02 * 64 for area in areas)
    assert min(areas) < 0.75 * 64


def test_what_the_cam_points_at_stays_in_bad_images_and_comes_from_a_good_one_in_others(
    images: list[LabelledImage], taps: TapCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = IdeaTrainer(IDEAS["pasted"], RECIPE, images, taps, CPU)
    cam = torch.zeros(8, 8, 8)
    cam[:, 4, 4] = 1.0  # 5 x 5 cells around it are the place
    monkeypatch.setattr(trainer, "judged", lambda _read: argparse.Namespace(cam=cam))
    samples = np.array([[index, 0] for index in (0, 1, 2, 3, 4, 5, 6, 7)])
    before = list(trainer.taps.read(samples[:, 0].tolist()))
    after = trainer._pasted(samples, [tap.clone() for tap in before])
    good = [trainer.taps.read([index])[0][0].flip(axes) for index in trainer.sampler.good.tolist() for axes in FLIPS]
    place = torch.zeros(8, 8, dtype=torch.bool)
    place[2:7, 2:7] = True
    changed = [row for row in range(8) if not torch.equal(before[0][row], after[0][row])]
    assert {row < 4 for row in changed} == {True, False}
    for row in changed:
        replaced = ~place if row < 4 else place
        assert torch.equal(after[0][row][:, ~replaced], before[0][row][:, ~replaced])
        assert any(torch.equal(after[0][row][:, replaced], one[:, replaced]) for one in good)


def test_the_contrast_takes_the_good_images_mean_and_spread_away() -> None:
    rng = np.random.default_rng(0)
    level = np.where(np.arange(40) < 20, 5.0, 0.0)[:, None] * np.ones((40, 40))
    spread = np.where(np.arange(40) < 20, 4.0, 1.0)[:, None] * np.ones((40, 40))
    good = [(level + spread * rng.standard_normal((40, 40))).astype(np.float32) for _ in range(200)]
    one = ideas.contrasted({"a": Scored("a", 0.0, (level + spread).astype(np.float32))}, good, cells=2)["a"]
    np.testing.assert_allclose(one[[5, 35]], 1.0, atol=0.15)  # away from the step between both


def test_pairs_in_the_wrong_order_are_named_and_equal_scores_are_wrong() -> None:
    images = [LabelledImage(key, f"/x/kos1/{key}.jpg", key in "ab", "g") for key in "abcd"]
    found = ideas.misordered(images, {"a": 2.0, "b": 0.5, "c": 0.5, "d": 0.4})
    assert found == [("kos1/b", "kos1/c")]


@pytest.mark.parametrize(
    ("learn_from", "words", "learned"), [("one", "one fold", "01"), ("others", "the other folds", "10")]
)
def test_the_command_writes_lines_and_a_table(
    learn_from: str,
    words: str,
    learned: str,
    images: list[LabelledImage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "ideas.jsonl"
    monkeypatch.setattr(ideas, "labelled_images", lambda _path: images)
    command = f"x data --weights bundled --image-size 64 64 --epochs 1 --ideas recipe annealed-q --out {out}"
    monkeypatch.setattr("sys.argv", [*command.split(), "--learn-from", learn_from])
    ideas.main()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["idea"] for line in lines] == ["recipe", "contrast-10", "contrast-20", "contrast-40", "annealed-q"]
    for line in lines:
        found = {pair["scored"]: pair["learned"] for pair in line["pairs"]}
        assert list(found.values()) == [[fold] for fold in learned]
        assert found == {"0": ["1"], "1": ["0"]}
        assert all((pair["ap_det"] == 1.0) == (not pair["misordered"]) for pair in line["pairs"])
    printed = capsys.readouterr().out.splitlines()
    own, plain = (np.mean([pair["ap_det"] for pair in lines[n]["pairs"]]) for n in (4, 0))
    assert f"| annealed-q | {words} | 0 | {round(own, 4):.4g} ({round(plain, 4):.4g}) |" in printed[-1]


def test_images_without_a_fold_are_refused_before_anything_is_computed(
    images: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lone = dataclasses.replace(images[0], fold=None)
    monkeypatch.setattr(ideas, "labelled_images", lambda _path: [lone, *images[1:]])
    monkeypatch.setattr("sys.argv", f"x data --weights bundled --image-size 64 64 --out {tmp_path / 'o.jsonl'}".split())
    with pytest.raises(LayoutError, match="no fold"):
        ideas.main()
    assert not (tmp_path / "o.jsonl").exists()


def test_without_masks_there_are_no_figures_of_maps() -> None:
    pair = {"ap_det": 0.5, "ap_loc": None, "aupro": None, "misordered": [["a", "b"]]}
    found = ideas.summary([{"pairs": [pair, {**pair, "ap_det": 1.0, "misordered": []}]}])
    assert (found["ap_det"], found["misordered"]) == (0.75, 0.5)
    assert np.isnan([found["ap_loc"], found["aupro"]]).all()
