"""The tables, for SQLite and PostgreSQL. `HEAD` names the migration that makes them; a test holds the two together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
)
from sqlalchemy import Text as _Text
from sqlalchemy.ext.compiler import compiles

HEAD = "0012"
# Both databases compare and order text by code point, and count in 64 bits; SQLite's own name for that is INTEGER.
Text = _Text().with_variant(_Text(collation="C"), "postgresql")
Double = Float(53)
Serial = BigInteger().with_variant(Integer(), "sqlite")
metadata = MetaData()


def _run() -> Column[int]:
    return Column("run", ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)


def _key() -> Column[str]:
    return Column("key", Text, primary_key=True)


def _value() -> Column[str]:
    return Column("value", Text, nullable=False)


experiment = Table(
    "experiment", metadata,
    Column("id", Serial, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("artifact_location", Text, nullable=False),
    Column("lifecycle_stage", Text, nullable=False),
    Column("creation_time", BigInteger, nullable=False),
    Column("last_update_time", BigInteger, nullable=False),
)  # fmt: skip

experiment_tag = Table(
    "experiment_tag", metadata,
    Column("experiment", ForeignKey("experiment.id", ondelete="CASCADE"), primary_key=True), _key(), _value(),
)  # fmt: skip

run = Table(
    "run", metadata,
    Column("id", Serial, primary_key=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("experiment", ForeignKey("experiment.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("end_time", BigInteger),
    Column("artifact_uri", Text, nullable=False),
    Column("lifecycle_stage", Text, nullable=False),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Index("run_by_time", "experiment", "lifecycle_stage", "start_time"),
)  # fmt: skip

BEGINNING = 250
"""Characters of a value that are in its index: PostgreSQL's hold no long texts."""


@compiles(Computed, "sqlite")
def _virtual(element: Any, compiler: Any, **options: Any) -> str:
    """PostgreSQL has no indexes of what is not stored; SQLite does, and adds such a column alone to a table that is there."""
    return f"GENERATED ALWAYS AS ({element.sqltext}) VIRTUAL"


def _beginning(name: str, of: str) -> Column[str]:
    return Column(name, Text, Computed(f"substr({of}, 1, {BEGINNING})", persisted=True))


def _pairs(name: str) -> Table:
    """Texts of runs by key, and an index that answers for what begins a text without a look at the row."""
    index = Index(f"{name}_by_value", "key", "beginning", "run")
    return Table(name, metadata, _run(), _key(), _value(), _beginning("beginning", "value"), index, sqlite_with_rowid=False)


param, tag = _pairs("param"), _pairs("tag")

# The hot log: one row for each batch received, in order of arrival. `names` are its metrics, one on a line, and `body` holds
# their values, timestamps and steps (see metrics.pack). A row with `rewind` set supersedes earlier points of its run at that
# step and after it.
metric_log = Table(
    "metric_log", metadata,
    Column("id", Serial, primary_key=True),
    Column("run", ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("rewind", BigInteger),
    Column("names", Text, nullable=False, server_default=""),
    Column("body", LargeBinary, nullable=False, server_default=""),
    Index("metric_log_by_run", "run", "id"),
    sqlite_autoincrement=True,
)  # fmt: skip

# Where the hot log goes: up to metrics.CHUNK points of one metric in a row, ordered by (timestamp, step, value) within a
# chunk and from one `seq` to the next. `cells` are the pyramid's level above the points (see chunks.py).
metric_chunk = Table(
    "metric_chunk", metadata,
    _run(), _key(),
    Column("seq", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("first_time", BigInteger, nullable=False),
    Column("last_time", BigInteger, nullable=False),
    Column("min_step", BigInteger, nullable=False),
    Column("max_step", BigInteger, nullable=False),
    Column("cells", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
)  # fmt: skip

# How far something has come: "folded" is the last row of the hot log that `latest` knows of.
mark = Table("mark", metadata, Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False))

# What lists and searches read of a metric; NaN is NULL.
latest = Table(
    "latest", metadata,
    _run(), _key(),
    Column("step", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("value", Double),
    Column("first_step", BigInteger, nullable=False),
    Column("first", Double),
    Column("min", Double),
    Column("max", Double),
    Index("latest_by_value", "key", "value", "run"),
    sqlite_with_rowid=False,
)  # fmt: skip

dataset = Table(
    "dataset", metadata,
    _run(),
    Column("name", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("context", Text),
    Column("seq", Integer, nullable=False, server_default="0"),
    Index("dataset_by_name", "name", "digest"),
    Index("dataset_by_digest", "digest", "run", "name"),
)  # fmt: skip

spool = Table(
    "spool", metadata,
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
)  # fmt: skip

# From which try on, and from which step on, what earlier tries of a job say of a run comes too late.
superseded = Table(
    "superseded", metadata,
    Column("run", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("step", BigInteger, nullable=False),
)  # fmt: skip

logged_model = Table(
    "logged_model", metadata,
    Column("id", Text, primary_key=True),
    Column("experiment", ForeignKey("experiment.id"), nullable=False),
    Column("run", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("model_type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("artifact_uri", Text, nullable=False),
    Column("creation_time", BigInteger, nullable=False),
    Column("last_update_time", BigInteger, nullable=False),
    Column("lifecycle_stage", Text, nullable=False),
    Index("logged_model_by_experiment", "experiment", "lifecycle_stage", "creation_time"),
    Index("logged_model_by_run", "run"),
)  # fmt: skip


def _model() -> Column[str]:
    return Column("model", ForeignKey("logged_model.id", ondelete="CASCADE"), primary_key=True)


logged_model_tag = Table("logged_model_tag", metadata, _model(), _key(), _value())
logged_model_param = Table("logged_model_param", metadata, _model(), _key(), _value())

# Points that say something about a model, beside those of the run that measured them (uuid `run`); NaN is NULL.
logged_model_metric = Table(
    "logged_model_metric", metadata,
    _model(), _key(),
    Column("timestamp", BigInteger, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("dataset_name", Text, primary_key=True),
    Column("dataset_digest", Text, primary_key=True),
    Column("value", Double),
)  # fmt: skip

run_model = Table(
    "run_model", metadata,
    _run(),
    Column("model_id", Text, primary_key=True),
    Column("direction", Text, primary_key=True),
    Column("step", BigInteger, nullable=False),
    Index("run_model_by_model", "model_id", "run"),
)  # fmt: skip

registered_model = Table(
    "registered_model", metadata,
    Column("id", Serial, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("creation_time", BigInteger, nullable=False),
    Column("last_update_time", BigInteger, nullable=False),
    Column("last_version", Integer, nullable=False),
    Index("registered_model_by_time", "last_update_time"),
)  # fmt: skip

registered_model_tag = Table(
    "registered_model_tag", metadata,
    Column("model", ForeignKey("registered_model.id", ondelete="CASCADE"), primary_key=True), _key(), _value(),
    Index("registered_model_tag_by_key", "key", "model"),
)  # fmt: skip

model_version = Table(
    "model_version", metadata,
    Column("id", Serial, primary_key=True),
    Column("model", ForeignKey("registered_model.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("run_link", Text, nullable=False),
    Column("creation_time", BigInteger, nullable=False),
    Column("last_update_time", BigInteger, nullable=False),
    _beginning("place", "location"),
    UniqueConstraint("model", "version"),
    Index("model_version_by_run", "run_id"),
    Index("model_version_by_stage", "model", "stage", "version"),
    Index("model_version_by_place", "place"),
)  # fmt: skip

model_version_tag = Table(
    "model_version_tag", metadata,
    Column("version", ForeignKey("model_version.id", ondelete="CASCADE"), primary_key=True), _key(), _value(),
    Index("model_version_tag_by_key", "key", "version"),
)  # fmt: skip

alias = Table(
    "alias", metadata,
    Column("model", ForeignKey("registered_model.id", ondelete="CASCADE"), primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", ForeignKey("model_version.id", ondelete="CASCADE"), nullable=False),
    Index("alias_by_version", "version"),
)  # fmt: skip

# What was done to the registry, one row for each change, written with it. A row has the name that its model goes by now.
registry_change = Table(
    "registry_change", metadata,
    Column("id", Serial, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    Index("registry_change_by_version", "name", "version", "id"),
    Index("registry_change_by_name", "name", "id"),
    sqlite_autoincrement=True,
)  # fmt: skip

webhook = Table(
    "webhook", metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("creation_time", BigInteger, nullable=False),
    Column("last_update_time", BigInteger, nullable=False),
)  # fmt: skip

# What webhooks are still to be told, in that order: written with the change that it tells of, and deleted once it is told. `due` is
# when to try, and whoever is at it moves that on first.
webhook_delivery = Table(
    "webhook_delivery", metadata,
    Column("id", Serial, primary_key=True),
    Column("webhook", ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due", BigInteger, nullable=False),
    Index("webhook_delivery_by_webhook", "webhook", "id"),
    sqlite_autoincrement=True,
)  # fmt: skip

job = Table(
    "job", metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("spec", LargeBinary, nullable=False),
    Column("scheduler", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("folder", Text, nullable=False),
    Column("scheduler_id", Text, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("exit_code", Integer),
    Column("tries", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("cancel", Text),
    Column("wish", Text),
    Column("hold", Text, nullable=False, server_default=""),
    Column("agent", Text, nullable=False),
    Column("claimed", BigInteger, nullable=False),
    Index("job_by_time", "created"),
    Index("job_by_state", "state", "user"),
)  # fmt: skip

# Which submission a key stands for; `job` is the part of its id that all members of an array share.
job_key = Table(
    "job_key", metadata,
    Column("user", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("job", Text, nullable=False),
)  # fmt: skip

job_try = Table(
    "job_try", metadata,
    Column("job", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("cause", Text, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("job_try_by_time", "ended"),
    Index("job_try_by_cause", "cause", "ended"),
)  # fmt: skip

# Since when what happened on a node counts no more; place "" is every one.
node_forgiven = Table(
    "node_forgiven", metadata,
    Column("place", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("time", BigInteger, nullable=False),
)  # fmt: skip

budget = Table(
    "budget", metadata,
    Column("whose", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("counts", Text, primary_key=True),
    Column("hours", Double, nullable=False),
    Column("per", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)  # fmt: skip

endpoint = Table(
    "endpoint", metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("endpoint_by_run", "run_id"),
    Index("endpoint_by_model", "model"),
)  # fmt: skip

# What is to be done when something happens. `next` is the next time of a schedule, and `due` when something is to be done about a firing
# of it, both in milliseconds since 1970; NULL: nothing is. `since` is the last event before it: what came by then is none of its business.
rule = Table(
    "rule", metadata,
    Column("id", Serial, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("body", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("next", BigInteger),
    Column("due", BigInteger),
    Index("rule_by_next", "next"),
    Index("rule_by_due", "due"),
)  # fmt: skip


def _rule() -> Column[int]:
    return Column("rule", ForeignKey("rule.id", ondelete="CASCADE"), primary_key=True)


# Which rules listen to events of a kind and a name ("" is any): what none listens to is not even written.
rule_want = Table(
    "rule_want", metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    _rule(),
    Column("body", LargeBinary, nullable=False, server_default=""),
    Index("rule_want_by_rule", "rule"),
)  # fmt: skip

# What happened, written with it. `key` is the same for the same happening; `rule` is set where it concerns one rule alone; `fresh` is 1
# until the firings that come of it are there, and NULL then.
event = Table(
    "event", metadata,
    Column("id", Serial, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("rule", ForeignKey("rule.id", ondelete="CASCADE")),
    Column("fresh", Integer),
    Column("body", LargeBinary, nullable=False),
    Index("event_by_fresh", "fresh", "id"),
    Index("event_by_time", "kind", "time"),
    Index("event_by_rule", "rule"),
    sqlite_autoincrement=True,
)  # fmt: skip

# One event and one rule. `due` is when something is to be done, and whoever is at it moves it on to the end of its lease; `turn` counts
# who has been at it, so that one who has lost it is not believed.
firing = Table(
    "firing", metadata,
    Column("id", Serial, primary_key=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("rule", ForeignKey("rule.id", ondelete="CASCADE"), nullable=False),
    Column("event", ForeignKey("event.id", ondelete="CASCADE"), nullable=False),
    Column("state", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("due", BigInteger, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("engine", Text, nullable=False),
    Column("dedupe", Text),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("rule", "event"),
    Index("firing_by_state", "rule", "state", "id"),
    Index("firing_by_start", "rule", "started"),
    Index("firing_by_dedupe", "rule", "dedupe", "created"),
    Index("firing_by_event", "event"),
    sqlite_autoincrement=True,
)  # fmt: skip

# What happened at each step of a firing, in order.
firing_line = Table(
    "firing_line", metadata,
    Column("id", Serial, primary_key=True),
    Column("firing", ForeignKey("firing.id", ondelete="CASCADE"), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("firing_line_by_firing", "firing", "id"),
    sqlite_autoincrement=True,
)  # fmt: skip

# How far a run is on its way to what a rule waits for: the step from which on its metric has been beyond the threshold, and whether that
# was told.
metric_watch = Table(
    "metric_watch", metadata, _rule(), _run(),
    Column("begun", BigInteger),
    Column("told", Integer, nullable=False),
    Index("metric_watch_by_run", "run"),
)  # fmt: skip

# Runs that have ended, and whose last values rules still wait to see.
run_ended = Table("run_ended", metadata, _run())

# Which firings led to a run: what it does is said to follow from them.
caused = Table("caused", metadata, Column("run", Text, primary_key=True), Column("chain", Text, nullable=False))
