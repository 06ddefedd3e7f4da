"""Anomaly maps for people: one fixed colour scale, one colour table, overlays and outlines.

A map is never stretched by its own minimum and maximum: the caller passes the model's `low` and `high`, so a good part
stays uncoloured and two images can be compared by eye.

The colour table rises in lightness from violet through pink and orange to yellow (the upper part of matplotlib's
"plasma", CC0), also as seen with a red-green or blue-yellow deficiency. It starts transparent: what lies at or below
`low` shows the photo untouched.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ssn_core.errors import SettingError, SsnError

FloatArray = NDArray[np.floating[Any]]
UInt8Array = NDArray[np.uint8]

_ANCHORS = ("7201a8", "9c179e", "bd3786", "d8576b", "ed7953", "fb9f3a", "fdca26", "f0f921")
_OPAQUE_FROM = 0.35  # share of the scale over which the colour fades in, so that no hard edge appears at `low`
_KERNEL_RADIUS_IN_SIGMA = 3.0  # 12 px at sigma 4


def colour_table() -> UInt8Array:
    """The colour table, uint8 (256, 4) RGBA; entry 0 is transparent. Browsers draw with the same one."""
    anchors = np.array([[int(a[i : i + 2], 16) for i in (0, 2, 4)] for a in _ANCHORS], dtype=np.float64)
    position = np.linspace(0.0, 1.0, 256)
    at = np.linspace(0.0, 1.0, len(anchors))
    rgb = np.stack([np.interp(position, at, anchors[:, channel]) for channel in range(3)], axis=1)
    ramp = np.clip(position / _OPAQUE_FROM, 0.0, 1.0)
    alpha = ramp * ramp * (3.0 - 2.0 * ramp)  # smoothstep
    return np.round(np.concatenate([rgb, 255.0 * alpha[:, None]], axis=1)).astype(np.uint8)


_TABLE = colour_table()


def quantise(anomaly_map: FloatArray, *, low: float, high: float) -> UInt8Array:
    """The map on the model's fixed scale as uint8 (h, w): 0 at or below `low`, 255 at or above `high`.

    Raises:
        SettingError: `low` is not below `high`, or one of them is not finite.
        SsnError: the map holds a value that is not a number.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise SettingError(
            "The colour scale is not usable",
            value=(low, high),
            expected="two finite numbers, the low end below the high",
        )
    values = np.asarray(anomaly_map, dtype=np.float32)
    if np.isnan(values).any():
        raise SsnError(
            "The anomaly map holds values that are not numbers",
            value="nan",
            expected="finite numbers",
            action="Score the image again; if it stays, train the model again",
        )
    scaled: UInt8Array = np.round(255.0 * np.clip((values - low) / (high - low), 0.0, 1.0)).astype(np.uint8)
    return scaled


def colourise(map01: FloatArray) -> UInt8Array:
    """A map already on the scale 0..1 (values outside are clipped) as RGBA, uint8 (h, w, 4); 0 is transparent."""
    return _TABLE[quantise(map01, low=0.0, high=1.0)]


def overlay(
    rgb: UInt8Array,
    anomaly_map: FloatArray,
    *,
    low: float,
    high: float,
    opacity: float = 0.5,
    threshold: float | None = None,
) -> UInt8Array:
    """The photo with the anomaly map laid over it.

    Args:
        rgb: the photo, uint8 (H, W, 3).
        anomaly_map: float (h, w) in the model's units; brought to (H, W) here.
        low, high: the model's one fixed colour scale, in the map's units.
        opacity: 0 (photo alone) to 1 (full colour).
        threshold: in the map's units; what lies below it stays uncoloured. None: everything above `low` is coloured.

    Returns:
        uint8 (H, W, 3); pixels at or below `low` (or below `threshold`) are exactly those of the photo.

    Raises:
        SettingError: `opacity` or the scale is out of range.
        SsnError: the map holds a value that is not a number.
    """
    if not 0.0 <= opacity <= 1.0:
        raise SettingError("The opacity is out of range", value=opacity, expected="a number from 0 to 1")
    photo = _checked_rgb(rgb)
    shown = to_display_size(anomaly_map, (photo.shape[0], photo.shape[1]))
    coloured = _TABLE[quantise(shown, low=low, high=high)]
    alpha = coloured[..., 3:].astype(np.float32) * np.float32(opacity / 255.0)
    if threshold is not None:
        alpha[shown < threshold] = 0.0
    mixed = photo + alpha * (coloured[..., :3].astype(np.float32) - photo)
    return np.round(mixed).astype(np.uint8)


def to_display_size(anomaly_map: FloatArray, size: tuple[int, int], *, sigma: float = 0.0) -> NDArray[np.float32]:
    """The map, float (h, w), at `size` = (H, W) pixels: bilinear, then an optional Gaussian blur of `sigma` px.

    Bilinear with half-pixel centres, as torch's interpolate with align_corners=False. The blur repeats the border
    pixels, so that nothing lights up or fades along the frame.

    Raises:
        ValueError: the map is not two-dimensional or empty.
    """
    values = np.ascontiguousarray(anomaly_map, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"An anomaly map has the shape (h, w), not {values.shape}")
    height, width = size
    if values.shape != (height, width):
        resized = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
        values = np.asarray(resized, dtype=np.float32)
    if sigma > 0.0:
        values = np.asarray(
            ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=_KERNEL_RADIUS_IN_SIGMA), dtype=np.float32
        )
    return values


def outline(mask: NDArray[np.bool_], *, width: int = 1) -> NDArray[np.bool_]:
    """The outline of a mask, bool (H, W): the pixels outside it that lie within `width` pixels (8-connected) of it.

    It runs around the outside, because real cracks are three pixels wide: an inner edge would cover them.
    """
    inside = np.asarray(mask, dtype=bool)
    grown = ndimage.binary_dilation(inside, structure=np.ones((3, 3), dtype=bool), iterations=max(1, width))
    return np.asarray(grown & ~inside, dtype=bool)


def draw_outline(rgb: UInt8Array, mask: NDArray[np.bool_], *, width: int = 2) -> UInt8Array:
    """A copy of the photo, uint8 (H, W, 3), with a white outline of `width` px around the mask and black around that.

    White beside black can be seen on any photo and beside any colour of the table. The masked pixels stay as they are.

    Raises:
        ValueError: the mask has another size than the photo.
    """
    drawn = _checked_rgb(rgb).copy()
    if mask.shape != drawn.shape[:2]:
        raise ValueError(f"The mask is {mask.shape}, the photo {drawn.shape[:2]}")
    drawn[outline(mask, width=width + 1)] = 0
    drawn[outline(mask, width=width)] = 255
    return drawn


def png_bytes(array: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    """A PNG file of a uint8 or bool array: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; True becomes 255."""
    pixels = array.astype(np.uint8) * np.uint8(255) if array.dtype == bool else array
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(f"A PNG is made of uint8 (H, W), (H, W, 3) or (H, W, 4), not {pixels.dtype} {pixels.shape}")
    target = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, format="PNG", compress_level=4)
    return target.getvalue()


def _checked_rgb(rgb: UInt8Array) -> UInt8Array:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"A photo is uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}")
    return rgb
