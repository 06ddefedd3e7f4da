"""A migrated, empty database for each test: SQLite in a temporary folder, or PostgreSQL where a URL is given.

SSN_TEST_POSTGRESQL_URL (a database that the tests may empty) runs every test of this folder on PostgreSQL instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from storage.db import Database, connect
from storage.settings import Settings

POSTGRESQL_URL = os.environ.get("SSN_TEST_POSTGRESQL_URL", "")


def settings_for(data_dir: Path) -> Settings:
    """Settings of an installation in `data_dir`, whatever the environment says."""
    return Settings(data_dir=data_dir, database_url=POSTGRESQL_URL, weights_dir=None)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a migrated, empty database, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("migrated")
    if not POSTGRESQL_URL:
        connect(settings_for(folder)).close()
    return folder


@pytest.fixture
def settings(migrated: Path, tmp_path: Path) -> Settings:
    """Settings whose data folder holds an empty, migrated database."""
    data_dir = tmp_path / "data"
    shutil.copytree(migrated, data_dir)
    if POSTGRESQL_URL:
        engine = create_engine(POSTGRESQL_URL)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
    return settings_for(data_dir)


@pytest.fixture
def db(settings: Settings) -> Iterator[Database]:
    """An empty, migrated database in a data folder of its own."""
    database = connect(settings)
    yield database
    database.close()
