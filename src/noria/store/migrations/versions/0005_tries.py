"""The tries of jobs, and what they supersede of earlier ones"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "job_try",
        sa.Column("job", sa.Text(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_index("job_try_by_time", "job_try", ["ended"])
    op.add_column("spool", sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "superseded",
        sa.Column("run", sa.Text(), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True),
        sa.Column("step", sa.BigInteger(), nullable=False),
    )
