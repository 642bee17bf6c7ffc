"""The two changes of the registry that people make most, as one statement each, which PostgreSQL knows and SQLite does not.

Each way to PostgreSQL and back costs more than what is asked there, and all who wait for a commit wait for all of them. Changes hold
`database.hold_changes`, so that a statement's parts all see what the change before has left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from noria.store import changes, database, events, registry
from noria.store.registry import VersionRow
from noria.types import ModelVersion, Tag

# Made of the names of our own columns alone.
_RULES = "EXISTS (SELECT 1 FROM rule_want WHERE kind = 'model_version')"
_COLUMNS = VersionRow._fields[1:-1]
_REGISTER = f"""
WITH counted AS (
    UPDATE registered_model SET last_version = last_version + 1, last_update_time = ? WHERE name = ? RETURNING id, last_version
), fresh AS (
    INSERT INTO model_version ({", ".join(_COLUMNS)})
    SELECT id, last_version, {", ".join("?" * len(_COLUMNS[2:]))} FROM counted RETURNING id, model, version
), tagged AS (
    INSERT INTO model_version_tag (version, key, value)
    SELECT fresh.id, tag.key, tag.value FROM fresh, unnest(?::text[], ?::text[]) AS tag (key, value)
), line AS (
    INSERT INTO registry_change ({changes.COLUMNS}) SELECT ?, ?, ?, fresh.version::text, ?, ?, ?, ?, ? FROM fresh RETURNING id
)
SELECT fresh.*, line.id, EXISTS (SELECT 1 FROM webhook WHERE status = 'ACTIVE')
    OR {_RULES} FROM fresh, line
"""  # noqa: S608
_MOVE = f"""
WITH found AS (
    SELECT {registry.COLUMNS}, model.name FROM model_version AS version JOIN registered_model AS model ON version.model = model.id
    WHERE model.name = ? AND version.version = ?
), moved AS (
    UPDATE model_version SET stage = ?, last_update_time = ? FROM found WHERE model_version.id = found.id
), touched AS (
    UPDATE registered_model SET last_update_time = ? FROM found WHERE registered_model.id = found.model
), line AS (
    INSERT INTO registry_change ({changes.COLUMNS}) SELECT ?, ?, ?, ?, ?, found.stage, ?, ?, ? FROM found RETURNING id
)
SELECT line.id, {_RULES}, ARRAY(SELECT ARRAY[key, value] FROM model_version_tag WHERE version = found.id ORDER BY key),
    ARRAY(SELECT alias FROM alias WHERE version = found.id ORDER BY alias), found.* FROM found, line
"""  # noqa: S608


class Added(NamedTuple):
    """A new version: its key, its model's, its number, and whether somebody may want to be told of it."""

    key: int
    model: int
    number: int
    somebody: bool


def register(
    conn: Connection, name: str, values: tuple[Any, ...], tags: Mapping[str, str], user: str, evidence: Mapping[str, Any]
) -> Added | None:
    """Make a version with `values` from its stage on; None if there is no such model."""
    line = changes.statement("created", name, user=user, after=values[0], evidence=evidence)[1]
    time, action, _, _, *rest = line
    asked = (values[-1], name, *values, list(tags), list(tags.values()), time, action, name, *rest)
    found = database.run(conn, _REGISTER, asked).fetchone()
    if found is None:
        return None
    key, model, number, line_key, somebody = found
    if somebody:
        events.of_change(conn, changes.line(line_key, (time, action, name, str(number), *rest), evidence))
    return Added(key, model, number, somebody)


def move(conn: Connection, name: str, version: str, stage: str, time: int, user: str) -> ModelVersion:
    """A version that takes a stage. Raises NotFound as `registry.version_row` does."""
    registry.check_version(name, version)
    line = changes.statement("stage", name, version, user=user, after=stage)[1]
    asked = (name, int(version), stage, time, time, *line[:5], *line[6:])
    found = database.run(conn, _MOVE, asked).fetchone()
    if found is None:
        raise registry.no_version(conn, name, version)
    key, somebody, tags, aliases, *row = found
    old = VersionRow(*row)
    moved = registry.version(
        old._replace(stage=stage, last_update_time=time), [Tag(key, value) for key, value in tags], list(aliases)
    )
    if somebody:
        events.of_change(conn, changes.line(key, (*line[:5], old.stage, *line[6:]), {}))
    return moved
