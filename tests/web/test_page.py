"""The page in a real browser, against a real server: a run appears, opens, and its curve grows as it is logged."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from .conftest import Api, find

pytestmark = pytest.mark.browser

POINTS = 20


def _colours(screenshot: bytes) -> int:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(screenshot))
    return len(image.convert("RGB").resize((320, 200)).getcolors(320 * 200))


def test_a_run_appears_and_its_curve_grows_while_it_is_logged(server: Any, browser: Any) -> None:
    api = Api(server)
    run_id = api.create_run("seen-from-outside")

    browser.get(f"{server.url}/#token={server.token}")
    row = find(browser, f'[data-testid="run-row"][data-run-id="{run_id}"]')
    assert "seen-from-outside" in row.text
    assert "token" not in browser.current_url, "the token stays out of the address, and so out of shared links"

    row.click()
    find(browser, f'[data-testid="run-view"][data-run-id="{run_id}"]')
    assert f"#/runs/{run_id}" in browser.current_url

    for step in range(POINTS):
        api.log(run_id, step, loss=1 / (step + 1))
        time.sleep(0.02)
    find(browser, f'[data-testid="chart"][data-key="loss"][data-points="{POINTS}"]', timeout=1)

    assert _colours(browser.get_screenshot_as_png()) > 20, "the screen is blank"
    refusals = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not refusals, "a console without errors also means: nothing broke the content security policy"


def test_a_wrong_filter_is_answered_with_the_servers_sentence(server: Any, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    Api(server).create_run("any")
    browser.get(f"{server.url}/#token={server.token}")
    find(browser, '[data-testid="run-row"]')
    find(browser, '[data-testid="filter"]').send_keys("metrics.loss <<< 1", Keys.ENTER)
    assert find(browser, '[data-testid="error"]').text


def test_without_a_token_the_page_asks_for_one_and_says_where_it_is(server: Any, browser: Any) -> None:
    if not server.token:
        pytest.skip("this server asks for no token")
    run_id = Api(server).create_run("behind-a-token")
    browser.get(f"{server.url}/")
    form = find(browser, '[data-testid="token-form"]')
    assert "noria env" in form.text
    find(browser, '[data-testid="token-form"] input').send_keys(server.token)
    find(browser, '[data-testid="token-form"] button').click()
    find(browser, f'[data-testid="run-row"][data-run-id="{run_id}"]')
