"""Several sizes of an image in one network: what joins, what is trained, and that every way to compute it agrees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ssn_core import evidence, training_length
from ssn_core.backbone import load_backbone
from ssn_core.checkpoint import load_model, save_model
from ssn_core.dataset import LabelledImage, examples
from ssn_core.engine import EXACT, PLAIN, Engine, build
from ssn_core.engine_choice import probe_pixels
from ssn_core.errors import SettingError
from ssn_core.features import TapCache, at_size
from ssn_core.folded import why_not
from ssn_core.inference import score_cached, score_files
from ssn_core.local_evidence import level_of
from ssn_core.model import CamNet
from ssn_core.pipeline import fit, train_model
from ssn_core.recipes import Recipe, chosen, get_recipe
from ssn_core.reporting import Silent
from ssn_core.sizes import LEAST, STEP, sizes_of
from ssn_core.training import Trainer

CPU = torch.device("cpu")


def small(**settings: object) -> Recipe:
    return get_recipe("cam").with_settings({"image_size": (64, 64), "epochs": 2, "scales": 3, **settings})


def network(**settings: object) -> CamNet:
    """Weights, biases and levels are all random."""
    torch.manual_seed(5)
    net = CamNet(small(**settings)).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    for one in (net, *net.smaller):
        torch.nn.init.normal_(one.head.weight)
    if net.smaller:
        net.levels.copy_(torch.linspace(-1, 1, len(net.smaller)))
    return net


@pytest.fixture(scope="module")
def taps(labelled: list[LabelledImage], tmp_path_factory: pytest.TempPathFactory) -> TapCache:
    backbone = load_backbone("resnet18", weights="random", local=True)
    cache = TapCache(tmp_path_factory.mktemp("sizes"), backbone, (64, 64), scales=3)
    cache.fill([(image.key, image.path) for image in labelled], device=CPU)
    return cache


@pytest.fixture
def known(labelled: list[LabelledImage]) -> list[LabelledImage]:
    return [image for image in labelled if image.bad is not None]


def test_each_size_has_half_the_pixels_of_the_one_before() -> None:
    assert sizes_of((704, 256), 3) == [(704, 256), (496, 184), (352, 128)]
    assert sizes_of((256, 256), 1) == [(256, 256)]
    assert sizes_of((75, 131), 2) == [(75, 131), (56, 96)]


@given(st.integers(64, 2048), st.integers(64, 2048), st.integers(1, 4))
def test_sides_are_near_their_share_and_whole_cells_of_layer2(height: int, width: int, scales: int) -> None:
    first, *others = sizes_of((height, width), scales)
    assert first == (height, width)
    for number, size in enumerate(others, start=1):
        for side, whole in zip(size, first, strict=True):
            assert side % 8 == 0
            assert abs(side - whole * STEP**number) <= 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scales": 0}, "scales is out of range.*1 to 4"),
        ({"scales": 5}, "scales is out of range.*1 to 4"),
        ({"scales": True}, "scales is out of range.*1 to 4"),
        ({"scales": 4}, f"too small for so many sizes.*24 x 24.*at least {LEAST} pixels"),
        ({"local_width": 0}, "Only a local head takes in several sizes"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        small(**settings)


def test_people_choose_it_by_name() -> None:
    assert chosen("cam", {"scales": 2}).scales == 2
    assert chosen("cam", {"scales": None}).scales == get_recipe("cam").scales
    with pytest.raises(SettingError, match="Only a local head"):
        chosen("gap-cam", {"scales": 2})


@torch.inference_mode()
def test_the_context_is_the_mean_over_the_sizes(taps: TapCache, labelled: list[LabelledImage]) -> None:
    """In float64, by the formula of local_evidence.py; a and b come from the parts of the network."""
    net, keys = network(), [image.key for image in labelled[:2]]
    *wide, tap1 = taps.levels[0].read(keys)
    pairs = [level.read(keys) for level in taps.levels[1:]]
    score, cam = net(*wide, tap1, *(tap for pair in pairs for tap in pair))
    assert net.local is not None
    contexts = [net.judge(net.features(*wide)).cam - net.local.level]
    for one, level, pair in zip(net.smaller, net.levels, pairs, strict=True):
        contexts.append(one.judge(one.features(*pair)).cam - level)
    grown = [F.interpolate(one[:, None].double(), tap1.shape[-2:], mode="bilinear")[:, 0] for one in contexts]
    a, b = sum(grown) / 3, net.local.place(tap1).double()
    both = net.local.double().smooth(F.logsigmoid(a) + net.local.weight * F.logsigmoid(b))
    expected = torch.log(torch.exp(both) / (1 - torch.exp(both)))
    assert float((cam - expected).abs().max()) < 1e-4
    for image in range(2):
        shown = evidence.explain(cam[image].numpy(), fraction=0.001, bias=float(net.head.bias))
        assert abs(shown.score - float(score[image])) <= evidence.tolerance(shown, rounded=False)


@torch.inference_mode()
def test_every_size_has_a_say(taps: TapCache, labelled: list[LabelledImage]) -> None:
    keys = [image.key for image in labelled[:2]]
    before = [found.cam for found in score_cached(network(), taps, keys, device=CPU)]
    for number in range(2):
        net = network()
        net.levels[number] += 3
        for found, cam in zip(score_cached(net, taps, keys, device=CPU), before, strict=True):
            assert (found.cam < cam).all()


@torch.inference_mode()
def test_pixels_are_made_smaller_by_what_they_cover() -> None:
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    assert at_size(pixels, (64, 96)) is pixels
    half = at_size(pixels, (32, 48))
    assert half.dtype == torch.float32
    assert torch.equal(half, half.round())
    assert 0 <= float(half.min()) <= float(half.max()) <= 255
    grey = torch.full((1, 3, 64, 64), 77, dtype=torch.uint8)
    assert torch.equal(at_size(grey, (48, 48)), torch.full((1, 3, 48, 48), 77.0))
    # A checkerboard of single pixels has no pattern that half the size could show.
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 200).to(torch.uint8).expand(1, 3, 64, 64)
    assert float(at_size(board, (32, 32)).std()) < 1


@torch.inference_mode()
def test_plain_folded_cached_and_from_files_it_is_the_same(taps: TapCache, labelled: list[LabelledImage]) -> None:
    net = network()
    pixels = probe_pixels((64, 64))
    plain, fast = (build(plan, taps.backbone, net, image_size=(64, 64), device=CPU)(pixels) for plan in (PLAIN, EXACT))
    assert float((plain.score - fast.score).abs().max()) < 1e-4
    assert float((plain.cam - fast.cam).abs().max()) < 1e-3
    exact = build(EXACT, taps.backbone, net, image_size=(64, 64), device=CPU)
    engine = Engine(plan=EXACT, note="", image_size=(64, 64), device=CPU, _forward=exact)
    files = list(score_files(engine, [(image.key, image.path) for image in labelled[:4]]))
    cached = list(score_cached(net, taps, [image.key for image in labelled[:4]], device=CPU))
    for ours, theirs in zip(files, cached, strict=True):
        assert ours.key == theirs.key
        assert ours.score == pytest.approx(theirs.score, abs=2e-2)


def test_it_is_folded_only_where_every_size_can_be() -> None:
    assert why_not(network()) is None
    assert "not linear" in str(why_not(network(adaptor="conv")))


def test_each_size_has_taps_of_its_own_and_shares_those_it_can(taps: TapCache, labelled: list[LabelledImage]) -> None:
    first, second, third = taps.levels
    assert first.folder == TapCache(taps.root, taps.backbone, (64, 64)).folder
    assert [level.image_size for level in (second, third)] == [(48, 48), (32, 32)]
    # Made of another size they would be other pixels.
    assert second.folder != TapCache(taps.root, taps.backbone, (48, 48)).folder
    assert [tuple(tap.shape[1:]) for tap in third.read([labelled[0].key])] == [(128, 4, 4), (256, 2, 2)]  # no layer1


def test_reading_counts_an_image_once_a_size(labelled: list[LabelledImage], tmp_path: Path, taps: TapCache) -> None:
    told: list[tuple[int, int]] = []
    own = TapCache(tmp_path, taps.backbone, (64, 64), scales=2)
    own.fill([(i.key, i.path) for i in labelled[:5]], device=CPU, progress=lambda *numbers: told.append(numbers))
    assert told[0] == (0, 10)
    assert told[-1] == (10, 10)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_each_size_is_trained_as_it_would_be_alone(known: list[LabelledImage], taps: TapCache) -> None:
    net = fit(small(), known, taps, device=CPU, reporter=Silent(), name="three")
    for number, (one, level) in enumerate(zip(small().at_sizes(), taps.levels, strict=True)):
        alone = fit(one, known, level, device=CPU, reporter=Silent(), name="one")
        found = net.smaller[number - 1].state_dict() if number else net.state_dict()
        for name, value in alone.state_dict().items():
            assert torch.equal(found[name], value)
        if number:
            good = [image.key for image in known if not image.bad]
            cams = [scored.cam for scored in score_cached(alone, level, good, device=CPU)]
            assert float(net.levels[number - 1]) == pytest.approx(level_of(cams, alone.boundary), abs=1e-5)


def test_a_level_lies_between_the_boundary_and_what_good_images_reach() -> None:
    cams = [np.full((4, 4), value, dtype=np.float32) for value in np.linspace(-5, -3, 20)]
    assert level_of(cams, 1.0) == pytest.approx((np.quantile(np.stack(cams), 0.999) + 1) / 2)
    assert level_of(cams * 500, 1.0) == pytest.approx(-3, abs=0.02)


def test_one_size_is_what_it_was(known: list[LabelledImage], taps: TapCache) -> None:
    """No tensor more than before there were several sizes, and what a trainer makes of the recipe by itself."""
    net = fit(small(scales=1), known, taps, device=CPU, reporter=Silent(), name="one")
    assert {name.partition(".")[0] for name in net.state_dict()} == {"adaptor", "head", "local"}
    trainer = Trainer(small(scales=1), examples(known, small(scales=1)), taps, CPU)
    for name, value in trainer.run().state_dict().items():
        assert torch.equal(net.state_dict()[name], value)


def test_a_trainer_and_a_cache_of_fewer_sizes_say_so(known: list[LabelledImage], taps: TapCache) -> None:
    with pytest.raises(ValueError, match="one size"):
        Trainer(small(), examples(known, small()), taps, CPU)
    with pytest.raises(ValueError, match="3 sizes, the cache holds 1"):
        fit(small(), known, taps.levels[0], device=CPU, reporter=Silent(), name="x")


class Stopped(Exception):  # noqa: N818
    """The training is cut off."""


class Heard:
    """Keeps what is reported; cuts a training off after so many points of the loss curve."""

    def __init__(self, points: int = 10**6) -> None:
        self.points = points
        self.series: list[str] = []
        self.bar: list[tuple[int, int]] = []

    def progress(self, phase: str, done: int, total: int, **_: str | float) -> None:
        if phase == "Training":
            self.bar.append((done, total))

    def point(self, series: str, _step: int, _value: float) -> None:
        self.series.append(series)
        if len(self.series) >= self.points:
            raise Stopped


@pytest.mark.parametrize("early_stop", [False, True])
def test_progress_counts_all_sizes(
    known: list[LabelledImage], taps: TapCache, early_stop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_length, "MIN_WATCHED", 1)
    heard = Heard()
    fit(small(early_stop=early_stop, epochs=8), known, taps, device=CPU, reporter=heard, name="Fold 1 of 3")
    done = [step for step, _ in heard.bar]
    assert done == sorted(done)
    assert heard.bar[-1][0] == heard.bar[-1][1]
    trial = ["Fold 1 of 3, trial"] if early_stop else []
    sizes = [f"Fold 1 of 3, size {number} of 3" for number in (1, 2, 3)]
    assert list(dict.fromkeys(heard.series)) == [*trial, *sizes]


def test_a_training_that_is_cut_off_goes_on_with_the_size_it_was_at(
    known: list[LabelledImage], taps: TapCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(small(), known, taps, device=CPU, reporter=Silent(), name="a")
    state = tmp_path / "model.pt"
    with pytest.raises(Stopped):
        fit(small(), known, taps, device=CPU, reporter=Heard(points=4), name="a", state_file=state)
    trained: list[tuple[int, int]] = []
    step = Trainer._step

    def counted(trainer: Trainer, *args: object) -> torch.Tensor:
        trained.append(trainer.recipe.image_size)
        return step(trainer, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_step", counted)
    resumed = fit(small(), known, taps, device=CPU, reporter=Silent(), name="a", state_file=state)
    assert set(trained) == {(48, 48), (32, 32)}  # the first size had ended
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


def test_a_whole_training_keeps_and_reads_back_all_sizes(
    known: list[LabelledImage], taps: TapCache, tmp_path: Path
) -> None:
    states = tmp_path / "states"
    states.mkdir()
    found = train_model(small(), known, taps, device=CPU, reporter=Silent(), state_folder=states)
    assert len(found.predictions) == len(known)
    assert {path.name for path in states.glob("*.pt")} >= {"fold-0.pt", "fold-0-size-2.pt", "model-size-1.pt"}
    save_model(found.model, tmp_path / "model")
    loaded, backbone = load_model(tmp_path / "model")
    keys = [image.key for image in known[:3]]
    same = TapCache(taps.root, backbone, (64, 64))  # whoever scores need not know of the sizes
    for ours, theirs in zip(
        score_cached(loaded.net, same, keys, device=CPU),
        score_cached(found.model.net, taps, keys, device=CPU),
        strict=True,
    ):
        assert ours.score == theirs.score
        assert np.array_equal(ours.cam, theirs.cam)
    assert evidence.network_bias(tmp_path / "model") == -found.model.net.boundary


def test_a_model_from_before_there_were_several_sizes_has_one(
    known: list[LabelledImage], taps: TapCache, tmp_path: Path
) -> None:
    found = train_model(small(scales=1), known, taps, device=CPU, reporter=Silent())
    save_model(found.model, tmp_path / "old")
    card = json.loads((tmp_path / "old" / "model.json").read_text())
    del card["settings"]["scales"]
    (tmp_path / "old" / "model.json").write_text(json.dumps(card))
    loaded, _ = load_model(tmp_path / "old")
    assert loaded.recipe == found.model.recipe
    assert loaded.net.smaller == []
