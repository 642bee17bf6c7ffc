"""Column chunks and the hot log in columns, logged models in columns, contexts of data sets"""

from __future__ import annotations

import json

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
    _logged_models()
    _contexts()


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


def _logged_models() -> None:
    """Logged models were JSON texts; now they are columns, with the metrics that say something about them."""
    rows = op.get_bind().execute(sa.text("SELECT experiment, body FROM logged_model")).all()
    op.drop_table("logged_model")
    op.create_table(
        "logged_model",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("artifact_uri", sa.Text(), nullable=False),
        sa.Column("creation_time", sa.BigInteger(), nullable=False),
        sa.Column("last_update_time", sa.BigInteger(), nullable=False),
        sa.Column("lifecycle_stage", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["experiment"], ["experiment.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("logged_model_by_experiment", "logged_model", ["experiment", "lifecycle_stage", "creation_time"], unique=False)
    for table in ("logged_model_tag", "logged_model_param"):
        op.create_table(
            table,
            sa.Column("model", sa.Text(), nullable=False),
            sa.Column("key", sa.Text(), nullable=False),
            sa.Column("value", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(["model"], ["logged_model.id"], ondelete="CASCADE"),
            sa.PrimaryKeyConstraint("model", "key"),
        )
    op.create_table(
        "logged_model_metric",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("dataset_name", sa.Text(), nullable=False),
        sa.Column("dataset_digest", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["model"], ["logged_model.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("model", "key", "timestamp", "step", "run", "dataset_name", "dataset_digest"),
    )
    op.create_index("dataset_by_name", "dataset", ["name", "digest"], unique=False)
    for experiment, body in rows:
        _move(experiment, json.loads(body))


def _move(experiment: int, model: dict) -> None:
    """A model was one JSON text."""
    info, bind = model["info"], op.get_bind()
    bind.execute(
        sa.text("INSERT INTO logged_model VALUES (:id, :experiment, :run, :name, :type, :status, :uri, :created, :updated, 'active')"),
        {"id": info["model_id"], "experiment": experiment, "run": info.get("source_run_id", ""), "name": info["name"],
         "type": info.get("model_type", ""), "status": info["status"], "uri": info["artifact_uri"],
         "created": info["creation_timestamp_ms"], "updated": info["last_updated_timestamp_ms"]},
    )  # fmt: skip
    for table, entries in (("logged_model_tag", info.get("tags", [])), ("logged_model_param", model["data"].get("params", []))):
        for entry in {each["key"]: each for each in entries}.values():
            values = {"model": info["model_id"], "key": entry["key"], "value": entry["value"]}
            bind.execute(sa.text(f"INSERT INTO {table} VALUES (:model, :key, :value)"), values)  # noqa: S608 (one of the two above)


def _contexts() -> None:
    """Searches ask for the context of a data set."""
    op.add_column("dataset", sa.Column("context", sa.Text(), nullable=True))
    table = sa.table("dataset", sa.column("run"), sa.column("name"), sa.column("digest"), sa.column("body"), sa.column("context"))
    connection = op.get_bind()
    key = (table.c.run == sa.bindparam("r"), table.c.name == sa.bindparam("n"), table.c.digest == sa.bindparam("d"))
    fill = sa.update(table).where(*key).values(context=sa.bindparam("c"))
    for run, name, digest, body in connection.execute(sa.select(table.c.run, table.c.name, table.c.digest, table.c.body)).all():
        tags = {tag["key"]: tag.get("value", "") for tag in json.loads(body).get("tags", [])}
        if "mlflow.data.context" in tags:
            connection.execute(fill, {"r": run, "n": name, "d": digest, "c": tags["mlflow.data.context"]})
