"""A CSV that lists images: columns ``image, label[, mask, group, split, fold]``, paths relative to the file.

One bad row never stops the others: it is left out with its line number and the reason.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from ssn_core.errors import ImageError, LayoutError
from ssn_core.imaging import decode_mask
from ssn_core.source_types import BAD, GOOD, Found, SourceItem, label_of_word, shortened, split_of_word

MAX_CSV_BYTES = 256 * 2**20
"""The largest CSV accepted, in bytes."""

COLUMNS = ("image", "label", "mask", "group", "split", "fold")
"""The columns that are read, whatever their order and case; others are allowed and not looked at."""

_DELIMITERS = ",;\t"
_NUMBERS = {"0": GOOD, "0.0": GOOD, "1": BAD, "1.0": BAD}  # 1 = bad, as in every anomaly data set; floats from pandas
_HEADER_BYTES = 65536


def has_image_column(path: Path) -> bool:
    """Whether the file's first line names an ``image`` column; False also for a file that cannot be read."""
    try:
        with path.open("rb") as stream:
            text, _ = _to_text(stream.read(_HEADER_BYTES), str(path), partial=True)
        return _dialect(text) is not None
    except (OSError, LayoutError):
        return False


def read_csv(path: Path, *, fold_column: str | None = None) -> Found:
    """Read the list of images.

    The delimiter is a comma, a semicolon or a tab, found from the header. Labels are the words of
    :func:`ssn_core.source_types.label_of_word`, 0 (good) or 1 (bad); an empty cell is an unlabelled image.
    Paths must stay below the CSV's folder, also through symbolic links.

    Args:
        fold_column: the column with the folds, which must then be there; None reads ``fold`` where there is one.

    Raises:
        LayoutError: unreadable, not text, too large, or without an ``image`` column or the asked-for fold column.
    """
    try:
        size = path.stat().st_size
        if size > MAX_CSV_BYTES:
            raise LayoutError("The CSV is too large", value=str(path), expected=f"at most {MAX_CSV_BYTES >> 20} MiB")
        text, problems = _to_text(path.read_bytes(), str(path))
    except OSError as error:
        raise LayoutError(f"The CSV cannot be read ({error.strerror})", value=str(path)) from error
    dialect = _dialect(text)
    if dialect is None:
        first = text.lstrip().partition("\n")[0].strip()
        raise LayoutError(
            "The CSV has no 'image' column",
            value=str(path),
            expected=f"a first line such as image,label,mask,group,split; it is {first[:80]!r}",
        )
    if fold_column is not None:
        dialect = dialect.with_fold_column(fold_column, path)
    twice = sorted({column for column in COLUMNS if dialect.header.count(column) > 1})
    if twice:
        raise LayoutError(f"The CSV has the column {twice[0]!r} twice", value=str(path), expected="each column once")
    rows = _Rows(Folder(path.parent.resolve()))
    if "label" not in dialect.header:
        problems.append("The CSV has no 'label' column; its images come without labels.")
    reader = csv.reader(io.StringIO(dialect.body, newline=""), delimiter=dialect.delimiter)
    line = dialect.line
    try:
        for cells in reader:
            row = {column: cell.strip() for column, cell in zip(dialect.header, cells, strict=False)}
            if any(row.values()):
                rows.add(line, row)
            line = dialect.line + reader.line_num
    except csv.Error as error:
        raise LayoutError(
            f"The CSV cannot be read from line {line} on ({error})", value=str(path), expected="well-formed CSV"
        ) from error
    return Found(rows.items, rows.ignored, [*problems, *shortened(rows.problems)])


class Folder:
    """A folder that paths from outside must not leave.

    Args:
        root: absolute, without symbolic links.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._parents: dict[str, Path | None] = {}

    def find(self, text: str) -> tuple[str, Path]:
        """The tidy relative name (with ``/``) and the path of the file that ``text`` names.

        Raises:
            ValueError: with the reason for people: absolute, leading out of the folder, or not there.
        """
        plain = text.replace("\\", "/")  # lists made on Windows
        if plain.startswith("/") or PureWindowsPath(text).drive:
            raise ValueError("absolute paths are not accepted")
        parts = PurePosixPath(plain).parts
        if ".." in parts:
            raise ValueError("the path leads out of the folder ('..' is not accepted)")
        if not parts:
            raise ValueError("the path names no file")
        name = "/".join(parts)
        try:
            parent = self._parent("/".join(parts[:-1]))
            path = parent / parts[-1]
            if path.is_symlink():
                path = path.resolve()
            inside = path.is_relative_to(self.root)
            found = inside and path.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a NUL
            raise ValueError("file not found") from error
        if not inside:
            raise ValueError("the path leads out of the folder through a symbolic link")
        if not found:
            raise ValueError("file not found")
        return name, path

    def _parent(self, relative: str) -> Path:
        """Resolved once per folder, not once per row."""
        known = self._parents.get(relative)
        if known is None:
            known = self._parents[relative] = (self.root / relative).resolve()
        return known


@dataclass
class _Rows:
    """The rows read so far."""

    folder: Folder
    items: list[SourceItem] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lines: dict[Path, int] = field(default_factory=dict)

    def add(self, line: int, row: dict[str, str]) -> None:
        """Take one row in, or note why not."""
        try:
            item = self._item(line, row)
        except ValueError as error:
            self.ignored.append((row.get("image") or "(no image)", f"line {line}: {error}"))
        else:
            self.lines[item.path] = line
            self.items.append(item)

    def _item(self, line: int, row: dict[str, str]) -> SourceItem:
        if not row.get("image"):
            raise ValueError("the image column is empty")
        name, path = self.folder.find(row["image"])
        if path in self.lines:
            raise ValueError(f"the same image as in line {self.lines[path]}")
        word = row.get("label", "")
        label = _NUMBERS.get(word) or label_of_word(word)
        if word and label is None:
            raise ValueError(f"unknown label {word!r}; expected good, bad, 0, 1 or nothing")
        split = split_of_word(row.get("split", ""))
        if row.get("split") and split is None:
            self.problems.append(f"Line {line}: unknown split {row['split']!r}; expected train, calibration or test.")
        mask = self._mask(line, name, label, row.get("mask", ""))
        return SourceItem(name, path, label, mask, row.get("group") or None, split, row.get("fold") or None)

    def _mask(self, line: int, name: str, label: str | None, text: str) -> Path | None:
        """A mask that cannot be used costs the mask, not the image: image labels alone are enough to learn from."""
        if not text:
            return None
        try:
            _, path = self.folder.find(text)
        except ValueError as error:
            self.problems.append(f"Line {line}: the mask {text!r} is left out: {error}.")
            return None
        if label != GOOD:
            return path  # decoded when it is used
        try:
            defective = bool(decode_mask(path, size=None, name=text).any())
        except ImageError as error:
            self.problems.append(f"Line {line}: the mask is left out: {error}")
            return None
        if not defective:
            return None
        self.problems.append(f"Line {line}: {name} is labelled good, but its mask {text!r} shows a defect.")
        return path


@dataclass(frozen=True)
class _Dialect:
    header: list[str]
    delimiter: str
    body: str  # everything after the header
    line: int  # the number of the body's first line, from 1

    def with_fold_column(self, column: str, path: Path) -> _Dialect:
        """The same table, its folds read from another column; raises LayoutError where there is none of that name."""
        name = column.strip().lower()
        if name not in self.header:
            raise LayoutError(
                f"The CSV {path} has no column for the folds", value=column, expected=f"one of {', '.join(self.header)}"
            )
        header = ["" if cell == "fold" else cell for cell in self.header]
        header[self.header.index(name)] = "fold"
        return replace(self, header=header)


def _dialect(text: str) -> _Dialect | None:
    """How the table is written, or None where no line that could be a header names an ``image`` column."""
    lines = io.StringIO(text, newline="")
    for number, first in enumerate(lines, start=1):
        if not first.strip() or first.lower().startswith("sep="):  # a hint for spreadsheets
            continue
        for delimiter in _DELIMITERS:
            try:
                header = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter), [])]
            except csv.Error:
                continue
            if "image" in header:
                return _Dialect(header, delimiter, lines.read(), number + 1)
        return None
    return None


def _to_text(data: bytes, name: str, *, partial: bool = False) -> tuple[str, list[str]]:
    """The text of a file in UTF-8, UTF-16 with its mark, or else Windows-1252 with a word about it."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding, errors="ignore" if partial else "strict"), []
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252"), ["The CSV is not UTF-8; it was read as Windows-1252."]
    except UnicodeDecodeError as error:
        raise LayoutError("The CSV is not readable text", value=name, expected="UTF-8") from error
