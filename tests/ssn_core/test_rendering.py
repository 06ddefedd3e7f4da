import io

import numpy as np
import pytest
from PIL import Image

from ssn_core import rendering
from ssn_core.errors import SettingError, SsnError

# Machado et al. 2009, full severity, applied to linear RGB.
COLOUR_BLINDNESS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lightness(rgb, seen_as):
    """CIE L* (0..100) of 8-bit sRGB colours, (N, 3), as seen by one kind of eye."""
    channel = rgb.astype(float) / 255
    linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    luminance = np.clip(linear @ COLOUR_BLINDNESS[seen_as].T, 0, 1) @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def photo(height=40, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("eye", COLOUR_BLINDNESS)
def test_the_colour_table_grows_lighter_for_every_kind_of_eye(eye):
    seen = lightness(rendering.colour_table()[:, :3], eye)
    assert (seen[8:] - seen[:-8] > 0).all()
    assert seen[-1] - seen[0] > 45


def test_the_colour_table_starts_transparent_and_ends_opaque():
    alpha = rendering.colour_table()[:, 3].astype(int)
    assert alpha[0] == 0
    assert alpha[-1] == 255
    assert (np.diff(alpha) >= 0).all()


def test_a_good_part_stays_exactly_the_photo():
    rgb = photo()
    low_map = np.linspace(-5.0, 0.5, 70).reshape(10, 7)
    np.testing.assert_array_equal(rendering.overlay(rgb, low_map, low=0.5, high=4.0, opacity=1.0), rgb)


def test_only_the_suspicious_corner_is_coloured():
    rgb = photo(40, 40)
    anomaly_map = np.zeros((40, 40))
    anomaly_map[:10, :10] = 9.0
    shown = rendering.overlay(rgb, anomaly_map, low=0.0, high=4.0, opacity=1.0)
    np.testing.assert_array_equal(shown[:10, :10].reshape(-1, 3), np.tile(rendering.colour_table()[255, :3], (100, 1)))
    np.testing.assert_array_equal(shown[10:], rgb[10:])
    np.testing.assert_array_equal(shown[:, 10:], rgb[:, 10:])


def test_opacity_mixes_photo_and_colour():
    rgb = np.full((4, 4, 3), 100, np.uint8)
    top = rendering.colour_table()[255, :3].astype(float)
    shown = rendering.overlay(rgb, np.full((4, 4), 2.0), low=0.0, high=1.0, opacity=0.25)
    np.testing.assert_allclose(shown[0, 0], 100 + 0.25 * (top - 100), atol=0.51)
    np.testing.assert_array_equal(rendering.overlay(rgb, np.full((4, 4), 2.0), low=0, high=1, opacity=0.0), rgb)


def test_a_threshold_leaves_what_lies_below_it_uncoloured():
    rgb = photo(2, 2)
    anomaly_map = np.array([[1.0, 2.0], [3.0, 4.0]])
    shown = rendering.overlay(rgb, anomaly_map, low=0.0, high=4.0, opacity=1.0, threshold=3.0)
    np.testing.assert_array_equal(shown[0], rgb[0])
    assert (shown[1] != rgb[1]).any(axis=1).all()


def test_two_maps_share_one_scale_whatever_their_own_range():
    weak, strong = np.array([[0.0, 1.0]]), np.array([[0.0, 10.0]])
    assert rendering.quantise(weak, low=0.0, high=10.0).tolist() == [[0, 26]]
    assert rendering.quantise(strong, low=0.0, high=10.0).tolist() == [[0, 255]]
    assert rendering.quantise(np.array([[-np.inf, np.inf]]), low=0.0, high=1.0).tolist() == [[0, 255]]


def test_colourise_is_the_table_on_the_unit_scale():
    table = rendering.colour_table()
    np.testing.assert_array_equal(rendering.colourise(np.array([[-1.0, 0.0, 1.0, 2.0]]))[0], table[[0, 0, 255, 255]])


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, float("nan")), (0.0, float("inf"))])
def test_a_scale_without_extent_is_refused(low, high):
    with pytest.raises(SettingError, match="colour scale"):
        rendering.quantise(np.zeros((2, 2)), low=low, high=high)


def test_an_opacity_outside_zero_to_one_is_refused():
    with pytest.raises(SettingError, match=r"1\.5"):
        rendering.overlay(photo(), np.zeros((4, 3)), low=0, high=1, opacity=1.5)


def test_a_map_that_is_not_a_number_is_refused():
    with pytest.raises(SsnError, match="not numbers"):
        rendering.overlay(photo(), np.full((4, 3), np.nan), low=0, high=1)


def test_upsampling_is_torchs_bilinear_with_half_pixel_centres():
    torch = pytest.importorskip("torch")
    anomaly_map = np.random.default_rng(2).normal(size=(11, 4)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(anomaly_map)[None, None], size=(88, 32), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(rendering.to_display_size(anomaly_map, (88, 32)), expected, atol=1e-5)


def test_the_blur_keeps_a_flat_map_flat_to_its_very_border():
    flat = rendering.to_display_size(np.full((5, 6), 3.0), (50, 60), sigma=4.0)
    np.testing.assert_allclose(flat, 3.0, atol=1e-5)


def test_the_blur_spreads_a_point_and_keeps_its_sum():
    point = np.zeros((61, 61))
    point[30, 30] = 1.0
    blurred = rendering.to_display_size(point, (61, 61), sigma=4.0)
    assert blurred.sum() == pytest.approx(1.0, abs=1e-4)
    assert blurred[30, 42] > 0
    assert blurred[30, 43] == 0  # a kernel of 25


def test_an_outline_runs_around_the_outside_so_that_a_thin_crack_stays_visible():
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 2:6] = True
    edge = rendering.outline(mask)
    assert not (edge & mask).any()
    assert edge[3:6, 1:7].sum() == edge.sum() == 3 * 6 - 4
    assert rendering.outline(mask, width=2).sum() == 5 * 8 - 4
    assert not rendering.outline(np.zeros((7, 7), dtype=bool)).any()


def test_a_drawn_outline_shows_on_black_and_on_white_and_leaves_the_defect_alone():
    mask = np.zeros((20, 20), dtype=bool)
    mask[8:11, 5:15] = True
    for grey in (0, 255):
        rgb = np.full((20, 20, 3), grey, np.uint8)
        drawn = rendering.draw_outline(rgb, mask)
        assert {0, 255} <= set(np.unique(drawn))
        np.testing.assert_array_equal(drawn[mask], rgb[mask])
        assert (rgb == grey).all()
    with pytest.raises(ValueError, match="mask"):
        rendering.draw_outline(rgb, mask[:5])


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 4)])
def test_a_png_gives_back_its_pixels(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    data = rendering.png_bytes(pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_a_png_of_a_mask_is_black_and_white_and_floats_are_refused():
    mask = np.eye(3, dtype=bool)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(rendering.png_bytes(mask)))), mask * 255)
    with pytest.raises(ValueError, match="float64"):
        rendering.png_bytes(np.zeros((2, 2)))
