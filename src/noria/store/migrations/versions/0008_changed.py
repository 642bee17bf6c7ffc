"""How often a run was changed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from noria.store import changed

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("run", sa.Column("changed", sa.BigInteger(), nullable=False, server_default="0"))
    changed.count(op.get_bind())
