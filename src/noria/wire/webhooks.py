"""Webhooks: who is told when the registry changes, in MLflow's words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from noria.types import Int, Name
from noria.version import __version__
from noria.wire.endpoint import MLFLOW, Empty, Endpoint

# Protobuf numbers both in this order.
Entity = Literal[
    "REGISTERED_MODEL", "MODEL_VERSION", "MODEL_VERSION_TAG", "MODEL_VERSION_ALIAS", "PROMPT", "PROMPT_VERSION", "PROMPT_TAG",
    "PROMPT_VERSION_TAG", "PROMPT_ALIAS", "BUDGET_POLICY",
]  # fmt: skip
Action = Literal["CREATED", "UPDATED", "DELETED", "SET", "EXCEEDED"]
Status = Literal["ACTIVE", "DISABLED"]
_PATH = f"{MLFLOW}/webhooks"


class Event(Struct, frozen=True):
    entity: Entity
    action: Action


class Webhook(Struct, frozen=True):
    """Its secret is told to nobody."""

    webhook_id: str
    name: str
    url: str
    events: list[Event]
    status: Status
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""


class Create(Struct, frozen=True):
    name: Name
    url: Name
    events: list[Event]
    description: str = ""
    secret: str = ""
    status: Status = "ACTIVE"


class Got(Struct, frozen=True):
    webhook: Webhook


class Key(Struct, frozen=True):
    webhook_id: Name


class List(Struct, frozen=True):
    max_results: Int = 100
    page_token: str = ""


class Listed(Struct, frozen=True, omit_defaults=True):
    webhooks: list[Webhook] = []
    next_page_token: str = ""


class Update(Struct, frozen=True):
    """What is left out stays as it is; an empty name, URL or list of events counts as left out."""

    webhook_id: Name
    name: str = ""
    url: str = ""
    events: list[Event] = []
    description: str | UnsetType = UNSET
    secret: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class Test(Struct, frozen=True):
    """event: of which an example is sent; by default the webhook's first."""

    webhook_id: Name
    event: Event | UnsetType = UNSET


class Result(Struct, frozen=True, omit_defaults=True):
    """What the receiver answered, or why there is no answer."""

    success: bool | None = None
    response_status: int = 0
    response_body: str = ""
    error_message: str = ""


class Tested(Struct, frozen=True):
    result: Result


CREATE = Endpoint("POST", _PATH, Create, Got)
LIST = Endpoint("GET", _PATH, List, Listed)
GET = Endpoint("GET", f"{_PATH}/{{webhook_id}}", Key, Got)
UPDATE = Endpoint("PATCH", f"{_PATH}/{{webhook_id}}", Update, Got)
DELETE = Endpoint("DELETE", f"{_PATH}/{{webhook_id}}", Key, Empty)
TEST = Endpoint("POST", f"{_PATH}/{{webhook_id}}/test", Test, Tested)


def headers(secret: str, delivery_id: str, body: bytes) -> dict[str, str]:
    """What MLflow's receivers look for: an id, the time, and with a secret the HMAC-SHA256 over `id.time.body`."""
    moment = str(int(time.time()))
    found = {
        "Content-Type": "application/json", "User-Agent": f"noria/{__version__}", "X-MLflow-Delivery-Id": delivery_id,
        "X-MLflow-Timestamp": moment,
    }  # fmt: skip
    if secret:
        digest = hmac.digest(secret.encode(), f"{delivery_id}.{moment}.".encode() + body, hashlib.sha256)
        found["X-MLflow-Signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return found
