"""Settings of the installation, read once from the environment and validated."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ssn_core.errors import SettingError


class Settings(BaseSettings):
    """What the environment decides: where the data lives and which database keeps it."""

    model_config = SettingsConfigDict(env_prefix="SSN_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("ssn-inspector", appauthor=False)),
        description="Folder for images, thumbnails, models, caches and (by default) the database.",
    )
    database_url: str = Field(
        default="",
        description="SQLAlchemy URL of the database; default: SQLite in the data folder, in WAL mode.",
    )
    weights_dir: Path | None = Field(
        default=None,
        description="Folder with <backbone>.pth state dicts, searched before torchvision's cache and its download.",
    )
    worker_stale_seconds: float = Field(
        default=60.0, gt=1.0, description="A job whose worker has been silent for so long counts as interrupted."
    )

    tap_cache_gb: float = Field(
        default=20.0,
        ge=0.0,
        description="Gigabytes that cached features may take after a training; the least recently used go first.",
    )

    @property
    def url(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data_dir / 'ssn.sqlite3'}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingError: a variable holds a value outside its range; the message names it.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "SSN_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingError(
            f"The environment variable {name} is not usable",
            value=first.get("input"),
            expected=first["msg"],
            action="Correct it or unset it, then start again",
        ) from error
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().resolve()})
