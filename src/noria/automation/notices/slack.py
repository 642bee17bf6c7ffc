"""A message to a channel of Slack, or of what takes messages as Slack does (Mattermost, Rocket.Chat, Discord's /slack), or of Teams.

    {notify = "slack", url_env = "SLACK_WEBHOOK", text = "*{rule}* has promoted digits {steps.1.version}"}
    {notify = "slack", url_file = "~/.config/teams-webhook", style = "teams"}

url_env, url_file: the incoming webhook's URL, which is a secret: whoever has it may write there. style = "teams" is what Teams' workflows
take. What `<`, `>` and `&` mean in Slack they do not mean here, so that no name calls a whole channel.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from noria.automation import telling
from noria.automation.notices import Message
from noria.errors import Invalid

_WHO = "The notice 'slack'"
_MOST = 12_000
"""Characters. Slack cuts at 40,000, Mattermost refuses more than 16,383."""


class Settings(Struct, frozen=True, kw_only=True):
    url_env: str = ""
    url_file: str = ""
    style: Literal["slack", "teams"] = "slack"


def check(settings: Settings) -> None:
    telling.at_most_one(_WHO, url_env=settings.url_env, url_file=settings.url_file)
    if not (settings.url_env or settings.url_file):
        raise Invalid(f"{_WHO} needs the webhook's URL, which is a secret.",
                      'Put it in a variable or a file where the engine runs, and write url_env = "NAME" or url_file = "PATH".')  # fmt: skip


def send(settings: Settings, message: Message) -> str:
    url = telling.address(telling.secret("url", "", settings.url_env, settings.url_file, _WHO), _WHO)
    text = message.text if len(message.text) <= _MOST else f"{message.text[: _MOST - 1]}…"
    body: dict[str, Any] = {"text": _plain(text)} if settings.style == "slack" else _card(message.title, text)
    telling.post(url, msgspec.json.encode(body), {"Content-Type": "application/json", "Idempotency-Key": message.key})
    return f"{telling.place(url)} was told"


def _plain(text: str) -> str:
    """Slack's three special characters, as its manual has them written ("Formatting text for app surfaces")."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _card(title: str, text: str) -> dict[str, Any]:
    """An Adaptive Card, as Teams' workflow "Post to a channel when a webhook request is received" takes it."""
    blocks = [
        {"type": "TextBlock", "text": title, "weight": "Bolder", "wrap": True},
        {"type": "TextBlock", "text": text, "wrap": True},
    ]
    card = {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.4",
        "body": blocks,
    }
    return {"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}]}
