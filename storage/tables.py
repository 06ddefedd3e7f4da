"""The tables. Rows never leave this package: use-cases return frozen dataclasses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, MetaData, String, Text, TypeDecorator, UniqueConstraint, false
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database: SQLite drops the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Base of all tables; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON}  # noqa: RUF012  # SQLAlchemy's own interface


class ProjectRow(Base):
    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    name_key: Mapped[str] = mapped_column(String(600), unique=True)  # case-folded: "Gear" and "gear" are one name
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    image_height: Mapped[int] = mapped_column(default=256)  # pixels; the network's input size
    image_width: Mapped[int] = mapped_column(default=256)
    active_model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id", use_alter=True))
    # The model's map and score of an image stay hidden until somebody has given a verdict on it.
    verdict_first: Mapped[bool] = mapped_column(default=False, server_default=false())


class ImageRow(Base):
    """One image of a project, identified by the SHA-256 of its file's bytes."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("project_id", "sha256"),
        Index(None, "project_id", "id"),
        Index(None, "project_id", "label", "id"),
        Index(None, "project_id", "group_key"),
        Index(None, "project_id", "mask_sha256"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)  # as it was called where it came from; shown, never opened
    extension: Mapped[str] = mapped_column(String(8))  # of the stored file, from its decoded format
    width: Mapped[int]  # pixels, after the EXIF rotation
    height: Mapped[int]
    n_bytes: Mapped[int]
    group_key: Mapped[str] = mapped_column(Text)  # same part, same item: never on both sides of a split
    part: Mapped[str] = mapped_column(String(16))  # train | calibration | test, for ever (ssn_core.splits)
    imported_split: Mapped[str | None] = mapped_column(String(16))
    mask_sha256: Mapped[str | None] = mapped_column(String(64))
    imported_at: Mapped[datetime] = mapped_column(default=utc_now)
    # The newest label event, repeated here so that a board of 100,000 images needs no join. `label` is NULL
    # when there is none or the newest one is "cleared".
    label: Mapped[str | None] = mapped_column(String(8))
    label_event_id: Mapped[int | None]


class LabelEventRow(Base):
    """One thing a person (or an import) said about an image. Appended, never changed, never deleted."""

    __tablename__ = "label_events"
    __table_args__ = (
        UniqueConstraint("client", "seq"),
        Index(None, "image_id", "id"),
        Index(None, "project_id", "id"),
        Index(None, "project_id", "inspector", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    verdict: Mapped[str] = mapped_column(String(8))  # good | bad | unsure | cleared
    inspector: Mapped[str] = mapped_column(String(100))
    origin: Mapped[str] = mapped_column(String(16))  # import | board | single | review | opinion
    is_undo: Mapped[bool] = mapped_column(default=False)  # this event took the one before it back
    client: Mapped[str] = mapped_column(String(64))  # one browser tab (or one import job)
    seq: Mapped[int]  # counts 1, 2, 3 within the client: delivery is exactly once
    seconds: Mapped[float | None]  # time the image was on the screen before the verdict
    map_seen: Mapped[bool | None]  # the model's map was on the screen before the verdict; None: not known
    file_id: Mapped[int | None] = mapped_column(ForeignKey("label_files.id"))  # that brought the event; None: said here
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class ModelRow(Base):
    """One trained model; its files are in the model folder (registry.py)."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    name: Mapped[str] = mapped_column(String(200))
    folder: Mapped[str] = mapped_column(Text)  # relative to the data folder
    recipe: Mapped[str] = mapped_column(String(64))
    backbone: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    held_out: Mapped[str] = mapped_column(String(16))  # test | out_of_fold: which predictions are honest
    threshold: Mapped[float]  # in force; a score at or above it means bad
    # With a second, lower threshold, scores from it up to `threshold` go to a person; None = everything is decided.
    threshold_low: Mapped[float | None]
    suggested_threshold: Mapped[float]  # Youden's J on calibration or out-of-fold scores
    scale_low: Mapped[float]  # the model's one fixed colour scale, in CAM units
    scale_high: Mapped[float]
    summary: Mapped[dict[str, Any]]  # counts, settings and figures, as in model.json
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))  # active when this one was trained
    archived_at: Mapped[datetime | None]  # no longer offered; scores and figures stay


class PredictionRow(Base):
    """The score of one image under one model, with the role the image played for that model."""

    __tablename__ = "predictions"
    __table_args__ = (
        Index(None, "model_id", "score", "image_id"),
        Index(None, "model_id", "role", "image_id", "score"),  # held-out ones are a few among those of all images
    )

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    score: Mapped[float]  # logit; positive = bad
    role: Mapped[str] = mapped_column(String(16))  # train | calibration | test | out_of_fold | unseen


class JobRow(Base):
    __tablename__ = "jobs"
    __table_args__ = (Index(None, "status", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))  # import | demo | train | score | inspect
    project_id: Mapped[int | None] = mapped_column(ForeignKey("projects.id"), index=True)
    status: Mapped[str] = mapped_column(String(16), default="queued")
    payload: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[str | None] = mapped_column(Text)  # for people
    phase: Mapped[str] = mapped_column(String(64), default="Waiting")
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)  # 0: not known yet
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)  # latest: epoch, loss, device ...
    eta_seconds: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    pid: Mapped[int | None]
    process_created: Mapped[float | None]  # psutil create_time: a pid alone can be reused
    heartbeat_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobPointRow(Base):
    """One point of a job's loss curve."""

    __tablename__ = "job_points"
    __table_args__ = (UniqueConstraint("job_id", "attempt", "series", "step"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    series: Mapped[str] = mapped_column(String(32))  # "model", "fold 1 of 3" ...
    step: Mapped[int]
    value: Mapped[float]


class ImportEntryRow(Base):
    """What became of one file of an import: the import's report."""

    __tablename__ = "import_entries"
    __table_args__ = (Index(None, "job_id", "outcome", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    name: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(String(16))  # added | already_there | rejected
    reason: Mapped[str] = mapped_column(Text, default="")
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"))


class ThresholdEventRow(Base):
    """One change of a model's thresholds, appended and never overwritten; the newest one is in force."""

    __tablename__ = "threshold_events"
    __table_args__ = (Index(None, "model_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    threshold: Mapped[float]  # a score at or above it means bad
    threshold_low: Mapped[float | None]  # scores from here up to `threshold` go to a person
    how: Mapped[str] = mapped_column(String(200))  # in words: "Youden's J", "by hand", "escape rate at most 2 %"
    inspector: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class MapVerdictRow(Base):
    """One person's word on where a model's map looks; appended, the newest one of a model and image holds."""

    __tablename__ = "map_verdicts"
    __table_args__ = (UniqueConstraint("client", "seq"), Index(None, "model_id", "image_id", "id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    verdict: Mapped[str] = mapped_column(String(16))  # on_defect | elsewhere | unsure | cleared
    inspector: Mapped[str] = mapped_column(String(100))
    client: Mapped[str] = mapped_column(String(64))  # with seq: the same message twice is stored once
    seq: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class StudyRow(Base):
    """A measurement system analysis: the same parts, blind, in random order, to several inspectors, several times."""

    __tablename__ = "studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))  # one more rater
    name: Mapped[str] = mapped_column(String(200))
    trials: Mapped[int]
    seed: Mapped[int]  # of the choice of parts and of the order of each trial
    # Limits typed in, rates in 0..1: effectiveness (at least), miss_rate and false_alarm_rate (at most).
    limits: Mapped[dict[str, Any]]
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    closed_at: Mapped[datetime | None]


class StudyPartRow(Base):
    """One part of a study, with its reference verdict as it was when the study began."""

    __tablename__ = "study_parts"

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    reference: Mapped[str] = mapped_column(String(8))  # good | bad
    borderline: Mapped[bool]  # chosen because its score lies close to the threshold
    model_verdict: Mapped[str | None] = mapped_column(String(8))  # good | bad, at the threshold of that moment


class StudyVerdictRow(Base):
    """One verdict in a study: never seen by others while it runs, never a label."""

    __tablename__ = "study_verdicts"
    __table_args__ = (UniqueConstraint("study_id", "inspector", "trial", "image_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    inspector: Mapped[str] = mapped_column(String(100))
    trial: Mapped[int]  # from 1
    verdict: Mapped[str] = mapped_column(String(8))  # good | bad
    seconds: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class ReportRow(Base):
    """A report that was written about a model; while there is one, the model cannot be deleted."""

    __tablename__ = "reports"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True)
    sha256: Mapped[str] = mapped_column(String(64))  # of the file
    path: Mapped[str] = mapped_column(Text)  # relative to the data folder
    inspector: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class LabelFileRow(Base):
    """A file of labels that was read into a project; its events keep who said them and when."""

    __tablename__ = "label_files"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str] = mapped_column(Text)  # as it was called where it came from
    format: Mapped[str] = mapped_column(String(16))  # csv | json | label_studio | fiftyone
    sha256: Mapped[str] = mapped_column(String(64))
    n_events: Mapped[int]  # new ones
    inspector: Mapped[str] = mapped_column(String(100))  # who read it in
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class LeaseRow(Base):
    """An image that is served to one inspector for some seconds, so that nobody else gets it meanwhile."""

    __tablename__ = "leases"

    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    inspector: Mapped[str] = mapped_column(String(100))
    client: Mapped[str] = mapped_column(String(64))  # one browser tab
    expires_at: Mapped[datetime] = mapped_column(index=True)


class OpinionRoundRow(Base):
    """Labelled images that are shown again, blind, to other inspectors than those who labelled them."""

    __tablename__ = "opinion_rounds"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    wanted: Mapped[int]  # blind verdicts on each image beside the first
    seed: Mapped[int]  # of the draw and of every inspector's order
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    closed_at: Mapped[datetime | None]


class OpinionImageRow(Base):
    """One image of a round, with the label that it had when the round began."""

    __tablename__ = "opinion_images"

    round_id: Mapped[int] = mapped_column(ForeignKey("opinion_rounds.id"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    first_verdict: Mapped[str] = mapped_column(String(8))  # good | bad
    first_inspector: Mapped[str] = mapped_column(String(100))


class OpinionVerdictRow(Base):
    """One blind verdict in a round; one that settles a disagreement is the image's label from then on."""

    __tablename__ = "opinion_verdicts"
    __table_args__ = (UniqueConstraint("round_id", "image_id", "inspector"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int] = mapped_column(ForeignKey("opinion_rounds.id"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), index=True)
    inspector: Mapped[str] = mapped_column(String(100))
    verdict: Mapped[str] = mapped_column(String(8))  # good | bad
    settles: Mapped[bool]  # given where first and other verdicts differed
    seconds: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class LimitSampleRow(Base):
    """An image pinned as the reference for "just still good" or "already bad"; a pin taken away keeps its row."""

    __tablename__ = "limit_samples"
    __table_args__ = (Index(None, "project_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    verdict: Mapped[str] = mapped_column(String(8))  # good | bad: which side of the limit it shows
    inspector: Mapped[str] = mapped_column(String(100))  # who pinned it
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    removed_by: Mapped[str | None] = mapped_column(String(100))
    removed_at: Mapped[datetime | None]
