"""What a scan of images on disk gives, and the words that people use for good, bad and the splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GOOD, BAD = "good", "bad"

TITLES = {
    "csv": "CSV file",
    "mvtec": "MVTec AD",
    "ksdd2": "KSDD2",
    "kolektorsdd": "KolektorSDD",
    "folders": "Folder per class",
    "flat": "Images without labels",
}
"""Layout name -> its title for people, in the order in which layouts are tried."""

LAYOUTS = tuple(TITLES)

GOOD_WORDS = frozenset({"good", "ok", "okay", "pass", "passed", "normal", "accept", "accepted"})
BAD_WORDS = frozenset(
    {"bad", "ng", "nok", "notok", "ko", "nogood", "notgood", "defect", "defects", "defective", "anomaly", "anomalies"}
    | {"anomalous", "abnormal", "fail", "failed", "failure", "fault", "faulty", "reject", "rejected"}
)
"""Label words, compared without case, blanks, hyphens and underscores: ``Not OK`` is ``notok``."""

_SPLITS = {
    "train": frozenset({"train", "training"}),
    "calibration": frozenset({"calibration", "val", "valid", "validation"}),
    "test": frozenset({"test", "testing"}),
}
_MAX_PROBLEMS = 20


@dataclass(frozen=True)
class SourceItem:
    """One image on disk with what its layout says about it.

    Attributes:
        name: path relative to the scan's root, with ``/``; unique within a scan.
        path: the image file.
        label: ``"good"``, ``"bad"`` or None where nothing is known.
        mask: a file whose non-zero pixels are defect, or None. A mask that is all black is not kept.
        group: images of one group are of one part or item and must never be split up; None where nothing is known.
        split: ``"train"``, ``"calibration"``, ``"test"`` or None.
        fold: the cross-validation fold's name, or None.
    """

    name: str
    path: Path
    label: str | None = None
    mask: Path | None = None
    group: str | None = None
    split: str | None = None
    fold: str | None = None


@dataclass(frozen=True)
class Scan:
    """The images found below a root.

    Attributes:
        root: the folder that item names are relative to.
        layout: one of LAYOUTS.
        title: the layout's name for people.
        items: at least one image, in natural order (Part2 before Part10), a CSV's in its own order.
        ignored: (name, reason) of files and CSV rows that were left out.
        problems: doubts about what was read, for people; the items are usable all the same.
    """

    root: Path
    layout: str
    title: str
    items: tuple[SourceItem, ...]
    ignored: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()

    def count(self, label: str | None) -> int:
        """The number of images with this label; None counts the unlabelled."""
        return sum(item.label == label for item in self.items)

    @property
    def n_masks(self) -> int:
        """The number of images with a mask."""
        return sum(item.mask is not None for item in self.items)

    @property
    def n_groups(self) -> int:
        """The number of different groups; images without a group do not count."""
        return len({item.group for item in self.items if item.group is not None})


@dataclass(frozen=True)
class Found:
    """What the reader of one layout found; :func:`ssn_core.sources.scan` makes a Scan of it."""

    items: Sequence[SourceItem]
    ignored: Sequence[tuple[str, str]] = ()
    problems: Sequence[str] = ()


def label_of_word(word: str) -> str | None:
    """``"good"``, ``"bad"``, or None for a word that is neither."""
    plain = _plain(word)
    if plain in GOOD_WORDS:
        return GOOD
    return BAD if plain in BAD_WORDS else None


def split_of_word(word: str) -> str | None:
    """``"train"``, ``"calibration"``, ``"test"``, or None for a word that names no split."""
    plain = _plain(word)
    return next((split for split, words in _SPLITS.items() if plain in words), None)


def shortened(problems: Sequence[str]) -> tuple[str, ...]:
    """At most 20 problems and one line that counts the rest: a list that nobody can read helps nobody."""
    if len(problems) <= _MAX_PROBLEMS:
        return tuple(problems)
    return (*problems[:_MAX_PROBLEMS], f"... and {len(problems) - _MAX_PROBLEMS} more of this kind.")


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]+", "", word.casefold())
