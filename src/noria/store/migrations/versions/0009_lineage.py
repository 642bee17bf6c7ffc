"""Lineage is asked from both ends of each tie"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index("dataset_by_digest", "dataset", ["digest", "run", "name"])
    op.create_index("logged_model_by_run", "logged_model", ["run"])
    op.create_index("run_model_by_model", "run_model", ["model_id", "run"])
    op.create_index("endpoint_by_model", "endpoint", ["model"])
    postgres = op.get_bind().dialect.name == "postgresql"
    op.create_index("model_version_by_place", "model_version", [sa.text("substr(location, 1, 250)") if postgres else "location"])
