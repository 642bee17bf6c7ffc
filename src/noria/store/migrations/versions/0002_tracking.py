"""Column chunks, the hot log in columns, and how far it is folded"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "metric_chunk",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.Column("last_time", sa.BigInteger(), nullable=False),
        sa.Column("min_step", sa.BigInteger(), nullable=False),
        sa.Column("max_step", sa.BigInteger(), nullable=False),
        sa.Column("cells", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "key", "seq"),
    )
    op.create_table(
        "mark",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    _columns()


def _columns() -> None:
    """The hot log held MessagePack of [key, value, timestamp, step]; now it holds columns. All of it is folded anew, which moves
    what rewinds superseded out of it."""
    import msgspec

    from noria.store.metrics import pack

    decode = msgspec.msgpack.Decoder(list[tuple[str, float, int, int]]).decode
    op.rename_table("metric_log", "metric_log_0001")
    op.drop_index("metric_log_by_run", "metric_log_0001")
    op.create_table(
        "metric_log",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("rewind", sa.BigInteger()),
        sa.Column("names", sa.Text(), nullable=False, server_default=""),
        sa.Column("body", sa.LargeBinary(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(["run"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("metric_log_by_run", "metric_log", ["run", "id"])
    connection, last = op.get_bind(), 0
    while found := connection.execute(
        sa.text("SELECT id, run, rewind, body FROM metric_log_0001 WHERE id > :last ORDER BY id LIMIT 1000"), {"last": last}
    ).all():
        for row in found:
            names, body = pack(decode(row.body)) if row.body is not None else ("", b"")
            connection.execute(
                sa.text("INSERT INTO metric_log (id, run, rewind, names, body) VALUES (:id, :run, :rewind, :names, :body)"),
                {"id": row.id, "run": row.run, "rewind": row.rewind, "names": names, "body": body},
            )
        last = found[-1].id
    op.drop_table("metric_log_0001")
