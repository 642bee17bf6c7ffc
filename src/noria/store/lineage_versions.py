"""What versions of registered models were made of: a logged model, a folder among a run's artifacts, another version, or a run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, literal, select, tuple_

from noria.store import rows as rows_
from noria.store.runs import HISTORY_TAG
from noria.store.schema import BEGINNING, logged_model, model_version, registered_model, run, tag
from noria.wire.lineage import Edge, Kind, key

_version, _name = model_version.c, registered_model.c.name
_COPIED = re.compile(r"models:/+([^/@]+)/(\d+)")
_LOGGED = re.compile(r"models:/+(m-[^/@]+)(?:/.*)?")
_KEPT = re.compile(r"/models/(m-[^/]+)/artifacts(?:/|$)")
_ARTIFACT = re.compile(r"runs:/([^/]+)/(.+)")


def edges(conn: Connection, ids: Mapping[Kind, Sequence[str]], *, up: bool, most: int) -> list[Edge]:
    """The edges around versions and around the folders that some were made of."""
    if up:
        return _made(_of_names(conn, ids.get("version", []))) + _kept(ids.get("model", []))
    found = [
        _of_runs(conn, ids.get("run", []), most),
        _of_models(conn, ids.get("model", []), most),
        _copies(conn, ids.get("version", []), most),
    ]
    asked = {key(kind, name) for kind, names in ids.items() for name in names}
    return _logged(conn, ids.get("run", []), found[0]) + [edge for rows in found for edge in _made(rows) if edge.source in asked]


def artifact(name: str) -> tuple[str, str] | None:
    """The run and the path of a model that is a folder among a run's artifacts."""
    match = _ARTIFACT.fullmatch(name)
    return (match[1], match[2]) if match else None


def rows(conn: Connection, names: Sequence[str]) -> Sequence[Row[Any]]:
    """The versions of these ids that are there."""
    return _of_names(conn, names)


def _select(*more: Any) -> Select[Any]:
    columns = (
        _name,
        _version.version,
        _version.source,
        _version.location,
        _version.run_id,
        _version.stage,
        _version.creation_time,
    )
    return select(*columns, *more).join(registered_model, _version.model == registered_model.c.id)


def _of_names(conn: Connection, names: Sequence[str]) -> Sequence[Row[Any]]:
    pairs = [(name.rpartition("/")[0], int(name.rpartition("/")[2])) for name in names if name.rpartition("/")[2].isdigit()]
    return conn.execute(_select(_version.description).where(tuple_(_name, _version.version).in_(pairs))).all() if pairs else []


def _of_runs(conn: Connection, uuids: Sequence[str], most: int) -> Sequence[Row[Any]]:
    return (
        conn.execute(_select().where(rows_.within(conn, _version.run_id, uuids)).order_by(_version.id.desc()).limit(most)).all()
        if uuids
        else []
    )


def _of_models(conn: Connection, names: Sequence[str], most: int) -> Sequence[Row[Any]]:
    folders = {place[0] for name in names if (place := artifact(name))}
    own = [name for name in names if artifact(name) is None]
    if not own:
        return _of_runs(conn, sorted(folders), most)
    roots = conn.execute(select(logged_model.c.artifact_uri).where(logged_model.c.id.in_(own))).scalars().all()
    found = conn.execute(_select().where(_at(roots)).order_by(_version.id.desc()).limit(most)).all()
    return [*found, *_of_runs(conn, sorted(folders), most)]


def _at(places: Sequence[str]) -> ColumnElement[bool]:
    return and_(_version.place.in_([place[:BEGINNING] for place in places]), _version.location.in_(places))


def _copies(conn: Connection, names: Sequence[str], most: int) -> Sequence[Row[Any]]:
    """Of a version that was copied the files stay where they are, so that copies are found by their place."""
    places = [row.location for row in _of_names(conn, names)]
    if not places:
        return []
    query = _select().where(_at(places), _version.source.startswith("models:/"))
    return conn.execute(query.order_by(_version.id.desc()).limit(most)).all()


def origin(row: Row[Any]) -> str | None:
    """The key of what a version was made of; None if that is nothing known here."""
    if match := _COPIED.fullmatch(row.source):
        return key("version", f"{match[1]}/{int(match[2])}")
    if match := _LOGGED.fullmatch(row.source) or _KEPT.search(row.location):
        return key("model", match[1])
    _, inside, path = row.location.partition(f"/{row.run_id}/artifacts/")
    if row.run_id and inside and path:
        return key("model", f"runs:/{row.run_id}/{path.rstrip('/')}")
    return key("run", row.run_id) if row.run_id else None


def _made(found: Sequence[Row[Any]]) -> list[Edge]:
    verbs = {"version": "copied to", "model": "registered as", "run": "registered as"}
    made = ((origin(row), row) for row in found)
    return [Edge(of, key("version", f"{row.name}/{row.version}"), verbs[of.partition(":")[0]]) for of, row in made if of]


def _kept(names: Sequence[str]) -> list[Edge]:
    return [Edge(key("run", place[0]), key("model", name), "logged") for name in names if (place := artifact(name))]


def _logged(conn: Connection, uuids: Sequence[str], found: Sequence[Row[Any]]) -> list[Edge]:
    """The folders of runs that are models: those that were registered, and those that MLflow's clients of release 2 list in a tag."""
    if not uuids:
        return []
    names = [of.partition(":")[2] for row in found if (of := origin(row)) and of.startswith("model:runs:/")]
    query = select(run.c.uuid, tag.c.value).join(run, run.c.id == tag.c.run).where(tag.c.key == literal(HISTORY_TAG))
    for uuid, text in conn.execute(query.where(rows_.within(conn, run.c.uuid, uuids))):
        names += [f"runs:/{uuid}/{path}" for path in _listed(text)]
    return _kept(list(dict.fromkeys(names)))


def _listed(text: str) -> list[str]:
    try:
        entries = json.loads(text)
    except ValueError:
        return []  # Long tags are cut.
    paths = [each.get("artifact_path") for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    return [path for path in paths if isinstance(path, str) and path and not path.startswith("m-")]
