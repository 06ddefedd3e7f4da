"""The local head: finer maps from image labels alone, and still exact evidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from ssn_core.errors import SettingError
from ssn_core.local_evidence import LocalHead, LocalSettings, LocalTraining, Pointed
from ssn_core.metrics import ap
from ssn_core.model import CamNet
from ssn_core.recipes import get_recipe

CELLS, FINE = (8, 8), (32, 32)  # a CAM cell covers 4 x 4 fine ones
CHANNELS = 6


def random_head(seed: int = 0) -> LocalHead:
    torch.manual_seed(seed)
    head = LocalHead(CHANNELS, width=5, pooling_fraction=0.01)
    head.level.fill_(0.3)
    head.spread.fill_(0.7)
    head.weight.fill_(0.4)
    head.mean.normal_()
    head.std.uniform_(0.5, 2)
    return head.eval()


def test_the_map_is_the_plain_formula() -> None:
    head = random_head()
    cam, tap1 = torch.randn(2, *CELLS), torch.randn(2, CHANNELS, *FINE)
    with torch.no_grad():
        found = head(cam, tap1)
        wide = F.interpolate(cam[:, None], FINE, mode="bilinear", align_corners=False)[:, 0].double().numpy()
        normal = ((tap1 - head.mean[:, None, None]) / head.std[:, None, None]).double()
        hidden = torch.einsum("kc,bchw->bkhw", head.hidden.weight[:, :, 0, 0].double(), normal)
        hidden = hidden + head.hidden.bias.double()[:, None, None]
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))  # GELU, Hendrycks and Gimpel 2016
        place = torch.einsum("k,bkhw->bhw", head.out.weight[0, :, 0, 0].double(), hidden) + head.out.bias.double()
    context = (wide - 0.3) / 0.7
    p = 1 / (1 + np.exp(-context)) / (1 + np.exp(-place.numpy())) ** 0.4
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    for axis in (1, 2):
        p = np.exp(ndimage.convolve1d(np.log(p), kernel, axis=axis, mode="nearest"))
    np.testing.assert_allclose(found.cam.numpy(), np.log(p / (1 - p)), rtol=1e-4, atol=1e-4)
    highest = np.sort(found.cam.double().numpy().reshape(2, -1), axis=1)[:, -10:]
    np.testing.assert_allclose(found.score.numpy(), highest.mean(1), rtol=1e-6)


def test_a_cell_that_is_sure_stays_finite() -> None:
    head = random_head()
    with torch.no_grad():
        head.out.bias.fill_(200.0)
        found = head(torch.full((1, *CELLS), 1e6), torch.zeros(1, CHANNELS, *FINE))
    assert torch.isfinite(found.cam).all()
    assert found.score.item() > 10


def images(n: int, *, bad: bool, seed: int) -> tuple[list[Pointed], list[np.ndarray]]:
    """Surfaces whose defect is a line one fine cell wide, and whose CAM is a blob around it; and where the line is."""
    rng = np.random.default_rng(seed)
    found, lines = [], []
    for _ in range(n):
        tap1 = rng.normal(size=(CHANNELS, *FINE)).astype(np.float32)
        cam = rng.normal(scale=0.1, size=CELLS).astype(np.float32)
        line = np.zeros(FINE, dtype=bool)
        if bad:
            row, left = int(rng.integers(6, 26)), int(rng.integers(2, 12))
            line[row, left : left + 16] = True
            tap1[:2, line] += 3.0
            blob = ndimage.gaussian_filter(line.astype(np.float32), 4)
            cam += 4 * ndimage.zoom(blob / blob.max(), 0.25, order=1)
        found.append(Pointed(torch.from_numpy(cam), torch.from_numpy(tap1), bad))
        lines.append(line)
    return found, lines


def trained(
    good: list[Pointed],
    bad: list[Pointed],
    seed: int = 0,
    settings: LocalSettings | None = None,
    boundary: float = 0.0,
) -> LocalHead:
    head = LocalHead(CHANNELS, width=16, pooling_fraction=0.01)
    chosen = {} if settings is None else {"settings": settings}
    training = LocalTraining(head, boundary=boundary, seed=seed, **chosen)
    for image in (*good, *bad):
        training.add(image)
    training.fit()
    return head.eval()


def test_it_finds_the_line_in_the_blob_without_a_mask() -> None:
    head = trained(images(24, bad=False, seed=1)[0], images(12, bad=True, seed=2)[0])
    unseen, lines = images(6, bad=True, seed=3)
    normal, nothing = images(6, bad=False, seed=4)
    with torch.no_grad():
        maps = [head(image.cam[None], image.tap1[None]).cam[0].numpy() for image in (*unseen, *normal)]
    blobs = [
        F.interpolate(image.cam[None, None], FINE, mode="bilinear", align_corners=False)[0, 0].numpy()
        for image in (*unseen, *normal)
    ]
    truth = np.concatenate([line.ravel() for line in (*lines, *nothing)])
    fine = ap(truth, np.concatenate([cells.ravel() for cells in maps]))
    coarse = ap(truth, np.concatenate([cells.ravel() for cells in blobs]))
    assert fine is not None
    assert coarse is not None
    assert fine > 0.7
    assert fine > 2 * coarse


def test_training_is_repeatable_and_leaves_others_random_numbers_alone() -> None:
    good, bad = images(6, bad=False, seed=1)[0], images(3, bad=True, seed=2)[0]
    first = trained(good, bad).state_dict()
    torch.manual_seed(5)
    second = trained(good, bad).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    LocalHead(CHANNELS, width=16, pooling_fraction=0.01)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    other = trained(good, bad, seed=1).state_dict()
    assert not torch.equal(other["hidden.weight"], first["hidden.weight"])


def test_trials_can_choose_other_cells() -> None:
    good, bad = images(6, bad=False, seed=1)[0], images(3, bad=True, seed=2)[0]
    own = trained(good, bad).state_dict()
    level = trained(good, bad, settings=LocalSettings(level=0.5)).state_dict()
    assert level["level"] < own["level"]
    assert all(torch.equal(value, own[name]) for name, value in level.items() if name != "level")
    for settings in (LocalSettings(top=0.9), LocalSettings(dark=1.0, top=0.0), LocalSettings(cells_per_good=10)):
        assert not torch.equal(trained(good, bad, settings=settings).state_dict()["mean"], own["mean"]), settings


def test_where_no_cam_points_at_anything_the_map_is_the_cams() -> None:
    good = images(6, bad=False, seed=1)[0]
    dark = [Pointed(torch.full(CELLS, -9.0), image.tap1, True) for image in images(2, bad=False, seed=2)[0]]
    head = trained(good, dark)
    with torch.no_grad():
        low, high = (head(torch.full((1, *CELLS), value), good[0].tap1[None]).cam for value in (0.0, 1.0))
    assert float(low.max() - low.min()) == pytest.approx(0.0, abs=1e-5)
    assert float(high.mean()) > float(low.mean())


def test_the_level_comes_from_good_images_where_there_are_many_and_from_the_boundary_where_there_are_few() -> None:
    for n in (2, 20, 180):
        good = images(n, bad=False, seed=1)[0]
        reached = np.quantile(np.concatenate([image.cam.numpy().ravel() for image in good]), 0.999)
        for boundary in (0.0, 5.0):
            level = float(trained(good, [], boundary=boundary).level)
            assert level == pytest.approx((n * reached + 20 * boundary) / (n + 20), rel=1e-4)


def test_what_does_not_hold_on_other_images_has_no_say() -> None:
    """Each bad image is marked in a channel of its own, so none tells anything about another."""
    good, bad = images(9, bad=False, seed=1)[0], images(3, bad=False, seed=2)[0]
    cam = torch.full(CELLS, -1.0)
    cam[2:4, 2:4] = 4.0
    strange = []
    for channel, image in enumerate(bad):
        tap1 = image.tap1.clone()
        tap1[channel, 8:16, 8:16] += 6.0
        strange.append(Pointed(cam, tap1, True))
    alike = [Pointed(cam, torch.cat((image.tap1[2:], image.tap1[:2])), True) for image in strange[2:] * 3]
    assert float(trained(good, strange).weight) < 0.1
    assert 0.5 < float(trained(good, alike).weight) <= 1


def test_cells_that_are_all_alike_count_half() -> None:
    """Nine tenths of every image are one flat background, pointed at or not; what is left is told apart perfectly."""
    rng = np.random.default_rng(0)
    flat = torch.zeros(CHANNELS, *FINE)
    cam = torch.full(CELLS, -1.0)
    cam[2:4, 2:4] = 4.0
    marked = flat.clone()
    marked[:, 8:12, 8:12] = torch.from_numpy(3 + rng.normal(size=(CHANNELS, 4, 4)).astype(np.float32) / 10)
    good = [Pointed(torch.full(CELLS, -1.0) + 0.01 * n, flat, False) for n in range(9)]
    assert float(trained(good, [Pointed(cam, marked, True)] * 6).weight) > 0.9


def test_a_place_that_weighs_nothing_leaves_the_cams_order_as_it_is() -> None:
    head = random_head()
    head.weight.zero_()
    cam, tap1 = 9 * torch.randn(1, *CELLS), torch.randn(1, CHANNELS, *FINE)
    with torch.no_grad():
        found = head(cam, tap1).cam
        wide = F.interpolate(cam[:, None], FINE, mode="bilinear", align_corners=False)[:, 0]
        again = head.smooth(F.logsigmoid((wide - head.level) / head.spread))
    assert torch.equal(found.flatten().argsort(), again.flatten().argsort())
    assert float(found.max()) > 2  # not only in order: it says how sure the CAM is


def test_in_models_of_earlier_versions_context_and_place_weigh_the_same() -> None:
    head = random_head()
    state = {name: value for name, value in head.state_dict().items() if name != "weight"}
    head.load_state_dict(state, strict=True)
    assert float(head.weight) == 1
    with pytest.raises(RuntimeError, match="level"):
        head.load_state_dict({name: value for name, value in state.items() if name != "level"}, strict=True)


def test_without_a_local_head_the_score_is_pooled_as_the_recipe_says() -> None:
    recipe = get_recipe("cam").with_settings({"local_width": 0, "pooling_fraction": 0.25, "cam_fraction": 0.01})
    net = CamNet(recipe).eval()
    with torch.no_grad():
        found = net(torch.rand(1, 128, 8, 8), torch.rand(1, 256, 4, 4))
    highest = found.cam.flatten().sort(descending=True).values[:16]
    assert float(found.score) == pytest.approx(float(highest.mean()) + net.head.bias.item(), abs=1e-5)


def test_only_a_cam_has_a_local_head() -> None:
    with pytest.raises(SettingError, match="local head"):
        get_recipe("supersimplenet").with_settings({"local_width": 64})
    with pytest.raises(SettingError, match="cam_fraction"):
        get_recipe("cam").with_settings({"cam_fraction": 2})
