"""Write a sentence into the firing's history, and do nothing else: `{note = "{event.name} has a new version"}`."""

from __future__ import annotations

from noria.automation.actions import Act, Acted

SETTINGS = ()


def act(ask: Act) -> Acted:
    text = str(ask.settings["note"])
    return Acted(result={"note": text}, note=text)
