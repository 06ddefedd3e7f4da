"""Models as tests need them, without any training: registered, with scores, and a folder and maps where asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from storage import maps, predictions, registry
from storage.db import Database

SETTINGS = {"backbone": "resnet18", "image_size": [64, 96], "epochs": 0, "seed": 0, "map_sigma": 4.0}
FIGURES = {"image": {"i_auroc": 0.9, "ap_det": 0.8}, "pixel": None, "n_held_out_good": 3, "n_held_out_bad": 2}


def add_model(
    db: Database,
    project_id: int,
    scores: Iterable[tuple[int, float, str]] = (),
    *,
    name: str = "First",
    held_out: str = "out_of_fold",
    threshold: float = 0.0,
    settings: Mapping[str, Any] | None = None,
    learned: Mapping[str, str] | None = None,
    cams: Mapping[str, np.ndarray] | None = None,
    summary: Mapping[str, Any] | None = None,
    **values: Any,
) -> registry.Model:
    """A registered model, the active one unless `activate` says otherwise.

    Args:
        scores: (image's number, score, role in the training).
        settings: that differ from SETTINGS.
        learned: SHA-256 -> label of what it learned from; with it the model has a folder, without it none.
        cams: SHA-256 -> map float32 (H, W).
        summary: what differs in it from FIGURES and the settings.
        values: all else that registry.register takes.
    """
    used = {**SETTINGS, **(settings or {})}
    number = len(registry.list_models(db, project_id=project_id, include_archived=True)) + 1
    folder = f"models/{project_id}/{number}"
    if learned is not None:
        card = {
            "recipe": "cam",
            "settings": used,
            "backbone": {"weights": "imagenet", "sha256": "ab" * 32},
            "figures": {"held_out": held_out},
            "data": [{"sha256": key, "label": label, "group": key, "role": held_out} for key, label in learned.items()],
            "versions": {"ssn_core": "0.1.0", "torch": "2.14.1", "python": "3.11.7"},
        }
        (db.data_dir / folder).mkdir(parents=True)
        (db.data_dir / folder / "model.json").write_text(json.dumps(card))
        (db.data_dir / folder / "weights.safetensors").write_bytes(b"w" * 1000)
    given = {
        "job_id": None,
        "folder": folder,
        "recipe": "cam",
        "backbone": "resnet18",
        "suggested_threshold": threshold,
        "scale_low": 0.0,
        "scale_high": 1.0,
        "summary": {**FIGURES, "settings": used, "weights": "imagenet", **(summary or {})},
        **values,
    }
    model = registry.register(db, project_id=project_id, name=name, held_out=held_out, threshold=threshold, **given)
    for sha256, cam in (cams or {}).items():
        maps.save(db, model_id=model.id, sha256=sha256, cam=cam)
    predictions.store(db, model_id=model.id, rows=list(scores))
    return model
