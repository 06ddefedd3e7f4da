"""The camera: light from one side, a lens that is never quite sharp, and a sensor with noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ssn_core.surfaces.fields import F32, Shape, plane
from ssn_core.surfaces.relief import Relief


@dataclass(frozen=True)
class Shot:
    """How one picture is taken.

    Attributes:
        azimuth: where the light comes from, radians.
        grazing: how strongly slopes show; 1 is a light at about 45 degrees.
        exposure: factor on everything.
        falloff: change of brightness from one side of the image to the other, as a share.
        falloff_azimuth: its direction, radians.
        vignette: loss of light in the corners, as a share.
        contrast: factor around mid grey.
        warmth: red is multiplied by 1 + warmth, blue divided by it.
        blur: standard deviation of the lens's blur, pixels.
        noise: standard deviation of the sensor's noise at mid grey, grey levels of 255.
    """

    azimuth: float
    grazing: float
    exposure: float
    falloff: float
    falloff_azimuth: float
    vignette: float
    contrast: float
    warmth: float
    blur: float
    noise: float


def take(rng: np.random.Generator) -> Shot:
    """Settings that vary from picture to picture as a fixed camera in a factory does: a little."""
    return Shot(
        azimuth=math.radians(rng.normal(-125, 12)),
        grazing=rng.uniform(0.8, 1.15),
        exposure=rng.uniform(0.92, 1.07),
        falloff=rng.uniform(0.02, 0.2),
        falloff_azimuth=rng.uniform(0, 2 * math.pi),
        vignette=rng.uniform(0.02, 0.1),
        contrast=rng.uniform(0.93, 1.07),
        warmth=rng.normal(0, 0.012),
        blur=rng.uniform(0.45, 0.85),
        noise=rng.uniform(1.3, 2.8),
    )


def expose(relief: Relief, shot: Shot) -> F32:
    """The picture before the sensor's noise: (H, W, 3), 0..1."""
    slope_v, slope_h = np.gradient(relief.height)
    facing = -(math.cos(shot.azimuth) * slope_h + math.sin(shot.azimuth) * slope_v) * shot.grazing
    # Soft limits: a steep slope is neither brighter than the lamp nor blacker than the room.
    light = 1 + 0.75 * np.tanh(facing / 0.75)
    light = light * _illumination(relief.shape, shot) * shot.exposure
    picture = relief.albedo * light[..., None]
    picture = picture * np.array([1 + shot.warmth, 1.0, 1 / (1 + shot.warmth)], dtype=np.float32)
    picture = 0.45 + (picture - 0.45) * shot.contrast
    picture = np.where(picture > 0.85, 0.85 + 0.15 * np.tanh((picture - 0.85) / 0.15), picture)  # film-like shoulder
    for channel in range(3):
        picture[..., channel] = ndimage.gaussian_filter(picture[..., channel], shot.blur, mode="nearest")
    return np.asarray(np.clip(picture, 0.0, 1.0), dtype=np.float32)


def develop(rng: np.random.Generator, picture: F32, shot: Shot) -> npt.NDArray[np.uint8]:
    """The picture with sensor noise, stronger in the light: (H, W, 3), uint8."""
    height, width = picture.shape[:2]
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    colour = rng.standard_normal((height, width, 3), dtype=np.float32)
    level = np.float32(shot.noise / 255) * np.sqrt(0.35 + 1.3 * picture)
    noisy = picture + level * (0.85 * grain + 0.5 * colour)
    return np.asarray(np.clip(np.rint(noisy * 255), 0, 255), dtype=np.uint8)


def _illumination(shape: Shape, shot: Shot) -> F32:
    along, across = plane(shape, shot.falloff_azimuth)
    reach = max(shape) / 2
    radius = (along**2 + across**2) / (2 * reach**2)
    light = (1 + shot.falloff / 2 * along / reach) * (1 - shot.vignette * radius)
    return np.asarray(light, dtype=np.float32)
