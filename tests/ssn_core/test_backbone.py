"""Weights: where they are found, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from ssn_core.backbone import load_backbone, tap_sizes
from ssn_core.errors import SettingError, WeightsError
from ssn_core.weights import IMAGENET_URLS, bundled, imagenet_places


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty torchvision cache, and a download that fails as it does without internet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("SSN_WEIGHTS_DIR", raising=False)

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path


def full_state(name: str = "resnet18") -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return getattr(torchvision.models, name)(weights=None).state_dict()


def test_a_state_dict_in_the_weights_folder_is_used_even_without_layer4_and_classifier(no_network: Path) -> None:
    whole = full_state()
    part = {key: value for key, value in whole.items() if not key.startswith(("layer4", "fc"))}
    torch.save(whole, no_network / "whole.pth")
    torch.save(part, no_network / "resnet18.pth")
    backbone = load_backbone("resnet18", weights_dir=no_network)
    assert backbone.source == str(no_network / "resnet18.pth")
    torch.save(whole, no_network / "resnet18.pth")
    assert load_backbone("resnet18", weights_dir=no_network).weights_hash == backbone.weights_hash


def test_torchvisions_cache_comes_next(no_network: Path) -> None:
    cache = no_network / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(full_state(), cache / "resnet18-f37072fd.pth")
    assert load_backbone("resnet18").source.startswith(str(cache))


def test_without_weights_the_error_names_the_places_and_random_is_never_taken(no_network: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone("resnet18", weights="imagenet", weights_dir=no_network)
    message = str(caught.value)
    assert str(no_network / "resnet18.pth") in message
    assert "SSN_WEIGHTS_DIR" in message
    assert "no route to host" in message


def test_a_missing_layer_is_named(no_network: Path) -> None:
    state = {key: value for key, value in full_state().items() if not key.startswith("layer3.1")}
    torch.save(state, no_network / "resnet18.pth")
    with pytest.raises(WeightsError, match=r"layer3\.1"):
        load_backbone("resnet18", weights_dir=no_network)


def test_a_file_that_is_no_state_dict_is_refused(no_network: Path) -> None:
    (no_network / "resnet18.pth").write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_backbone("resnet18", weights_dir=no_network)
    torch.save([1, 2], no_network / "resnet18.pth")
    with pytest.raises(WeightsError, match="something else"):
        load_backbone("resnet18", weights_dir=no_network)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingError, match="vgg"):
        load_backbone("vgg")
    with pytest.raises(SettingError, match="luck"):
        load_backbone("resnet18", weights="luck")  # type: ignore[arg-type]


def test_random_weights_are_the_same_each_time_and_leave_the_global_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = load_backbone("resnet18", weights="random")
    assert torch.equal(torch.rand(1), expected)
    assert first.weights_hash == load_backbone("resnet18", weights="random").weights_hash


def test_the_backbone_never_trains() -> None:
    backbone = load_backbone("resnet18", weights="random").train()
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_taps_are_torchvisions_own_with_zero_padding() -> None:
    backbone = load_backbone("resnet18", weights="random", padding="zeros")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = torchvision.models.resnet18(weights=None).eval()
    pixels = torch.randint(0, 256, (1, 3, 90, 70), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        expected2 = reference.layer2(reference.layer1(x))
        expected3 = reference.layer3(expected2)
        tap2, tap3 = backbone(pixels)
    torch.testing.assert_close(tap2, expected2)
    torch.testing.assert_close(tap3, expected3)
    assert (tap2.shape[2:], tap3.shape[2:]) == tap_sizes((90, 70))


def test_without_imagenet_weights_the_bundled_backbone_is_used_and_says_so(no_network: Path) -> None:
    backbone = load_backbone("resnet18", weights_dir=no_network)
    assert backbone.weights == "bundled"
    assert backbone.source == "the bundled backbone"
    assert load_backbone("resnet18", weights="bundled").weights_hash == backbone.weights_hash
    path = bundled("resnet18")
    assert path is not None
    assert path.stat().st_size <= 6_000_000


def test_imagenet_weights_come_before_the_bundled_ones(no_network: Path) -> None:
    torch.save(full_state(), no_network / "resnet18.pth")
    assert load_backbone("resnet18", weights_dir=no_network).weights == "imagenet"


def test_the_wide_backbone_has_no_bundled_weights_and_is_never_random_silently(no_network: Path) -> None:
    for weights in ("auto", "bundled"):
        with pytest.raises(WeightsError, match="wide_resnet50_2"):
            load_backbone("wide_resnet50_2", weights=weights, weights_dir=no_network)


def test_the_places_are_torchvisions_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSN_WEIGHTS_DIR", raising=False)
    for variables in ({"TORCH_HOME": str(tmp_path)}, {"XDG_CACHE_HOME": str(tmp_path)}, {}):
        for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for name, weights in (
            ("resnet18", torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
            ("wide_resnet50_2", torchvision.models.Wide_ResNet50_2_Weights.IMAGENET1K_V1),
        ):
            assert weights.url == IMAGENET_URLS[name]
            file_name = weights.url.rsplit("/", 1)[-1]
            assert imagenet_places(name) == [Path(torch.hub.get_dir()) / "checkpoints" / file_name]
