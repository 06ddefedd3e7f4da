"""The database: migrations, locks, and what a broken or foreign one says."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from ssn_core.errors import SettingError, SsnError
from storage.db import Database, alembic_config, connect, no_garbage, upgrade
from storage.settings import Settings
from storage.tables import Base, ModelRow, ProjectRow

ROOT = Path(__file__).parents[2]
CONNECT = """
import sys, time
from pathlib import Path
from storage.db import connect
from storage.settings import Settings
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
connect(Settings(data_dir=Path(sys.argv[1]), database_url=sys.argv[3])).close()
"""


def test_the_migrations_give_exactly_the_tables_that_the_code_declares(db: Database) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_first_version_can_be_taken_back(db: Database) -> None:
    config = alembic_config()
    with db.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(db.engine).get_table_names()) == {"alembic_version"}


def test_an_older_database_keeps_its_models_when_it_is_brought_up_to_date(db: Database) -> None:
    config = alembic_config()
    with db.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        now = "2026-11-24 10:00:00"
        connection.execute(
            text(
                "INSERT INTO projects (id, name, name_key, created_at, image_height, image_width) "
                "VALUES (1, 'Gear', 'gear', :now, 256, 256)"
            ),
            {"now": now},
        )
        connection.execute(
            text(
                "INSERT INTO models (id, project_id, name, folder, recipe, backbone, created_at, held_out, threshold, "
                "suggested_threshold, scale_low, scale_high, summary) "
                "VALUES (1, 1, 'first', 'models/1', 'cam', 'resnet18', :now, 'test', 0.5, 0.25, 0, 1, '{}')"
            ),
            {"now": now},
        )
        connection.execute(text("UPDATE projects SET active_model_id = 1"))
    upgrade(db.engine)
    with db.read() as session:
        [model] = session.scalars(select(ModelRow)).all()
        assert (model.threshold, model.threshold_low, model.parent_id, model.archived_at) == (0.5, None, None, None)


def test_sqlite_runs_in_wal_mode_with_foreign_keys_and_a_busy_timeout(db: Database) -> None:
    if db.engine.dialect.name != "sqlite":
        pytest.skip("SQLite's own settings")
    with db.engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30_000, "synchronous": 2}


def test_processes_that_open_a_new_data_folder_at_the_same_moment_all_succeed(blank: Settings) -> None:
    start = str(time.time() + 1.5)
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CONNECT, str(blank.data_dir), start, blank.database_url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(5)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, "\n".join(outputs)
    database = connect(blank)
    assert "label_events" in inspect(database.engine).get_table_names()
    database.close()


def test_threads_that_connect_at_the_same_moment_all_succeed(blank: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        for database in pool.map(lambda _: connect(blank), range(8)):
            database.close()


def test_connecting_again_keeps_what_is_there(settings: Settings) -> None:
    first = connect(settings)
    with first.write() as session:
        session.add(ProjectRow(name="Gears", name_key="gears"))
    first.close()
    second = connect(settings)
    with second.read() as session:
        assert session.query(ProjectRow).one().name == "Gears"
    second.close()


def test_a_database_of_a_newer_version_is_refused_with_advice(settings: Settings, db: Database) -> None:
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SsnError, match="newer version of SSN Inspector: '9999'"):
        connect(settings)


def test_a_url_that_is_none_is_refused_without_repeating_a_password(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="SSN_DATABASE_URL") as caught:
        connect(Settings(data_dir=tmp_path, database_url="secret-not-a-url"))
    assert "secret" not in str(caught.value)


def test_a_failed_write_leaves_nothing_behind(db: Database) -> None:
    def failing() -> None:
        with db.write() as session:
            session.add(ProjectRow(name="Gears", name_key="gears"))
            session.flush()
            raise KeyError("the use-case failed")

    with pytest.raises(KeyError):
        failing()
    with db.read() as session:
        assert session.query(ProjectRow).count() == 0


def test_opening_the_database_warns_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(Settings(data_dir=tmp_path, database_url="")).close()


def test_garbage_is_looked_for_again_after_a_large_read_whatever_happened_in_it() -> None:
    found = []

    def read() -> None:
        with no_garbage():
            with no_garbage():
                found.append(gc.isenabled())
            found.append(gc.isenabled())
            raise ZeroDivisionError

    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        read()
    assert found == [False, False]
    assert gc.isenabled()
