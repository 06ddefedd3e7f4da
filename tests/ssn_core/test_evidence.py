from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ssn_core import evidence
from ssn_core.model import CamNet, pool_top
from ssn_core.recipes import get_recipe


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.13, 0.5, 1.0])
def test_shares_plus_bias_are_the_networks_score(fraction: float) -> None:
    torch.manual_seed(1)
    net = CamNet(get_recipe("cam").with_settings({"pooling_fraction": fraction})).eval()
    with torch.inference_mode():
        net.head.bias.fill_(-1.75)
        output = net(torch.randn(2, 128, 22, 8), torch.randn(2, 256, 11, 4), torch.randn(2, 64, 44, 16))
    for cam, score in zip(output.cam.numpy(), output.score.tolist(), strict=True):
        found = evidence.explain(cam, fraction=fraction, bias=float(net.head.bias.detach()))
        assert found.shares.sum() + found.bias == pytest.approx(score, abs=1e-5)
        assert found.score == pytest.approx(score, abs=1e-5)
        assert abs(found.score - score) <= evidence.tolerance(found, rounded=False)
        assert found.k == max(1, round(fraction * 704))


def test_a_cell_among_the_highest_adds_its_value_over_k_and_any_other_adds_nothing() -> None:
    cells = np.array([[5.0, -1.0, 3.0], [0.5, 4.0, 2.0]])
    found = evidence.explain(cells, fraction=0.5, bias=-2.0)
    assert found.counted.tolist() == [[True, False, True], [False, True, False]]
    assert found.shares == pytest.approx(np.array([[5 / 3, 0, 1.0], [0, 4 / 3, 0]]))
    assert (found.k, found.pooled, found.score, found.peak) == (3, pytest.approx(4.0), pytest.approx(2.0), 5.0)


def test_of_equal_cells_exactly_k_count_the_first_ones() -> None:
    found = evidence.explain(np.ones((4, 5)), fraction=0.15, bias=0.0)
    assert np.flatnonzero(found.counted).tolist() == [0, 1, 2]
    assert found.score == pytest.approx(1.0)


@pytest.mark.parametrize("cells", [np.zeros(3), np.zeros((0, 4)), np.zeros((2, 2, 2))])
def test_what_is_no_map_is_refused(cells: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        evidence.explain(cells, fraction=0.5, bias=0.0)


def test_covered_cells_get_the_median_of_the_others_and_as_many_cells_count_as_before() -> None:
    cells = np.array([[9.0, 1.0, 2.0], [8.0, 3.0, 7.0]])
    found = evidence.explain(cells, fraction=0.5, bias=1.0)
    covered = np.zeros_like(cells, dtype=bool)
    covered[:, 0] = True  # 9 and 8 become the median of 1, 2, 3 and 7, which is 2.5
    assert evidence.score_without(found, covered) == pytest.approx((7.0 + 3.0 + 2.5) / 3 + 1.0)
    assert evidence.score_without(found, np.zeros_like(covered)) == pytest.approx(found.score)
    assert evidence.score_without(found, np.ones_like(covered)) is None
    with pytest.raises(ValueError, match="shape"):
        evidence.score_without(found, np.zeros((3, 3), dtype=bool))


def test_covering_what_does_not_count_changes_nothing_and_covering_the_defect_lowers_the_score() -> None:
    cells = np.zeros((10, 10), dtype=np.float32)
    cells[4:6, 4:6] = 6.0
    found = evidence.explain(cells, fraction=0.04, bias=-1.0)
    away, over = np.zeros((2, 10, 10), dtype=bool)
    away[:3], over[4:6, 4:6] = True, True
    assert evidence.score_without(found, away) == pytest.approx(5.0)
    assert evidence.score_without(found, over) == pytest.approx(-1.0)


def test_the_tolerance_takes_in_rounding_to_sixteen_bits_and_no_other_map() -> None:
    cells = np.random.default_rng(0).normal(0, 5, (40, 30)).astype(np.float32)
    exact = evidence.explain(cells, fraction=0.01, bias=-3.0)
    rounded = evidence.explain(cells.astype(np.float16), fraction=0.01, bias=-3.0)
    other = evidence.explain(np.roll(cells, 1) * 1.01, fraction=0.01, bias=-3.0)
    assert 0 < abs(rounded.score - exact.score) <= evidence.tolerance(rounded, rounded=True)
    assert abs(rounded.score - exact.score) > evidence.tolerance(rounded, rounded=False)
    assert abs(other.score - exact.score) > evidence.tolerance(other, rounded=True)


def test_pooled_mean_is_what_the_network_pools() -> None:
    cam = torch.randn(1, 13, 7)
    assert evidence.pooled_mean(cam[0].numpy(), fraction=0.03) == pytest.approx(float(pool_top(cam, 0.03)))


def test_the_bias_is_read_from_a_models_folder(tmp_path) -> None:
    assert evidence.network_bias(tmp_path) is None
    save_file({"head.bias": np.full((), -0.5, dtype=np.float32)}, tmp_path / "weights.safetensors")
    assert evidence.network_bias(tmp_path) == -0.5
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "weights.safetensors").write_bytes(b"nothing")
    assert evidence.network_bias(damaged) is None
    several = tmp_path / "several"
    several.mkdir()
    save_file({"head.bias": np.zeros(2, dtype=np.float32)}, several / "weights.safetensors")
    assert evidence.network_bias(several) is None


def test_no_page_waits_for_torch_to_explain_a_map() -> None:
    code = "import sys, ssn_core.evidence; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
