"""Jobs that are held, and what their agents are to do with them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("job", sa.Column("wish", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("hold", sa.Text(), nullable=False, server_default=""))
