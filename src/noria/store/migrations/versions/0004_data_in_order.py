"""Data sets in the order in which a run read them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("dataset", sa.Column("seq", sa.Integer(), nullable=False, server_default="0"))
