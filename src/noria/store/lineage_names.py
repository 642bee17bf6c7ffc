"""What people mean who name a thing of any kind: by its id or the beginning of one, its name, its URI or its address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sqlalchemy import Column, Connection, select

from noria.errors import Invalid, NotFound
from noria.store import lineage_evaluated, lineage_ties, registry, sources
from noria.store.fields import Indexed
from noria.store.schema import dataset, endpoint, job, logged_model, run, tag
from noria.wire import serving
from noria.wire.lineage import KINDS, Kind, key, split

_LEAST = 4
"""Characters of an id that are enough to begin with."""
_CURE = "`noria lineage --help` says what can be named."


def named(conn: Connection, kind: Kind | str, text: str) -> str:
    """The key of the one thing that is meant. kind: "" if it is not said. Raises NotFound for none, and Invalid for several."""
    before, _, rest = text.partition(":")
    if not kind and before in KINDS and rest:
        kind, text = before, rest
    for exact in (True, False):
        found = list(dict.fromkeys(each for each in _candidates(conn, text, exact, kind) if not kind or split(each)[0] == kind))
        if len(found) > 1:
            raise Invalid(f"'{text[:80]}' means {_listed(found)}.", "Write all of the id of one of them.")
        if found:
            return found[0]
    what = f"There is no {kind}" if kind else "There is no data set, code, job, run, model, version or endpoint"
    raise NotFound(f"{what} '{text[:200]}'.", _CURE)


def _listed(keys: list[str]) -> str:
    words = [f"{kind} {name[:36]}" for kind, name in map(split, keys[:4])]
    return " and ".join(words) + (" and others" if len(keys) > 4 else "")


def _candidates(conn: Connection, text: str, exact: bool, kind: str) -> Iterator[str]:
    if kind == "predictions":
        yield from (key("predictions", split(each)[1]) for each in _endpoints(conn, text, exact))
    elif kind == "evaluation":
        yield from (key("evaluation", str(each.id)) for each in lineage_evaluated.load(conn, [text]))
    elif "/" in text:
        yield from _uri(conn, text) if exact else ()
    elif text:
        for find in _FIND:
            yield from find(conn, text, exact)


def _uri(conn: Connection, text: str) -> Iterator[str]:
    if text.startswith(("http://", "https://")):
        yield from _address(conn, text)
    elif text.startswith("runs:/"):
        run_id, _, path = text.removeprefix("runs:/").strip("/").partition("/")
        for whole in _begun(conn, run.c.uuid, run_id, run_id == run_id[:32] and len(run_id) == 32):
            yield key("model", f"runs:/{whole}/{path}") if path else key("run", whole)
    elif match := re.fullmatch(r"models:/+(m-[^/@]+)", text):
        yield from _models(conn, match[1], True)
    else:
        yield from _version(conn, text if text.startswith("models:/") else f"models:/{text}")


def _address(conn: Connection, text: str) -> Iterator[str]:
    """The endpoint that answers at an address, or did so last: ports are used again."""
    from noria.store.endpoints import list_

    wanted = [each for each in list_(conn, serving.List()).endpoints if f"{text}/".startswith(f"{each.url}/")]
    yield from (key("endpoint", each.endpoint_id) for each in wanted[:1])


def _version(conn: Connection, uri: str) -> Iterator[str]:
    place = sources.registered(uri)
    if place is not None:
        found = registry.placed(conn, place)
        yield key("version", f"{found.name}/{found.version}")


def _begun(conn: Connection, column: Column[str], text: str, exact: bool) -> list[str]:
    """The values that are this text, or that begin with it."""
    if exact:
        query = select(column).where(column == text).limit(1)
    elif len(text) < _LEAST:
        return []
    else:
        query = select(column).where(column.startswith(text, autoescape=True)).distinct().limit(5)
    return [str(value) for value in conn.execute(query).scalars()]


def _jobs(conn: Connection, text: str, exact: bool) -> list[str]:
    return [key("job", each) for each in _begun(conn, job.c.id, text, exact)]


def _runs(conn: Connection, text: str, exact: bool) -> list[str]:
    by_name = [] if exact else conn.execute(select(run.c.uuid).where(run.c.name == text).limit(5)).scalars().all()
    return [key("run", each) for each in [*_begun(conn, run.c.uuid, text, exact), *by_name]]


def _data(conn: Connection, text: str, exact: bool) -> list[str]:
    by_name = (
        [] if exact else conn.execute(select(dataset.c.digest).where(dataset.c.name == text).distinct().limit(5)).scalars().all()
    )
    return [key("data", each) for each in [*_begun(conn, dataset.c.digest, text, exact), *by_name]]


def _models(conn: Connection, text: str, exact: bool) -> list[str]:
    return [key("model", each) for each in _begun(conn, logged_model.c.id, text, exact)] if text.startswith("m-") else []


def _endpoints(conn: Connection, text: str, exact: bool) -> list[str]:
    return [key("endpoint", each) for each in _begun(conn, endpoint.c.id, text, exact)]


def _code(conn: Connection, text: str, exact: bool) -> list[str]:
    """A commit or frozen code, by what runs say of themselves."""
    if not re.fullmatch(r"[0-9a-f]{4,64}", text):
        return []
    value, texts = Indexed(tag.c.value), ([text, *lineage_ties.code_tags(text)] if exact else [])
    found = []
    for tag_key in (lineage_ties.CODE, lineage_ties.COMMIT):
        begins = value.in_(texts) if exact else (value >= text) & (value < f"{text}~")
        query = select(tag.c.value).where(tag.c.key == tag_key, begins).distinct().limit(5)
        found += [key("code", each.partition(".")[0]) for each in conn.execute(query).scalars()]
    return found


_FIND: tuple[Callable[[Connection, str, bool], list[str]], ...] = (_jobs, _runs, _data, _models, _endpoints, _code)
