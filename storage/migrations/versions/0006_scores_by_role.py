"""Scores by role: the few held-out ones are found among those of all images.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-29
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NAME = "ix_predictions_model_id_role_image_id_score"


def upgrade() -> None:
    op.create_index(NAME, "predictions", ["model_id", "role", "image_id", "score"], unique=False)


def downgrade() -> None:
    op.drop_index(NAME, table_name="predictions")
