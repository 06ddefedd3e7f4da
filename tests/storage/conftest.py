"""A migrated, empty database for each test: SQLite in a temporary folder, or PostgreSQL where a URL is given.

SSN_TEST_POSTGRESQL_URL (a database that the tests may empty) runs every test of this folder on PostgreSQL instead.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from storage import projects
from storage.db import Database, connect
from storage.settings import Settings
from storage.tables import ImageRow

POSTGRESQL_URL = os.environ.get("SSN_TEST_POSTGRESQL_URL", "")


def settings_for(data_dir: Path) -> Settings:
    """Settings of an installation in `data_dir`, whatever the environment says."""
    return Settings(data_dir=data_dir, database_url=POSTGRESQL_URL, weights_dir=None)


def _empty_postgresql() -> None:
    engine = create_engine(POSTGRESQL_URL)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a migrated, empty database, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("migrated")
    if not POSTGRESQL_URL:
        connect(settings_for(folder)).close()
    return folder


@pytest.fixture
def blank(tmp_path: Path) -> Settings:
    """Settings of an installation that was never started: no data folder, no tables."""
    if POSTGRESQL_URL:
        _empty_postgresql()
    return settings_for(tmp_path / "new")


@pytest.fixture
def settings(migrated: Path, tmp_path: Path) -> Settings:
    """Settings whose data folder holds an empty, migrated database."""
    data_dir = tmp_path / "data"
    shutil.copytree(migrated, data_dir)
    if POSTGRESQL_URL:
        _empty_postgresql()
    return settings_for(data_dir)


@pytest.fixture
def db(settings: Settings) -> Iterator[Database]:
    """An empty, migrated database in a data folder of its own."""
    database = connect(settings)
    yield database
    database.close()


@pytest.fixture
def project(db: Database) -> int:
    """An empty project's number."""
    return projects.create(db, name="Gears").id


@pytest.fixture
def add_images(db: Database, project: int) -> Callable[..., list[int]]:
    """Puts rows of images without files into a project: `add_images(3)` or `add_images(2, group_key="a")`."""
    counter = itertools.count()

    def add(n: int, *, project_id: int = project, **columns: Any) -> list[int]:
        rows = [
            ImageRow(
                **{
                    "project_id": project_id,
                    "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
                    "name": f"image {number}.png",
                    "extension": ".png",
                    "width": 40,
                    "height": 30,
                    "n_bytes": 1000 + number,
                    "group_key": f"group {number}",
                    "part": "train",
                    **columns,
                }
            )
            for number in itertools.islice(counter, n)
        ]
        with db.write() as session:
            session.add_all(rows)
        return [row.id for row in rows]

    return add
