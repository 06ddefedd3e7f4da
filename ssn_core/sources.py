"""Images on disk in the layouts that people have: a CSV, MVTec AD, KSDD2, KolektorSDD, a folder per class, or loose.

    >>> scan(Path("bottle")).title                                                       # doctest: +SKIP
    'MVTec AD'

Nothing is decoded but the masks that a layout needs to tell good from bad, nothing is unpickled, and nothing outside
the root is touched.
"""

from __future__ import annotations

from pathlib import Path

from ssn_core.csv_source import has_image_column, read_csv
from ssn_core.errors import LayoutError
from ssn_core.folder_layouts import READERS
from ssn_core.source_tree import Tree, walk
from ssn_core.source_types import LAYOUTS, TITLES, Found, Scan, SourceItem

__all__ = ["LAYOUTS", "TITLES", "Scan", "SourceItem", "scan"]

_SUPPORTED = "images, or folders such as good/ and bad/, or labels.csv with the columns image,label"


def scan(root: Path, *, layout: str | None = None, fold_column: str | None = None) -> Scan:
    """Find the images below a folder, or those a CSV lists, with what the layout says about them.

    Args:
        root: a folder or a ``.csv`` file. A folder that holds a ``labels.csv``, or exactly one CSV with an ``image``
            column, is read as that CSV. One folder that wraps everything else is seen through.
        layout: one of LAYOUTS, or None to recognise it.
        fold_column: the CSV column that names each image's fold; it must then be there. Only a CSV has one.

    Raises:
        LayoutError: no such folder or file, an unknown layout, another layout than the one asked for, or no image.
    """
    if layout is not None and layout not in LAYOUTS:
        raise LayoutError("Unknown layout", value=layout, expected=f"one of {', '.join(LAYOUTS)}")
    if _is_file(root):
        if root.suffix.lower() != ".csv":
            raise LayoutError("This file is no data set", value=str(root), expected="a folder or a .csv file")
        if layout not in (None, "csv"):
            raise LayoutError(f"A CSV file cannot be read as {TITLES[layout]}", value=str(root))
        return _scan("csv", root.parent.resolve(), read_csv(root, fold_column=fold_column))
    tree = walk(root)
    problems: tuple[str, ...] = ()
    if layout in (None, "csv"):
        table, problems = _table(tree)
        if table is not None:
            # What else lies in the folder is not reported: the list decides what belongs to the data set.
            return _scan("csv", table.parent, read_csv(table, fold_column=fold_column))
        if layout == "csv":
            raise LayoutError(
                "The folder holds no CSV that lists its images",
                value=str(root),
                expected="labels.csv, or exactly one CSV with an 'image' column",
            )
    if fold_column is not None:
        raise LayoutError(
            "Folds were asked for, but there is no CSV to read them from",
            value=fold_column,
            expected="a CSV with that column",
            action="Leave the fold column out, and folds are dealt by group",
        )
    for name, reader in READERS.items():
        if layout in (None, name) and (found := reader(tree)) is not None:
            unused = tuple((table, "this CSV was not used") for table in tree.tables)
            return _scan(name, tree.root, found, tree.ignored + unused, problems)
    if layout is None or not tree.images:
        raise LayoutError("No images were found", value=str(root), expected=_SUPPORTED)
    raise LayoutError(
        f"The folder is not laid out as {TITLES[layout]}", value=str(root), action="Let the layout be recognised"
    )


def _is_file(root: Path) -> bool:
    try:
        if root.is_dir():
            return False
        if root.is_file():
            return True
    except (OSError, ValueError) as error:
        raise LayoutError("This path cannot be read", value=str(root), expected="a folder or a .csv file") from error
    raise LayoutError("There is no such folder or file", value=str(root), expected="a folder or a .csv file")


def _table(tree: Tree) -> tuple[Path | None, tuple[str, ...]]:
    """The CSV that describes the folder, and what to say where several might."""
    labels = [name for name in tree.tables if name.rpartition("/")[2].lower() == "labels.csv"]
    candidates = labels or [name for name in tree.tables if has_image_column(tree.path(name))]
    if len(candidates) == 1:
        return tree.path(candidates[0]), ()
    if candidates:
        return None, (f"Several CSV files list images ({', '.join(candidates)}); none was used.",)
    return None, ()


def _scan(
    layout: str,
    root: Path,
    found: Found,
    ignored: tuple[tuple[str, str], ...] = (),
    problems: tuple[str, ...] = (),
) -> Scan:
    if not found.items:
        first = f"{found.ignored[0][0]}: {found.ignored[0][1]}" if found.ignored else "it lists none"
        raise LayoutError("No images were found", value=str(root), expected=_SUPPORTED, action=f"First reason: {first}")
    return Scan(
        root=root,
        layout=layout,
        title=TITLES[layout],
        items=tuple(found.items),
        ignored=(*found.ignored, *ignored),
        problems=(*problems, *found.problems),
    )
