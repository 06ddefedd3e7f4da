"""Sampling, training and resuming, on generated surfaces with a random backbone."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssn_core import anomalies, features, tap_store, training
from ssn_core.backbone import load_backbone
from ssn_core.engine import Engine
from ssn_core.engine_choice import engine_for
from ssn_core.features import TapCache
from ssn_core.inference import score_cached, score_files
from ssn_core.model import CamNet
from ssn_core.recipes import Recipe, get_recipe
from ssn_core.sampling import Example, Sampler
from ssn_core.training import EpochReport, Trainer, Watch

CPU = torch.device("cpu")


def key_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def recipe(**settings: object) -> Recipe:
    return get_recipe("cam").with_settings({"image_size": (64, 64), "epochs": 3, **settings})


@pytest.fixture(scope="session")
def cache(surfaces: Path, tmp_path_factory: pytest.TempPathFactory) -> TapCache:
    taps = TapCache(tmp_path_factory.mktemp("taps"), load_backbone("resnet18", weights="random", local=True), (64, 64))
    taps.fill([(key_of(path), path) for path in images_of(surfaces)], device=CPU)
    return taps


def images_of(surfaces: Path) -> list[Path]:
    return sorted(path for path in surfaces.glob("*.png") if "mask" not in path.name)


@pytest.fixture(scope="session")
def examples(surfaces: Path) -> list[Example]:
    return [Example(key_of(path), bad=number % 3 == 0) for number, path in enumerate(images_of(surfaces))]


def test_an_epoch_holds_each_bad_image_in_four_orientations_and_as_many_good_ones() -> None:
    examples = [Example(str(i), bad=i < 3) for i in range(13)]
    sampler = Sampler(examples, balanced=True, flip_good=True, seed=0)
    samples = sampler.epoch()
    assert len(samples) == len(sampler) == 24
    bad = Counter(map(tuple, samples[samples[:, 0] < 3].tolist()))
    assert bad == {(i, o): 1 for i in range(3) for o in range(4)}
    assert (samples[:, 0] >= 3).sum() == 12


def test_the_least_used_good_images_come_first() -> None:
    sampler = Sampler([Example(str(i), bad=i == 0) for i in range(10)], balanced=True, flip_good=False, seed=0)
    for _ in range(5):
        sampler.epoch()
        assert sampler.uses.max() - sampler.uses.min() <= 1
    assert sampler.uses.sum() == 20


def test_fewer_good_images_than_needed_are_repeated_evenly() -> None:
    sampler = Sampler([Example(str(i), bad=i < 4) for i in range(7)], balanced=True, flip_good=False, seed=0)
    good = Counter(index for index, _ in sampler.epoch().tolist() if index >= 4)
    assert sum(good.values()) == 16
    assert max(good.values()) - min(good.values()) <= 1


def test_good_images_are_flipped_only_where_the_recipe_says_so() -> None:
    examples = [Example(str(i), bad=i < 5) for i in range(40)]
    for flip in (False, True):
        samples = Sampler(examples, balanced=True, flip_good=flip, seed=0).epoch()
        assert (samples[samples[:, 0] >= 5, 1].max() > 0) == flip


def test_taps_are_computed_once_and_read_back_as_the_backbone_gives_them(
    cache: TapCache, surfaces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = images_of(surfaces)[0]
    with torch.no_grad():
        pixels = torch.from_numpy(np.array(__import__("PIL.Image").Image.open(path))).permute(2, 0, 1)[None]
        expected = cache.backbone(pixels)
    for found, wanted in zip(cache.read([key_of(path)]), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3)  # float16

    def refuse(*_args: object) -> None:
        raise AssertionError("the backbone ran again")

    monkeypatch.setattr(features, "tap_extractor", refuse)
    cache.fill([(key_of(p), p) for p in images_of(surfaces)], device=CPU)


def test_taps_of_images_that_are_there_count_as_used_and_are_not_changed(
    cache: TapCache, surfaces: Path, tmp_path: Path
) -> None:
    image = images_of(surfaces)[0]
    own = TapCache(tmp_path, cache.backbone, (64, 64))
    own.fill([(key_of(image), image)], device=CPU)
    file = own.path(key_of(image))
    os.utime(file, (1_000_000, 2_000_000))
    own.fill([(key_of(image), image)], device=CPU)
    found = file.stat()
    assert time.time() - found.st_atime < 60
    assert found.st_mtime == 2_000_000


def test_images_are_asked_for_no_more_than_some_batches_ahead(surfaces: Path) -> None:
    path, asked = images_of(surfaces)[0], 0

    def endless() -> Iterator[tuple[str, Path]]:
        nonlocal asked
        while True:
            asked += 1
            yield str(asked), path

    batches = features.load_batches(endless(), (64, 64))
    first = next(batches)
    assert first.keys[0] == "1"
    assert asked <= 3 * len(first.keys)
    batches.close()


@pytest.mark.parametrize("kept", [0, 60, 5000])
def test_taps_cut_short_by_a_power_cut_are_computed_again(
    cache: TapCache, surfaces: Path, tmp_path: Path, kept: int
) -> None:
    image = images_of(surfaces)[0]
    own = TapCache(tmp_path, cache.backbone, (64, 64))
    own.fill([(key_of(image), image)], device=CPU)
    file = own.path(key_of(image))
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    own.fill([(key_of(image), image)], device=CPU)
    assert file.read_bytes() == whole


def test_taps_beyond_float16_are_cut_off_and_not_infinite(cache: TapCache, surfaces: Path, tmp_path: Path) -> None:
    image = images_of(surfaces)[0]
    loud = load_backbone("resnet18", weights="random", local=True)
    loud.layer3[-1].bn2.weight.data.mul_(1e6)  # type: ignore[union-attr,operator]
    own = TapCache(tmp_path, loud, (64, 64))
    own.fill([(key_of(image), image)], device=CPU)
    _, tap3, _ = own.read([key_of(image)])
    assert tap3.max().item() == 65504


def test_a_failed_write_leaves_no_part_of_a_file(
    cache: TapCache, surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    own = TapCache(tmp_path, cache.backbone, (64, 64))
    with pytest.raises(OSError, match="No space"):
        own.fill([("ab" * 32, images_of(surfaces)[0])], device=CPU)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_taps_held_on_the_device_are_those_of_the_cache(
    cache: TapCache, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap_store, "_CHUNK", 4)  # does not divide their number: the last chunk is a short one
    keys = [example.key for example in examples]
    assert len(keys) % 4
    store = tap_store.TapStore(cache, keys, CPU, room=10**9)
    assert store.holds_all
    places = [len(keys) - 1, 0, 5]
    for found, wanted in zip(store.read(places), cache.read([keys[i] for i in places], local=False), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_training_lowers_the_loss_and_separates_the_classes(cache: TapCache, examples: list[Example]) -> None:
    reports: list[EpochReport] = []
    net = Trainer(recipe(epochs=25, batch_size=16), examples, cache, CPU).run(on_epoch=reports.append)
    assert [report.epoch for report in reports] == list(range(1, 26))
    assert reports[-1].loss < 0.5 * reports[0].loss
    scores = {s.key: s.score for s in score_cached(net, cache, [e.key for e in examples], device=CPU)}
    bad = [scores[e.key] for e in examples if e.bad]
    good = [scores[e.key] for e in examples if not e.bad]
    assert np.mean(np.subtract.outer(bad, good) > 0) > 0.9


def test_the_same_seed_gives_the_same_network_and_another_seed_another(
    cache: TapCache, examples: list[Example]
) -> None:
    def weights(seed: int) -> torch.Tensor:
        return Trainer(recipe(epochs=1, seed=seed), examples, cache, CPU).run().head.weight.detach()

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_an_interrupted_run_goes_on_where_it_was_and_ends_the_same(
    cache: TapCache, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "bfloat16_pays", lambda *_, **__: True)
    whole = Trainer(recipe(), examples, cache, CPU).run()

    class PowerCutError(Exception):
        pass

    first = Trainer(recipe(), examples, cache, CPU)

    def stop_after_two(report: EpochReport) -> None:
        first.save(tmp_path / "state.pt")
        if report.epoch == 2:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        first.run(on_epoch=stop_after_two)
    monkeypatch.setattr(training, "bfloat16_pays", lambda *_, **__: False)  # as a busy machine may measure it
    second = Trainer(recipe(), examples, cache, CPU)
    assert second.restore(tmp_path / "state.pt")
    epochs: list[int] = []
    resumed = second.run(on_epoch=lambda report: epochs.append(report.epoch))
    assert epochs == [3]
    for found, wanted in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_a_run_that_an_older_version_began_goes_on(cache: TapCache, examples: list[Example], tmp_path: Path) -> None:
    first = Trainer(recipe(), examples, cache, CPU)

    def stop(report: EpochReport) -> None:
        for group in first.optimiser.param_groups:
            group["fused"] = None  # what AdamW notes when it is not asked for it
        first.save(tmp_path / "state.pt")
        raise StopIteration

    with pytest.raises(StopIteration):
        first.run(on_epoch=stop)
    second = Trainer(recipe(), examples, cache, CPU)
    assert second.restore(tmp_path / "state.pt")
    before = second.net.head.weight.detach().clone()
    after = second.run().head.weight
    assert second.epoch == 3
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)


def test_the_state_of_the_same_images_is_taken_where_an_older_version_kept_their_list(
    cache: TapCache, examples: list[Example], tmp_path: Path
) -> None:
    path = tmp_path / "state.pt"
    first = Trainer(recipe(epochs=1), examples, cache, CPU)
    first.run(on_epoch=lambda _: first.save(path))
    state = torch.load(path, weights_only=True)
    for others, same in ((examples, True), (examples[::-1], False)):
        state["run"]["examples"] = [[example.key, example.bad, ""] for example in others]
        state["run"]["watched"] = []
        torch.save(state, path)
        assert Trainer(recipe(epochs=1), examples, cache, CPU).restore(path) is same


def test_the_state_of_another_run_is_not_taken(cache: TapCache, examples: list[Example], tmp_path: Path) -> None:
    first = Trainer(recipe(epochs=1), examples, cache, CPU)
    first.run(on_epoch=lambda _: first.save(tmp_path / "state.pt"))
    relabelled = [Example(e.key, bad=e.bad or number == 1) for number, e in enumerate(examples)]
    for other in (
        Trainer(recipe(epochs=1), examples[:-1], cache, CPU),
        Trainer(recipe(epochs=1), relabelled, cache, CPU),
        Trainer(recipe(epochs=1, pooling_fraction=0.5), examples, cache, CPU),
    ):
        assert not other.restore(tmp_path / "state.pt")
        assert other.epoch == 0
    assert Trainer(recipe(epochs=1), examples, cache, CPU).restore(tmp_path / "state.pt")


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_state_cut_short_means_beginning_again(
    cache: TapCache, examples: list[Example], tmp_path: Path, kept: int
) -> None:
    path = tmp_path / "state.pt"
    first = Trainer(recipe(epochs=1), examples, cache, CPU)
    first.run(on_epoch=lambda _: first.save(path))
    path.write_bytes(path.read_bytes()[:kept])
    again = Trainer(recipe(epochs=1), examples, cache, CPU)
    assert not again.restore(path)
    assert again.epoch == 0


def test_synthetic_anomalies_only_ever_turn_labels_bad(
    cache: TapCache, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    draw, lose = anomalies.anomaly_mask, training.total_loss

    def watch_mask(*args: Any, **kwargs: Any) -> torch.Tensor:
        masks.append(draw(*args, **kwargs))
        return masks[-1]

    def watch_loss(recipe: Recipe, output: Any, truth: Any) -> torch.Tensor:
        targets.append(truth.bad)
        return lose(recipe, output, truth)

    monkeypatch.setattr(anomalies, "anomaly_mask", watch_mask)
    monkeypatch.setattr(training, "total_loss", watch_loss)
    Trainer(recipe(epochs=2, noise_skip=0.5), examples, cache, CPU).run()
    plain = torch.cat([bad[: len(bad) // 2] for bad in targets])
    noisy = torch.cat([bad[len(bad) // 2 :] for bad in targets])
    touched = torch.cat([mask.flatten(1).any(1) for mask in masks])
    assert torch.equal(noisy, torch.maximum(plain, touched.float()))
    # All four cases did occur, so the line above says something about each.
    assert {(bool(p), bool(t)) for p, t in zip(plain, touched, strict=True)} == {
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    }


def test_epochs_are_automatic_when_none_are_asked_for(cache: TapCache, examples: list[Example]) -> None:
    trainer = Trainer(recipe(epochs=0, min_steps=50, batch_size=8), examples, cache, CPU)
    assert trainer.epochs == 6  # 9 bad x 4 orientations x 2 = 72 samples = 9 steps an epoch


def light(**settings: object) -> Recipe:
    return recipe(batch_size=36, head_width=16, local_width=0, cam_fraction=None, **settings)


def watch(measured: list[tuple[float, float]], seen: list[torch.Tensor]) -> Watch:
    """Gives what was measured, one after the other, and keeps the weights it was asked about."""

    def measure(net: CamNet) -> tuple[float, float]:
        net.eval()  # as scoring does
        seen.append(net.head.weight.detach().clone())
        return measured[len(seen) - 1]

    return Watch((("00" * 32, False), ("01" * 32, True)), measure)


def test_a_watched_training_ends_once_it_has_settled_and_learns_the_same_until_then(
    cache: TapCache, examples: list[Example]
) -> None:
    seen: list[torch.Tensor] = []
    measured = [(0.5, 1.0), (0.7, 1.0), *[(0.6, 0.1)] * 20]
    trainer = Trainer(light(epochs=40), examples, cache, CPU, watch(measured, seen))
    trainer.run()
    assert [check.epoch for check in trainer.checks] == [10, 12, 14, 16, 18, 20]  # every twentieth, from a quarter on
    assert trainer.epoch == 20  # the best was at 12, and then four checks without a better one
    weights: list[torch.Tensor] = []
    unwatched = Trainer(light(epochs=40), examples, cache, CPU)

    def keep(report: EpochReport) -> None:
        weights.append(unwatched.net.head.weight.detach().clone())
        if report.epoch == 20:
            raise StopIteration

    with pytest.raises(StopIteration):
        unwatched.run(on_epoch=keep)
    assert all(torch.equal(found, weights[epoch - 1]) for found, epoch in zip(seen, range(10, 21, 2), strict=True))
    assert not trainer.net.training


def test_a_watched_training_that_goes_on_improving_takes_its_whole_length(
    cache: TapCache, examples: list[Example]
) -> None:
    trainer = Trainer(light(epochs=8), examples, cache, CPU, watch([(0.1 * n, 1.0) for n in range(8)], []))
    net = trainer.run()
    assert trainer.epoch == 8
    whole = Trainer(light(epochs=8), examples, cache, CPU).run()
    for found, wanted in zip(net.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("cut", [1, 7, 8])  # before any check, at the last but one, and at the end
def test_a_watched_run_that_was_interrupted_ends_at_the_same_place_with_the_same_weights(
    cache: TapCache, examples: list[Example], tmp_path: Path, cut: int
) -> None:
    measured = [(0.5, 1.0), (0.7, 1.0), *[(0.7, 1.1)] * 8]
    whole = Trainer(light(epochs=9), examples, cache, CPU, watch(measured, []))
    whole.run()
    assert whole.epoch == 8  # checked from the third on
    first = Trainer(light(epochs=9), examples, cache, CPU, watch(measured, []))

    def stop(report: EpochReport) -> None:
        first.save(tmp_path / "state.pt")
        if report.epoch == cut:
            raise StopIteration

    with pytest.raises(StopIteration):
        first.run(on_epoch=stop)
    seen: list[torch.Tensor] = []
    second = Trainer(light(epochs=9), examples, cache, CPU, watch(measured[max(0, cut - 2) :], seen))
    assert second.restore(tmp_path / "state.pt")
    second.run()
    assert (second.epoch, second.checks, len(seen)) == (8, whole.checks, 8 - max(2, cut))
    for found, wanted in zip(second.net.state_dict().values(), whole.net.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_a_state_that_was_watched_on_other_labels_is_not_taken(
    cache: TapCache, examples: list[Example], tmp_path: Path
) -> None:
    first = Trainer(recipe(epochs=1), examples, cache, CPU, watch([(0.5, 1.0)], []))
    first.run(on_epoch=lambda _: first.save(tmp_path / "state.pt"))
    relabelled = Watch((("00" * 32, True), ("01" * 32, True)), lambda _: (0.5, 1.0))
    for other in (relabelled, None):
        assert not Trainer(recipe(epochs=1), examples, cache, CPU, other).restore(tmp_path / "state.pt")


def engine_of(cache: TapCache, net: CamNet) -> Engine:
    return engine_for(cache.backbone, net, image_size=(64, 64), device=CPU, cache=None)


def test_files_and_cached_taps_give_the_same_scores(cache: TapCache, surfaces: Path) -> None:
    net = CamNet(recipe()).eval()
    paths = images_of(surfaces)[:5]
    direct = list(score_files(engine_of(cache, net), [(key_of(p), p) for p in paths]))
    cached = list(score_cached(net, cache, [key_of(p) for p in paths], device=CPU))
    assert [s.key for s in direct] == [s.key for s in cached]
    assert [s.key for s in direct] == [key_of(p) for p in paths]
    np.testing.assert_allclose([s.score for s in direct], [s.score for s in cached], atol=5e-3)


def test_scoring_leaves_the_callers_gradients_on(cache: TapCache, surfaces: Path) -> None:
    net = CamNet(recipe()).eval()
    image = images_of(surfaces)[0]
    for _ in score_files(engine_of(cache, net), [(key_of(image), image)]):
        assert not torch.is_inference_mode_enabled()
    for _ in score_cached(net, cache, [key_of(image)], device=CPU):
        assert not torch.is_inference_mode_enabled()


def test_one_unreadable_file_does_not_stop_the_others(cache: TapCache, surfaces: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    errors: dict[str, str] = {}
    paths = [images_of(surfaces)[0], broken, images_of(surfaces)[1]]
    scored = score_files(
        engine_of(cache, CamNet(recipe()).eval()),
        [(p.name, p) for p in paths],
        on_error=lambda name, error: errors.update({name: str(error)}),
    )
    assert [s.key for s in scored] == ["00.png", "01.png"]
    assert list(errors) == ["broken.png"]
