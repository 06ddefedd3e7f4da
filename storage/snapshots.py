"""What a model learned from, as its `model.json` keeps it: images by content with their labels, and all settings.

Read without torch (:func:`ssn_core.checkpoint.read_card` comes with it), because pages compare models by it. A model
folder never changes what model.json says, so what was read is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ssn_core.errors import ModelFolderError
from ssn_core.recipes import completed
from storage import registry
from storage.db import Database

LABELS = ("good", "bad")
LEARNED = ("train", "out_of_fold")  # roles of images that the model itself was trained on
_VERSIONS = ("ssn_core", "torch")  # of those in model.json, the ones that can change a model


@dataclass(frozen=True)
class Snapshot:
    """The training data and the settings of one model."""

    labels: Mapping[str, str]  # SHA-256 of every labelled image at that time -> good | bad
    n_good: int  # of them learned from; the others set the threshold or were held out
    n_bad: int
    settings: Mapping[str, Any]  # by name: recipe, backbone, its weights and their hash, image_size, epochs ...


@dataclass(frozen=True)
class LabelChange:
    """One image whose label differs between two models' training data; None = it had none."""

    sha256: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class SettingChange:
    """One setting that differs; None = it did not exist."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Changes:
    """What changed from one model to another."""

    added: tuple[LabelChange, ...]  # labels that only the later one knew
    removed: tuple[LabelChange, ...]  # labels that only the earlier one knew
    flipped: tuple[LabelChange, ...]  # good for one, bad for the other
    settings: tuple[SettingChange, ...]

    @property
    def nothing(self) -> bool:
        """Same labels, same settings."""
        return not (self.added or self.removed or self.flipped or self.settings)


def read(db: Database, model: registry.Model) -> Snapshot:
    """The snapshot in a model's folder.

    Raises:
        ModelFolderError: the folder is gone, or its model.json is damaged.
    """
    path = registry.model_path(db, model) / "model.json"
    return _read(path, _stamp(path))


def learned_from(db: Database, model: registry.Model) -> tuple[int, int]:
    """(good, bad): how many labels a model learned from; for a page that lists many models.

    Raises:
        ModelFolderError: the folder is gone, or its model.json is damaged.
    """
    path = registry.model_path(db, model) / "model.json"
    return _learned_from(path, _stamp(path))


def changes(db: Database, *, before: registry.Model, after: registry.Model) -> Changes:
    """What changed from one model's training to another's.

    Raises:
        ModelFolderError: a folder is gone, or its model.json is damaged.
    """
    paths = [registry.model_path(db, model) / "model.json" for model in (before, after)]
    return _changes(paths[0], _stamp(paths[0]), paths[1], _stamp(paths[1]))


def _stamp(path: Path) -> int:
    """Tells a file from another one that took its place (a backup was put back)."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> ModelFolderError:
    return ModelFolderError("model.json is missing or damaged", value=str(path), action="Put it back from a backup")


@lru_cache(maxsize=256)
def _learned_from(path: Path, stamp: int) -> tuple[int, int]:
    snapshot = _read(path, stamp)
    return snapshot.n_good, snapshot.n_bad


@lru_cache(maxsize=256)  # small: what differs is kept, not what is compared
def _changes(first: Path, first_stamp: int, second: Path, second_stamp: int) -> Changes:
    before, after = _read(first, first_stamp), _read(second, second_stamp)
    known = sorted(before.labels.keys() | after.labels.keys())
    differing = [
        LabelChange(sha256, before.labels.get(sha256), after.labels.get(sha256))
        for sha256 in known
        if before.labels.get(sha256) != after.labels.get(sha256)
    ]
    names = [*before.settings, *(name for name in after.settings if name not in before.settings)]
    return Changes(
        added=tuple(change for change in differing if change.before is None),
        removed=tuple(change for change in differing if change.after is None),
        flipped=tuple(change for change in differing if change.before and change.after),
        settings=tuple(
            SettingChange(name, before.settings.get(name), after.settings.get(name))
            for name in names
            if before.settings.get(name) != after.settings.get(name)
        ),
    )


@lru_cache(maxsize=4)  # of 100,000 images it takes 20 MB; a list from newest to oldest needs each one twice in a row
def _read(path: Path, _stamp: int) -> Snapshot:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        entries = [(entry["sha256"], entry["label"], entry["role"]) for entry in card["data"]]
        settings = dict(_settings(card))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path) from error
    if any(not isinstance(sha256, str) or label not in LABELS for sha256, label, _ in entries):
        raise _damaged(path)
    # Bad images beside a recipe that learns from good ones alone were held out as well, to measure with.
    never = "bad" if settings.get("learns_from") == "good" else None
    learned = [label for _, label, role in entries if role in LEARNED and label != never]
    return Snapshot(
        labels={sha256: label for sha256, label, _ in entries},
        n_good=learned.count("good"),
        n_bad=learned.count("bad"),
        settings=settings,
    )


def _settings(card: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "recipe", card["recipe"]
    yield from completed(card["settings"]).items()
    yield "weights", card["backbone"]["weights"]
    yield "weights_sha256", card["backbone"]["sha256"]
    yield "held_out", card["figures"]["held_out"]
    versions = card.get("versions", {})
    yield from ((name, versions.get(name)) for name in _VERSIONS)
