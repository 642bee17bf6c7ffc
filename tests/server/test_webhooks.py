"""Webhooks: told once what is committed, in order, also after a crash; never in the way of who asks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from noria.client.http import Server
from noria.errors import Invalid, NotFound
from noria.wire import registry
from noria.wire import webhooks as wire
from tests.conftest import Running, until

_EVENTS = [
    wire.Event(*pair)  # type: ignore[arg-type]
    for pair in (
        ("REGISTERED_MODEL", "CREATED"), ("MODEL_VERSION", "CREATED"), ("MODEL_VERSION_TAG", "SET"), ("MODEL_VERSION_TAG", "DELETED"),
        ("MODEL_VERSION_ALIAS", "CREATED"), ("MODEL_VERSION_ALIAS", "DELETED"), ("PROMPT", "CREATED"), ("PROMPT_VERSION", "CREATED"),
    )
]  # fmt: skip


class Receiver:
    """A server that keeps what it is told, and answers what `answer` says: a status, or a function of how many came."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[int], int] = lambda _: 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.told.append((dict(self.headers), body))
                self.send_response(receiver.answer(len(receiver.told)))
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(b"heard")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?a=b"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def events(self) -> list[str]:
        said = [json.loads(body) for _, body in self.told]
        return [f"{each['entity']}.{each['action']}" for each in said]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def hook(client: Server, url: str, **more: Any) -> str:
    return client.call(wire.CREATE, wire.Create("hook", url, _EVENTS, **more)).webhook.webhook_id


def change_all(client: Server, name: str = "net") -> None:
    client.call(registry.CREATE, registry.CreateModel(name, description="d"))
    client.call(registry.CREATE_VERSION, registry.CreateVersion(name, "s3://bucket/net"))
    client.call(registry.SET_VERSION_TAG, registry.SetVersionTag(name, "1", "k", "v"))
    client.call(registry.SET_ALIAS, registry.SetAlias(name, "best", "1"))
    client.call(registry.DELETE_VERSION_TAG, registry.VersionTag(name, "1", "k"))
    client.call(registry.DELETE_ALIAS, registry.AliasName(name, "best"))


ALL = [
    "registered_model.created", "model_version.created", "model_version_tag.set", "model_version_alias.created",
    "model_version_tag.deleted", "model_version_alias.deleted",
]  # fmt: skip


def test_what_happened_is_told_in_order_signed_and_once(own_server: Running, receiver: Receiver) -> None:
    hook(own_server.client, receiver.url, secret="sssh")
    change_all(own_server.client)
    until(lambda: len(receiver.told) == len(ALL))
    assert receiver.events == ALL
    said = [json.loads(body)["data"] for _, body in receiver.told]
    assert said[0] == {"name": "net", "tags": {}, "description": "d"}
    assert said[1] == {
        "name": "net", "version": "1", "source": "s3://bucket/net", "run_id": None, "tags": {}, "description": None,
    }  # fmt: skip
    assert said[2:4] == [
        {"name": "net", "version": "1", "key": "k", "value": "v"},
        {"name": "net", "alias": "best", "version": "1"},
    ]
    for fields, body in receiver.told:
        signed = f"{fields['X-MLflow-Delivery-Id']}.{fields['X-MLflow-Timestamp']}.".encode() + body
        digest = base64.b64encode(hmac.digest(b"sssh", signed, hashlib.sha256)).decode()
        assert fields["X-MLflow-Signature"] == f"v1,{digest}" and fields["Content-Type"] == "application/json"
    assert len({fields["X-MLflow-Delivery-Id"] for fields, _ in receiver.told}) == len(ALL)
    time.sleep(0.2)
    assert len(receiver.told) == len(ALL)


def test_prompts_are_told_of_as_prompts(own_server: Running, receiver: Receiver) -> None:
    hook(own_server.client, receiver.url)
    marks = [registry.Tag("mlflow.prompt.is_prompt", "true"), registry.Tag("mlflow.prompt.text", "Hello"), registry.Tag("a", "b")]
    own_server.client.call(registry.CREATE, registry.CreateModel("ask", marks[:1]))
    own_server.client.call(registry.CREATE_VERSION, registry.CreateVersion("ask", "dummy-source", tags=marks))
    until(lambda: len(receiver.told) == 2)
    assert receiver.events == ["prompt.created", "prompt_version.created"]
    assert json.loads(receiver.told[1][1])["data"] == {
        "name": "ask", "version": "1", "template": "Hello", "tags": {"a": "b"}, "description": None,
    }  # fmt: skip


def test_a_receiver_that_fails_is_told_again_and_later_news_wait_their_turn(own_server: Running, receiver: Receiver) -> None:
    receiver.answer = lambda count: 503 if count == 1 else 200
    hook(own_server.client, receiver.url)
    began = time.monotonic()
    change_all(own_server.client)
    assert time.monotonic() - began < 1  # Nobody waits for it.
    until(lambda: len(receiver.told) == len(ALL) + 1)
    assert receiver.events == [ALL[0], *ALL]
    assert receiver.told[0][0]["X-MLflow-Delivery-Id"] == receiver.told[1][0]["X-MLflow-Delivery-Id"]


def test_a_receiver_that_refuses_is_not_asked_again_nor_followed_elsewhere(own_server: Running, receiver: Receiver) -> None:
    receiver.answer = lambda count: (410, 302)[count - 1] if count < 3 else 200
    hook(own_server.client, receiver.url)
    change_all(own_server.client)
    until(lambda: len(receiver.told) == len(ALL))
    assert receiver.events == ALL
    assert "It refused: 410" in (own_server.folder / "server.log").read_text()


def test_what_was_not_told_before_a_crash_is_told_after_it(own_server: Running, receiver: Receiver) -> None:
    receiver.answer = lambda _: 500
    hook(own_server.client, receiver.url)
    change_all(own_server.client)
    until(lambda: receiver.told)
    own_server.kill()
    receiver.told.clear()
    receiver.answer = lambda _: 200
    own_server.start()
    until(lambda: len(receiver.told) == len(ALL), 90)
    assert receiver.events == ALL


def test_a_slow_receiver_is_in_nobodys_way(own_server: Running, receiver: Receiver) -> None:
    held = threading.Event()
    slow = Receiver()
    slow.answer = lambda _: 200 if held.wait(10) else 500
    hook(own_server.client, slow.url)
    hook(own_server.client, receiver.url)
    change_all(own_server.client)
    until(lambda: len(receiver.told) == len(ALL))
    assert len(slow.told) == 1
    held.set()
    until(lambda: len(slow.told) == len(ALL))
    slow.close()


def test_a_webhook_that_is_switched_off_or_gone_is_told_nothing(own_server: Running, receiver: Receiver) -> None:
    client = own_server.client
    ids = [hook(client, receiver.url), hook(client, receiver.url), hook(client, receiver.url, status="DISABLED")]
    client.call(wire.UPDATE, wire.Update(ids[0], status="DISABLED"))
    client.call(wire.DELETE, wire.Key(ids[1]))
    change_all(client)
    client.call(wire.UPDATE, wire.Update(ids[0], status="ACTIVE", events=[wire.Event("MODEL_VERSION", "CREATED")]))
    client.call(registry.CREATE, registry.CreateModel("other"))
    client.call(registry.CREATE_VERSION, registry.CreateVersion("other", "s3://bucket/other"))
    until(lambda: receiver.told)
    time.sleep(0.2)
    assert receiver.events == ["model_version.created"]
    with pytest.raises(NotFound, match="Webhook with ID"):
        client.call(wire.GET, wire.Key(ids[1]))


def test_a_test_sends_an_example_and_answers_what_came_back(server: Running, receiver: Receiver) -> None:
    webhook_id = hook(server.client, receiver.url, secret="sssh")
    done = server.client.call(wire.TEST, wire.Test(webhook_id)).result
    assert (done.success, done.response_status, done.response_body) == (True, 200, "heard")
    asked = wire.Test(webhook_id, wire.Event("MODEL_VERSION_ALIAS", "DELETED"))
    receiver.answer = lambda _: 404
    done = server.client.call(wire.TEST, asked).result
    assert (done.success, done.response_status) == (False, 404)
    assert receiver.events == ["registered_model.created", "model_version_alias.deleted"]
    gone = hook(server.client, "http://127.0.0.1:1/")
    assert "cannot be told" in server.client.call(wire.TEST, wire.Test(gone)).result.error_message
    clouds = hook(server.client, "http://169.254.169.254/latest/meta-data")
    assert "where no receiver is" in server.client.call(wire.TEST, wire.Test(clouds)).result.error_message
    for each in server.client.call(wire.LIST, wire.List()).webhooks:
        assert "sssh" not in msgspec.json.encode(each).decode()
        server.client.call(wire.DELETE, wire.Key(each.webhook_id))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ftp://example.org/"}, "Invalid webhook URL scheme: 'ftp'"),
        ({"url": "file:///etc/passwd"}, "Invalid webhook URL scheme: 'file'"),
        ({"url": "https:///path"}, "must include a hostname"),
        ({"url": "http://a b/"}, "must include a hostname"),
        ({"url": "http://[::1"}, "Invalid webhook URL"),
        ({"url": "http://example.org:99999/"}, "Invalid webhook URL"),
        ({"name": "-x"}, "Webhook name '-x' is invalid"),
        ({"events": []}, "'events'"),
        ({"events": [wire.Event("MODEL_VERSION", "DELETED")]}, "Invalid action 'deleted' for entity 'model_version'"),
    ],
)
def test_what_is_no_webhook_is_refused(server: Running, change: dict[str, Any], said: str) -> None:
    asked = msgspec.structs.replace(wire.Create("hook", "https://example.org/", _EVENTS), **change)
    with pytest.raises(Invalid, match=said):
        server.client.call(wire.CREATE, asked)
