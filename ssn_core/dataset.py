"""The images of a training run: files, labels, groups, and masks (to measure with; some recipes learn from them)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssn_core.errors import ImageError, TooFewLabelsError
from ssn_core.imaging import decode, decode_mask
from ssn_core.metrics import regions_of
from ssn_core.recipes import MIN_BAD, MIN_GOOD, Recipe, lacking
from ssn_core.sampling import Example
from ssn_core.sources import SourceItem
from ssn_core.splits import TEST, part_of_group


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with what is known about it; a training holds a hundred thousand of them.

    Args:
        key: SHA-256 of the file's bytes, hexadecimal.
        file: the file's path as text: a `Path` takes three times as much memory.
        bad: True = bad, False = good, None = not labelled.
        group: images of one part, item or copy share it; a group is never on both sides of a split.
        part: "train", "calibration" or "test", where that has been decided.
        fold: name of the cross-validation fold, where the data set brings one.
        mask: file of the defect mask; used to measure, and by :func:`examples` where the recipe learns from masks.
    """

    key: str
    file: str
    bad: bool | None
    group: str
    part: str | None = None
    fold: str | None = None
    mask: Path | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)

    def load_mask(self, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The mask at `size` = (H, W), bool: all False for a good image, None for a bad one without a mask.

        The label has the last word: a mask of an image that a person calls good marks nothing.

        Raises:
            ImageError: the mask cannot be read.
        """
        if self.bad is False:
            return np.zeros(size, dtype=bool)
        if self.mask is None:
            return None
        mask = Image.fromarray(decode_mask(self.mask, size=None)).resize(size[::-1], Image.Resampling.NEAREST)
        return np.asarray(mask, dtype=bool)

    def load_regions(self, size: tuple[int, int]) -> NDArray[np.int32] | None:
        """The regions of :meth:`load_mask` as they were drawn: (H, W) int32, 0 = good, else the region's number.

        They are told apart before the mask is scaled, which would tear thin ones: at 704 x 256 pixels the 51 drawn
        regions of KolektorSDD fall into 64. A region of which scaling leaves no pixel is missing.

        Raises:
            ImageError: the mask cannot be read.
        """
        if self.bad is False:
            return np.zeros(size, dtype=np.int32)
        if self.mask is None:
            return None
        drawn = Image.fromarray(regions_of(decode_mask(self.mask, size=None)))
        return np.asarray(drawn.resize(size[::-1], Image.Resampling.NEAREST), dtype=np.int32)


def from_sources(
    items: Iterable[SourceItem], *, on_reject: Callable[[str, str], None], progress: Callable[[int, int], None]
) -> list[LabelledImage]:
    """Read and check the files of a scanned data set.

    A file that is no usable image is reported and left out. Of byte-identical images the first stays, and their groups
    become one, so that copies never end up on both sides of a split. A mask that cannot be read costs the mask, not the
    image, and is reported now: after the training it would be too late.

    Args:
        on_reject: called with (name, reason).
        progress: called with (done, total).
    """
    items = list(items)
    joined = Groups()
    images: dict[str, LabelledImage] = {}
    for done, item in enumerate(items, start=1):
        progress(done, len(items))
        try:
            decode(item.path, name=item.name)  # first: it refuses what is too large to be read
            with item.path.open("rb") as file:
                key = hashlib.file_digest(file, "sha256").hexdigest()
        except ImageError as error:
            on_reject(item.name, str(error))
            continue
        except OSError as error:
            on_reject(item.name, f"The file cannot be read: {error.strerror}.")
            continue
        group = item.group or key
        bad = None if item.label is None else item.label == "bad"
        first = images.get(key)
        if first is None:
            mask = _readable_mask(item, on_reject)
            images[key] = LabelledImage(key, str(item.path), bad, group, item.split, item.fold, mask)
            continue
        joined.join(first.group, group)
        if first.bad is None:
            first = dataclasses.replace(first, bad=bad, mask=first.mask or _readable_mask(item, on_reject))
        elif bad is not None and bad != first.bad:
            on_reject(item.name, "Its bytes are those of an earlier image that has another label; that one stays.")
        images[key] = dataclasses.replace(first, part=TEST if item.split == TEST else first.part)
    return [dataclasses.replace(image, group=joined.find(image.group)) for image in images.values()]


def _readable_mask(item: SourceItem, on_reject: Callable[[str, str], None]) -> Path | None:
    if item.mask is not None:
        try:
            decode_mask(item.mask, size=None)
        except ImageError as error:
            on_reject(item.mask.name, f"The mask of {item.name} cannot be used. {error}")
            return None
    return item.mask


def assign_parts(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """The images, each with the part of its whole group (:func:`ssn_core.splits.part_of_group`)."""
    said: dict[str, set[str | None]] = {}
    for image in images:
        said.setdefault(image.group, set()).add(image.part)
    return [dataclasses.replace(image, part=part_of_group(image.group, said[image.group])) for image in images]


class Groups:
    """Union-find over group names: groups that share an image are one."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The name that stands for the whole group."""
        while (parent := self._parent.get(name, name)) != name:
            self._parent[name] = self._parent.get(parent, parent)
            name = parent
        return name

    def join(self, one: str, other: str) -> None:
        """Make two groups one; the first one's name stays."""
        one, other = self.find(one), self.find(other)
        if one != other:
            self._parent[other] = one


def check_labels(images: Sequence[LabelledImage], recipe: Recipe) -> None:
    """Check that there is enough for a recipe to learn from.

    Raises:
        TooFewLabelsError: says how many good or bad images, or masks, are missing.
    """
    n_good, n_bad = (sum(image.bad is bad for image in images) for bad in (False, True))
    n_marked = sum(image.bad is True and image.mask is not None for image in images)
    missing = lacking(recipe, n_good=n_good, n_bad=n_bad, n_marked=n_marked)
    if missing is None:
        return
    need_bad = "" if recipe.learns_from == "good" else f" and {MIN_BAD} bad"
    raise TooFewLabelsError(
        f"There is too little to train {recipe.name} on: {n_good} good, {n_bad} bad, {n_marked} of them with a mask",
        expected=f"at least {MIN_GOOD} good{need_bad}{', with masks' if recipe.reads_marks else ''}",
        action=missing,
    )


def check_masks(recipe: Recipe, training: Sequence[LabelledImage], name: str) -> None:
    """Check that the masks are not all on one side of a split.

    Args:
        name: of the network that is trained on these images, for the message.

    Raises:
        TooFewLabelsError: the recipe learns from masks, and none of these images has one.
    """
    if recipe.reads_marks and not any(image.bad and image.mask is not None for image in training):
        raise TooFewLabelsError(
            f"{name} has no defect mask to learn from: all masks are of images that it must not see",
            expected="masks of images of at least two parts",
            action="Import masks of other parts, or choose a recipe without masks",
        )


def examples(images: Iterable[LabelledImage], recipe: Recipe) -> list[Example]:
    """The labelled images as a recipe may see them: masks go along only where it learns from masks."""
    return [
        Example(image.key, bool(image.bad), image.mask if recipe.reads_marks and image.bad else None)
        for image in images
        if not (recipe.learns_from == "good" and image.bad)
    ]


def deal_folds(images: Sequence[LabelledImage], n_folds: int, *, need_bad: bool = True) -> dict[str, int]:
    """Deal whole groups to folds, bad and good images spread as evenly as groups allow.

    Deterministic: depends on keys, groups and labels alone, not on their order.

    Args:
        images: labelled images.
        n_folds: wished number of folds; fewer are made where there are fewer groups with bad or with good images.
        need_bad: bad images are trained on; else it does not matter how many folds hold any.

    Returns:
        key -> fold, 0-based.

    Raises:
        TooFewLabelsError: fewer than two groups hold bad images (or good ones), so nothing can be held out.
    """
    # Numbers by group, not lists of images: where every image is a group of its own, those would take more than images.
    n_good, n_bad = (Counter(image.group for image in images if image.bad is bad) for bad in (False, True))
    for word, holders in (("bad", len(n_bad)), ("good", len(n_good)))[0 if need_bad else 1 :]:
        if holders < 2:
            raise TooFewLabelsError(
                f"All {word} images come from one part, so none can be held out to measure with",
                expected=f"{word} images of at least 2 parts",
                action=f"Label {word} images of another part, then train",
            )
        n_folds = min(n_folds, holders)
    totals = [[0, 0] for _ in range(n_folds)]
    fold_of: dict[str, int] = {}
    # Groups with most bad images first, each to the fold that has fewest bad, then fewest good.
    order = sorted({image.group for image in images}, key=lambda group: hashlib.sha256(group.encode()).digest())
    order.sort(key=lambda group: (n_bad[group], n_good[group]), reverse=True)  # equal ones stay in their order
    for group in order:
        has_bad = n_bad[group] > 0
        fold = min(range(n_folds), key=lambda f: (totals[f][0], totals[f][1]) if has_bad else (totals[f][1], f))
        totals[fold][0] += n_bad[group]
        totals[fold][1] += n_good[group]
        fold_of[group] = fold
    _part_good_images(n_good, n_bad, fold_of, n_folds)
    return {image.key: fold_of[image.group] for image in images}


def _part_good_images(
    n_good: Mapping[str, int], n_bad: Mapping[str, int], fold_of: dict[str, int], n_folds: int
) -> None:
    """Move one group if a single fold holds all good images, which would leave none to train with beside it.

    That happens only where every good image shares its group with bad ones, after which the groups were dealt.
    """
    if len({fold_of[group] for group in n_good}) > 1:
        return
    # The one with fewest bad images: the fold it leaves keeps its other groups, and so bad images.
    moved = min(n_good, key=lambda group: (n_bad[group], group))
    fold_of[moved] = (fold_of[moved] + 1) % n_folds
