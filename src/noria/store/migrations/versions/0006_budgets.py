"""Budgets"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "budget",
        sa.Column("whose", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("counts", sa.Text(), primary_key=True),
        sa.Column("hours", sa.Float(), nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
    )
