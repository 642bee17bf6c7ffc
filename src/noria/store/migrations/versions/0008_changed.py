"""How often a run was changed, and how its texts begin"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from noria.store import run_versions

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("run", sa.Column("changed", sa.BigInteger(), nullable=False, server_default="0"))
    run_versions.count(op.get_bind())
    for table in ("param", "tag"):
        op.drop_index(f"{table}_by_value", table)
        op.add_column(table, sa.Column("beginning", sa.Text(), sa.Computed("substr(value, 1, 250)", persisted=True)))
        op.create_index(f"{table}_by_value", table, ["key", "beginning", "run"])
