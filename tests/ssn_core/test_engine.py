"""The engine: chosen by measurement, remembered, never wrong and never slower than plain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssn_core import engine, engine_choice
from ssn_core.backbone import Backbone, load_backbone
from ssn_core.engine import EXACT, PLAIN, Engine, Forward, Plan, build
from ssn_core.engine_choice import MAX_ERROR, choose, engine_for, probe_pixels
from ssn_core.heads import Output
from ssn_core.inference import best_device
from ssn_core.model import CamNet
from ssn_core.recipes import get_recipe

CPU = torch.device("cpu")
SIZE = (64, 72)
FEW = Plan(dtype="bfloat16")
VINO = Plan(dtype="bfloat16", runtime="openvino")


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "_IN_MEMORY", {})


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("resnet18", weights="random", local=True)


def net_of(seed: int = 0, **settings: object) -> CamNet:
    torch.manual_seed(seed)
    return CamNet(get_recipe("cam").with_settings(settings)).eval()


def with_fakes(
    monkeypatch: pytest.MonkeyPatch, *, milliseconds: dict[Plan, float], errors: dict[Plan, float] | None = None
) -> list[Plan]:
    """Plans that take so long and miss the plain score by so much; the list of the plans that were built."""
    built: list[Plan] = []

    def fake(plan: Plan, *_args: object, **_kwargs: object) -> Forward:
        built.append(plan)
        shift = (errors or {}).get(plan, 0.0)
        return lambda pixels: Output(torch.full((len(pixels),), 3 + shift), torch.zeros(len(pixels), 8, 9))

    monkeypatch.setattr(engine_choice, "build", fake)
    monkeypatch.setattr(engine_choice, "_timed", lambda forwards, _: {p: milliseconds[p] / 1000 for p in forwards})
    of_openvino = [plan for plan in milliseconds if plan.runtime == "openvino"]
    few = [plan for plan in milliseconds if plan.dtype != "float32" and plan not in of_openvino]
    monkeypatch.setattr(engine_choice, "plans_in_few_bits", lambda _: few)
    monkeypatch.setattr(engine_choice, "plans_of_openvino", lambda _: of_openvino)
    return built


@pytest.mark.parametrize("name", ["cam", "gap-cam"])
def test_scores_of_the_chosen_engine_are_the_plain_networks(name: str) -> None:
    recipe = get_recipe(name).with_settings({"backbone": "resnet18"})
    backbone = load_backbone("resnet18", weights="random", padding=recipe.padding, local=recipe.has_local_head)
    net = CamNet(recipe).eval()
    made = engine_for(backbone, net, image_size=SIZE, device=CPU, cache=None)
    pixels = probe_pixels(SIZE)
    found = made(pixels)
    with torch.inference_mode():
        expected = net(*backbone(pixels))
    assert found.cam.shape == expected.cam.shape
    assert float((found.score - expected.score).abs().max()) < MAX_ERROR


def test_in_float32_scores_are_within_a_ten_thousandth(backbone: Backbone) -> None:
    net, pixels = net_of(), probe_pixels(SIZE)
    with torch.inference_mode():
        found = build(EXACT, backbone, net, image_size=SIZE, device=CPU)(pixels)
        expected = net(*backbone(pixels))
    torch.testing.assert_close(found.score, expected.score, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.cam, expected.cam, rtol=1e-4, atol=1e-4)


def test_an_image_has_the_same_score_alone_and_in_a_batch(backbone: Backbone) -> None:
    net, pixels = net_of(), probe_pixels(SIZE)
    for plan in (EXACT, *engine.plans_in_few_bits(CPU)):
        forward = build(plan, backbone, net, image_size=SIZE, device=CPU)
        made = Engine(plan=plan, note="", image_size=SIZE, device=CPU, _forward=forward)
        alone = torch.cat([made(pixels[index : index + 1]).score for index in range(len(pixels))])
        torch.testing.assert_close(made(pixels).score, alone, rtol=1e-5, atol=1e-5)


def test_a_network_that_cannot_be_folded_is_still_right_and_says_why(backbone: Backbone) -> None:
    net = net_of(adaptor="conv")
    with torch.inference_mode():
        found = build(EXACT, backbone, net, image_size=SIZE, device=CPU)(probe_pixels(SIZE))
        expected = net(*backbone(probe_pixels(SIZE)))
    torch.testing.assert_close(found.score, expected.score, rtol=1e-4, atol=1e-5)


def test_the_note_says_what_is_not_folded(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    with_fakes(monkeypatch, milliseconds={PLAIN: 20, EXACT: 10})
    note = engine_for(backbone, net_of(adaptor="conv"), image_size=SIZE, device=CPU, cache=None).note
    assert note.startswith("folded, float32: 2.0 times the plain network's speed")
    assert note.endswith("only the backbone, because the conv adaptor is not linear")


@pytest.mark.parametrize(
    ("times", "errors", "expected"),
    [
        ({PLAIN: 20, EXACT: 10, FEW: 5}, {FEW: 0.009}, FEW),
        ({PLAIN: 20, EXACT: 10, FEW: 5}, {FEW: -0.011}, EXACT),
        ({PLAIN: 20, EXACT: 10, FEW: 5}, {FEW: float("nan")}, EXACT),
        ({PLAIN: 20, EXACT: 10, FEW: 12}, {}, EXACT),
        ({PLAIN: 20, EXACT: 30, FEW: 25}, {}, PLAIN),
        ({PLAIN: 20, EXACT: 10, FEW: 25}, {EXACT: 0.5}, PLAIN),
        ({PLAIN: 20, EXACT: 10, FEW: 5, VINO: 4}, {}, VINO),
        ({PLAIN: 20, EXACT: 10, FEW: 5, VINO: 6}, {}, FEW),
        ({PLAIN: 20, EXACT: 10, FEW: 5, VINO: 4}, {VINO: 0.02}, FEW),
    ],
)
def test_the_quickest_whose_scores_are_right_is_taken(
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[Plan, float],
    errors: dict[Plan, float],
    expected: Plan,
) -> None:
    with_fakes(monkeypatch, milliseconds=times, errors=errors)
    assert choose(backbone, net_of(), image_size=SIZE, device=CPU).plan == expected


def test_more_is_computed_in_float32_only_where_the_score_needs_it(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful = Plan(dtype="bfloat16", exact_stages=3)
    times = {PLAIN: 20.0, EXACT: 10.0, FEW: 5.0, careful: 7.0}
    with_fakes(monkeypatch, milliseconds=times, errors={FEW: 0.02})
    assert choose(backbone, net_of(), image_size=SIZE, device=CPU).plan == careful
    built = with_fakes(monkeypatch, milliseconds=times)
    assert choose(backbone, net_of(), image_size=SIZE, device=CPU).plan == FEW
    assert careful not in built


def test_the_choice_is_remembered_on_disk_for_this_model_alone(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_fakes(monkeypatch, milliseconds={PLAIN: 20, EXACT: 10})
    first = engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text())["plan"] == {
        "fast": True,
        "dtype": "float32",
        "exact_stages": 0,
        "runtime": "torch",
    }
    monkeypatch.setattr(engine_choice, "_IN_MEMORY", {})
    monkeypatch.setattr(engine_choice, "choose", lambda *_a, **_k: pytest.fail("measured again"))
    assert engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=tmp_path).plan == first.plan
    monkeypatch.setattr(engine_choice, "choose", lambda *_a, **_k: engine_choice.Choice(PLAIN, 1.0, 0.0, 1.0))
    for other in (net_of(seed=1), net_of(feature_scale=2), net_of(padding="zeros")):
        assert engine_for(backbone, other, image_size=SIZE, device=CPU, cache=tmp_path).plan == PLAIN


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"plan": {"speed": 2}}', '{"plan": {"dtype": "x"}, "ratio": 1, "error": 0, "plain_ms": 1}'],
)
def test_a_damaged_memory_is_measured_again(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    with_fakes(monkeypatch, milliseconds={PLAIN: 20, EXACT: 10})
    engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(text)
    monkeypatch.setattr(engine_choice, "_IN_MEMORY", {})
    assert engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=tmp_path).plan == EXACT
    assert json.loads(kept.read_text())["ratio"] == 2.0


def test_where_nothing_can_be_kept_scoring_goes_on(backbone: Backbone, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    made = engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=blocked / "engines")
    assert torch.isfinite(made(probe_pixels(SIZE)[:1]).score).all()


def test_an_operation_that_is_missing_here_costs_speed_and_not_scores(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine_choice.build

    def without_fast(plan: Plan, *args: object, **kwargs: object) -> Forward:
        if plan.fast:
            raise RuntimeError("could not create a primitive")
        return real(plan, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_choice, "build", without_fast)
    assert choose(backbone, net_of(), image_size=SIZE, device=CPU).plan == PLAIN


def _in_force(
    backbone: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch, vino: Callable[[Path | None], float]
) -> Engine:
    """The engine where OpenVINO was measured to be the quickest, and then gives plain scores plus what `vino` says."""
    with_fakes(monkeypatch, milliseconds={PLAIN: 20, EXACT: 10, VINO: 4})
    assert engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=cache).plan == VINO
    fake = engine_choice.build

    def changed(plan: Plan, *args: Any, kept: Path | None = None, **kwargs: Any) -> Forward:
        forward, off = fake(plan, *args, **kwargs), vino(kept) if plan == VINO else 0.0
        return lambda pixels: Output(forward(pixels).score + off, forward(pixels).cam)

    monkeypatch.setattr(engine_choice, "build", changed)
    return engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=cache)


def test_a_library_that_is_broken_since_it_was_measured_costs_one_measurement_and_no_scores(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_kept: Path | None) -> float:
        raise RuntimeError("a file is missing")

    assert _in_force(backbone, tmp_path, monkeypatch, broken).plan == EXACT
    monkeypatch.setattr(engine_choice, "choose", lambda *_a, **_k: pytest.fail("measured again"))
    for known in (engine_choice._IN_MEMORY, {}):
        monkeypatch.setattr(engine_choice, "_IN_MEMORY", known)
        assert engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=tmp_path).plan == EXACT


def test_a_kept_network_with_other_scores_is_not_believed(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []

    def off_if_kept(kept: Path | None) -> float:
        asked.append(kept)
        if kept is not None:
            kept.write_text("of an older version")
        return 0.0 if kept is None else 0.5

    made = _in_force(backbone, tmp_path, monkeypatch, off_if_kept)
    assert made.plan == VINO
    assert made(probe_pixels(SIZE)[:1]).score.item() == 3.0
    assert [kept is None for kept in asked] == [False, True]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    assert _in_force(backbone, tmp_path, monkeypatch, lambda _: 0.5).plan == EXACT


def test_models_that_differ_in_what_they_count_share_no_memory() -> None:
    backbone = load_backbone("resnet18", weights="random", local=True)
    nets = [
        net_of(),
        net_of(pooling_fraction=0.5),
        net_of(cam_fraction=0.5),
        net_of(padding="zeros"),
        net_of(feature_scale=2),
    ]
    keys = {engine_choice._key(backbone, net, SIZE, CPU) for net in nets}
    assert len(keys) == len(nets)


def test_installing_a_runtime_makes_the_machine_measure_again(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_fakes(monkeypatch, milliseconds={PLAIN: 20, EXACT: 10})
    monkeypatch.setattr(engine_choice, "openvino_installed", lambda: None)
    assert engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=tmp_path).plan == EXACT
    with_fakes(monkeypatch, milliseconds={PLAIN: 20, EXACT: 10, VINO: 4})
    monkeypatch.setattr(engine_choice, "openvino_installed", lambda: "openvino 1")
    assert engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=tmp_path).plan == VINO


def test_training_taps_stay_in_float32_whatever_the_engine(backbone: Backbone) -> None:
    before = [tap.clone() for tap in backbone(probe_pixels(SIZE)[:1])]
    engine_for(backbone, net_of(), image_size=SIZE, device=CPU, cache=None)(probe_pixels(SIZE)[:1])
    for old, new in zip(before, backbone(probe_pixels(SIZE)[:1]), strict=True):
        assert new.dtype == torch.float32
        assert torch.equal(old, new)


@pytest.mark.parametrize("there", [True, False])
def test_on_a_gpu_float32_is_not_rounded_to_fewer_bits(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert best_device().type == ("cuda" if there else "cpu")
    assert torch.backends.cudnn.allow_tf32 is not there


def test_what_is_wrong_in_a_batch_alone_is_found_where_batches_are_computed() -> None:
    def forward(pixels: torch.Tensor) -> Output:
        score = pixels.float().mean((1, 2, 3)) + (0.5 if len(pixels) > 1 else 0.0)
        return Output(score, torch.zeros(len(pixels), 1, 1))

    probe = probe_pixels(SIZE)
    expected = [forward(picture[None]).score for picture in probe]
    assert engine_choice._largest_error(forward, probe, expected, in_batches=False) == 0
    assert engine_choice._largest_error(forward, probe, expected, in_batches=True) == pytest.approx(0.5, abs=1e-3)
