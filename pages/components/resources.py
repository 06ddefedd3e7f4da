"""What the whole process shares: settings, the database, and the key that signs the browser's requests.

The functions here work inside and outside a page script, because the HTTP routes use them too.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from functools import lru_cache
from pathlib import Path

from storage.db import Database, connect
from storage.settings import Settings, get_settings

WEEK_SECONDS = 7 * 24 * 3600
_lock = threading.Lock()


def settings() -> Settings:
    """The validated settings of this process."""
    return get_settings()


def database() -> Database:
    """The database of this process: opened (and migrated) at the first call, then shared by all sessions."""
    with _lock:  # two first visitors at once must not migrate twice
        return _database(get_settings())


@lru_cache(maxsize=4)
def _database(current: Settings) -> Database:
    return connect(current)


def token(project_id: int, session: str = "read") -> str:
    """A signed permission to use one project's routes from one session.

    It holds for this week and the next, so that the address of a picture stays the same (and the browser's cache
    useful) across reloads, and a tab left open over night can still save.

    Args:
        project_id: the only project whose images and labels the token opens.
        session: letters, digits and "-"; the session for which it was made.
    """
    week = int(time.time() // WEEK_SECONDS)
    body = f"{project_id}.{week}.{session}"
    return f"{body}.{_sign(body)}"


def check_token(text: str) -> int | None:
    """The project a token opens, or None when it is forged, damaged or too old."""
    body, _, signature = text.rpartition(".")
    parts = body.split(".")
    if len(parts) != 3 or not (parts[0] + parts[1]).isascii() or not (parts[0].isdigit() and parts[1].isdigit()):
        return None
    if not hmac.compare_digest(_sign(body).encode(), signature.encode("utf-8", "replace")):
        return None
    week = int(time.time() // WEEK_SECONDS)
    return int(parts[0]) if week - 1 <= int(parts[1]) <= week else None


def installation() -> str:
    """A short name of this installation's data: verdicts kept in a browser are never sent to another one."""
    return hashlib.sha256(b"installation" + _key(get_settings().data_dir)).hexdigest()[:12]


def _sign(body: str) -> str:
    return hmac.new(_key(get_settings().data_dir), body.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:40]


@lru_cache(maxsize=4)
def _key(data_dir: Path) -> bytes:
    """The signing key, kept in the data folder so that open tabs outlive a restart of the server."""
    path = data_dir / "signing.key"
    data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".signing-{os.getpid()}-{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(draft, path)  # never replaces a key that another process has just written
        except FileExistsError:
            pass  # theirs is as good as ours
        except OSError:  # a file system without hard links
            draft.replace(path)
        draft.unlink(missing_ok=True)
    return path.read_bytes()
