"""Threshold versions, a second threshold, model lineage, map verdicts, studies of agreement, reports.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-24
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Plain ADD COLUMN: rebuilding the table, SQLite's other way, would drop one that rows of others refer to.
    op.add_column("models", sa.Column("threshold_low", sa.Double(), nullable=True))
    op.add_column(
        "models",
        sa.Column("parent_id", sa.Integer(), sa.ForeignKey("models.id", name="fk_models_parent_id_models")),
        inline_references=True,
    )
    op.add_column("models", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "map_verdicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("inspector", sa.String(length=100), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_map_verdicts_image_id_images"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_map_verdicts_model_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_map_verdicts"),
        sa.UniqueConstraint("client", "seq", name="uq_map_verdicts_client_seq"),
    )
    op.create_index(
        "ix_map_verdicts_model_id_image_id_id", "map_verdicts", ["model_id", "image_id", "id"], unique=False
    )

    op.create_table(
        "reports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("inspector", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_reports_model_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
    )
    op.create_index("ix_reports_model_id", "reports", ["model_id"], unique=False)

    op.create_table(
        "studies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_studies_model_id_models"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_studies_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
    )
    op.create_index("ix_studies_project_id", "studies", ["project_id"], unique=False)

    op.create_table(
        "threshold_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("threshold_low", sa.Double(), nullable=True),
        sa.Column("how", sa.String(length=200), nullable=False),
        sa.Column("inspector", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_threshold_events_model_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_threshold_events"),
    )
    op.create_index("ix_threshold_events_model_id_id", "threshold_events", ["model_id", "id"], unique=False)

    op.create_table(
        "study_parts",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("reference", sa.String(length=8), nullable=False),
        sa.Column("borderline", sa.Boolean(), nullable=False),
        sa.Column("model_verdict", sa.String(length=8), nullable=True),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_study_parts_image_id_images"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_study_parts_study_id_studies"),
        sa.PrimaryKeyConstraint("study_id", "image_id", name="pk_study_parts"),
    )
    op.create_table(
        "study_verdicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("inspector", sa.String(length=100), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_study_verdicts_image_id_images"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_study_verdicts_study_id_studies"),
        sa.PrimaryKeyConstraint("id", name="pk_study_verdicts"),
        sa.UniqueConstraint(
            "study_id", "inspector", "trial", "image_id", name="uq_study_verdicts_study_id_inspector_trial_image_id"
        ),
    )


def downgrade() -> None:
    for table in ("study_verdicts", "study_parts", "studies", "threshold_events", "reports", "map_verdicts"):
        op.drop_table(table)
    for column in ("archived_at", "parent_id", "threshold_low"):
        op.drop_column("models", column)
