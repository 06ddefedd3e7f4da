"""The database: engine, sessions and migrations."""

from __future__ import annotations

import gc
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

from ssn_core.errors import SettingError, SsnError
from storage.settings import Settings
from storage.tables import Base

LOCK_TIMEOUT_SECONDS = 30.0
CHUNK_SIZE = 500  # rows or keys in one statement: well below every database's limit on bound values
_ADVISORY_LOCK = 0x55_4E_49  # any constant: PostgreSQL's name for "someone is migrating this database"
T = TypeVar("T")
_alembic_lock = threading.Lock()  # Alembic's context is global to the process


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

    def close(self) -> None:
        """Close the pooled connections (tests, and processes that are about to end)."""
        self.engine.dispose()


@contextmanager
def no_garbage() -> Iterator[None]:
    """For reading tens of thousands of rows at once: none of them is garbage, but Python looks for it every 700 rows,
    among all that there is, which takes twice as long as reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def insert_for(session: Session, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of this database's dialect, for `.on_conflict_do_nothing()` and `.on_conflict_do_update()`.

    The one place where the dialects are told apart: their statements have the same methods, but no common class.
    """
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def chunks(items: Sequence[T], size: int = CHUNK_SIZE) -> Iterable[Sequence[T]]:
    """Pieces of at most `size` items: so many rows or keys fit one statement."""
    return (items[start : start + size] for start in range(0, len(items), size))


def connect(settings: Settings) -> Database:
    """Open the database of this installation, creating or migrating it first.

    SQLite runs in WAL mode with foreign keys on and a busy timeout of 30 s; a write transaction takes the write lock
    at its start (BEGIN IMMEDIATE), so that two writers wait for each other instead of failing half-way. A commit is
    on the disk before it is acknowledged (synchronous=FULL): a verdict survives a power cut.

    Raises:
        SettingError: SSN_DATABASE_URL is not a database URL.
        SsnError: the database was made by a newer version of this program.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        url = make_url(settings.url)
    except ArgumentError as error:
        raise SettingError(
            "SSN_DATABASE_URL is not a database URL",
            expected="something like sqlite:////data/ssn.sqlite3 or postgresql+psycopg://user@host/name",
            action="Correct it or unset it, then start again",
        ) from error
    engine = create_engine(url, pool_pre_ping=url.get_backend_name() != "sqlite")
    if engine.dialect.name == "sqlite":
        _configure_sqlite(engine)
    try:
        upgrade(engine)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine=engine, data_dir=settings.data_dir)


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, _record: Any) -> None:
        connection.isolation_level = None  # we emit BEGIN ourselves, below
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(LOCK_TIMEOUT_SECONDS * 1000)}")
        _use_wal(cursor)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', '')}")


def _use_wal(cursor: Any) -> None:
    """Switch the file to WAL mode once; the busy timeout does not cover this switch, so it is tried again here."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def alembic_config() -> Config:
    """Alembic's configuration: the migrations beside this file; no ini file, no logging set-up."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    """Bring the schema to its newest version (Alembic), under the database's own lock.

    Several processes may call this at the same moment on a new database: one migrates, the others wait and then find
    nothing to do.

    Raises:
        SsnError: the database was made by a newer version of this program.
    """
    config = alembic_config()
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        if _is_current(connection, scripts):
            return
    migrating = engine.execution_options(begin="IMMEDIATE")
    with _alembic_lock, migrating.connect() as connection:
        _foreign_keys(connection, on=False)
        try:
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
                if not _is_current(connection, scripts):
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
        finally:
            _foreign_keys(connection, on=True)


def _is_current(connection: Connection, scripts: ScriptDirectory) -> bool:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise SsnError(
            "The database was made by a newer version of SSN Inspector",
            value=found,
            expected=f"version {scripts.get_current_head()} or older",
            action="Update the program, or choose another data folder with SSN_DATA_DIR",
        )
    return found == scripts.get_current_head()


def _foreign_keys(connection: Connection, *, on: bool) -> None:
    """SQLite alters a table by copying and dropping it, which foreign keys would forbid; no effect elsewhere.

    The pragma does nothing inside a transaction, so it goes to the driver, past SQLAlchemy's BEGIN.
    """
    if connection.dialect.name == "sqlite":
        driver = connection.connection.driver_connection
        if driver is not None:
            driver.execute(f"PRAGMA foreign_keys={'ON' if on else 'OFF'}")
