"""Logged models in columns, with the metrics that say something about them"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
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
