"""Nodes that were forgiven, and tries by their cause"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "node_forgiven",
        sa.Column("place", sa.Text(), primary_key=True),
        sa.Column("node", sa.Text(), primary_key=True),
        sa.Column("time", sa.BigInteger(), nullable=False),
    )
    op.create_index("job_try_by_cause", "job_try", ["cause", "ended"])
