"""Pretraining on generated images: the images, the marks, and a short run that learns and can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from ssn_core.backbone import Backbone
from ssn_core.errors import SettingError
from ssn_core.pretrain.__main__ import main
from ssn_core.pretrain.marks import add_marks, cells_touched
from ssn_core.pretrain.textures import make_bank, render
from ssn_core.pretrain.training import Settings, pretrain

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


def test_marks_change_what_they_cover_and_nothing_else() -> None:
    images = render(make_bank(64, seed=0), torch.arange(64), 48, generator=generator())
    marked, opacity = add_marks(images, share=0.5, generator=generator(5))
    untouched = opacity.amax((1, 2)) == 0
    assert 0.2 < untouched.float().mean() < 0.8
    assert torch.equal(marked[untouched], images[untouched])
    changed = (marked - images).abs().amax(1)
    assert changed[opacity == 0].max() == 0
    assert (changed[~untouched].amax((1, 2)) > 0.01).float().mean() > 0.9


def test_a_cell_counts_as_touched_where_a_mark_is_clearly_there() -> None:
    opacity = torch.zeros(1, 32, 32)
    opacity[0, 9, 17] = 0.9
    opacity[0, 30, 30] = 0.1
    assert cells_touched(opacity, 4)[0].nonzero().tolist() == [[1, 2]]


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
