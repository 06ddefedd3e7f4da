"""The maps of scored images: kept exactly, taken apart into evidence, and their peaks kept in one file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ssn_core.errors import SsnError
from ssn_core.evidence import pooled_mean
from storage import files, images, map_evidence, map_peaks, maps, predictions, registry, small_defects, thresholds
from storage.db import Database

SHA = hashlib.sha256(b"image").hexdigest()
Q = 0.1


def path_of(db: Database, model_id: int = 3, sha256: str = SHA) -> Path:
    return files.by_content(db.data_dir / "maps" / str(model_id), sha256, ".npy")


def a_map(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=20, size=(22, 8)).astype(np.float32)


@pytest.fixture
def model(db: Database, project: int) -> registry.Model:
    return registry.register(
        db,
        project_id=project,
        job_id=None,
        name="M",
        folder="models/1/1",
        recipe="cam",
        backbone="resnet18",
        held_out="out_of_fold",
        threshold=1.0,
        suggested_threshold=1.0,
        scale_low=0.0,
        scale_high=1.0,
        summary={"settings": {"pooling_fraction": Q}},
    )


def store(
    db: Database, model: registry.Model, image_id: int, cam: np.ndarray, score: float, role: str = "out_of_fold"
) -> images.Image:
    image = images.get(db, image_id=image_id)
    maps.save(db, model_id=model.id, sha256=image.sha256, cam=cam)
    predictions.store(db, model_id=model.id, rows=[(image_id, score, role)])
    return image


def test_a_map_comes_back_bit_for_bit(db: Database) -> None:
    cam = a_map()
    predictions.save_map(db, model_id=3, sha256=SHA, cam=cam)
    found = predictions.load_map(db, model_id=3, sha256=SHA)
    assert found is not None
    assert found.dtype == np.float32
    assert found.tobytes() == cam.tobytes()
    assert predictions.load_map(db, model_id=4, sha256=SHA) is None
    assert path_of(db).stat().st_size < 22 * 8 * 4 + 200
    assert [one.name for one in path_of(db).parent.iterdir()] == [path_of(db).name]


def test_a_map_that_was_kept_in_sixteen_bits_is_read_and_says_so(db: Database) -> None:
    maps.save(db, model_id=3, sha256=SHA, cam=a_map())
    exact = maps.read(db, model_id=3, sha256=SHA)
    np.save(path_of(db), a_map().astype(np.float16))
    rounded = maps.read(db, model_id=3, sha256=SHA)
    assert exact is not None
    assert rounded is not None
    assert (exact.rounded, rounded.rounded) == (False, True)
    assert rounded.cells.dtype == np.float32
    np.testing.assert_allclose(rounded.cells, exact.cells, rtol=1e-3, atol=1e-6)


def test_what_is_not_finite_or_no_map_is_refused(db: Database) -> None:
    for value in (np.nan, np.inf, 1e39):  # the last is finite, but not in 32 bits
        with pytest.raises(SsnError, match="not finite"), np.errstate(over="ignore"):
            maps.save(db, model_id=3, sha256=SHA, cam=np.array([[value]]))
    with pytest.raises(ValueError, match="SHA-256"):
        maps.save(db, model_id=3, sha256="../../etc/passwd", cam=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="shape"):
        maps.save(db, model_id=3, sha256=SHA, cam=np.zeros(2))


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "pickle", "other", "integers", "nan"])
def test_a_damaged_map_counts_as_missing_and_nothing_is_unpickled(db: Database, damage: str) -> None:
    maps.save(db, model_id=3, sha256=SHA, cam=np.zeros((22, 8)))
    path = path_of(db)
    if damage in ("empty", "truncated"):
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 150])
    elif damage == "text":
        path.write_text("not a map")
    else:
        odd = {"pickle": np.array([[print]]), "other": np.zeros((2, 2, 2)), "integers": np.zeros((2, 2), dtype=int)}
        odd["nan"] = np.array([[0.0, np.nan]], dtype=np.float32)
        with path.open("wb") as file:
            np.save(file, odd[damage], allow_pickle=True)
    assert maps.load(db, model_id=3, sha256=SHA) is None


@pytest.mark.parametrize("bits", [32, 16])
def test_shares_plus_bias_are_the_stored_score(
    db: Database, model: registry.Model, add_images: Callable[..., list[int]], bits: int
) -> None:
    own, fold = add_images(2)
    folder = db.data_dir / model.folder
    folder.mkdir(parents=True)
    save_file({"head.bias": np.full((), -3.25, dtype=np.float32)}, folder / "weights.safetensors")
    for image_id, role, bias in ((own, "unseen", -3.25), (fold, "out_of_fold", -1.5)):
        cam = a_map(image_id)
        score = pooled_mean(cam, fraction=Q) + bias
        image = store(db, model, image_id, cam, score, role)
        if bits == 16:
            np.save(path_of(db, model.id, image.sha256), cam.astype(np.float16))
        found = map_evidence.explain(db, model=model, image=image)
        assert found.evidence.shares.sum() + found.evidence.bias == pytest.approx(
            score, abs=2e-5 if bits == 32 else 0.02
        )
        assert found.evidence.bias == pytest.approx(bias, abs=2e-5 if bits == 32 else 0.02)
        assert (found.bias_read, found.rounded, found.role) == (role == "unseen", bits == 16, role)
        assert found.score == score
        assert found.evidence.k == 18


def test_a_map_that_does_not_give_the_score_is_no_evidence(
    db: Database, model: registry.Model, add_images: Callable[..., list[int]]
) -> None:
    folder = db.data_dir / model.folder
    folder.mkdir(parents=True)
    save_file({"head.bias": np.full((), -3.25, dtype=np.float32)}, folder / "weights.safetensors")
    image = store(db, model, add_images(1)[0], a_map(), pooled_mean(a_map(), fraction=Q) - 3.25 + 0.01, "unseen")
    with pytest.raises(SsnError, match="do not belong together"):
        map_evidence.explain(db, model=model, image=image)
    again = folder.parent / "again"
    again.mkdir()
    save_file({"head.bias": np.full((), np.nan, dtype=np.float32)}, again / "weights.safetensors")
    with pytest.raises(SsnError, match="do not belong together"):
        map_evidence.explain(db, model=replace(model, folder="models/1/again"), image=image)


def test_what_is_missing_for_the_evidence_is_said(
    db: Database, project: int, model: registry.Model, add_images: Callable[..., list[int]]
) -> None:
    image = images.get(db, image_id=add_images(1)[0])
    with pytest.raises(SsnError, match="no map of this image"):
        map_evidence.explain(db, model=model, image=image)
    for summary in ({}, {"settings": {}}, {"settings": {"pooling_fraction": "much"}}):
        silent = registry.register(
            db, project_id=project, job_id=None, name="M", folder="models/1/1", recipe="cam", backbone="resnet18",
            held_out="test", threshold=0.0, suggested_threshold=0.0, scale_low=0.0, scale_high=1.0, summary=summary,
        )  # fmt: skip
        with pytest.raises(SsnError, match="how many cells"):
            map_evidence.explain(db, model=silent, image=image)
        with pytest.raises(SsnError, match="how many cells"):
            small_defects.alarms(db, model=silent, limit=10)


def test_peaks_are_read_from_the_maps_once_and_from_their_file_ever_after(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [hashlib.sha256(bytes([n])).hexdigest() for n in range(7)]
    for n, name in enumerate(names[:5]):
        maps.save(db, model_id=3, sha256=name, cam=a_map(n))
    seen: list[tuple[int, int]] = []
    first = map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=names[:3], progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for n, name in enumerate(names[:3]):
        assert first[name].peak == pytest.approx(float(a_map(n).max()))
        assert first[name].lift == pytest.approx(float(a_map(n).max()) - pooled_mean(a_map(n), fraction=Q), abs=1e-5)
    both = map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=names)
    assert set(both) == set(names[:5])  # two have no map
    read = []
    load = maps.load
    monkeypatch.setattr(maps, "load", lambda *args, **kwargs: read.append(1) or load(*args, **kwargs))
    again = map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=names[:5])
    assert again == both
    assert read == []
    assert (db.data_dir / "maps" / "3" / "peaks.npy").stat().st_size < 5 * 48 + 300


def test_the_peak_of_a_map_that_was_written_again_is_the_new_one(db: Database) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    for name in (SHA, other):
        maps.save(db, model_id=3, sha256=name, cam=a_map(1))
    before = map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=[SHA, other])
    maps.save(db, model_id=3, sha256=SHA, cam=a_map(2))
    map_peaks.keep(db, model_id=3, found={SHA: map_peaks.of_map(a_map(2), fraction=Q)})
    after = map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=[SHA, other])
    assert after[SHA].peak == pytest.approx(float(a_map(2).max())) != before[SHA].peak
    assert after[other] == before[other]


@pytest.mark.parametrize("damage", [b"", b"not a table", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_of_peaks_is_made_anew(db: Database, damage: bytes) -> None:
    maps.save(db, model_id=3, sha256=SHA, cam=a_map())
    wanted = map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=[SHA])
    path = db.data_dir / "maps" / "3" / "peaks.npy"
    path.write_bytes(damage)
    assert map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=[SHA]) == wanted
    np.save(path, np.zeros((3, 3)))
    assert map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=[SHA]) == wanted
    assert map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=[]) == {}


def test_a_crash_while_peaks_are_written_leaves_the_old_file(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [hashlib.sha256(bytes([n])).hexdigest() for n in range(2)]
    for n, name in enumerate(names):
        maps.save(db, model_id=3, sha256=name, cam=a_map(n))
    before = map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=names[:1])

    def cut_off(*_args: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", cut_off)
        with pytest.raises(OSError, match="power cut"):
            map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=names)
    assert os.listdir(db.data_dir / "maps" / "3").count("peaks.npy") == 1  # noqa: PTH208
    assert map_peaks.peaks(db, model_id=3, fraction=Q, sha256s=names[:1]) == before


def test_an_alarm_has_a_low_score_and_a_peak_that_alone_would_reject(
    db: Database, model: registry.Model, add_images: Callable[..., list[int]]
) -> None:
    ids = add_images(5)
    flat, spike = np.full((10, 10), 1.0), np.full((10, 10), 1.0)
    spike[5, 5] = 4.0  # the ten highest cells: one of 4 and nine of 1, mean 1.3; the peak is 2.7 higher
    for image_id, cam, score in zip(ids, (spike, spike, flat, spike, spike), (-1.6, -1.8, 0.99, 2.0, 0.0), strict=True):
        store(db, model, image_id, cam, score)

    def listed(**question: object) -> list[int]:
        found = small_defects.alarms(db, model=registry.get(db, model_id=model.id), limit=10, **question)  # type: ignore[arg-type]
        assert found.without_map == 0
        return [ids.index(one.image.id) for one in found.listed]

    assert listed() == [4, 0]  # -1.8 + 2.7 stays below 1; 2.0 is above it already; a flat map has no peak
    assert listed(order="score_asc") == [0, 4]
    assert listed(order="closest") == [4, 0]
    thresholds.save(db, model_id=model.id, threshold=1.0, threshold_low=-0.5, how="by hand", inspector="Ada")
    assert listed() == [0]  # the other one goes to a person anyway
    with pytest.raises(ValueError, match="order"):
        listed(order="name")
    predictions.store(db, model_id=model.id, rows=[(add_images(1)[0], 0.5, "unseen")])
    found = small_defects.alarms(db, model=model, limit=1)
    assert found.without_map == 1
    (only,) = found.listed
    assert (only.score, only.role, only.image.id) == (0.0, "out_of_fold", ids[4])
