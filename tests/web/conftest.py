"""A real browser against a real server, and quick ways to put something there to be seen."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
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


def find(browser: Any, selector: str, timeout: float = 10) -> Any:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, timeout, poll_frequency=0.05).until(
        lambda page: next(iter(page.find_elements(By.CSS_SELECTOR, selector)), None),
        f"{selector} did not appear in {timeout} s",
    )
