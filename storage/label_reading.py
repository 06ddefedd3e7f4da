"""Reading label files that come from outside: every value is checked, and one wrong value refuses the whole file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from ssn_core.errors import LayoutError
from storage.delivery import is_count, is_numbered, wrong_inspector
from storage.label_formats import FIELDS, OURS, VERSION, FileEvent, uncelled
from storage.labels import ORIGINS, VERDICTS

MAX_BYTES = 200 * 10**6
MAX_EVENTS = 2_000_000
MAX_PROBLEMS = 5  # told one by one
MAX_NAME = 4096
T = TypeVar("T")


@dataclass(frozen=True)
class Parsed:
    """A file that could be read."""

    format: str  # csv | json | label_studio | fiftyone
    events: list[FileEvent]
    ignored: tuple[str, ...]  # what the file holds beside labels, for people


def read(name: str, data: bytes) -> Parsed:
    """Read a label file of any of the four formats; which one it is, its content says.

    Raises:
        LayoutError: it is none, it is too large, or a value in it cannot be stored; nothing of it may be used then.
    """
    if len(data) > MAX_BYTES:
        raise _wrong(name, f"it has {len(data) / 1e6:,.0f} MB", f"at most {MAX_BYTES / 1e6:,.0f} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(name, f"byte {error.start:,} is not UTF-8", "a text file in UTF-8") from error
    if not text.lstrip().startswith(("{", "[")):
        return _read_csv(name, text)
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _wrong(name, f"it is not JSON ({str(error)[:80]})", "CSV or JSON") from error
    if isinstance(content, list):
        return _parsed(name, "label_studio", enumerate(_tasks(name, content), start=1), _event, "annotation")
    if isinstance(content, dict) and content.get("format") == OURS:
        if content.get("version") != VERSION:
            raise _wrong(name, f"its version is {str(content.get('version'))[:20]}", f"version {VERSION}")
        return _parsed(name, "json", enumerate(_list(name, content, "events"), start=1), _event, "event")
    if isinstance(content, dict) and isinstance(content.get("labels"), dict):
        return _read_fiftyone(name, content)
    raise _wrong(name, "its format is unknown", "our CSV or JSON, Label Studio's tasks or FiftyOne's labels.json")


def _read_csv(name: str, text: str) -> Parsed:
    rows = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        header = [str(column).strip().lower() for column in rows.fieldnames or ()]
        rows.fieldnames = ["verdict" if column == "label" else column for column in header]
        if "verdict" not in rows.fieldnames or not {"image", "sha256"} & set(rows.fieldnames):
            raise _wrong(
                name,
                f"its first line is {', '.join(header)[:80]!r}",
                "columns image (or sha256) and verdict (or label)",
            )
        if len(set(rows.fieldnames)) < len(rows.fieldnames):
            raise _wrong(name, "it has two columns of one name", "each column once")
        found = _parsed(name, "csv", ((rows.line_num, row) for row in rows), _csv_event, "line")
    except csv.Error as error:
        raise _wrong(name, f"line {rows.line_num}: {error}", "CSV with commas") from error
    return Parsed("csv", found.events, tuple(f"column {column[:40]}" for column in header if column not in _COLUMNS))


_COLUMNS = {*FIELDS, "label"}


def _csv_event(row: object) -> FileEvent | str:
    if not isinstance(row, dict) or "" in row or None in row.values():
        return "more or fewer cells than the first line has"
    cells = {key: uncelled(value) for key, value in row.items() if key in FIELDS}
    values: dict[str, Any] = {key: value or None for key, value in cells.items()}
    for key in ("is_undo", "map_seen"):
        if values.get(key) is not None:
            values[key] = {"true": True, "false": False}.get(str(values[key]).lower(), values[key])
    for key, kind in (("seq", int), ("seconds", float)):
        if values.get(key) is not None:
            try:
                values[key] = kind(values[key])
            except ValueError:
                return f"{key} {values[key][:20]!r} is no number"
    return _event(values)


def _event(item: object) -> FileEvent | str:
    """One event, or why it cannot be stored."""
    if not isinstance(item, dict):
        return "not an event"
    values = {name: item.get(name) for name in FIELDS}
    image, sha256 = values["image"] if values["image"] is not None else "", values["sha256"]
    if not isinstance(image, str) or len(image) > MAX_NAME or not (image or sha256):
        return "no image"
    if sha256 is not None and not _is_sha256(sha256):
        return f"sha256 {str(sha256)[:20]!r} is no SHA-256"
    if values["verdict"] not in VERDICTS:
        return f"verdict {str(values['verdict'])[:20]!r} is none of {', '.join(VERDICTS)}"
    if values["inspector"] is not None and (reason := wrong_inspector(values["inspector"])) is not None:
        return reason
    if values["origin"] is not None and values["origin"] not in ORIGINS:
        return f"origin {str(values['origin'])[:20]!r} is none of {', '.join(ORIGINS)}"
    if (values["client"], values["seq"]) != (None, None) and not is_numbered(values["client"], values["seq"]):
        return "client and seq do not number the event"
    for name in ("is_undo", "map_seen"):
        if values[name] is not None and not isinstance(values[name], bool):
            return f"{name} {str(values[name])[:20]!r} is neither true nor false"
    seconds = values["seconds"]
    if seconds is not None and not _is_time_span(seconds):
        return f"seconds {str(seconds)[:20]!r} is no time"
    when = _moment(values["time"])
    if isinstance(when, str):
        return when
    return FileEvent(
        image=image,
        sha256=None if sha256 is None else sha256.lower(),
        verdict=values["verdict"],
        inspector=values["inspector"],
        origin=values["origin"],
        is_undo=values["is_undo"] is True,
        seconds=None if seconds is None else float(seconds),
        map_seen=values["map_seen"],
        client=values["client"],
        seq=values["seq"],
        time=when,
    )


def _tasks(name: str, content: list[Any]) -> Iterator[object]:
    """The verdicts in Label Studio's tasks, as our events have them."""
    for number, task in enumerate(content, start=1):
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("image"), str):
            raise _wrong(name, f"task {number} has no data.image", "Label Studio tasks, exported as JSON")
        for annotation in _list(name, task, "annotations"):
            if not isinstance(annotation, dict):
                raise _wrong(name, f"task {number} has a broken annotation", "Label Studio tasks, exported as JSON")
            if annotation.get("was_cancelled") is True:
                continue
            for result in _list(name, annotation, "result"):
                if isinstance(result, dict) and result.get("type") == "choices":
                    yield _studio_event(data, annotation, result)


def _studio_event(data: dict[str, Any], annotation: dict[str, Any], result: dict[str, Any]) -> object:
    value = result.get("value")
    choices = value.get("choices") if isinstance(value, dict) else None
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else choices
    verdict = choice.lower() if isinstance(choice, str) else choice
    meta = result.get("meta")
    who, when = annotation.get("completed_by"), annotation.get("created_at")
    if isinstance(who, dict):
        who = who.get("email") or who.get("first_name")
    elif is_count(who):
        who = f"Label Studio user {who}"
    if isinstance(meta, dict) and "inspector" in meta:  # it came from here (label_formats.write_label_studio)
        if meta.get("verdict", verdict) == verdict:
            who, when = meta["inspector"], meta.get("time", when)
        else:  # somebody changed the choice in Label Studio
            when = annotation.get("updated_at", when)
    return {
        "image": data["image"],
        "sha256": data.get("sha256"),
        "verdict": verdict,
        "inspector": who,
        "seconds": annotation.get("lead_time"),
        "time": when,
    }


def _read_fiftyone(name: str, content: dict[str, Any]) -> Parsed:
    classes = content.get("classes")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(one, str) for one in classes)):
        raise _wrong(name, "its classes are no list of names", "FiftyOne's labels.json")

    def event(item: tuple[str, Any]) -> FileEvent | str:
        uuid, label = item
        if isinstance(label, dict):  # with a confidence or attributes
            label = label.get("label")
        if isinstance(label, int) and not isinstance(label, bool) and classes is not None:
            if not 0 <= label < len(classes):
                return f"{uuid[:40]!r}: there is no class {label}"
            label = classes[label]
        return _event(
            {
                "image": uuid,
                "sha256": uuid if _is_sha256(uuid) else None,
                "verdict": label.lower() if isinstance(label, str) else label,
            }
        )

    labelled = ((uuid, label) for uuid, label in content["labels"].items() if label is not None)
    return _parsed(name, "fiftyone", enumerate(labelled, start=1), event, "label")


def _parsed(
    name: str, kind: str, items: Iterable[tuple[int, T]], event: Callable[[T], FileEvent | str], unit: str
) -> Parsed:
    """Every item as an event, or one refusal of the whole file that names the first wrong ones."""
    events: list[FileEvent] = []
    wrong: list[str] = []
    for number, item in items:
        found = event(item)
        if isinstance(found, str):
            wrong.append(f"{unit} {number:,}: {found}")
        else:
            events.append(found)
        if len(events) > MAX_EVENTS:
            raise _wrong(name, f"it has more than {MAX_EVENTS:,} events", "fewer")
        if len(wrong) > MAX_PROBLEMS:
            break
    if wrong:
        more = " and more" if len(wrong) > MAX_PROBLEMS else ""
        raise _wrong(name, "; ".join(wrong[:MAX_PROBLEMS]) + more, "a file without a wrong value")
    return Parsed(kind, events, ())


def _list(name: str, content: dict[str, Any], key: str) -> Sequence[Any]:
    value = content.get(key, [])
    if not isinstance(value, list):
        raise _wrong(name, f"{key} is no list", "CSV or JSON as it was exported")
    return value


def _moment(value: object) -> datetime | str | None:
    """An aware moment in UTC, or why it is none."""
    if value is None:
        return None
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        when = None
    if when is None:
        return f"time {str(value)[:30]!r} is no ISO 8601 time"
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    # The bounds also keep the conversion to UTC inside the calendar.
    if not datetime(1970, 1, 2, tzinfo=UTC) < when < datetime.now(UTC) + timedelta(days=1):
        return f"time {str(value)[:30]!r} is not in the past"
    return when.astimezone(UTC)


def _is_time_span(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value < 1e9  # False of NaN; JSON's whole numbers may be too long for a float


def _is_sha256(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) == 64
        and value.isascii()
        and all(c in "0123456789abcdefABCDEF" for c in value)
    )


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no number")


def _wrong(name: str, what: str, expected: str) -> LayoutError:
    return LayoutError(f"The label file cannot be used: {what}", value=name[:80], expected=expected)
