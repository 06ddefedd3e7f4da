"""One batch of an import: its files are read side by side, then written to the database in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ssn_core.sources import SourceItem
from storage import labels
from storage.db import Database, chunks, insert_for
from storage.import_files import Prepared, prepare, prepare_mask
from storage.import_groups import Groups, hash_or_none
from storage.tables import ImageRow, ImportEntryRow, LabelEventRow, utc_now


@dataclass(frozen=True)
class Target:
    """Where an import goes."""

    job_id: int
    project_id: int
    inspector: str
    client: str  # of the label events


@dataclass(frozen=True)
class _File:
    """One file of the batch, after reading."""

    item: SourceItem
    sha256: str | None
    prepared: Prepared


@dataclass
class _Known:
    """An image of the project, as it becomes while the batch is written."""

    id: int
    name: str
    label: str | None
    takes_label: bool  # nobody has said anything about it that still stands
    mask_sha256: str | None
    height: int
    width: int


def import_batch(
    db: Database,
    *,
    target: Target,
    items: Sequence[SourceItem],
    groups: Groups,
    executor: Executor,
    tell: Callable[[int], None],
) -> None:
    """Import these files.

    Args:
        executor: reads files side by side.
        tell: called with the number of files read so far; may raise to stop before anything is written.

    Raises:
        SsnError: the data folder cannot be written.
    """
    found = _read(db, target, items, groups, executor, tell)
    with db.write() as session:
        added = _insert_images(session, target, found, groups)
        known = _known(session, target.project_id, (file.sha256 for file in found), lock=True)
        next_seq = 1 + (
            session.scalar(
                select(LabelEventRow.seq)
                .where(LabelEventRow.client == target.client)
                .order_by(LabelEventRow.seq.desc())
                .limit(1)
            )
            or 0
        )
        entries: list[dict[str, Any]] = []
        events: list[labels.LabelEvent] = []
        masks: dict[int, str] = {}
        for file in found:
            image = known.get(file.sha256 or "")
            if image is None:
                entries.append(_entry(target, file, "rejected", file.prepared.rejection))
                continue
            if file.sha256 in added:
                added.remove(file.sha256)
                outcome, notes = "added", [file.prepared.note, groups.of(file.item, file.sha256 or "").note]
            else:
                outcome, notes = "already_there", [f"Same content as {image.name}", file.prepared.note]
                if image.mask_sha256 is None and file.prepared.mask_sha256 is not None:
                    image.mask_sha256 = masks[image.id] = file.prepared.mask_sha256
                    notes.append("its mask was added")
            verdict = file.item.label
            if verdict is not None and image.takes_label:
                event = labels.LabelEvent(
                    target.client, next_seq + len(events), image.id, verdict, target.inspector, origin="import"
                )
                events.append(event)
                image.label, image.takes_label = verdict, False
            elif verdict is not None and verdict != image.label:
                notes.append(f"called {verdict} here, but it keeps its label ({image.label or 'cleared'})")
            entries.append(_entry(target, file, outcome, "; ".join(filter(None, notes)), image.id))
        labels.append(session, project_id=target.project_id, events=events)
        if masks:
            session.execute(update(ImageRow), [{"id": key, "mask_sha256": value} for key, value in masks.items()])
        for chunk in chunks(entries):
            session.execute(insert_for(session, ImportEntryRow).values(list(chunk)))


def _read(
    db: Database,
    target: Target,
    items: Sequence[SourceItem],
    groups: Groups,
    executor: Executor,
    tell: Callable[[int], None],
) -> list[_File]:
    """Read and store what is new; of what is there already, only a mask that is missing."""
    data_dir = db.data_dir
    hashes = list(executor.map(lambda item: groups.known_hash(item) or hash_or_none(item.path), items))
    with db.read() as session:
        there = _known(session, target.project_id, hashes, lock=False)
    first: dict[str, int] = {}  # content -> position of the file that brings it
    tasks: list[Future[Prepared] | None] = []
    for position, (item, sha256) in enumerate(zip(items, hashes, strict=True)):
        known = there.get(sha256 or "")
        if known is not None or (sha256 is not None and sha256 in first):
            tasks.append(None)
        else:
            tasks.append(executor.submit(prepare, data_dir, item, sha256))
            if sha256 is not None:
                first[sha256] = position
    found: list[_File] = []
    for position, (item, sha256, task) in enumerate(zip(items, hashes, tasks, strict=True)):
        if task is not None:
            prepared = task.result()
        elif (known := there.get(sha256 or "")) is not None:
            size = (known.height, known.width)
            prepared = _mask_only(db, item, size) if known.mask_sha256 is None else Prepared()
        else:
            twin = found[first[sha256 or ""]].prepared
            missing = not twin.rejection and twin.mask_sha256 is None
            prepared = _mask_only(db, item, (twin.height, twin.width)) if missing else twin
        found.append(_File(item, sha256, prepared))
        tell(position + 1)
    return found


def _mask_only(db: Database, item: SourceItem, size: tuple[int, int]) -> Prepared:
    mask_sha256, note = prepare_mask(db.data_dir, item, size=size)
    return Prepared(mask_sha256=mask_sha256, note=note)


def _insert_images(session: Session, target: Target, found: list[_File], groups: Groups) -> set[str]:
    """Insert the images that are new; returns their hashes. Another import may have been quicker with some."""
    now = utc_now()
    rows: dict[str, dict[str, Any]] = {}
    for file in found:
        if file.sha256 is None or not file.prepared.extension or file.sha256 in rows:
            continue
        group = groups.of(file.item, file.sha256)
        rows[file.sha256] = {
            "project_id": target.project_id,
            "sha256": file.sha256,
            "name": file.item.name,
            "extension": file.prepared.extension,
            "width": file.prepared.width,
            "height": file.prepared.height,
            "n_bytes": file.prepared.n_bytes,
            "group_key": group.key,
            "part": group.part,
            "imported_split": file.item.split,
            "mask_sha256": file.prepared.mask_sha256,
            "imported_at": now,
        }
    if not rows:
        return set()
    statement = (
        insert_for(session, ImageRow)
        .values(list(rows.values()))
        .on_conflict_do_nothing(index_elements=["project_id", "sha256"])
        .returning(ImageRow.sha256)
    )
    return set(session.scalars(statement))


def _known(session: Session, project_id: int, hashes: Iterable[str | None], *, lock: bool) -> dict[str, _Known]:
    """The images of the project with these contents; `lock`: so that no verdict comes between look and label."""
    statement = (
        select(ImageRow, LabelEventRow.verdict, LabelEventRow.is_undo)
        .outerjoin(LabelEventRow, LabelEventRow.id == ImageRow.label_event_id)
        .where(ImageRow.project_id == project_id)
        .order_by(ImageRow.id)
    )
    if lock:
        statement = statement.with_for_update(of=ImageRow)
    known: dict[str, _Known] = {}
    for chunk in chunks(sorted({sha256 for sha256 in hashes if sha256 is not None})):
        for row, verdict, is_undo in session.execute(statement.where(ImageRow.sha256.in_(chunk))):
            # an undone first verdict leaves nothing said; a label that a person cleared stays cleared
            takes_label = row.label is None and (verdict is None or bool(is_undo))
            known[row.sha256] = _Known(row.id, row.name, row.label, takes_label, row.mask_sha256, row.height, row.width)
    return known


def _entry(target: Target, file: _File, outcome: str, reason: str, image_id: int | None = None) -> dict[str, Any]:
    return {
        "job_id": target.job_id,
        "name": file.item.name,
        "outcome": outcome,
        "reason": reason,
        "image_id": image_id,
    }
