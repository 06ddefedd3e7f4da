"""Leases, second opinions, label files, and what an inspector had seen before a verdict.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-24
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("verdict_first", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "label_files",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("n_events", sa.Integer(), nullable=False),
        sa.Column("inspector", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_label_files_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_label_files"),
    )
    op.create_index("ix_label_files_project_id", "label_files", ["project_id"], unique=False)
    # Plain ADD COLUMN: rebuilding the table, SQLite's other way, would drop one that rows of others refer to.
    op.add_column("label_events", sa.Column("map_seen", sa.Boolean(), nullable=True))
    op.add_column(
        "label_events",
        sa.Column("file_id", sa.Integer(), sa.ForeignKey("label_files.id", name="fk_label_events_file_id_label_files")),
        inline_references=True,
    )
    op.create_index(
        "ix_label_events_project_id_inspector_id", "label_events", ["project_id", "inspector", "id"], unique=False
    )

    op.create_table(
        "leases",
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("inspector", sa.String(length=100), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_leases_image_id_images"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_leases_project_id_projects"),
        sa.PrimaryKeyConstraint("image_id", name="pk_leases"),
    )
    op.create_index("ix_leases_expires_at", "leases", ["expires_at"], unique=False)

    op.create_table(
        "opinion_rounds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_opinion_rounds_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_opinion_rounds"),
    )
    op.create_index("ix_opinion_rounds_project_id", "opinion_rounds", ["project_id"], unique=False)
    op.create_table(
        "opinion_images",
        sa.Column("round_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("first_verdict", sa.String(length=8), nullable=False),
        sa.Column("first_inspector", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_opinion_images_image_id_images"),
        sa.ForeignKeyConstraint(["round_id"], ["opinion_rounds.id"], name="fk_opinion_images_round_id_opinion_rounds"),
        sa.PrimaryKeyConstraint("round_id", "image_id", name="pk_opinion_images"),
    )
    op.create_table(
        "opinion_verdicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("round_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("inspector", sa.String(length=100), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("settles", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_opinion_verdicts_image_id_images"),
        sa.ForeignKeyConstraint(
            ["round_id"], ["opinion_rounds.id"], name="fk_opinion_verdicts_round_id_opinion_rounds"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_opinion_verdicts"),
        sa.UniqueConstraint(
            "round_id", "image_id", "inspector", name="uq_opinion_verdicts_round_id_image_id_inspector"
        ),
    )
    op.create_index("ix_opinion_verdicts_image_id", "opinion_verdicts", ["image_id"], unique=False)


def downgrade() -> None:
    for table in ("opinion_verdicts", "opinion_images", "opinion_rounds", "leases"):
        op.drop_table(table)
    op.drop_index("ix_label_events_project_id_inspector_id", "label_events")
    for column in ("file_id", "map_seen"):
        op.drop_column("label_events", column)
    op.drop_table("label_files")
    op.drop_column("projects", "verdict_first")
