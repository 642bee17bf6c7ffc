"""Rules in a real browser: what they wait for, what happened, and at which step something stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from noria.wire import rules as wire
from tests.conftest import until

from .conftest import find

pytestmark = pytest.mark.browser


def ended(server: Any, name: str) -> wire.Firing:
    firing = server.client.call(wire.FIRE, wire.Fire(name)).firing
    until(lambda: server.client.call(wire.FIRING, wire.One(firing.id)).firing.state not in wire.OPEN)
    return server.client.call(wire.FIRING, wire.One(firing.id)).firing  # type: ignore[no-any-return]


def table(browser: Any, label: str) -> str:
    return find(browser, f'table[aria-label="{label}"]').text  # type: ignore[no-any-return]


def test_a_rule_its_firings_and_the_step_that_failed_are_on_the_page(server: Any, browser: Any) -> None:
    broken = {"run": "/nowhere/at all", "entry": "main"}
    rules = [
        wire.Rule("nightly", {"schedule": "30 2 * * *", "zone": "Europe/Berlin"}, [{"note": "It is night"}]),
        wire.Rule("by hand", {"manual": True}, [{"note": "first"}, broken, {"note": "never"}], otherwise=[{"note": "sorry"}]),
    ]
    server.client.call(wire.ADD, wire.Add(rules))
    assert ended(server, "nightly").state == "done"
    failed = ended(server, "by hand")
    assert failed.state == "failed"

    browser.get(f"{server.url}/#token={server.token}")
    find(browser, "main")
    browser.get(f"{server.url}/#/rules")
    until(lambda: "nightly" in table(browser, "Rules"))
    shown = table(browser, "Rules")
    assert "schedule = 30 2 * * *, zone = Europe/Berlin" in shown and "note → run → note" in shown and "1 failed" in shown
    if folder := os.environ.get("SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / "rules.png"))

    find(browser, 'table[aria-label="Rules"] a[href="#/rules/by%20hand"]').click()
    until(lambda: "nightly" not in table(browser, "Firings"))
    find(browser, f'table[aria-label="Firings"] a[href$="firing={failed.id}"]').click()
    until(lambda: "otherwise 1" in table(browser, f"Firing {failed.id[:8]}"))
    steps = table(browser, f"Firing {failed.id[:8]}")
    assert "first" in steps and "/nowhere/at all" in steps and "sorry" in steps and "never" not in steps
    if folder:
        browser.save_screenshot(str(Path(folder) / "firing.png"))
