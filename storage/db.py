"""The database: engine, sessions and migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker

from storage.settings import Settings


@dataclass(frozen=True)
class Database:
    """What every use-case takes first: the engine, and the data folder beside it."""

    engine: Engine
    data_dir: Path

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may change rows: commits at the end, rolls back on an exception."""
        engine = self.engine.execution_options(begin="IMMEDIATE")
        with sessionmaker(engine, expire_on_commit=False).begin() as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that only reads; in WAL mode it never waits for a writer."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session


def connect(settings: Settings) -> Database:
    """Open the database of this installation, creating or migrating it first.

    SQLite runs in WAL mode with foreign keys on and a busy timeout of 30 s; a write transaction takes the write lock
    at its start (BEGIN IMMEDIATE), so that two writers wait for each other instead of failing half-way.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    engine = create_engine(settings.url, pool_pre_ping=not settings.url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        _configure_sqlite(engine)
    upgrade(engine)
    return Database(engine=engine, data_dir=settings.data_dir)


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, _record: Any) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # we emit BEGIN ourselves, below
        cursor = connection.cursor()
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', '')}")


def upgrade(engine: Engine) -> None:
    """Bring the schema to its newest version (Alembic), under the database's own lock."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
