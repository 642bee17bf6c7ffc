"""`run.changed` counts what happens to a run: two readers who find the same number there find the same run.

The database counts, by triggers, so that no writer can forget it. What only the hot log has counts once it is folded into `latest`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from noria.store.schema import dataset, latest, param, run_model, tag

_PARTS = (param, tag, latest, dataset, run_model)
_EVENTS = {"INSERT": "NEW", "UPDATE": "NEW", "DELETE": "OLD"}
_FUNCTIONS = (
    """CREATE FUNCTION noria_part_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
UPDATE run SET changed = changed + 1 WHERE id IN (SELECT run FROM given);
RETURN NULL;
END $$""",
    """CREATE FUNCTION noria_run_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
NEW.changed := OLD.changed + 1;
RETURN NEW;
END $$""",
)


def count(conn: Connection) -> None:
    """Have the database count, from now on."""
    for statement in _sqlite() if conn.dialect.name == "sqlite" else (*_FUNCTIONS, *_postgresql()):
        conn.exec_driver_sql(statement)


def _sqlite() -> Iterator[str]:
    for table in _PARTS:
        for happens, given in _EVENTS.items():
            update = f"UPDATE run SET changed = changed + 1 WHERE id = {given}.run"  # noqa: S608 (our own names)
            yield f"CREATE TRIGGER {table.name}_{happens.lower()} AFTER {happens} ON {table.name} BEGIN {update}; END"
    update = "UPDATE run SET changed = changed + 1 WHERE id = NEW.id"
    yield f"CREATE TRIGGER run_update AFTER UPDATE ON run WHEN NEW.changed = OLD.changed BEGIN {update}; END"


def _postgresql() -> Iterator[str]:
    for table in _PARTS:
        for happens, given in _EVENTS.items():
            yield (f"CREATE TRIGGER {table.name}_{happens.lower()} AFTER {happens} ON {table.name} REFERENCING {given} TABLE AS given "
                   "FOR EACH STATEMENT EXECUTE FUNCTION noria_part_changed()")  # fmt: skip
    yield ("CREATE TRIGGER run_update BEFORE UPDATE ON run FOR EACH ROW WHEN (NEW.changed = OLD.changed) "
           "EXECUTE FUNCTION noria_run_changed()")  # fmt: skip
