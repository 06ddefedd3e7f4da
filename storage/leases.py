"""Leases: an image that one inspector is served is kept from others for a while, so that nobody works twice.

A browser asks ahead for the images that it will show next and renews what it still needs; a lease that nobody renews
ends by itself, and a closed tab blocks nobody for long. A lease is advice, never a lock: a verdict on an image that is
leased to somebody else is stored like any other (labels.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, or_, select

from storage.db import Database, chunks, insert_for
from storage.delivery import MAX_CLIENT_LENGTH, is_count, is_storable, wrong_inspector
from storage.tables import ImageRow, LeaseRow, utc_now

SECONDS = 45  # a browser renews after a third of them, for as long as somebody is before it


@dataclass(frozen=True)
class Leases:
    """What became of one request. Images that the project does not have are in neither."""

    granted: list[int]  # in the order asked for
    held: dict[int, str]  # image -> who is served it now


def take(
    db: Database,
    *,
    project_id: int,
    inspector: str,
    client: str,
    image_ids: Iterable[int],
    release: Iterable[int] = (),
) -> Leases:
    """Lease images to an inspector for SECONDS, renew what is leased already, give back what is not needed.

    Two tabs of one inspector never keep images from each other; a tab gives back only what it holds itself.

    Args:
        client: one browser tab, 1 to 64 characters.
        image_ids: wanted, the most urgent first.
        release: given back first.

    Raises:
        ValueError: `inspector` or `client` cannot be stored; the routes check what browsers send.
    """
    reason = wrong_client(client) or wrong_inspector(inspector)
    if reason is not None:
        raise ValueError(reason)
    wanted = list(dict.fromkeys(image_id for image_id in image_ids if is_count(image_id)))
    back = [image_id for image_id in release if is_count(image_id)]
    inspector, now = inspector.strip(), utc_now()
    granted: set[int] = set()
    held: dict[int, str] = {}
    with db.write() as session:
        session.execute(delete(LeaseRow).where(LeaseRow.expires_at <= now))
        for chunk in chunks(back):
            own = (LeaseRow.project_id == project_id, LeaseRow.client == client)
            session.execute(delete(LeaseRow).where(LeaseRow.image_id.in_(chunk), *own))
        for chunk in chunks(wanted):
            mine = select(ImageRow.id).where(ImageRow.project_id == project_id, ImageRow.id.in_(chunk))
            values = [
                {
                    "image_id": image_id,
                    "project_id": project_id,
                    "inspector": inspector,
                    "client": client,
                    "expires_at": now + timedelta(seconds=SECONDS),
                }
                for image_id in session.scalars(
                    mine.order_by(ImageRow.id)
                )  # in one order: no two requests lock crosswise
            ]
            if not values:
                continue
            insert = insert_for(session, LeaseRow).values(values)
            statement = insert.on_conflict_do_update(
                index_elements=["image_id"],
                set_={name: insert.excluded[name] for name in ("inspector", "client", "expires_at")},
                where=or_(LeaseRow.inspector == insert.excluded.inspector, LeaseRow.expires_at <= now),
            ).returning(LeaseRow.image_id)
            granted.update(session.scalars(statement))
            known = [one["image_id"] for one in values]
            others = select(LeaseRow.image_id, LeaseRow.inspector).where(LeaseRow.image_id.in_(known))
            held.update((image, who) for image, who in session.execute(others) if image not in granted)
    return Leases([image_id for image_id in wanted if image_id in granted], held)


def at_work(db: Database, *, project_id: int) -> dict[str, int]:
    """inspector -> images that are leased to them now: who is labelling in this project."""
    statement = select(LeaseRow.inspector).where(LeaseRow.project_id == project_id, LeaseRow.expires_at > utc_now())
    found: dict[str, int] = {}
    with db.read() as session:
        for who in session.scalars(statement):
            found[who] = found.get(who, 0) + 1
    return dict(sorted(found.items()))


def wrong_client(client: object) -> str | None:
    """Why a client's name cannot be stored, or None."""
    if isinstance(client, str) and 1 <= len(client) <= MAX_CLIENT_LENGTH and is_storable(client):
        return None
    return f"Expected a client of 1 to {MAX_CLIENT_LENGTH} characters"
