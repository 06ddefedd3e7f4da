"""The benchmark: the reference is the published function, turns are fair, and every figure is what it says it is."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from ssn_core import benchmark, footprint
from ssn_core.backbone import load_backbone
from ssn_core.benchmark import STEPS, Candidate, Effort, measure
from ssn_core.benchmark_row import Row, to_csv
from ssn_core.cli import main
from ssn_core.engine import EXACT, build
from ssn_core.engine_choice import probe_pixels
from ssn_core.errors import SettingError, SsnError
from ssn_core.footprint import count_multiply_adds, count_parameters, peak_memory
from ssn_core.heads import Output
from ssn_core.imaging import load_rgb
from ssn_core.published import PUBLISHED_SPEED
from ssn_core.recipes import get_recipe
from ssn_core.reference import published
from ssn_core.timing import Timing, percentile_95, take_turns

CPU = torch.device("cpu")
SIZE = (64, 72)
QUICK = Effort(rounds=3, batches=(2,))


def candidate(name: str = "cam", **settings: Any) -> Candidate:
    return Candidate(name, get_recipe(name).with_settings({"image_size": SIZE, **settings}))


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    return measure(candidate(), device=CPU, effort=QUICK, cache=tmp_path_factory.mktemp("engines"))


# --- the reference --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gap-cam", {}),
        ("gap-cam", {"adaptor": "conv"}),
        ("simplenet", {}),
        ("supersimplenet", {}),
        ("mixed", {"adaptor": "conv"}),
    ],
)
@torch.inference_mode()
def test_for_a_recipe_as_published_the_reference_is_its_own_network(name: str, settings: dict[str, Any]) -> None:
    backbone, net = candidate(name, **settings).load()
    pixels = probe_pixels(SIZE)[:2]
    ours, reference = net(*backbone(pixels)), published(backbone, net, CPU)(pixels)
    torch.testing.assert_close(reference.score, ours.score, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reference.cam, ours.cam, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_for_our_own_recipe_the_reference_pads_with_zeros_at_twice_the_size_and_leaves_the_backbone_alone() -> None:
    backbone, net = candidate().load()
    before = backbone.padding, backbone.local, backbone.weights_hash
    output = published(backbone, net, CPU)(probe_pixels(SIZE)[:1])
    assert output.cam.shape == (1, 16, 18)
    assert (backbone.padding, backbone.local, backbone.weights_hash) == before
    as_published = load_backbone("resnet18", weights="random", padding="zeros")
    assert as_published.weights_hash == backbone.weights_hash


# --- timing ---------------------------------------------------------------------------------------------------------


def test_computations_take_turns_and_warm_up_does_not_count() -> None:
    order: list[str] = []
    slow_at_first = [0.05, 0.05]

    def slow() -> None:
        order.append("slow")
        time.sleep(slow_at_first.pop() if slow_at_first else 0.002)

    timings = take_turns({"quick": lambda: order.append("quick"), "slow": slow}, rounds=3, warm_up=2)
    assert order == ["quick", "slow"] * 5
    assert 2 <= timings["slow"].p50_ms <= timings["slow"].p95_ms < 50
    assert timings["quick"].p50_ms < 2


def test_a_batch_that_finds_no_memory_ends_the_search_and_not_the_measurement() -> None:
    seen: list[int] = []

    def score(pixels: torch.Tensor) -> Output:
        seen.append(len(pixels))
        if len(pixels) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Output(torch.zeros(len(pixels)), torch.zeros(len(pixels), 1, 1))

    best = benchmark._best_batches(
        {"one": score},
        {"one": Timing(1e6, 1e6)},
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        Effort(rounds=1, batches=(4, 8, 16)),
        CPU,
        tell=lambda: None,
    )
    assert best["one"][1] == 4
    assert max(seen) == 8


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (3, 3), (19, 19), (20, 19), (21, 20), (40, 38), (100, 95)])
def test_at_most_one_in_twenty_calls_takes_longer_than_the_95th_percentile(n: int, expected: int) -> None:
    assert percentile_95([float(value) for value in range(n, 0, -1)]) == expected


def test_late_rounds_are_left_out_but_three_are_always_counted() -> None:
    calls: list[int] = []
    take_turns({"one": lambda: calls.append(1)}, rounds=1000, warm_up=1, seconds=0.0)
    assert len(calls) == 4


def test_whoever_is_told_between_rounds_can_stop_it() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_turns({"one": lambda: None}, rounds=3, tell=stop)


# --- memory and size ------------------------------------------------------------------------------------------------


def hold_60_mib() -> Any:
    held = torch.ones(60 << 18)
    return lambda: float(held[0])


def hold_nothing() -> Any:
    return lambda: None


def refuse() -> Any:
    raise SettingError("The model is not there", value="nowhere")


def run_out() -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def die() -> Any:
    import os

    os._exit(3)


def test_peak_memory_is_that_of_the_process_that_computes_and_not_of_this_one() -> None:
    here = torch.ones(100 << 18)  # 100 MiB that no other process has
    most, least = peak_memory(hold_60_mib), peak_memory(hold_nothing)
    assert 50 < (most.process - most.before) - (least.process - least.before) < 75
    assert here.sum() > 0


def test_an_error_for_people_comes_back_and_a_dead_process_is_one() -> None:
    with pytest.raises(SettingError, match="The model is not there"):
        peak_memory(refuse)
    with pytest.raises(SsnError, match=r"too little left \(CUDA out of memory\)"):
        peak_memory(run_out)
    with pytest.raises(SsnError, match="ended before it answered"):
        peak_memory(die)


def test_multiply_adds_are_those_of_the_layers_and_packed_convolutions_count_too() -> None:
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert count_multiply_adds(convolution, torch.zeros(1, 3, 10, 12)) == 10 * 12 * 8 * 3 * 9
    assert count_parameters(convolution) == 8 * 3 * 9 + 8
    backbone, net = candidate("gap-cam", image_size=(256, 256)).load()
    pixels = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    reference = count_multiply_adds(published(backbone, net, CPU), pixels)
    with torch.inference_mode():
        ours = count_multiply_adds(build(EXACT, backbone, net, image_size=(256, 256), device=CPU), pixels)
    assert reference == pytest.approx(7.47e9, rel=0.01)  # the backbone 1.86, everything above it 5.6
    assert ours == pytest.approx(1.86e9 + 1.0e9, rel=0.02)


# --- a row ----------------------------------------------------------------------------------------------------------


def test_a_row_compares_what_was_measured_in_the_same_run(row: Row) -> None:
    assert row.ratio == pytest.approx(row.reference_p50_ms / row.p50_ms)
    assert row.ratio_to_plain == pytest.approx(row.plain_p50_ms / row.p50_ms)
    assert row.decoded_ratio == pytest.approx(row.reference_decoded_p50_ms / row.decoded_p50_ms)
    assert row.throughput_ratio == pytest.approx(row.images_per_s / row.reference_images_per_s)
    assert row.images_per_s >= 1000 / row.p50_ms
    assert row.best_batch in (1, 2)
    assert row.p95_ms >= row.p50_ms > 0
    assert row.error < 1e-2
    assert row.peak_memory_mib > row.memory_before_model_mib > 50
    assert row.gpu_memory_mib is None
    assert row.parameters > row.reference_parameters > 4e6  # the published way has no local head
    assert row.multiply_adds < row.reference_multiply_adds
    assert (row.weights, row.head, row.recipe, row.backbone) == ("random", "random", "cam", "resnet18")
    assert row.image_size == "64 x 72"
    assert row.threads == torch.get_num_threads()
    assert row.torch == torch.__version__
    assert row.decoded_files == "8 files, PNG, generated, 64 x 72"


def test_the_files_of_the_data_are_decoded_in_turn(
    surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def spy(path: Path, **size: Any) -> Any:
        opened.append(path.name)
        return load_rgb(path, **size)

    monkeypatch.setattr(benchmark, "load_rgb", spy)
    monkeypatch.setattr(benchmark, "peak_memory", lambda *_args, **_kwargs: footprint.Memory(2.0, 1.0, None))
    told: list[tuple[str, int]] = []
    files = [surfaces / "00.png", surfaces / "01.png"]
    found = measure(
        candidate(), device=CPU, pictures=files, cache=tmp_path, effort=QUICK, tell=lambda *what: told.append(what)
    )
    assert found.decoded_files == "2 files of the data"
    assert opened[:4] == ["00.png", "00.png", "01.png", "01.png"]  # each of both computations opens each in turn
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert told[-1] == ("done", STEPS)


def test_the_csv_leaves_out_what_is_not_available(row: Row) -> None:
    (read,) = csv.DictReader(io.StringIO(to_csv([row]).decode()))
    assert read["gpu_memory_mib"] == ""
    assert float(read["ratio"]) == pytest.approx(row.ratio, rel=1e-3)
    for name in ("p50_ms", "p95_ms", "reference_p50_ms", "ratio"):
        assert float(read[name]) > 0


def test_a_row_comes_back_from_json_and_a_damaged_one_does_not(row: Row) -> None:
    kept = json.loads(json.dumps(asdict(row)))
    assert Row.of(kept) == row
    damaged = [{**kept, "p50_ms": "9"}, {**kept, "p50_ms": None}, {**kept, "more": 1}, {**kept, "title": 3}, []]
    for values in (*damaged, {**kept, "p50_ms": float("nan")}, {**kept, "p50_ms": True}):
        with pytest.raises(SsnError):
            Row.of(values)


def test_published_speeds_are_those_of_the_study() -> None:
    by_method = {one.method: one for one in PUBLISHED_SPEED if one.device == "P100"}
    assert by_method["SuperSimpleNet"].latency_ms == 25.58
    assert by_method["Scenario A"].i_auroc == (("MVTec bottle", 100.0), ("MVTec screw", 51.1))
    assert by_method["A with learned noise, beta 0.1"].latency_ms is None


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_row_a_combination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surfaces: Path
) -> None:
    monkeypatch.setattr(benchmark, "peak_memory", lambda *_args, **_kwargs: footprint.Memory(2.0, 1.0, None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "new" / "bench.csv"
    command = ["benchmark", "--backbones", "resnet18", "--recipes", "cam", "simplenet", "--weights", "random"]
    size = ["--image-size", "64", "64", "--rounds", "3", "--batches", "2", "--images", str(surfaces)]
    assert main([*command, *size, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["recipe"], row["image_size"]) for row in rows] == [("cam", "64 x 64"), ("simplenet", "64 x 64")]
    assert {row["decoded_files"] for row in rows} == {"16 files of the data"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "bench.txt"], "ends in .csv"),
        (["--recipes", "nonsense"], "Unknown recipe"),
        (["--backbones", "vgg"], "Unknown backbone"),
        (["--rounds", "0"], "--rounds is out of range"),
        (["--batches", "1"], "batch size is out of range"),
        (["--models", "nowhere"], "nowhere"),
        (["--images", "nowhere"], "nowhere"),
    ],
)
def test_the_command_refuses_what_it_cannot_measure(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in options else ["--out", "bench.csv"]
    assert main(["benchmark", *out, *options]) == 1
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "bench.csv").exists()
