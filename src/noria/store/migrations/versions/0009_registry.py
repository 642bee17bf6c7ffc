"""The registry's log, and webhooks"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "registry_change",
        sa.Column("id", serial, primary_key=True),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("action", text, nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("version", text, nullable=False),
        sa.Column("user", text, nullable=False),
        sa.Column("before", text, nullable=False),
        sa.Column("after", text, nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("registry_change_by_version", "registry_change", ["name", "version", "id"])
    op.create_index("registry_change_by_name", "registry_change", ["name", "id"])
    op.create_table(
        "webhook",
        sa.Column("id", text, primary_key=True),
        sa.Column("name", text, nullable=False),
        sa.Column("description", text, nullable=False),
        sa.Column("url", text, nullable=False),
        sa.Column("events", text, nullable=False),
        sa.Column("secret", text, nullable=False),
        sa.Column("status", text, nullable=False),
        sa.Column("creation_time", sa.BigInteger(), nullable=False),
        sa.Column("last_update_time", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", serial, primary_key=True),
        sa.Column("webhook", text, sa.ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("event", text, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("model_version_by_stage", "model_version", ["model", "stage", "version"])
    op.create_index("registered_model_tag_by_key", "registered_model_tag", ["key", "model"])
    op.create_index("model_version_tag_by_key", "model_version_tag", ["key", "version"])
    op.create_index("alias_by_version", "alias", ["version"])
    op.create_index("registered_model_by_time", "registered_model", ["last_update_time"])
    op.create_index("webhook_delivery_by_webhook", "webhook_delivery", ["webhook", "id"])
    # Where the history of a version that stands somewhere begins.
    op.execute(
        """INSERT INTO registry_change (time, action, name, version, "user", before, after, reason, evidence)
        SELECT version.last_update_time, 'stage', model.name, CAST(version.version AS TEXT), '', 'None', version.stage,
               'It stood there when the log began.', CAST('{}' AS %s)
        FROM model_version AS version JOIN registered_model AS model ON model.id = version.model
        WHERE version.stage <> 'None' ORDER BY version.last_update_time, version.id"""
        % ("BYTEA" if op.get_bind().dialect.name == "postgresql" else "BLOB")
    )
