"""The images that a report shows with their maps: held-out ones alone, those that the model judged worst and best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ssn_core import imaging
from ssn_core.errors import ImageError, SsnError
from ssn_core.report.facts import Gallery, Shown
from ssn_core.report.pictures import beside
from storage import files, images, maps
from storage.db import Database
from storage.images import Image
from storage.predictions import HeldOut
from storage.registry import Model

PER_GALLERY = 4
Progress = Callable[[str, int, int], None]


def galleries(db: Database, *, model: Model, held_out: HeldOut, progress: Progress) -> tuple[Gallery, ...]:
    """Bad parts that look best to the model, good parts that look worst, and the clearest catches.

    At most twelve images are opened, however many there are.
    """
    lowest_bad = _extreme(held_out, bad=True, highest=False)
    highest_good = _extreme(held_out, bad=False, highest=True)
    clearest = [place for place in _extreme(held_out, bad=True, highest=True) if place not in lowest_bad]
    wanted = [*lowest_bad, *highest_good, *clearest]
    found = {
        image.id: image for image in images.get_many(db, image_ids=[held_out.image_ids[place] for place in wanted])
    }
    shown: dict[int, Shown] = {}
    for done, place in enumerate(wanted, start=1):
        progress("Drawing maps", done - 1, len(wanted))
        image, label = found[held_out.image_ids[place]], "bad" if held_out.labels[place] else "good"
        shown[place] = _shown(db, model, image, float(held_out.scores[place]), label)

    def told(places: list[int]) -> tuple[Shown, ...]:
        return tuple(shown[place] for place in places)

    escapes = sum(shown[place].verdict == "good" for place in lowest_bad)
    overkill = sum(shown[place].verdict == "bad" for place in highest_good)
    return (
        Gallery(
            "Bad parts that look best to the model",
            _sentence(lowest_bad, "bad", "lowest scores first", f"{escapes} of these {len(lowest_bad)} escaped"),
            told(lowest_bad),
        ),
        Gallery(
            "Good parts that look worst to the model",
            _sentence(highest_good, "good", "highest scores first", f"{overkill} of these {len(highest_good)} "
                      "would be rejected"),
            told(highest_good),
        ),
        Gallery(
            "Clearest catches",
            "Bad parts with the highest scores."
            if clearest
            else "n/a: there is no bad held-out image beside those shown above.",
            told(clearest),
        ),
    )  # fmt: skip


def _sentence(places: list[int], label: str, order: str, outcome: str) -> str:
    return f"{order.capitalize()}; {outcome}." if places else f"n/a: no held-out image is labelled {label}."


def _extreme(held_out: HeldOut, *, bad: bool, highest: bool) -> list[int]:
    """Places of the images of one label with the lowest or highest scores; equal ones in the order they came in."""
    of_label = np.flatnonzero(held_out.labels == int(bad))
    scores = held_out.scores[of_label]
    order = np.argsort(-scores if highest else scores, kind="stable")
    return [int(place) for place in of_label[order[:PER_GALLERY]]]


def _shown(db: Database, model: Model, image: Image, score: float, label: str) -> Shown:
    path = files.image_path(db.data_dir, sha256=image.sha256, extension=image.extension)
    picture, reason = None, ""
    try:
        photo = imaging.decode(path, name=image.name).rgb
    except ImageError as error:
        reason = f"the image cannot be read ({error.what})"
    else:
        mask = _mask(db, image) if label == "bad" else None
        anomaly_map, reason = _map(db, model, image)
        picture = beside(photo, anomaly_map, low=model.scale_low, high=model.scale_high, mask=mask)
    return Shown(image.name, label, score, model.verdict(score), picture, reason)


def _map(db: Database, model: Model, image: Image) -> tuple[NDArray[np.float32] | None, str]:
    """The map as people see it, or None and why."""
    cells = maps.load(db, model_id=model.id, sha256=image.sha256)
    if cells is None:
        return None, "there is no map of it"
    try:
        return maps.as_shown(cells, model), ""
    except KeyError:
        return None, "the model does not say at which size its maps are shown"
    except SsnError as error:
        return None, error.what


def _mask(db: Database, image: Image) -> NDArray[np.bool_] | None:
    if image.mask_sha256 is None:
        return None
    path = files.mask_path(db.data_dir, sha256=image.mask_sha256)
    try:
        return imaging.decode_mask(path, size=(image.height, image.width), name=image.name)
    except ImageError:
        return None  # without its outline the picture still says what it has to say
