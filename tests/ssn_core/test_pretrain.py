"""Pretraining on generated images: the images, the marks, and a short run that learns and can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from ssn_core.backbone import Backbone
from ssn_core.errors import SettingError
from ssn_core.pretrain.__main__ import main
from ssn_core.pretrain.marks import FILLINGS, SHAPES, Draws, Marks, add_marks
from ssn_core.pretrain.scenes import as_jpeg, compose, photograph
from ssn_core.pretrain.textures import make_bank, render
from ssn_core.pretrain.training import Settings, pretrain, read_weights

TINY = Settings(steps=6, batch_size=8, image_size=32, n_classes=10)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_images_are_within_range_and_depend_on_the_seeds_alone() -> None:
    bank, classes = make_bank(50, seed=3), torch.arange(50)
    images = render(bank, classes, 48, generator=generator())
    assert images.shape == (50, 3, 48, 48)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.isfinite(images).all()
    assert torch.equal(images, render(make_bank(50, seed=3), classes, 48, generator=generator()))
    assert not torch.equal(images, render(bank, classes, 48, generator=generator(1)))
    assert not torch.equal(images, render(make_bank(50, seed=4), classes, 48, generator=generator()))


def test_two_images_of_one_class_differ_and_classes_differ_more() -> None:
    bank = make_bank(40, seed=0)

    def spectra(seed: int) -> torch.Tensor:
        grey = render(bank, torch.arange(40), 64, generator=generator(seed)).mean(1)
        grey = (grey - grey.mean((1, 2), keepdim=True)) / grey.std((1, 2), keepdim=True).clamp_min(1e-3)
        power = torch.fft.rfft2(grey).abs()[:, :32].log1p()
        return torch.nn.functional.avg_pool2d(power[:, None], 4).flatten(1)

    one, other = spectra(1), spectra(2)
    distance = torch.cdist(one, other)
    same = distance.diagonal().median()
    assert same < distance[~torch.eye(40, dtype=torch.bool)].median()
    assert same > 0


def some_images(n: int, size: int = 48) -> torch.Tensor:
    return render(make_bank(n, seed=0), torch.arange(n), size, generator=generator())


def test_a_second_texture_covers_a_region_and_the_rest_stays() -> None:
    textures = some_images(64)
    alone = compose(textures, torch.arange(64), share=0.0, generator=generator(2))
    scenes = compose(textures, torch.arange(64), share=0.5, generator=generator(2))
    both = scenes.second.amax((1, 2)) > 0
    assert 0.25 < both.float().mean() < 0.75
    assert torch.equal(scenes.images[~both], alone.images[~both])
    assert (scenes.images[both] - alone.images[both]).abs().amax() > 0.1
    untouched = scenes.second[both] < 1e-6
    assert (scenes.images[both] - alone.images[both]).abs().amax(1)[untouched].amax() < 1e-5
    assert scenes.classes[3].tolist() == [3, 4]
    assert scenes.classes[63].tolist() == [63, 0]
    assert scenes.images.min() >= 0
    assert scenes.images.max() <= 1


def test_jpeg_loses_little_where_it_is_fine_and_nothing_of_an_even_block() -> None:
    images = some_images(8)
    fine, coarse = (as_jpeg(images, torch.full((8, 1, 1, 1), step)) for step in (1e-4, 1.0))
    torch.testing.assert_close(fine, images, atol=1e-3, rtol=0)
    assert (coarse - images).abs().mean() > 2 * (fine - images).abs().mean()
    even = torch.full((1, 3, 16, 16), 0.5)  # 0.5 * 8 is a whole number of steps of the first coefficient
    torch.testing.assert_close(as_jpeg(even, torch.full((1, 1, 1, 1), 255 / 16 / 8)), even)


def test_jpeg_keeps_each_block_to_itself() -> None:
    images = torch.zeros(1, 3, 16, 16)
    images[:, :, 2, 3] = 1.0
    changed = as_jpeg(images, torch.ones(1, 1, 1, 1)).abs().amax((0, 1))
    assert changed[:8, :8].max() > 0.1
    assert changed[8:].max() < 1e-6
    assert changed[:, 8:].max() < 1e-6


def test_a_photograph_is_noisy_but_the_same_scene() -> None:
    images = 0.25 + 0.5 * some_images(32)
    taken = photograph(images, generator=generator(4))
    assert taken.min() >= 0
    assert taken.max() <= 1
    difference = (taken - images).abs().mean((1, 2, 3))
    assert difference.min() > 0
    assert difference.median() < 0.08


def test_marks_are_where_the_images_have_changed() -> None:
    images = some_images(96)
    marked, marks = add_marks(images, share=0.5, generator=generator(5))
    changed = torch.nn.functional.max_pool2d((marked - images).abs().amax(1, keepdim=True), 8)[:, 0]
    clean = changed.amax((1, 2)) == 0
    assert 0.3 < clean.float().mean() < 0.7
    assert marks.touched[clean].sum() == 0
    assert not marks.hidden[clean].any()
    assert changed[marks.touched == 1].min() > 0.02
    named = marks.touched == 1
    assert ((marks.shape >= 0) == named).all()
    assert ((marks.filling >= 0) == named).all()
    assert not (marks.hidden & named).any()
    assert set(marks.shape[named].tolist()) == set(range(len(SHAPES)))
    assert set(marks.filling[named].tolist()) == set(range(len(FILLINGS)))


def test_a_larger_cell_holds_what_any_of_its_four_holds() -> None:
    touched = torch.zeros(1, 4, 4)
    touched[0, 1, 2] = 1
    hidden = torch.zeros(1, 4, 4, dtype=torch.bool)
    hidden[0, 0, 0] = hidden[0, 0, 3] = True
    kind = torch.full((1, 4, 4), -1)
    kind[0, 1, 2] = 3
    coarse = Marks(touched, hidden, kind, kind).coarser()
    assert coarse.touched[0].tolist() == [[0, 1], [0, 0]]
    assert coarse.hidden[0].tolist() == [[True, False], [False, False]]
    assert coarse.shape[0].tolist() == [[-1, 3], [-1, -1]]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_small_part_of_the_image(shape: str) -> None:
    opacity = SHAPES[shape](Draws(generator(7), 64), 96)
    assert opacity.shape == (64, 96, 96)
    assert opacity.min() >= 0
    assert opacity.max() <= 1
    covered = (opacity > 0.35).float().mean((1, 2))
    assert covered.max() < 0.35
    assert (covered > 0).float().mean() > 0.8


def test_a_short_run_learns_to_find_marks() -> None:
    settings = Settings(steps=60, batch_size=24, image_size=32, n_classes=4, seed=1)
    _, log = pretrain(settings, device=torch.device("cpu"), log_every=10)
    assert log[-1]["mark2"] < log[0]["mark2"]
    assert log[-1]["class3"] < log[0]["class3"]


def test_an_interrupted_run_goes_on_from_its_state_and_refuses_another_runs(tmp_path: Path) -> None:
    whole, _ = pretrain(TINY, device=torch.device("cpu"))
    path = tmp_path / "state.pt"
    pretrain(TINY, device=torch.device("cpu"), state_file=path)
    again, log = pretrain(TINY, device=torch.device("cpu"), state_file=path)  # nothing is left to do
    assert log[-1]["step"] == TINY.steps
    for key, value in whole.items():
        torch.testing.assert_close(again[key], value)
    with pytest.raises(SettingError, match="other settings"):
        pretrain(
            Settings(steps=7, batch_size=8, image_size=32, n_classes=10), device=torch.device("cpu"), state_file=path
        )


def test_the_command_writes_weights_that_the_backbone_takes(tmp_path: Path) -> None:
    out = tmp_path / "resnet18.safetensors"
    assert main(["--out", str(out), "--steps", "2", "--batch-size", "4", "--classes", "5"]) == 0
    state = safetensors.torch.load_file(out)
    backbone = Backbone("resnet18", state, weights="bundled", source="test")
    assert out.stat().st_size < 6_000_000
    with torch.no_grad():
        tap2, tap3 = backbone(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    assert torch.isfinite(tap2).all()
    assert torch.isfinite(tap3).all()
    with safetensors.safe_open(out, framework="pt") as file:
        assert "settings" in file.metadata()["pretraining"]


def test_a_cool_down_ends_a_run_early_with_a_falling_rate_and_leaves_its_state(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    pretrain(TINY, device=torch.device("cpu"), state_file=path)
    state = torch.load(path, weights_only=True)
    state["step"] = 1
    torch.save(state, path)
    before = path.read_bytes()
    _, log = pretrain(TINY, device=torch.device("cpu"), state_file=path, cool_down=3, log_every=1)
    assert [line["step"] for line in log[1:]] == [2, 3, 4]
    rates = [line["lr"] for line in log[1:]]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] <= state["optimiser"]["param_groups"][0]["lr"] * (1 + 1e-3)
    assert path.read_bytes() == before


def test_a_run_begins_with_the_weights_of_an_earlier_one_and_keeps_their_history(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    few = ["--steps", "2", "--batch-size", "4", "--classes", "5"]
    assert main(["--out", str(first), *few]) == 0
    assert main(["--out", str(second), "--start", str(first), "--peak-lr", "1e-9", "--seed", "3", *few]) == 0
    (before, first_history, digest), (after, history, _) = read_weights(first), read_weights(second)
    for key in before:
        if "running" not in key:  # the statistics follow the new images, the weights hardly move at this rate
            torch.testing.assert_close(after[key], before[key], atol=1e-6, rtol=1e-3)
    assert history["before"] == first_history
    assert history["settings"]["start"] == digest
    assert first_history["before"] is None


def test_weights_to_begin_with_that_no_pretraining_has_written_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "start.safetensors", tmp_path / "out.safetensors"
    for content, message in [
        (b"not weights", "cannot be read"),
        (safetensors.torch.save({"a": torch.zeros(1)}), "cannot be read"),  # no history
        (safetensors.torch.save({"a": torch.zeros(1)}, {"pretraining": "{}"}), "another network"),
    ]:
        path.write_bytes(content)
        assert main(["--out", str(out), "--start", str(path), "--steps", "1"]) == 1
        assert message in capsys.readouterr().err
    path.unlink()
    assert main(["--out", str(out), "--start", str(path), "--steps", "1"]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert not out.exists()
