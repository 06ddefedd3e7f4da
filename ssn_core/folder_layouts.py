"""The layouts that data sets come in. Each reader returns None where a folder is not laid out its way.

Sources: MVTec AD (Bergmann et al., CVPR 2019), KolektorSDD2 (Bozic et al., 2021), KolektorSDD (Tabernik et al., 2019).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ssn_core.errors import ImageError
from ssn_core.imaging import decode_mask
from ssn_core.source_tree import Tree
from ssn_core.source_types import BAD, GOOD, Found, SourceItem, label_of_word, shortened, split_of_word

_MASK_FOLDERS = frozenset({"ground_truth", "groundtruth", "gt", "mask", "masks"})
_MASK_FOLDER_REASON = "in a folder of masks; masks are read from a CSV or the MVTec AD layout"
_KSDD2_MASK = re.compile(r"(.+)_gt", re.IGNORECASE)
_KSDD2_STRAY = re.compile(r"_gt(?![a-z0-9])", re.IGNORECASE)
_KOLEKTOR_FOLDER = re.compile(r"kos\d+", re.IGNORECASE)
_KOLEKTOR_IMAGE = re.compile(r"(part\d+)(_label)?", re.IGNORECASE)


def read_mvtec(tree: Tree) -> Found | None:
    """``train/good``, ``test/{good,<defect>}`` and ``ground_truth/<defect>/NNN_mask``: one category or several.

    The split is not carried over: the train folder holds no bad image, and a method that learns from image labels
    could learn nothing from it. Images are split anew, by their content.
    """
    places = [place for name in tree.images if (place := _mvtec_place(tree, name)) is not None]
    folders: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for place in places:
        folders[place.category][place.role].add(place.folder)
    categories = {category for category, roles in folders.items() if _is_mvtec_category(roles)}
    if not categories:
        return None
    places = [place for place in places if place.category in categories]
    masks = {place.key: place.name for place in places if place.role == "ground_truth"}
    items: list[SourceItem] = []
    used: set[str] = set()
    for place in places:
        if place.role == "ground_truth":
            continue
        label = GOOD if place.role == "train" or label_of_word(place.folder.split("/")[0]) == GOOD else BAD
        mask = masks.get(place.key) if place.role == "test" and label == BAD else None
        used |= {mask} if mask else set()
        items.append(SourceItem(place.name, tree.path(place.name), label, tree.path(mask) if mask else None))
    known = {item.name for item in items} | used
    masks_of_none = {place.name for place in places if place.role == "ground_truth"}
    ignored = [
        (name, "a mask without its image" if name in masks_of_none else "outside train/, test/ and ground_truth/")
        for name in tree.images
        if name not in known
    ]
    bare = sum(item.label == BAD and item.mask is None for item in items)
    return Found(items, ignored, [f"Bad images without a mask: {bare}."] if bare else [])


@dataclass(frozen=True)
class _MvtecPlace:
    name: str
    category: str
    role: str  # train, test or ground_truth
    folder: str  # good or the defect's name; empty directly in train/ or test/
    stem: str

    @property
    def key(self) -> tuple[str, str, str]:
        stem = self.stem.lower()
        return self.category, self.folder.lower(), stem.removesuffix("_mask") if self.role == "ground_truth" else stem


def _mvtec_place(tree: Tree, name: str) -> _MvtecPlace | None:
    parts = tree.parts(name)
    for depth in (0, 1):  # the root is a category, or holds categories
        role = parts[depth].lower() if len(parts) > depth + 1 else ""
        if role in ("train", "test", "ground_truth"):
            category = "/".join(parts[:depth])
            return _MvtecPlace(name, category, role, "/".join(parts[depth + 1 : -1]), PurePosixPath(name).stem)
    return None


def _is_mvtec_category(roles: dict[str, set[str]]) -> bool:
    """Nothing but good images to train on, and a test folder with sub-folders."""
    train, test = roles.get("train", set()), roles.get("test", set())
    return len(train) == 1 and label_of_word(next(iter(train))) == GOOD and bool(test) and "" not in test


def read_ksdd2(tree: Tree) -> Found | None:
    """``train/NNNNN.png`` beside ``train/NNNNN_GT.png``, the same under ``test/``; an all-black mask means good.

    The split files that come with the data set are pickles and are never opened; its folders say the same.
    """
    candidates = [name for name in tree.images if len(parts := tree.parts(name)) == 1 or _is_split_folder(parts)]
    masks: dict[str, str] = {}
    for name in candidates:
        if match := _KSDD2_MASK.fullmatch(PurePosixPath(name).stem):
            masks.setdefault(_beside(name, match[1]), name)
    images = [name for name in candidates if not _KSDD2_STRAY.search(PurePosixPath(name).stem)]
    if not any(_beside(name) in masks for name in images):
        return None

    def item(name: str) -> SourceItem:
        parts = tree.parts(name)
        return SourceItem(name, tree.path(name), split=split_of_word(parts[0]) if len(parts) > 1 else None)

    return _labelled_by_masks(tree, images, masks, item, outside="outside train/ and test/")


def _is_split_folder(parts: list[str]) -> bool:
    return len(parts) == 2 and split_of_word(parts[0]) is not None


def read_kolektorsdd(tree: Tree) -> Found | None:
    """``kosNN/PartM.jpg`` beside ``kosNN/PartM_label.bmp``; any non-zero pixel means bad. The item is the group."""
    images: list[str] = []
    masks: dict[str, str] = {}
    for name in tree.images:
        parts = tree.parts(name)
        match = _KOLEKTOR_IMAGE.fullmatch(PurePosixPath(name).stem)
        if len(parts) != 2 or not _KOLEKTOR_FOLDER.fullmatch(parts[0]) or not match:
            continue
        if match[2]:
            masks.setdefault(_beside(name, match[1]), name)
        else:
            images.append(name)
    if not images:
        return None

    def item(name: str) -> SourceItem:
        return SourceItem(name, tree.path(name), group=tree.parts(name)[0].lower())

    return _labelled_by_masks(tree, images, masks, item, outside="not named kosNN/PartM")


def read_folders(tree: Tree) -> Found | None:
    """A folder per class, such as ``good/`` and ``NG/``, anywhere below the root, also below ``train/`` or ``test/``.

    Images outside such folders come without a label.
    """
    items: list[SourceItem] = []
    ignored: list[tuple[str, str]] = []
    torn: list[str] = []
    recognised = False
    for name in tree.images:
        folders = tree.parts(name)[:-1]
        labels = {label for folder in folders if (label := label_of_word(folder))}
        recognised |= bool(labels)
        if _in_mask_folder(folders):
            ignored.append((name, _MASK_FOLDER_REASON))
            continue
        if len(labels) > 1:
            torn.append(f"{name} lies in a good and in a bad folder; it comes without a label.")
        split = next((split for folder in folders if (split := split_of_word(folder))), None)
        items.append(SourceItem(name, tree.path(name), labels.pop() if len(labels) == 1 else None, split=split))
    return Found(items, ignored, shortened(torn)) if recognised else None


def read_flat(tree: Tree) -> Found | None:
    """Every image below the root, without labels."""
    ignored = [(name, _MASK_FOLDER_REASON) for name in tree.images if _in_mask_folder(tree.parts(name)[:-1])]
    masks = {name for name, _ in ignored}
    items = [SourceItem(name, tree.path(name)) for name in tree.images if name not in masks]
    return Found(items, ignored) if tree.images else None


def _in_mask_folder(folders: list[str]) -> bool:
    return any(folder.lower() in _MASK_FOLDERS for folder in folders)


READERS: dict[str, Callable[[Tree], Found | None]] = {
    "mvtec": read_mvtec,
    "ksdd2": read_ksdd2,
    "kolektorsdd": read_kolektorsdd,
    "folders": read_folders,
    "flat": read_flat,
}
"""The readers by layout, in the order in which they are tried: from the most particular to the one that always fits."""


def _beside(name: str, stem: str | None = None) -> str:
    """What an image and its mask have in common: the folder and the image's name without its suffix."""
    path = PurePosixPath(name)
    return str(path.with_name(stem or path.stem)).lower()


def _labelled_by_masks(
    tree: Tree, images: Iterable[str], masks: dict[str, str], item: Callable[[str], SourceItem], *, outside: str
) -> Found:
    """Label images by the masks beside them: not all black is bad, all black is good."""
    items: list[SourceItem] = []
    bare: set[str] = set()
    unreadable: list[str] = []
    used: set[str] = set()
    n_black = 0
    for name in images:
        mask = masks.get(_beside(name))
        found = item(name)
        if mask is None:
            bare.add(name)
        else:
            used.add(mask)
            try:
                defective = bool(decode_mask(tree.path(mask), size=None, name=mask).any())
            except ImageError as error:
                unreadable.append(f"{name} comes without a label: {error}")
            else:
                n_black += not defective
                found = replace(found, label=BAD, mask=tree.path(mask)) if defective else replace(found, label=GOOD)
        items.append(found)

    problems = list(shortened(unreadable))
    if bare and used and n_black == 0:
        # Some copies keep the masks of bad images alone. Only where no mask is black may its absence be read as good.
        items = [replace(found, label=GOOD) if found.name in bare else found for found in items]
        problems.append(
            f"Images taken as good because they have no mask and every mask here shows a defect: {len(bare)}."
        )
    elif bare:
        problems.append(f"Images that have no mask file and so come without a label: {len(bare)}.")
    known = {found.name for found in items} | used
    strays = set(masks.values())
    ignored = [
        (name, "a mask without its image" if name in strays or _KSDD2_STRAY.search(name) else outside)
        for name in tree.images
        if name not in known
    ]
    return Found(items, ignored, problems)
