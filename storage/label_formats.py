"""The formats of label files: text in and out, without any database.

Our own two hold every event and read back without loss: CSV (one event a line) and JSON. Label Studio's tasks
(https://labelstud.io/guide/task_format) and FiftyOne's FiftyOneImageClassificationDataset
(https://docs.voxel51.com/user_guide/import_datasets.html: `labels.json` beside a folder of images) hold labels, not
their history. Both were tried with the programs themselves: Label Studio 1.23.2, and FiftyOne 1.22.1's importer and
exporter. Whatever is read comes from outside: every value is checked, and a file with one wrong value is refused
as a whole.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

OURS = "ssn-inspector-labels"
VERSION = 1
FIELDS = (
    "image",
    "sha256",
    "verdict",
    "inspector",
    "origin",
    "is_undo",
    "seconds",
    "map_seen",
    "client",
    "seq",
    "time",
)
CLASSES = ("good", "bad", "unsure")  # of Label Studio and FiftyOne
LABEL_STUDIO_CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="verdict" toName="image" choice="single">'
    + "".join(f'<Choice value="{name}"/>' for name in CLASSES)
    + "</Choices></View>"
)
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class FileEvent:
    """One event as a file has it. What a file leaves out is None, and filled in where it is stored."""

    image: str  # its name; of FiftyOne without extension
    sha256: str | None  # of its bytes: names an image for certain
    verdict: str  # good | bad | unsure | cleared
    inspector: str | None
    origin: str | None
    is_undo: bool
    seconds: float | None
    map_seen: bool | None
    client: str | None
    seq: int | None
    time: datetime | None


def write_csv(events: Iterable[FileEvent]) -> Iterator[str]:
    """Our CSV, piece by piece: UTF-8 with a byte-order mark in front; no cell is a formula to a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    buffer.write("\ufeff")
    writer.writerow(FIELDS)
    for event in events:
        writer.writerow([_cell(getattr(event, name)) for name in FIELDS])
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def write_json(events: Iterable[FileEvent], *, project: str) -> Iterator[str]:
    """Our JSON, piece by piece."""
    head = {"format": OURS, "version": VERSION, "project": project}
    yield json.dumps(head)[:-1] + ', "events": ['
    separator = "\n"
    for event in events:
        yield separator + json.dumps({name: _json_value(getattr(event, name)) for name in FIELDS})
        separator = ",\n"
    yield "\n]}\n"


def write_label_studio(labels: Iterable[FileEvent]) -> Iterator[str]:
    """Label Studio tasks: one image each, with an annotation for each inspector whose verdict stands.

    Args:
        labels: events of one image one after the other, one for each inspector.
    """
    yield "["
    separator = "\n"
    task: dict[str, Any] | None = None
    for number, event in enumerate(labels, start=1):
        if task is not None and task["data"]["sha256"] != event.sha256:
            yield separator + json.dumps(task)
            task, separator = None, ",\n"
        task = task or {"data": {"image": event.image, "sha256": event.sha256}, "annotations": []}
        task["annotations"].append(_annotation(event, number))
    if task is not None:
        yield separator + json.dumps(task)
    yield "\n]\n"


def write_fiftyone(labels: Mapping[str, str | None]) -> str:
    """FiftyOne's labels.json: image name without extension -> place in `classes`; None has no label."""
    places = {uuid: None if label is None else CLASSES.index(label) for uuid, label in labels.items()}
    return json.dumps({"classes": CLASSES, "labels": places}, indent=1)


def _annotation(event: FileEvent, number: int) -> dict[str, Any]:
    when = _json_value(event.time)
    result = {
        "id": f"verdict-{number}",
        "from_name": "verdict",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [event.verdict]},
        # Label Studio keeps this; `completed_by` must be one of its own users, and both times below become those of the
        # import. Whoever changes the choice there leaves it as it is, so the verdict tells whether it still holds.
        "meta": {"inspector": event.inspector, "verdict": event.verdict, "time": when},
    }
    return {
        "result": [result],
        "was_cancelled": False,
        "ground_truth": False,
        "lead_time": event.seconds,
        "created_at": when,
        "updated_at": when,
    }


def _json_value(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _cell(value: object) -> str:
    """A CSV cell that reads back as it was: an apostrophe goes before what a spreadsheet would take for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(_json_value(value))
    guarded = isinstance(value, str) and (text.startswith("'") or text.lstrip().startswith(_FORMULA_STARTS))
    return "'" + text if guarded else text


def uncelled(cell: str) -> str:
    """A cell as it was before :func:`_cell`."""
    return cell[1:] if cell.startswith("'") else cell


def stem(name: str) -> str:
    """A name as FiftyOne has it: with forward slashes, without extension."""
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix("")) if path.name else name
