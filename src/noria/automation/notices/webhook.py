"""POST JSON to a program.

    {notify = "webhook", url = "https://ci.example.org/noria", secret_env = "CI_SECRET"}

url: where to; url_env or url_file if it is a secret itself. secret_env, secret_file: with it the body is signed. headers: what else is sent; values that
are secrets go as `headers_env = {Authorization = "CI_TOKEN"}`, by the names of variables.

The body has title, text, rule, firing, event, steps and failed. `Idempotency-Key` is the same each time that it is sent. With a secret,
`X-MLflow-Signature` is `v1,` and the base64 of the HMAC-SHA256 over `KEY.TIME.BODY`, as of the webhooks of the registry, with key and time from
`X-MLflow-Delivery-Id` and `X-MLflow-Timestamp`.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from noria.automation import telling
from noria.automation.notices import Message
from noria.errors import Invalid
from noria.wire import webhooks

_WHO = "The notice 'webhook'"


class Settings(Struct, frozen=True, kw_only=True):
    url: str = ""
    url_env: str = ""
    url_file: str = ""
    secret_env: str = ""
    secret_file: str = ""
    headers: dict[str, str] = {}
    headers_env: dict[str, str] = {}


def check(settings: Settings) -> None:
    telling.at_most_one(_WHO, url=settings.url, url_env=settings.url_env, url_file=settings.url_file)
    telling.at_most_one(_WHO, secret_env=settings.secret_env, secret_file=settings.secret_file)
    if not (settings.url or settings.url_env or settings.url_file):
        raise Invalid(f"{_WHO} has nobody to tell.", 'Write url = "https://HOST/PATH", or url_env or url_file.')
    if settings.url and "{" not in settings.url:
        telling.address(settings.url, _WHO)
    for name, value in {**settings.headers, **settings.headers_env}.items():
        if not name.replace("-", "").isalnum() or any(each < " " for each in value):
            raise Invalid(f"{_WHO}: {name[:60]!r} is no header.", "Write NAME = VALUE, in one line.")


def send(settings: Settings, message: Message) -> str:
    url = telling.address(telling.secret("url", settings.url, settings.url_env, settings.url_file, _WHO), _WHO)
    key = telling.secret("secret", "", settings.secret_env, settings.secret_file, _WHO)
    body = msgspec.json.encode({"title": message.title, "text": message.text, **message.data})
    also = {name: telling.secret("headers", "", variable, "", _WHO) for name, variable in settings.headers_env.items()}
    headers = {**settings.headers, **also, **webhooks.headers(key, message.key, body), "Idempotency-Key": message.key}
    telling.post(url, body, headers)
    return f"{telling.place(url)} was told"
