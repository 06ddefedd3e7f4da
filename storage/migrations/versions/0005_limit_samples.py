"""Limit samples: images pinned as references for good and bad.

Revision ID: 0005
Revises: 0003
Create Date: 2026-11-24
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "limit_samples",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("inspector", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_by", sa.String(length=100), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_limit_samples_image_id_images"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_limit_samples_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_limit_samples"),
    )
    op.create_index("ix_limit_samples_project_id_id", "limit_samples", ["project_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_table("limit_samples")
