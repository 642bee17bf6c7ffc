"""Searches ask for the context of a data set; PostgreSQL's indexes hold no long texts"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op


revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for table in ("param", "tag") if op.get_context().dialect.name == "postgresql" else ():
        op.drop_index(f"{table}_by_value", table)
        op.create_index(f"{table}_by_value", table, ["key", sa.text("substr(value, 1, 250)"), "run"])
    _contexts()


def _contexts() -> None:
    op.add_column("dataset", sa.Column("context", sa.Text(), nullable=True))
    table = sa.table("dataset", sa.column("run"), sa.column("name"), sa.column("digest"), sa.column("body"), sa.column("context"))
    connection = op.get_bind()
    key = (table.c.run == sa.bindparam("r"), table.c.name == sa.bindparam("n"), table.c.digest == sa.bindparam("d"))
    fill = sa.update(table).where(*key).values(context=sa.bindparam("c"))
    for run, name, digest, body in connection.execute(sa.select(table.c.run, table.c.name, table.c.digest, table.c.body)).all():
        tags = {tag["key"]: tag.get("value", "") for tag in json.loads(body).get("tags", [])}
        if "mlflow.data.context" in tags:
            connection.execute(fill, {"r": run, "n": name, "d": digest, "c": tags["mlflow.data.context"]})
