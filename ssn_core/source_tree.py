"""Walking a folder that nobody vouches for: no symbolic link is followed, and there is an end to everything."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ssn_core.errors import LayoutError
from ssn_core.source_types import label_of_word, split_of_word

MAX_ENTRIES = 1_000_000
"""The most files and folders looked at below one root."""

MAX_DEPTH = 32
"""The deepest folder looked into, counted from the root."""

_IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"}
    | {".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}
)
_PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pyb", ".pt", ".pth"})
_CLUTTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"})


@dataclass(frozen=True)
class Tree:
    """The files below a root.

    Attributes:
        root: absolute, without symbolic links.
        base: the folder where the layout begins, relative to root, with a ``/`` at its end; empty for root itself.
            An archive often wraps everything into one folder.
        images: names relative to root, with ``/``, of the files that look like images, in natural order.
        tables: the same of the CSV files directly in ``base``.
        ignored: (name, reason) of everything else, but for hidden files and the clutter of file managers.
    """

    root: Path
    base: str
    images: tuple[str, ...]
    tables: tuple[str, ...]
    ignored: tuple[tuple[str, str], ...]

    def path(self, name: str) -> Path:
        """The path of a file of this tree."""
        return self.root / name

    def parts(self, name: str) -> list[str]:
        """The folders and the file name below ``base``."""
        return name[len(self.base) :].split("/")


def walk(root: Path) -> Tree:
    """List the files below a folder; opens none of them.

    Raises:
        LayoutError: not a folder, unreadable, or more than MAX_ENTRIES entries.
    """
    root = root.resolve()
    images: list[str] = []
    tables: list[str] = []
    ignored: list[tuple[str, str]] = []
    seen = 0
    pending = [("", 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(root / folder) as listing:
                for entry in listing:
                    seen += 1
                    if seen > MAX_ENTRIES:
                        raise LayoutError(
                            "The folder holds too many files",
                            value=str(root),
                            expected=f"at most {MAX_ENTRIES:,} files and folders",
                            action="Choose a folder further down",
                        )
                    if entry.name.startswith(".") or entry.name.casefold() in _CLUTTER:
                        continue
                    name = folder + entry.name
                    if reason := _refusal(entry, depth):
                        ignored.append((_printable(name), reason))
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append((f"{name}/", depth + 1))
                    elif entry.name.lower().endswith(".csv"):
                        tables.append(name)
                    else:
                        images.append(name)
        except OSError as error:
            if not folder:
                raise LayoutError(f"The folder cannot be read ({error.strerror})", value=str(root)) from error
            ignored.append((folder, f"the folder cannot be read ({error.strerror})"))
    images.sort(key=_natural)
    base = _base(images, tables)
    at_base = [name for name in tables if name.rpartition("/")[0] == base.rstrip("/")]
    ignored += [(name, "a CSV file that is not at the top") for name in tables if name not in at_base]
    return Tree(root, base, tuple(images), tuple(sorted(at_base, key=_natural)), tuple(sorted(ignored)))


def _refusal(entry: os.DirEntry[str], depth: int) -> str | None:
    """Why an entry is left out, or None."""
    if entry.name != _printable(entry.name):
        return "the file name is not valid text"
    if entry.is_symlink():
        return "symbolic links are not followed"
    if entry.is_dir(follow_symlinks=False):
        return f"deeper than {MAX_DEPTH} folders" if depth >= MAX_DEPTH else None
    if not entry.is_file(follow_symlinks=False):
        return "not a regular file"
    suffix = Path(entry.name).suffix.lower()
    if suffix in _PICKLE_SUFFIXES:
        return "a pickle file; such files can run programs and are never opened"
    if suffix not in _IMAGE_SUFFIXES and suffix != ".csv":
        return f"not an image file ({suffix})" if suffix else "not an image file"
    return None


def _base(images: list[str], tables: list[str]) -> str:
    """Go down while there is nothing but one folder, whose name says nothing."""
    base = ""
    while True:
        below = [name[len(base) :] for name in (*images, *tables) if name.startswith(base)]
        first, slash, _ = below[0].partition("/") if below else ("", "", "")
        if not slash or any(not name.startswith(f"{first}/") for name in below):
            return base
        if label_of_word(first) or split_of_word(first) or re.fullmatch(r"kos\d+", first, re.IGNORECASE):
            return base
        base += f"{first}/"


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that counts: ``Part2`` before ``Part10``."""
    pieces = re.split(r"([0-9]+)", name)
    return [(1, int(piece), "") if odd % 2 else (0, 0, piece.casefold()) for odd, piece in enumerate(pieces)] + [
        (0, 0, name)
    ]


def _printable(name: str) -> str:
    """The name with every byte that is not text written out, as it can be stored and shown."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
