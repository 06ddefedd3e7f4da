"""A model is a folder: `weights.safetensors`, `model.json` and, once thresholds were saved, `operating_point.json`.

It is written beside its final name and renamed, so a folder that exists is whole. Loading is strict and nothing is
unpickled. The frozen backbone is not in it: model.json holds its weights' hash, and loading insists on the same ones.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor

import ssn_core
from ssn_core import operating_point
from ssn_core.backbone import Backbone, load_backbone
from ssn_core.calibration import Calibration
from ssn_core.errors import ModelFolderError, SsnError
from ssn_core.model import CamNet
from ssn_core.operating_point import OperatingPoint
from ssn_core.recipes import Recipe, recorded
from ssn_core.rules import by_training
from ssn_core.weights import SOURCES, WeightsSource

SCHEMA_VERSION = 1
_WEIGHTS, _CARD = "weights.safetensors", "model.json"
_OTHER_VERSION = "Open it with the version that wrote it, or train the model again"
_NUMBER, _FIGURE = (int, float), (int, float, type(None))  # None = "n/a"
_CARD_SHAPE: dict[str, Any] = {
    "created": str,
    "recipe": str,
    "settings": {"backbone": str, "image_size": [int]},
    "backbone": {"weights": str, "sha256": str},
    "calibration": {
        "threshold": _NUMBER,
        "scale_low": _NUMBER,
        "scale_high": _NUMBER,
        "source": str,
        "n_good": int,
        "n_bad": int,
    },
    "figures": {
        "held_out": str,
        "n_good": int,
        "n_bad": int,
        "n_masks": int,
        "i_auroc": _FIGURE,
        "ap_det": _FIGURE,
        "p_auroc": _FIGURE,
        "ap_loc": _FIGURE,
        "aupro": _FIGURE,
    },
    "data": [{"sha256": str, "label": str, "group": str, "role": str}],
}
# What model folders of earlier versions do not have; None stands for what could not be found.
_LATER_SHAPES: dict[tuple[str, str], Any] = {
    ("figures", "at_threshold"): {"basis": str, "n_good": int, "n_bad": int, "escapes": int, "overkill": int},
    ("calibration", "scale_check"): {"dark": int, "n_good": int, "checked": str},
    ("figures", "length"): {"epochs": int, "planned": int, "trials": [{"epochs": int, "planned": int, "checks": list}]},
}


@dataclass(frozen=True, slots=True)
class DataEntry:
    """One image of the training data; a hundred thousand of them are kept with a model."""

    sha256: str
    label: str  # good | bad
    group: str
    role: str  # train | calibration | test | out_of_fold


@dataclass(frozen=True)
class Model:
    """A trained model in memory.

    Args:
        recipe: all settings it was trained with.
        net: its trained part, in eval mode.
        backbone_hash: SHA-256 of the backbone's weights (:class:`ssn_core.backbone.Backbone`).
        backbone_weights: "imagenet", "bundled" or "random".
        calibration: threshold and colour scale as the training found them.
        data: the training data, one entry an image.
        figures: what was measured, on held-out images only, as in the evaluation.
        saved_point: the thresholds saved with the model since; None: the training's threshold is in force.
    """

    recipe: Recipe
    net: CamNet
    backbone_hash: str
    backbone_weights: WeightsSource
    calibration: Calibration
    data: list[DataEntry]
    figures: dict[str, Any]
    saved_point: OperatingPoint | None = None

    @property
    def operating_point(self) -> OperatingPoint:
        """The thresholds in force."""
        return self.saved_point or OperatingPoint(self.calibration.threshold, how=by_training(self.calibration.n_bad))


def save_model(model: Model, folder: Path) -> None:
    """Write a model folder, whole or not at all.

    Raises:
        ModelFolderError: the folder exists already.
    """
    if folder.exists():
        raise ModelFolderError("The model folder exists already", value=str(folder), action="Choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        state = {key: value.detach().cpu().contiguous() for key, value in model.net.state_dict().items()}
        safetensors.torch.save_file(state, partial / _WEIGHTS)
        with (partial / _CARD).open("w", encoding="utf-8") as file:
            # Piece by piece: as one text, the data of 100,000 images would take 100 MB on the way.
            json.dump(_card(model), file, indent=1, allow_nan=False, default=dataclasses.asdict)
            file.write("\n")
        if model.saved_point is not None:
            (partial / operating_point.FILE_NAME).write_bytes(operating_point.to_json(model.saved_point))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _card(model: Model) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": model.recipe.name,
        "settings": {k: v for k, v in model.recipe.settings().items() if k not in ("name", "title", "description")},
        "backbone": {"weights": model.backbone_weights, "sha256": model.backbone_hash},
        "calibration": dataclasses.asdict(model.calibration),
        "figures": model.figures,
        "data": model.data,
        "versions": {
            "ssn_core": ssn_core.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }


def _entry_of_card(entry: Mapping[str, str]) -> DataEntry:
    label, role = sys.intern(entry["label"]), sys.intern(entry["role"])  # a few words, not one text an image
    return DataEntry(entry["sha256"], label, entry["group"], role)


def read_card(folder: Path) -> dict[str, Any]:
    """model.json of a model folder, checked for its schema version and the types of everything in it.

    Raises:
        ModelFolderError: not a model folder, damaged, or of another version.
    """
    path = folder / _CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFolderError(
            "This is not a model folder", value=str(folder), expected=f"a folder with {_CARD} and {_WEIGHTS}"
        ) from error
    except (ValueError, OSError, RecursionError) as error:
        raise ModelFolderError("model.json is damaged", value=str(path), action="Train the model again") from error
    if not isinstance(card, dict) or card.get("schema_version") != SCHEMA_VERSION:
        found = card.get("schema_version") if isinstance(card, dict) else type(card).__name__
        raise ModelFolderError(
            "model.json is of another version",
            value=found,
            expected=f"schema_version {SCHEMA_VERSION}",
            action=_OTHER_VERSION,
        )
    wrong = _first_mismatch(card, _CARD_SHAPE, "")
    for (section, name), shape in _LATER_SHAPES.items():
        if wrong is None and card[section].get(name) is not None:
            wrong = _first_mismatch(card[section][name], shape, f"{section}.{name}.")
    if wrong:
        raise ModelFolderError(
            "model.json does not describe a model of this version", value=wrong, action=_OTHER_VERSION
        )
    return card


def read_operating_point(folder: Path) -> OperatingPoint:
    """The thresholds in force of a model folder: the saved ones, or else the training's.

    Raises:
        ModelFolderError: as :func:`read_card` and :func:`ssn_core.operating_point.read`.
    """
    card = read_card(folder)
    found = card["calibration"]
    return operating_point.read(folder) or OperatingPoint(float(found["threshold"]), how=by_training(found["n_bad"]))


def _first_mismatch(value: Any, shape: Any, place: str) -> str | None:
    """Where a JSON value departs from a shape: types, and dicts and one-element lists of shapes. None if nowhere."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{place.rstrip('.')} is no object"
        missing = [key for key in shape if key not in value]
        if missing:
            return f"{place}{missing[0]} is missing"
        found = (_first_mismatch(value[key], inner, f"{place}{key}.") for key, inner in shape.items())
        return next(filter(None, found), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place.rstrip('.')} is no list"
        found = (_first_mismatch(entry, shape[0], f"{place}{number}.") for number, entry in enumerate(value))
        return next(filter(None, found), None)
    fits = isinstance(value, shape) and not isinstance(value, bool)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        return f"{place.rstrip('.')} is {value!r:.40}"
    return None


def load_model(folder: Path, *, weights_dir: Path | None = None) -> tuple[Model, Backbone]:
    """A model and its backbone, both in eval mode on the CPU.

    Raises:
        ModelFolderError: damaged, incomplete, of another version, or trained on another backbone's weights.
        WeightsError: the backbone's weights cannot be found.
    """
    card = read_card(folder)
    try:
        recipe = recorded(card["recipe"], card["settings"])
        calibration = Calibration.of_card(card["calibration"])
    except (TypeError, SsnError) as error:
        raise ModelFolderError(
            "model.json does not describe a model of this version", value=str(error), action=_OTHER_VERSION
        ) from error
    source: WeightsSource = card["backbone"]["weights"]
    if source not in SOURCES:
        raise ModelFolderError("The model's backbone weights are unknown", value=source, action=_OTHER_VERSION)
    expected_hash: str = card["backbone"]["sha256"]
    # As in training: another order in memory would add up in another order, and so change a score's last digits.
    net = CamNet(recipe).to(memory_format=torch.channels_last)
    _load_strictly(net, _read_tensors(folder / _WEIGHTS), folder)
    backbone = load_backbone(
        recipe.backbone,
        weights=source,
        weights_dir=weights_dir,
        padding=recipe.padding,
        local=recipe.has_local_head,
    )
    if backbone.weights_hash != expected_hash:
        raise ModelFolderError(
            "The model was trained on other backbone weights",
            value=f"{backbone.source}, SHA-256 {backbone.weights_hash[:16]}...",
            expected=f"{recipe.backbone} with SHA-256 {expected_hash[:16]}...",
            action="Put those weights where SSN_WEIGHTS_DIR points, or train the model again",
        )
    model = Model(
        recipe,
        net.eval(),
        expected_hash,
        source,
        calibration,
        [_entry_of_card(entry) for entry in card["data"]],
        card["figures"],
        operating_point.read(folder),
    )
    return model, backbone


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelFolderError(
            "The weights of the model cannot be read", value=str(path), action="Train the model again"
        ) from error


def _load_strictly(net: CamNet, state: Mapping[str, Tensor], folder: Path) -> None:
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ModelFolderError(
            "The weights do not fit the network that model.json describes",
            value=str(folder),
            expected=str(error).splitlines()[-1].strip(),
        ) from error
