"""OpenVINO as another runtime for the same network: optional, offline, and never another verdict."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssn_core import openvino_network
from ssn_core.backbone import Backbone, load_backbone
from ssn_core.engine import EXACT, Plan, build, plans_of_openvino
from ssn_core.engine_choice import MAX_ERROR, probe_pixels
from ssn_core.heads import Output
from ssn_core.model import CamNet
from ssn_core.openvino_network import compiled, installed
from ssn_core.packed import ordinary_convolutions
from ssn_core.recipes import get_recipe

CPU = torch.device("cpu")
SIZE = (64, 72)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("resnet18", weights="random", local=True)


@pytest.fixture(scope="module")
def net() -> CamNet:
    torch.manual_seed(0)
    return CamNet(get_recipe("cam")).eval()


def test_what_travels_to_another_runtime_has_ordinary_operations_and_the_same_scores(
    backbone: Backbone, net: CamNet
) -> None:
    pixels = probe_pixels(SIZE)[:1].contiguous()
    with ordinary_convolutions(), torch.no_grad():
        forward = build(EXACT, backbone, net, image_size=SIZE, device=CPU)
        program = torch.export.export(openvino_network.Network(forward).eval(), (pixels,))
    named = {str(node.target) for node in program.graph.nodes}
    assert any("conv2d" in name for name in named)
    assert not any("mkldnn" in name for name in named)
    with torch.inference_mode():
        expected = build(EXACT, backbone, net, image_size=SIZE, device=CPU)(pixels)
        found = program.module()(pixels)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


class _Runtime:
    """What is used of OpenVINO, without it: a file of the word "network" doubles the mean of the pixels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exports, self.settings = 0, [{}]
        module: Any = types.ModuleType("openvino")
        module.Core = lambda: self
        monkeypatch.setitem(sys.modules, "openvino", module)
        monkeypatch.setattr(openvino_network, "_export", self._export)

    def _export(self, _forward: object, image_size: tuple[int, int], path: Path) -> None:
        assert image_size == SIZE
        self.exports += 1
        path.write_text("network")

    def compile_model(self, path: Path, device: str, settings: dict[str, Any]) -> Any:
        assert device == "CPU"
        self.settings.append(settings)
        if path.read_text() != "network":
            raise ValueError("no network")

        def model(inputs: list[Any]) -> dict[str, Any]:
            (pixels,) = inputs
            assert pixels.shape == (1, 3, *SIZE)
            assert pixels.flags.c_contiguous
            score = np.array([2 * pixels.mean()], dtype=np.float32)
            return {"score": score, "cam": np.zeros((1, 8, 9), np.float32)}

        return model


def _never(_pixels: torch.Tensor) -> Output:
    raise AssertionError("torch is not asked")


def test_images_are_computed_one_by_one_and_come_back_together(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = _Runtime(monkeypatch)
    pixels = torch.stack([torch.full((3, *SIZE), value, dtype=torch.uint8) for value in (1, 2, 3)])
    forward = compiled(_never, image_size=SIZE, bfloat16=True)
    found = forward(pixels.contiguous(memory_format=torch.channels_last))
    assert found.score.tolist() == [2.0, 4.0, 6.0]
    assert found.cam.shape == (3, 8, 9)
    assert runtime.settings[-1]["INFERENCE_PRECISION_HINT"] == "bf16"
    assert runtime.settings[-1]["INFERENCE_NUM_THREADS"] == torch.get_num_threads()


def test_its_tools_cannot_report_their_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openvino_telemetry.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)  # so that it is as before after the test
    monkeypatch.delitem(sys.modules, "openvino_telemetry")
    _Runtime(monkeypatch)
    compiled(_never, image_size=SIZE, bfloat16=False)
    with pytest.raises(ImportError):
        __import__("openvino_telemetry")


def test_an_exported_network_is_read_again_unless_it_is_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime, kept = _Runtime(monkeypatch), tmp_path / "engines" / "model.onnx"
    for _ in range(2):
        compiled(_never, image_size=SIZE, bfloat16=True, kept=kept)
    assert runtime.exports == 1
    kept.write_text("half a net")
    compiled(_never, image_size=SIZE, bfloat16=True, kept=kept)
    assert (runtime.exports, kept.read_text()) == (2, "network")
    assert "exported again" in caplog.text
    assert list(kept.parent.iterdir()) == [kept]


def test_only_the_networks_used_last_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _Runtime(monkeypatch)
    for age, name in enumerate("abcde"):
        compiled(_never, image_size=SIZE, bfloat16=True, kept=tmp_path / f"{name}.onnx")
        os.utime(tmp_path / f"{name}.onnx", (1000 + age, 1000 + age))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.onnx", "c.onnx", "d.onnx", "e.onnx"]
    compiled(_never, image_size=SIZE, bfloat16=True, kept=tmp_path / "b.onnx")  # which is a use
    compiled(_never, image_size=SIZE, bfloat16=True, kept=tmp_path / "f.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.onnx", "d.onnx", "e.onnx", "f.onnx"]


def test_where_a_network_cannot_be_kept_it_works_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _Runtime(monkeypatch)
    (tmp_path / "file").write_text("")
    forward = compiled(_never, image_size=SIZE, bfloat16=True, kept=tmp_path / "file" / "model.onnx")
    assert forward(torch.zeros((1, 3, *SIZE), dtype=torch.uint8)).score.tolist() == [0.0]


def test_whatever_it_stumbles_over_is_one_kind_of_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _Runtime(monkeypatch)
    monkeypatch.setattr(openvino_network, "_export", lambda *_: (_ for _ in ()).throw(KeyError("aten::new")))
    with pytest.raises(RuntimeError, match=r"OpenVINO: KeyError: 'aten::new'"):
        compiled(_never, image_size=SIZE, bfloat16=True)


def test_without_it_there_is_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_network, "NEEDED", ("a-package-that-does-not-exist",))
    assert installed() is None
    assert plans_of_openvino(CPU) == []


@pytest.mark.skipif(installed() is None, reason="OpenVINO is optional and not installed here")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_its_scores_and_maps_are_the_plain_networks(
    backbone: Backbone, net: CamNet, tmp_path: Path, dtype: str
) -> None:
    pixels, kept = probe_pixels(SIZE), tmp_path / "model.onnx"
    with torch.inference_mode():
        expected = net(*backbone(pixels))
        for _ in range(2):  # exported, and read again
            plan = Plan(dtype=dtype, runtime="openvino")
            found = build(plan, backbone, net, image_size=SIZE, device=CPU, kept=kept)(pixels)
            within = 1e-4 if dtype == "float32" else 3 * MAX_ERROR  # the engine refuses what is beyond one
            torch.testing.assert_close(found.score, expected.score, rtol=0, atol=within)
            torch.testing.assert_close(found.cam, expected.cam, rtol=0, atol=10 * within)
    assert kept.exists()
