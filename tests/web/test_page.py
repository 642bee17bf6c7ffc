"""The page in a real browser, against a real server: a run appears, opens, and its curve grows as it is logged."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
POINTS = 20
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,800",
]


def _skip(reason: str) -> None:
    if "chromium" in os.environ.get("NORIA_REQUIRE", "").split(","):
        pytest.fail(f"NORIA_REQUIRE asks for chromium: {reason}")
    pytest.skip(reason)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    if not CHROMIUM or not DRIVER:
        _skip("chromium and chromedriver are not both installed")
    try:
        from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    except ImportError:
        _skip("selenium is not installed")
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in [*ARGUMENTS, f"--user-data-dir={tmp_path / 'chromium'}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(executable_path=str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


class Api:
    def __init__(self, server: Any) -> None:
        self.server = server

    def post(self, path: str, **body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.server.token:
            headers["Authorization"] = f"Bearer {self.server.token}"
        request = Request(f"{self.server.url}/api/2.0/mlflow/{path}", json.dumps(body).encode(), headers)
        with urlopen(request, timeout=10) as response:
            return json.load(response)

    def create_run(self, name: str) -> str:
        made = self.post("runs/create", experiment_id="0", run_name=name, start_time=int(time.time() * 1000))
        return made["run"]["info"]["run_id"]

    def log(self, run_id: str, step: int, **metrics: float) -> None:
        now = int(time.time() * 1000)
        points = [{"key": key, "value": value, "timestamp": now, "step": step} for key, value in metrics.items()]
        self.post("runs/log-batch", run_id=run_id, metrics=points)


def _find(browser: Any, selector: str, timeout: float = 10) -> Any:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, timeout, poll_frequency=0.05).until(
        lambda page: next(iter(page.find_elements(By.CSS_SELECTOR, selector)), None),
        f"{selector} did not appear in {timeout} s",
    )


def _colours(screenshot: bytes) -> int:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(screenshot))
    return len(image.convert("RGB").resize((320, 200)).getcolors(320 * 200))


def test_a_run_appears_and_its_curve_grows_while_it_is_logged(server: Any, browser: Any) -> None:
    api = Api(server)
    run_id = api.create_run("seen-from-outside")

    browser.get(f"{server.url}/#token={server.token}")
    row = _find(browser, f'[data-testid="run-row"][data-run-id="{run_id}"]')
    assert "seen-from-outside" in row.text
    assert "token" not in browser.current_url, "the token stays out of the address, and so out of shared links"

    row.click()
    _find(browser, f'[data-testid="run-view"][data-run-id="{run_id}"]')
    assert f"#/runs/{run_id}" in browser.current_url

    for step in range(POINTS):
        api.log(run_id, step, loss=1 / (step + 1))
        time.sleep(0.02)
    _find(browser, f'[data-testid="chart"][data-key="loss"][data-points="{POINTS}"]', timeout=1)

    assert _colours(browser.get_screenshot_as_png()) > 20, "the screen is blank"
    refusals = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not refusals, "a console without errors also means: nothing broke the content security policy"


def test_a_wrong_filter_is_answered_with_the_servers_sentence(server: Any, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    Api(server).create_run("any")
    browser.get(f"{server.url}/#token={server.token}")
    _find(browser, '[data-testid="run-row"]')
    _find(browser, '[data-testid="filter"]').send_keys("metrics.loss <<< 1", Keys.ENTER)
    assert _find(browser, '[data-testid="error"]').text


def test_without_a_token_the_page_asks_for_one_and_says_where_it_is(server: Any, browser: Any) -> None:
    if not server.token:
        pytest.skip("this server asks for no token")
    run_id = Api(server).create_run("behind-a-token")
    browser.get(f"{server.url}/")
    form = _find(browser, '[data-testid="token-form"]')
    assert "noria env" in form.text
    _find(browser, '[data-testid="token-form"] input').send_keys(server.token)
    _find(browser, '[data-testid="token-form"] button').click()
    _find(browser, f'[data-testid="run-row"][data-run-id="{run_id}"]')
