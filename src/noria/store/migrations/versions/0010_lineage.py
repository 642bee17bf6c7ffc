"""Lineage is asked from both ends of each tie"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_index("dataset_by_digest", "dataset", ["digest", "run", "name"])
    op.create_index("logged_model_by_run", "logged_model", ["run"])
    op.create_index("run_model_by_model", "run_model", ["model_id", "run"])
    op.create_index("endpoint_by_model", "endpoint", ["model"])
    op.add_column("model_version", sa.Column("place", sa.Text(), sa.Computed("substr(location, 1, 250)", persisted=True)))
    op.create_index("model_version_by_place", "model_version", ["place"])
