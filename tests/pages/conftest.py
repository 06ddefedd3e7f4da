from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.components import resources, workers
from storage.db import Database
from storage.settings import get_settings


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty installation in a folder of its own, as the pages see it; no worker process is ever started."""
    monkeypatch.setenv("SSN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("SSN_DATABASE_URL", raising=False)
    monkeypatch.setattr(workers, "start_if_needed", lambda *args, **kwargs: [])
    get_settings.cache_clear()
    database = resources.database()
    yield database
    database.engine.dispose()
    get_settings.cache_clear()
