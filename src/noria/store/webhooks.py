"""Webhooks, and what they are still to be told.

A delivery is a row that is written with the change that it tells of, so it is there if and only if the change is. Those of one webhook
go out in their order, each until it has arrived or is given up; whoever sends one claims it first, for some time, so that no two server
processes send the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid4, uuid5

from msgspec import UNSET, Struct
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from noria.errors import Invalid, NotFound
from noria.store import database, page
from noria.store.experiments import now
from noria.store.schema import registered_model, registered_model_tag, webhook, webhook_delivery
from noria.store.sources import PROMPT_TAG
from noria.wire import limits
from noria.wire import webhooks as wire
from noria.wire.fit import missing

_hook, _delivery = webhook, webhook_delivery
QUEUED = "queued"
CLAIM_MS = 60_000
"""How long nobody else tries what somebody has claimed; longer than a try may take."""
GIVE_UP_MS = 24 * 3_600_000
_FIRST_MS, _MOST_MS = 1000, 300_000
"""The wait after the first failure, which doubles with each up to the second."""
_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)
_ACTIONS = {
    **dict.fromkeys(("registered_model", "model_version", "prompt", "prompt_version"), ("created",)),
    **dict.fromkeys(("model_version_tag", "prompt_tag", "prompt_version_tag"), ("deleted", "set")),
    **dict.fromkeys(("model_version_alias", "prompt_alias"), ("created", "deleted")),
    "budget_policy": ("exceeded",),
}
_PROMPTS = {
    "registered_model": "prompt", "model_version": "prompt_version", "registered_model_tag": "prompt_tag",
    "model_version_tag": "prompt_version_tag", "model_version_alias": "prompt_alias",
}  # fmt: skip
"""MLflow keeps its prompts among the models, and tells of them by other names."""
_TEXT_TAG, _INTERNAL = "mlflow.prompt.text", {PROMPT_TAG, "_mlflow_prompt_type"}


def create(conn: Connection, request: wire.Create) -> wire.Got:
    time = now()
    values = {
        "id": str(uuid4()), "name": _name(request.name), "description": request.description, "url": _url(request.url),
        "events": _events(request.events), "secret": request.secret, "status": request.status, "creation_time": time,
        "last_update_time": time,
    }  # fmt: skip
    conn.execute(insert(_hook).values(values))
    return get(conn, wire.Key(str(values["id"])))


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise Invalid(f"Webhook name {text[:80]!r} is invalid. It must start and end with a letter or digit, be less than 63 characters "
                      "long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-).")  # fmt: skip
    return text


def _url(text: str) -> str:
    if not text.strip():
        raise Invalid(f"Webhook URL cannot be empty or just whitespace: {text[:200]!r}")
    try:
        parts = urlsplit(text)
        known, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"Invalid webhook URL {text[:200]!r}: {error!r}") from None
    if parts.scheme not in ("http", "https"):
        raise Invalid(f"Invalid webhook URL scheme: {parts.scheme[:40]!r}. Allowed schemes are: https, http.")
    if not known or re.search(r"[\x00-\x20\x7f]", text):
        raise Invalid(f"Webhook URL must include a hostname: {text[:200]!r}")
    return limits.fits(text, limits.LOCATION, "url")


def _events(events: Sequence[wire.Event]) -> str:
    if not events:
        raise missing("events")
    for each in events:
        valid = _ACTIONS[each.entity.lower()]
        if each.action.lower() not in valid:
            raise Invalid(
                f"Invalid action '{each.action.lower()}' for entity '{each.entity.lower()}'. Valid actions are: {list(valid)}"
            )
    return " ".join(dict.fromkeys(word(each) for each in events))


def word(event: wire.Event) -> str:
    """An event's name in a payload, and here."""
    return f"{event.entity}.{event.action}".lower()


def row(conn: Connection, webhook_id: str) -> Row[Any]:
    found = conn.execute(select(_hook).where(_hook.c.id == webhook_id)).first()
    if found is None:
        raise NotFound(f"Webhook with ID {webhook_id[:64]} not found.")
    return found


def get(conn: Connection, request: wire.Key) -> wire.Got:
    return wire.Got(_webhook(row(conn, request.webhook_id)))


def _webhook(each: Row[Any]) -> wire.Webhook:
    events = [wire.Event(*word.upper().split(".")) for word in each.events.split()]
    return wire.Webhook(
        each.id, each.name, each.url, events, each.status, each.creation_time, each.last_update_time, each.description
    )


def list_(conn: Connection, request: wire.List) -> wire.Listed:
    if not 1 <= request.max_results <= 1000:
        raise Invalid("max_results must be between 1 and 1000.")
    start, limit = page.offset(request.page_token), request.max_results
    query = select(_hook).order_by(_hook.c.creation_time.desc(), _hook.c.id).offset(start).limit(limit + 1)
    found = conn.execute(query).all()
    more = page.token(start + limit) if len(found) > limit else ""
    return wire.Listed([_webhook(each) for each in found[:limit]], more)


def change(conn: Connection, request: wire.Update) -> wire.Got:
    values: dict[str, object] = {"last_update_time": max(now(), row(conn, request.webhook_id).last_update_time + 1)}
    if request.name:
        values["name"] = _name(request.name)
    if request.url:
        values["url"] = _url(request.url)
    if request.events:
        values["events"] = _events(request.events)
    plain = {"description": request.description, "secret": request.secret, "status": request.status}
    values |= {name: value for name, value in plain.items() if value is not UNSET}
    conn.execute(update(_hook).where(_hook.c.id == request.webhook_id).values(values))
    if request.status == "DISABLED":
        conn.execute(delete(_delivery).where(_delivery.c.webhook == request.webhook_id))
    return get(conn, wire.Key(request.webhook_id))


def remove(conn: Connection, request: wire.Key) -> None:
    row(conn, request.webhook_id)
    conn.execute(delete(_hook).where(_hook.c.id == request.webhook_id))


def new_id() -> str:
    return str(uuid4())


def example(event: str) -> dict[str, Any]:
    """What is told of an event, with names that nobody has."""
    entity, _, action = event.partition(".")
    kind = "prompt" if entity.startswith("prompt") else "model"
    found: dict[str, Any] = {"name": f"example_{kind}"}
    if "version" in entity and not (entity.endswith("alias") and action == "deleted"):
        found["version"] = "1"
    if entity.endswith("tag"):
        return found | {"key": "example_key"} | ({"value": "example_value"} if action == "set" else {})
    if entity.endswith("alias"):
        return found | {"alias": "example_alias"} | ({"version": "1"} if action == "created" else {})
    if entity == "budget_policy":
        return {"budget_policy_id": "example_policy"}
    origin = {
        "model_version": {"source": "models:/123", "run_id": "abcd1234abcd5678"},
        "prompt_version": {"template": "Hello {{name}}!"},
    }
    tags = {"tags": {"example_key": "example_value"}}
    return found | origin.get(entity, {}) | tags | {"description": f"An example {entity.replace('_', ' ')}"}


def body(event: str, data: object) -> bytes:
    """What is sent: MLflow's payload."""
    entity, _, action = event.partition(".")
    said = {"entity": entity, "action": action, "timestamp": datetime.now(UTC).isoformat(), "data": data}
    return json.dumps(said).encode()


_LISTENING = "SELECT id, events FROM webhook WHERE status = 'ACTIVE'"


def tell(conn: Connection, entity: str, action: str, name: str, data: Callable[[], dict[str, Any]]) -> None:
    """Something happened to this model. data: what of it is told, asked for only if there is somebody to tell."""
    listening = database.run(conn, _LISTENING).fetchall()
    if not listening:
        return
    prompt = _is_prompt(conn, name)
    event = f"{_PROMPTS[entity] if prompt else entity}.{action}"
    ids = [key for key, events in listening if event in events.split()]
    if ids:
        said, time = body(event, _of_prompt(entity, data()) if prompt else data()), now()
        fresh = {"created": time, "event": event, "body": said, "tries": 0, "due": time}
        conn.execute(insert(_delivery), [{"webhook": each, **fresh} for each in ids])
        conn.info[QUEUED] = True


def _is_prompt(conn: Connection, name: str) -> bool:
    own = registered_model_tag.c
    query = select(own.value).join(registered_model, own.model == registered_model.c.id)
    value = conn.execute(query.where(registered_model.c.name == name, own.key == PROMPT_TAG)).scalar()
    return (value or "").lower() == "true"


def _of_prompt(entity: str, data: dict[str, Any]) -> dict[str, Any]:
    """Of a prompt, its text is told in the place of a model's source, and the tags that make it one are not."""
    if "tags" not in data:
        return data
    tags = {key: value for key, value in data["tags"].items() if key not in _INTERNAL}
    if entity != "model_version":
        return {**data, "tags": tags}
    text = tags.pop(_TEXT_TAG, None)
    return {"name": data["name"], "version": data["version"], "template": text, "tags": tags, "description": data["description"]}


class Delivery(Struct, frozen=True):
    """One try at a delivery. id: the same in each try, so that a receiver knows what came twice."""

    key: int
    webhook: str
    id: str
    url: str
    secret: str
    body: bytes
    tries: int
    created: int


def due(conn: Connection) -> list[tuple[str, int]]:
    """The webhooks that wait for something, and when the first of it is to be tried."""
    first = select(func.min(_delivery.c.id)).group_by(_delivery.c.webhook)
    query = select(_delivery.c.webhook, _delivery.c.due).where(_delivery.c.id.in_(first))
    return [(each.webhook, each.due) for each in conn.execute(query)]


def claim(conn: Connection, webhook_id: str, done: int | None = None) -> Delivery | None:
    """The next thing to tell a webhook, if it is time for it. done: what was told just now, or given up."""
    if done is not None:
        conn.execute(delete(_delivery).where(_delivery.c.id == done))
    query = select(_delivery, _hook.c.url, _hook.c.secret).join(_hook, _hook.c.id == _delivery.c.webhook)
    found = conn.execute(query.where(_hook.c.id == webhook_id).order_by(_delivery.c.id).limit(1)).first()
    time = now()
    if found is None or found.due > time:
        return None
    conn.execute(update(_delivery).where(_delivery.c.id == found.id).values(due=time + CLAIM_MS, tries=found.tries + 1))
    name = str(uuid5(NAMESPACE_URL, f"{webhook_id}/{found.id}/{found.created}"))
    return Delivery(found.id, webhook_id, name, found.url, found.secret, found.body, found.tries + 1, found.created)


def later(conn: Connection, failed: Delivery) -> int | None:
    """Try again after a failure; when, or None if it has been tried for so long that it is given up."""
    time = now()
    if time - failed.created > GIVE_UP_MS:
        conn.execute(delete(_delivery).where(_delivery.c.id == failed.key))
        return None
    again: int = time + min(_MOST_MS, _FIRST_MS * 2 ** min(failed.tries - 1, 20))
    conn.execute(update(_delivery).where(_delivery.c.id == failed.key).values(due=again))
    return again
