"""What people mean who name a thing of any kind: by its id or the beginning of one, its name, its URI or its address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sqlalchemy import ColumnElement, Connection, and_, exists, select

from noria.errors import Invalid, NotFound
from noria.store import lineage_evaluated, lineage_ties, registry, sources
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
    for find in (_exactly, _about):
        found = list(dict.fromkeys(each for each in find(conn, kind, text) if not kind or split(each)[0] == kind))
        if len(found) > 1:
            raise Invalid(f"'{text[:80]}' means {_listed(found)}.", "Write all of the id of one of them.")
        if found:
            return found[0]
    what = f"There is no {kind}" if kind else "There is no data set, code, job, run, model, version or endpoint"
    raise NotFound(f"{what} '{text[:200]}'.", _CURE)


def _listed(keys: list[str]) -> str:
    words = [f"{kind} {name[:36]}" for kind, name in map(split, keys[:4])]
    return " and ".join(words) + (" and others" if len(keys) > 4 else "")


def _exactly(conn: Connection, kind: str, text: str) -> Iterable[str]:
    """What has this id, or is meant by this URI."""
    if kind == "evaluation":
        return [key("evaluation", str(each.id)) for each in lineage_evaluated.load(conn, [text])]
    return _of_endpoint(kind, _uri(conn, text) if "/" in text else _ids(conn, text))


def _of_endpoint(kind: str, keys: Iterable[str]) -> Iterable[str]:
    """Predictions have the id of their endpoint."""
    if kind != "predictions":
        return keys
    return [key("predictions", split(each)[1]) for each in keys if split(each)[0] == "endpoint"]


def _ids(conn: Connection, text: str) -> list[str]:
    """Of which kinds this is a whole id, in one question."""
    coded = (tag.c.key == lineage_ties.CODE) & tag.c.beginning.in_(lineage_ties.code_tags(text))
    committed = (tag.c.key == lineage_ties.COMMIT) & (tag.c.beginning == text)
    found = conn.execute(select(*(
        exists().where(where) for where in (job.c.id == text, run.c.uuid == text, dataset.c.digest == text, logged_model.c.id == text,
                                            endpoint.c.id == text, coded, committed)
    ))).one()  # fmt: skip
    kinds: tuple[Kind, ...] = ("job", "run", "data", "model", "endpoint", "code", "code")
    return [key(kind, text) for kind, is_one in zip(kinds, found, strict=True) if is_one]


def _uri(conn: Connection, text: str) -> Iterator[str]:
    if text.startswith(("http://", "https://")):
        yield from _address(conn, text)
    elif text.startswith("runs:/"):
        run_id, _, path = text.removeprefix("runs:/").strip("/").partition("/")
        for whole in _some(conn, run.c.uuid, _begins(run.c.uuid, run_id)):
            yield key("model", f"runs:/{whole}/{path}") if path else key("run", whole)
    elif match := re.fullmatch(r"models:/+(m-[^/@]+)", text):
        yield from (each for each in _ids(conn, match[1]) if split(each)[0] == "model")
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


def _about(conn: Connection, kind: str, text: str) -> Iterable[str]:
    """What begins so, or has this name."""
    if "/" in text or not text:
        return []
    found = [key(of, each) for of, column in _IDS if len(text) >= _LEAST for each in _some(conn, column, _begins(column, text))]
    if re.fullmatch(r"[0-9a-f]{4,64}", text):
        for name in (lineage_ties.CODE, lineage_ties.COMMIT):
            begun = (tag.c.key == name) & _begins(tag.c.beginning, text)
            found += [key("code", each.partition(".")[0]) for each in _some(conn, tag.c.value, begun)]
    found += [key("run", each) for each in _some(conn, run.c.uuid, run.c.name == text)]
    return _of_endpoint(kind, [*found, *(key("data", each) for each in _some(conn, dataset.c.digest, dataset.c.name == text))])


def _begins(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """An index finds these: letters and digits come before a tilde."""
    return and_(column >= text, column < f"{text}~")


def _some(conn: Connection, column: ColumnElement[str], where: ColumnElement[bool]) -> list[str]:
    return [str(value) for value in conn.execute(select(column).where(where).distinct().limit(5)).scalars()]


_IDS: tuple[tuple[Kind, ColumnElement[str]], ...] = (
    ("job", job.c.id), ("run", run.c.uuid), ("data", dataset.c.digest), ("model", logged_model.c.id), ("endpoint", endpoint.c.id),
)  # fmt: skip
