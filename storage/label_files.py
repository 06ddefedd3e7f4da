"""Labels out of a project into a file, and from files into a project, with everything that people said.

An export in one of our own formats holds every event; read into another installation with the same images it gives the
same labels and the same history. Reading the same file twice adds nothing. A file goes in as a whole or not at all, in
one transaction; its events keep their names and times, and carry the number of the file that brought them, with who
read it in. An image's label is its newest event, so older events from a file never replace a newer verdict.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from sqlalchemy import Row, insert, select, update
from sqlalchemy.orm import Session

from ssn_core.errors import LayoutError, SsnError
from storage import label_formats, label_reading, label_rows, projects
from storage.db import Database, chunks
from storage.delivery import wrong_inspector
from storage.label_formats import FileEvent
from storage.label_reading import Parsed
from storage.tables import ImageRow, LabelEventRow, LabelFileRow, utc_now

FORMATS = ("csv", "json", "label_studio", "fiftyone")
SAMPLES = 5  # of names that are told
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


@dataclass(frozen=True)
class Plan:
    """What reading a file in does, or has done."""

    format: str  # csv | json | label_studio | fiftyone
    new: int  # events
    known: int  # events that are here already (or say what the label says already, where the file has no history)
    changed: int  # images whose label is another one afterwards
    missing: int  # events of images that the project does not have, or has several of by that name
    missing_names: tuple[str, ...]  # the first of them
    ignored: tuple[str, ...]  # what the file holds beside labels


@dataclass(frozen=True)
class LabelFile:
    """A file that was read in."""

    name: str
    format: str
    sha256: str
    n_events: int
    inspector: str
    created_at: datetime


def export(db: Database, *, project_id: int, format: str) -> Iterator[str]:  # the word that people use
    """The project's labels as text, piece by piece: csv and json with every event, the others with labels alone.

    Raises:
        ValueError: an unknown format.
        SsnError: there is no such project.
    """
    project = projects.get(db, project_id=project_id)
    if format == "csv":
        return label_formats.write_csv(label_rows.events(db, project_id=project_id))
    if format == "json":
        return label_formats.write_json(label_rows.events(db, project_id=project_id), project=project.name)
    if format == "label_studio":
        return label_formats.write_label_studio(label_rows.standing(db, project_id=project_id))
    if format == "fiftyone":
        return iter([label_formats.write_fiftyone(label_rows.labels_by_stem(db, project_id=project_id))])
    raise ValueError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")


def look(db: Database, *, project_id: int, name: str, data: bytes, inspector: str) -> Plan:
    """What reading this file in would do. Errors as for :func:`read_in`."""
    parsed = label_reading.read(name, data)
    _check_inspector(inspector)
    with db.read() as session:
        return _resolve(session, project_id, parsed, _Source.of(name, data, inspector)).plan


def read_in(db: Database, *, project_id: int, name: str, data: bytes, inspector: str) -> Plan:
    """Store the events of a file that are new here; all of them or, on an error, none.

    Args:
        name: of the file, as it was called where it came from.
        data: its bytes: any of FORMATS.
        inspector: who reads it in; also the one who said what the file gives no name for.

    Raises:
        LayoutError: the file cannot be read, or contradicts what is stored.
        SsnError: no usable inspector.
    """
    parsed = label_reading.read(name, data)
    _check_inspector(inspector)
    source = _Source.of(name, data, inspector)
    with db.write() as session:
        found = _resolve(session, project_id, parsed, source, lock=True)
        if found.new:
            row = LabelFileRow(
                project_id=project_id,
                name=source.name,
                format=parsed.format,
                sha256=source.sha256,
                n_events=len(found.new),
                inspector=source.inspector,
            )
            session.add(row)
            session.flush()
            _store(session, row.id, found)
    return found.plan


def list_files(db: Database, *, project_id: int) -> list[LabelFile]:
    """The files that were read into a project, newest first."""
    statement = select(LabelFileRow).where(LabelFileRow.project_id == project_id).order_by(LabelFileRow.id.desc())
    with db.read() as session:
        return [
            LabelFile(row.name, row.format, row.sha256, row.n_events, row.inspector, row.created_at)
            for row in session.scalars(statement)
        ]


@dataclass(frozen=True)
class _Source:
    """The file, and who reads it in when."""

    name: str
    sha256: str
    inspector: str
    now: datetime

    @classmethod
    def of(cls, name: str, data: bytes, inspector: str) -> _Source:
        printable = "".join(sign if sign.isprintable() else "\ufffd" for sign in name)
        return cls(printable[-255:], hashlib.sha256(data).hexdigest(), inspector.strip(), utc_now())

    @property
    def client(self) -> str:
        """Numbers the events that the file itself does not number."""
        return f"file:{self.sha256[:40]}"


_Stored: TypeAlias = "Row[str, int, int, int, str, str]"  # client, seq, project, image, verdict, inspector


class _Image(NamedTuple):
    id: int
    label: str | None
    said_at: datetime | None  # when the label was given or cleared


@dataclass
class _Resolved:
    """A file's events beside what the project has."""

    plan: Plan
    new: list[dict[str, Any]]  # columns of the rows to insert
    newest: dict[int, dict[str, Any]]  # image -> the one of `new` that decides its label


def _resolve(session: Session, project_id: int, parsed: Parsed, source: _Source, *, lock: bool = False) -> _Resolved:
    images = _Images(session, project_id, lock=lock)
    found = [images.find(event) for event in parsed.events]
    bare: dict[int, set[str]] = {}  # image -> what the file says of it without number and time
    for event, image in zip(parsed.events, found, strict=True):
        if image is not None and event.client is None and event.time is None:
            bare.setdefault(image.id, set()).add(event.verdict)
    timed = any(event.client is None and event.time is not None for event in parsed.events)
    told = _told(session, project_id) if timed else set()
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    missing: list[str] = []
    known = 0
    for place, (event, image) in enumerate(zip(parsed.events, found, strict=True), start=1):
        if image is None:
            missing.append(event.image or str(event.sha256))
            continue
        row = _row(project_id, image.id, event, source, place)
        what = (image.id, row["inspector"], event.verdict, row["created_at"])
        if event.client is None and event.time is None:
            is_known = bare[image.id] == {image.label or "cleared"}
        elif event.client is None:
            is_known = what in told
            told.add(what)
        else:
            is_known = False
        if is_known:
            known += 1
        elif (first := rows.setdefault((row["client"], row["seq"]), row)) is not row:
            if first != {**row, "created_at": first["created_at"]}:
                raise _contradiction(source.name, row)
            known += 1
    new = _new(session, project_id, list(rows.values()), source)
    newest: dict[int, dict[str, Any]] = {}
    for row in new:
        before = newest.get(row["image_id"])
        if before is None or before["created_at"] <= row["created_at"]:
            newest[row["image_id"]] = row
    by_id = images.by_id
    newest = {
        image_id: row
        for image_id, row in newest.items()
        if (said_at := by_id[image_id].said_at) is None or said_at <= row["created_at"]
    }
    plan = Plan(
        format=parsed.format,
        new=len(new),
        known=known + len(rows) - len(new),
        changed=sum(_label(row["verdict"]) != by_id[image_id].label for image_id, row in newest.items()),
        missing=len(missing),
        missing_names=tuple(dict.fromkeys(missing))[:SAMPLES],
        ignored=parsed.ignored,
    )
    return _Resolved(plan, new, newest)


class _Images:
    """The images of a project, to be found by content or by any form of their name that is theirs alone."""

    def __init__(self, session: Session, project_id: int, *, lock: bool) -> None:
        statement = (
            select(ImageRow.id, ImageRow.sha256, ImageRow.name, ImageRow.label, LabelEventRow.created_at)
            .outerjoin(LabelEventRow, LabelEventRow.id == ImageRow.label_event_id)
            .where(ImageRow.project_id == project_id)
            .order_by(ImageRow.id)
        )
        if lock:  # where the database locks rows: no verdict comes between look and label
            statement = statement.with_for_update(of=ImageRow)
        self.by_id: dict[int, _Image] = {}
        self._by_sha256: dict[str, int] = {}
        self._by_name: dict[str, int | None] = {}  # None: several
        self._by_upload: dict[str, int | None] = {}  # as Label Studio calls what was uploaded to it
        for image_id, sha256, name, label, said_at in session.execute(statement):
            self.by_id[image_id] = _Image(image_id, label, said_at)
            self._by_sha256[sha256] = image_id
            for form in _forms(name):
                self._by_name[form] = None if self._by_name.get(form, image_id) != image_id else image_id
            upload = _upload(name)
            self._by_upload[upload] = None if self._by_upload.get(upload, image_id) != image_id else image_id

    def find(self, event: FileEvent) -> _Image | None:
        if event.sha256 is not None:
            found = self._by_sha256.get(event.sha256)
            return None if found is None else self.by_id[found]
        path = _path(event.image) if "/" in event.image and "\\" not in event.image else event.image
        last = path.rsplit("/", 1)[-1]
        for name in (event.image, path, last, _UPLOADED.sub("", last)):
            found = self._by_name.get(name)
            if found is not None:
                return self.by_id[found]
            if name in self._by_name:
                return None  # several images bear this name
        uploaded = self._by_upload.get(_UPLOADED.sub("", last)) if _UPLOADED.match(last) else None
        return None if uploaded is None else self.by_id[uploaded]


def _path(address: str) -> str:
    """The path of an address (or of a path)."""
    try:
        return unquote(urlsplit(address).path)
    except ValueError:  # it looks like an address and is none: //[a
        return address


def _forms(name: str) -> set[str]:
    """How a file may call an image: by its whole name or the last part of it, with or without extension."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return {name, label_formats.stem(name), last, label_formats.stem(last)}


def _upload(name: str) -> str:
    """A file's name as Label Studio keeps an upload, through Django's get_valid_filename: "a (2).png" -> "a_2.png"."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"[^-\w.]", "", last.strip().replace(" ", "_"))


def _row(project_id: int, image_id: int, event: FileEvent, source: _Source, place: int) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "image_id": image_id,
        "verdict": event.verdict,
        "inspector": event.inspector.strip() if event.inspector else source.inspector,
        "origin": event.origin or "import",
        "is_undo": event.is_undo,
        "client": event.client or source.client,
        "seq": event.seq or place,
        "seconds": event.seconds,
        "map_seen": event.map_seen,
        "created_at": event.time or source.now,
    }


def _told(session: Session, project_id: int) -> set[tuple[int, str, str, datetime]]:
    """Who has said what about which image and when: events without a number are known by that."""
    statement = select(
        LabelEventRow.image_id, LabelEventRow.inspector, LabelEventRow.verdict, LabelEventRow.created_at
    ).where(LabelEventRow.project_id == project_id)
    return {(image_id, who, verdict, when) for image_id, who, verdict, when in session.execute(statement)}


def _new(session: Session, project_id: int, rows: Sequence[dict[str, Any]], source: _Source) -> list[dict[str, Any]]:
    """Those that are not stored yet.

    A client and number that another project of this installation has already (the file came from there) is counted
    under a client of this project's own, the same each time.
    """

    def own(client: str) -> str:
        name = f"{project_id}\n{client}"
        return f"file:{hashlib.sha256(name.encode()).hexdigest()[:40]}"

    # Who says what a file gives no name for is whoever read it in first.
    unnamed = (source.client, own(source.client))

    def check(row: dict[str, Any], stored: _Stored) -> None:
        same = (stored.image_id, stored.verdict) == (row["image_id"], row["verdict"])
        if not same or (stored.inspector != row["inspector"] and row["client"] not in unnamed):
            raise _contradiction(source.name, row)

    moved: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    for row, stored in _beside_stored(session, rows):
        if stored is None:
            new.append(row)
        elif stored.project_id != project_id:
            moved.append({**row, "client": own(row["client"])})
        else:
            check(row, stored)
    for row, stored in _beside_stored(session, moved):
        if stored is None:
            new.append(row)
        else:
            check(row, stored)
    return new


def _beside_stored(session: Session, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], _Stored | None]]:
    # All that the file's clients have said: much faster than asking for each number.
    stored: dict[tuple[str, int], _Stored] = {}
    for chunk in chunks(sorted({row["client"] for row in rows})):
        statement = select(
            LabelEventRow.client,
            LabelEventRow.seq,
            LabelEventRow.project_id,
            LabelEventRow.image_id,
            LabelEventRow.verdict,
            LabelEventRow.inspector,
        ).where(LabelEventRow.client.in_(chunk))
        stored.update(((one.client, one.seq), one) for one in session.execute(statement))
    for row in rows:
        yield row, stored.get((row["client"], row["seq"]))


def _store(session: Session, file_id: int, found: _Resolved) -> None:
    rows = [{**row, "file_id": file_id} for row in found.new]
    statement = insert(LabelEventRow).returning(
        LabelEventRow.client, LabelEventRow.seq, LabelEventRow.id, sort_by_parameter_order=True
    )
    ids = {(client, seq): event_id for client, seq, event_id in session.execute(statement, rows)}
    changes = [
        {"id": image_id, "label": _label(row["verdict"]), "label_event_id": ids[row["client"], row["seq"]]}
        for image_id, row in found.newest.items()
    ]
    if changes:
        session.execute(update(ImageRow), changes)


def _label(verdict: str) -> str | None:
    return None if verdict == "cleared" else verdict


def _contradiction(name: str, row: dict[str, Any]) -> LayoutError:
    return LayoutError(
        f"The label file cannot be used: event {row['seq']:,} of client {row['client'][:40]} says something else than "
        "another event of this number",
        value=name[:80],
        expected="a file that was not changed after its export",
    )


def _check_inspector(inspector: str) -> None:
    reason = wrong_inspector(inspector)
    if reason is not None:
        raise SsnError(reason)
