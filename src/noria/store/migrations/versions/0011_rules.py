"""Rules, what happened, and what came of it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

    def of(table: str, name: str = "", **options: bool) -> sa.Column:
        return sa.Column(name or table, serial, sa.ForeignKey(f"{table}.id", ondelete="CASCADE"), **options)

    op.create_table(
        "rule",
        sa.Column("id", serial, primary_key=True),
        sa.Column("name", text, nullable=False, unique=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("user", text, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("next", sa.BigInteger()),
        sa.Column("due", sa.BigInteger()),
    )
    op.create_index("rule_by_next", "rule", ["next"])
    op.create_index("rule_by_due", "rule", ["due"])
    op.create_table(
        "rule_want",
        sa.Column("kind", text, primary_key=True),
        sa.Column("name", text, primary_key=True),
        of("rule", primary_key=True),
        sa.Column("body", sa.LargeBinary(), nullable=False, server_default=""),
    )
    op.create_index("rule_want_by_rule", "rule_want", ["rule"])
    op.create_table(
        "event",
        sa.Column("id", serial, primary_key=True),
        sa.Column("key", text, nullable=False, unique=True),
        sa.Column("kind", text, nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        of("rule"),
        sa.Column("fresh", sa.Integer()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("event_by_fresh", "event", ["fresh", "id"])
    op.create_index("event_by_time", "event", ["kind", "time"])
    op.create_index("event_by_rule", "event", ["rule"])
    op.create_table(
        "firing",
        sa.Column("id", serial, primary_key=True),
        sa.Column("uuid", text, nullable=False, unique=True),
        of("rule", nullable=False),
        of("event", nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("started", sa.BigInteger()),
        sa.Column("ended", sa.BigInteger()),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("engine", text, nullable=False),
        sa.Column("dedupe", text),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("rule", "event"),
        sqlite_autoincrement=True,
    )
    op.create_index("firing_by_state", "firing", ["rule", "state", "id"])
    op.create_index("firing_by_start", "firing", ["rule", "started"])
    op.create_index("firing_by_dedupe", "firing", ["rule", "dedupe", "created"])
    op.create_index("firing_by_event", "firing", ["event"])
    op.create_table(
        "firing_line",
        sa.Column("id", serial, primary_key=True),
        of("firing", nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("firing_line_by_firing", "firing_line", ["firing", "id"])
    op.create_table(
        "metric_watch",
        of("rule", primary_key=True),
        of("run", primary_key=True),
        sa.Column("begun", sa.BigInteger()),
        sa.Column("told", sa.Integer(), nullable=False),
    )
    op.create_index("metric_watch_by_run", "metric_watch", ["run"])
    op.create_table("run_ended", of("run", primary_key=True))
    op.create_table("caused", sa.Column("run", text, primary_key=True), sa.Column("chain", text, nullable=False))
