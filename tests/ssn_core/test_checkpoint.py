"""Model folders: whole or not there, strict, and never unpickled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from ssn_core.backbone import load_backbone
from ssn_core.calibration import Calibration
from ssn_core.checkpoint import DataEntry, Model, load_model, read_card, read_operating_point, save_model
from ssn_core.errors import ModelFolderError
from ssn_core.model import CamNet
from ssn_core.operating_point import FILE_NAME, OperatingPoint, to_json
from ssn_core.recipes import get_recipe

CALIBRATION = {"threshold": 0.25, "scale_low": -1.0, "scale_high": 2.0, "source": "test", "n_good": 5, "n_bad": 3}


@pytest.fixture
def model() -> Model:
    recipe = get_recipe("cam").with_settings({"image_size": (64, 96), "seed": 3})
    return Model(
        recipe=recipe,
        net=CamNet(recipe).eval(),
        backbone_hash=load_backbone("resnet18", weights="random").weights_hash,
        backbone_weights="random",
        calibration=Calibration(0.25, -1.0, 2.0, "out_of_fold", n_good=5, n_bad=3),
        data=[DataEntry("ab", "bad", "ab", "out_of_fold")],
        figures={
            "held_out": "out_of_fold",
            "n_good": 5,
            "n_bad": 3,
            "n_masks": 0,
            "i_auroc": 1.0,
            "ap_det": 0.9,
            **dict.fromkeys(("p_auroc", "ap_loc", "aupro")),
        },
    )


def edit(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "model.json").read_text())
    card.update(changes)
    (folder / "model.json").write_text(json.dumps(card))


def test_a_model_comes_back_bit_for_bit(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    loaded, backbone = load_model(tmp_path / "m")
    for name, value in model.net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], value)
    assert (loaded.recipe, loaded.calibration, loaded.data, loaded.figures) == (
        model.recipe,
        model.calibration,
        model.data,
        model.figures,
    )
    assert not loaded.net.training
    assert backbone.weights_hash == model.backbone_hash
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.json", "weights.safetensors"]


def test_a_failed_write_leaves_nothing_behind(model: Model, tmp_path: Path) -> None:
    model.figures["ap_det"] = float("nan")  # JSON has no NaN: refused after the weights were written
    with pytest.raises(ValueError, match="JSON"):
        save_model(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    with pytest.raises(ModelFolderError, match="exists already"):
        save_model(model, tmp_path / "m")


def test_a_folder_that_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="not a model folder"):
        read_card(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 2}', "null", "[" * 100_000])
def test_a_damaged_card_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ModelFolderError):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"pooling_fraction": 7}},
        {"settings": {"no_such_setting": 1}},
        {"recipe": "padim"},
        {"calibration": {"threshold": 1}},
        {"backbone": {}},
        {"backbone": {"weights": "random", "sha256": 7}},
        {"backbone": {"weights": "luck", "sha256": "0" * 64}},
        {"backbone": "resnet18"},
        {"data": None},
        {"data": "abc"},
        {"data": [{"sha256": "ab", "role": "train"}]},
        {"figures": [1]},
        {"figures": "abc"},
        {"recipe": ["cam"]},
        {"settings": [["seed"]]},
        {"settings": {"backbone": "resnet18", "image_size": 64}},
        {"settings": {"backbone": "resnet18", "image_size": [10**9, 10**9]}},
        {"settings": {"backbone": "resnet18", "image_size": [64, 64], "head_width": 10**12}},
        {"calibration": CALIBRATION | {"threshold": "high"}},
        {"calibration": CALIBRATION | {"scale_low": float("nan")}},
        {"calibration": CALIBRATION | {"n_bad": True}},
        {"calibration": CALIBRATION | {"more": 1}},
    ],
)
def test_a_card_that_describes_something_else_is_refused(model: Model, tmp_path: Path, changes: dict[str, Any]) -> None:
    save_model(model, tmp_path / "m")
    edit(tmp_path / "m", **changes)
    with pytest.raises(ModelFolderError) as caught:
        load_model(tmp_path / "m")
    assert len(str(caught.value)) < 1000


def test_weights_of_another_shape_or_name_are_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "model.json").read_text())["settings"]
    edit(tmp_path / "m", settings={**settings, "head_width": 64})
    with pytest.raises(ModelFolderError, match="do not fit"):
        load_model(tmp_path / "m")


def test_pickled_weights_are_never_opened(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    marker = tmp_path / "executed"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    (tmp_path / "m" / "weights.safetensors").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load_model(tmp_path / "m")
    assert not marker.exists()


def test_another_backbones_weights_are_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    edit(tmp_path / "m", backbone={"weights": "random", "sha256": "0" * 64})
    with pytest.raises(ModelFolderError, match="other backbone weights"):
        load_model(tmp_path / "m")


def test_without_saved_thresholds_the_trainings_is_in_force(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.saved_point is None
    assert loaded.operating_point == read_operating_point(tmp_path / "m") == OperatingPoint(0.25)


def test_a_model_of_before_rates_were_counted_crosswise_loads(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    assert "at_threshold" not in card["figures"]
    del card["calibration"]["scale_check"]
    edit(tmp_path / "m", calibration=card["calibration"])
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.calibration == model.calibration
    assert loaded.calibration.scale_check is None


@pytest.mark.parametrize(
    ("section", "entry"),
    [
        ("figures", {"at_threshold": {"basis": "crosswise", "n_good": 5, "n_bad": "3", "escapes": 0, "overkill": 0}}),
        ("figures", {"at_threshold": [1]}),
        ("calibration", {"scale_check": {"dark": 0.5, "n_good": 5, "checked": "test"}}),
        ("calibration", {"scale_check": {"dark": 9, "n_good": 5, "checked": "test"}}),
    ],
)
def test_counts_that_are_none_are_refused(model: Model, tmp_path: Path, section: str, entry: dict[str, Any]) -> None:
    save_model(model, tmp_path / "m")
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    edit(tmp_path / "m", **{section: {**card[section], **entry}})
    with pytest.raises(ModelFolderError):
        load_model(tmp_path / "m")


def test_saved_thresholds_are_in_force_and_go_along_with_the_model(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    point = OperatingPoint(1.5, 0.5, "By hand", "Ada", version=3)
    (tmp_path / "m" / FILE_NAME).write_bytes(to_json(point))
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.operating_point == read_operating_point(tmp_path / "m") == point
    assert loaded.calibration.threshold == 0.25  # what the training found stays readable
    save_model(loaded, tmp_path / "copy")
    assert load_model(tmp_path / "copy")[0].operating_point == point


def test_a_damaged_operating_point_is_refused_rather_than_passed_over(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    (tmp_path / "m" / FILE_NAME).write_text('{"threshold": NaN}')
    for read in (load_model, read_operating_point):
        with pytest.raises(ModelFolderError, match=FILE_NAME):
            read(tmp_path / "m")
