"""One surface at a time: which part an image shows, whether it is bad, its picture and its exact mask.

Everything about image number n follows from (seed, materials, n) alone: not from how many images are made, in which
order, or in which process.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ssn_core.errors import SettingError
from ssn_core.surfaces import camera, materials
from ssn_core.surfaces.defects import KINDS
from ssn_core.surfaces.fields import F32, Mask, Shape
from ssn_core.surfaces.relief import Relief

Material = Callable[[np.random.Generator, np.random.Generator, Shape], Relief]

MATERIALS: Mapping[str, Material] = {
    "brushed-metal": materials.brushed_metal,
    "fabric": materials.fabric,
    "concrete": materials.concrete,
    "wood": materials.wood,
}
DEFAULT_SIZE: Shape = (256, 256)
MIN_SIZE, MAX_SIZE = 64, 2048
IMAGES_PER_PART = 3
FOLDS = 3
_BLOCK = 4  # of so many images in a row of one material, exactly one is bad

_ALTERED = 2.5 / 255  # a change below this is lost in the sensor's noise
_FEWEST_PIXELS = 20  # altered ones, for a defect to be worth the name
_LEAST_CONTRAST = 0.07  # of the strongest tenth of the altered pixels, 0..1, on a surface without any texture
_SPECK = 5  # altered pixels on their own, fewer than this, belong to no defect


@dataclass(frozen=True)
class Plan:
    """What image number `index` shows.

    Attributes:
        index: from 0.
        material: one of MATERIALS.
        part: the physical part, as "fabric-0007"; its three images belong together.
        serial: number of the image among those of its material, from 0.
        defect: a defect of the material (KINDS), or None for a good one.
        fold: "0", "1" or "2"; all images of a part share it.
    """

    index: int
    material: str
    part: str
    serial: int
    defect: str | None
    fold: str


@dataclass(frozen=True)
class Surface:
    """One generated photograph.

    Attributes:
        pixels: (H, W, 3), uint8, RGB.
        mask: (H, W), True where the defect has altered the picture; all False on a good one.
    """

    pixels: npt.NDArray[np.uint8]
    mask: Mask


def plan(index: int, *, seed: int = 0, names: Sequence[str] = tuple(MATERIALS)) -> Plan:
    """What image number `index` shows. Materials take turns part by part, so that any beginning is a mixture.

    Raises:
        SettingError: no material, one that does not exist, or one named twice.
    """
    check_materials(names)
    part = index // IMAGES_PER_PART
    material = names[part % len(names)]
    turn = part // len(names)  # number of the part among those of its material
    serial = turn * IMAGES_PER_PART + index % IMAGES_PER_PART
    return Plan(
        index=index,
        material=material,
        part=f"{material}-{turn:04}",
        serial=serial,
        defect=_defect(seed, material, serial),
        fold=str(turn % FOLDS),
    )


def check_materials(names: Sequence[str]) -> None:
    """Raises SettingError unless there is at least one material, all of them exist, and none comes twice."""
    for name in names:
        if name not in MATERIALS:
            raise SettingError("There is no such material", value=name, expected=f"one of {', '.join(MATERIALS)}")
    if not names or len(set(names)) < len(names):
        raise SettingError("Name each material once", value=" ".join(names), expected=f"some of {', '.join(MATERIALS)}")


def render(what: Plan, *, seed: int = 0, size: Shape = DEFAULT_SIZE) -> Surface:
    """The photograph that a plan describes.

    Args:
        size: (H, W), pixels, 64 to 2048 each; a pixel shows the same piece of surface at any size.

    Raises:
        SettingError: a size out of range.
    """
    check_size(size)
    shot_rng = _rng(seed, what, "shot")
    shot = camera.take(shot_rng)
    part = np.random.default_rng(_key(seed, what.material, "part", what.serial // IMAGES_PER_PART))
    good_piece = MATERIALS[what.material](part, _rng(seed, what, "image"), size)
    picture = camera.expose(good_piece, shot)
    mask = np.zeros(size, dtype=np.bool_)
    if what.defect is not None:
        picture, mask = _damaged(good_piece, picture, shot, what, seed)
    return Surface(pixels=camera.develop(shot_rng, picture, shot), mask=mask)


def check_size(size: Shape) -> None:
    """Raises SettingError unless both sides are 64 to 2048 pixels."""
    for side in size:
        if not MIN_SIZE <= side <= MAX_SIZE:
            raise SettingError(
                "The image size is out of range", value=list(size), expected=f"{MIN_SIZE} to {MAX_SIZE} pixels"
            )


def _damaged(good_piece: Relief, good: F32, shot: camera.Shot, what: Plan, seed: int) -> tuple[F32, Mask]:
    """The picture with its defect, and where it differs from the good one.

    What an inspector could not see is drawn again, stronger and elsewhere.
    """
    assert what.defect is not None  # noqa: S101  # for the type checker: the caller has asked
    draw = KINDS[what.material][what.defect]
    rng = _rng(seed, what, "defect")
    strength = rng.uniform(0.85, 1.3)
    texture = _texture(good)
    for _ in range(8):
        bad = camera.expose(draw(rng, good_piece, strength), shot)
        change = np.abs(bad - good).max(axis=2)
        mask = _solid(change > _ALTERED)
        area = int(mask.sum())
        if area >= _FEWEST_PIXELS and np.percentile(change[mask], 90) >= _visible(texture, area):
            break
        strength *= 1.2
    return np.where(mask[..., None], bad, good), mask


def _texture(picture: F32) -> float:
    """How busy the surface is: standard deviation, 0..1, of what is finer than about 10 pixels."""
    grey = picture.mean(axis=2)
    return float((grey - ndimage.gaussian_filter(grey, 5.0)).std())


def _visible(texture: float, area: int) -> float:
    """The contrast that an eye needs: more on busy surfaces, less for what covers many pixels."""
    return _LEAST_CONTRAST + 2.6 * texture / max(1.0, float((area / 100) ** 0.35))


def _solid(altered: Mask) -> Mask:
    """`altered` without holes and without specks."""
    filled = ndimage.binary_fill_holes(altered)
    labels, count = ndimage.label(filled, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes >= _SPECK
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)


def _defect(seed: int, material: str, serial: int) -> str | None:
    """The defect of an image: one image in each block of four has one, and the kinds take turns in random order."""
    block = serial // _BLOCK
    if serial % _BLOCK != np.random.default_rng(_key(seed, material, "bad", block)).integers(_BLOCK):
        return None
    kinds = list(KINDS[material])
    order = np.random.default_rng(_key(seed, material, "kinds", block // len(kinds))).permutation(len(kinds))
    return kinds[int(order[block % len(kinds)])]


def _rng(seed: int, what: Plan, purpose: str) -> np.random.Generator:
    return np.random.default_rng(_key(seed, what.material, purpose, what.serial))


def _key(seed: int, material: str, purpose: str, number: int) -> list[int]:
    """Entropy for one generator. CRC-32 and not hash(): that differs from process to process."""
    return [seed, zlib.crc32(f"{material}/{purpose}".encode()), number]
