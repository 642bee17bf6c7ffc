"""What an mlflow script logged, as the page shows it; and lists and curves that are long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ..conftest import require, until
from .conftest import Api, find

try:
    import mlflow
    import sklearn
except ImportError:
    mlflow = sklearn = None

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def logged(server: Any) -> dict[str, str]:
    """The script's run, its experiment and its model."""
    require("mlflow", mlflow is not None and sklearn is not None, "pip install mlflow scikit-learn")
    env = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token}
    argv = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("mlflow_page_script.py"))]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def open_page(browser: Any, server: Any, where: str) -> None:
    browser.get(f"{server.url}/#token={server.token}")
    find(browser, "nav")
    browser.get(f"{server.url}/{where}")


def texts(browser: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText.trim())"
    found: list[str] = browser.execute_script(script, selector)
    return found


def names(browser: Any) -> list[str]:
    return texts(browser, '[data-testid="run-row"] .run-name a')


def click(browser: Any, selector: str) -> None:
    find(browser, selector)
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


@pytest.mark.mlflow
def test_a_link_that_mlflow_prints_shows_all_that_was_logged(server: Any, browser: Any, logged: dict[str, str]) -> None:
    open_page(browser, server, f"#/experiments/{logged['experiment']}/runs/{logged['run']}")
    view = find(browser, f'[data-testid="run-view"][data-run-id="{logged["run"]}"]')
    note = find(browser, '[data-testid="note"] h1')
    assert note.text == "Heading"
    until(lambda: ["loss", "16", "4", "25", "0", "25"] in [row.split() for row in texts(browser, '[data-testid="metrics"] tr')])
    pairs = [row.split() for row in texts(browser, ".pairs tr")]
    assert ["lr", "0.1"] in pairs and ["depth", "3"] in pairs and ["team", "vision"] in pairs
    assert "toy" in find(browser, '[data-testid="datasets"]').text and "training" in view.text
    until(lambda: "clf" in find(browser, '[data-testid="run-models"]').text and "ready" in view.text)
    assert {"inner-0", "inner-1"} <= set(" ".join(texts(browser, '[data-testid="children"] tr')).split())
    assert "NaN at step 0, Infinity at step 2" in find(browser, '[data-key="odd"] [data-testid="odd"]').text
    find(browser, '[data-testid="chart"][data-key="loss"][data-points="10"]')
    assert "system/cpu_utilization_percentage" not in view.text, "the machine's metrics are folded away"
    browser.execute_script("document.querySelectorAll('.run details').forEach(one => one.open = true)")
    assert "system/cpu_utilization_percentage" in view.text


@pytest.mark.mlflow
def test_files_are_shown_as_what_they_are(server: Any, browser: Any, logged: dict[str, str]) -> None:
    open_page(browser, server, f"#/runs/{logged['run']}")
    find(browser, '[data-testid="file"]')
    browser.execute_script("document.querySelectorAll('.tree details').forEach(one => one.open = true)")
    until(lambda: any("hello.txt" in name for name in texts(browser, '[data-testid="file"]')))
    for name, kind, shown in (
        ("hello.txt", "text", "hello"),
        ("empty.txt", "text", "empty.txt"),
        ("config.json", "text", '"a": ['),
        ("table.json", "table", "label"),
        ("black.png", "image", ""),
    ):
        files = browser.find_elements("css selector", '[data-testid="file"]')
        browser.execute_script("arguments[0].click()", next(file for file in files if name in file.text))
        view = find(browser, f'[data-testid="file-view"][data-kind="{kind}"]')
        assert shown in view.text
    assert browser.execute_script("return document.querySelector('.file img').naturalWidth") == 8


@pytest.mark.mlflow
def test_models_logged_and_registered(server: Any, browser: Any, logged: dict[str, str]) -> None:
    open_page(browser, server, "#/models/page-clf")
    view = find(browser, '[data-testid="model-view"]')
    until(
        lambda: "A classifier of toys." in view.text and "champion → 1" in view.text and f"models:/{logged['model']}" in view.text
    )
    click(browser, f'a[href$="{logged["model"]}"]')
    until(lambda: "ready" in find(browser, '[data-testid="logged-model"]').text)
    until(lambda: any("MLmodel" in name for name in texts(browser, '[data-testid="file"]')))
    browser.get(f"{server.url}/#/models")
    until(lambda: {"page-clf", "clf"} <= set(" ".join(texts(browser, "tbody td:first-child")).split()))


@pytest.mark.mlflow
def test_runs_lie_inside_of_others_and_are_sorted_by_the_server(server: Any, browser: Any, logged: dict[str, str]) -> None:
    open_page(browser, server, f"#/experiments/{logged['experiment']}")
    until(lambda: names(browser) == ["whole", "inner-1", "inner-0"])
    assert "What the page shows." in find(browser, '[data-testid="experiment-head"]').text
    until(lambda: texts(browser, '[data-testid="total"]') == ["3 runs"])
    click(browser, ".twist")
    assert names(browser) == ["whole"]
    click(browser, ".twist")

    click(browser, '[data-testid="sort"][data-column="m.loss"]')
    until(lambda: names(browser) == ["whole", "inner-1", "inner-0"])
    assert "order=metrics.%60loss%60+DESC" in browser.current_url
    click(browser, '[data-testid="sort"][data-column="m.loss"]')
    until(lambda: names(browser) == ["inner-0", "inner-1", "whole"])
    assert browser.find_elements("css selector", 'th[aria-sort="ascending"]')
    browser.refresh()
    until(lambda: names(browser) == ["inner-0", "inner-1", "whole"])
    click(browser, '[data-testid="sort"][data-column="duration"]')
    until(lambda: "duration" in browser.current_url and len(names(browser)) == 3)
    assert not browser.find_elements("css selector", '[data-testid="error"]')


@pytest.mark.mlflow
def test_a_deleted_run_is_found_and_comes_back(server: Any, browser: Any, logged: dict[str, str]) -> None:
    open_page(browser, server, f"#/runs?experiments={logged['experiment']}&view=deleted")
    until(lambda: names(browser) == ["unwanted"])
    click(browser, '[data-testid="run-row"] a')
    until(lambda: texts(browser, '[data-testid="deletion"]') == ["Restore"])
    click(browser, '[data-testid="deletion"]')
    until(lambda: texts(browser, '[data-testid="deletion"]') == ["Delete"] and names(browser) == [])
    click(browser, '[data-testid="deletion"]')
    until(lambda: names(browser) == ["unwanted"])


def test_the_place_of_an_error_in_a_filter(server: Any, browser: Any) -> None:
    Api(server).create_run("any")
    open_page(browser, server, "#/runs?filter=metrics.loss%20%3C%20!")
    find(browser, '[data-testid="error"] mark')
    assert texts(browser, '[data-testid="error"] mark') == ["!"]


def test_a_tab_that_is_opened_by_a_link_gets_the_token_of_another(server: Any, browser: Any) -> None:
    run_id = Api(server).create_run("linked")
    browser.get(f"{server.url}/#token={server.token}")
    find(browser, '[data-testid="run-row"]')
    browser.switch_to.new_window("tab")
    browser.get(f"{server.url}/#/experiments/0/runs/{run_id}")
    find(browser, f'[data-testid="run-view"][data-run-id="{run_id}"]')
    assert not browser.find_elements("css selector", '[data-testid="token-form"]')


def test_a_long_curve_comes_as_wide_as_its_chart_and_finer_where_it_is_zoomed(server: Any, browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    api = Api(server)
    run_id = api.create_run("long-curve")
    steps, now = 20_000, int(time.time() * 1000)
    for start in range(0, steps, 1000):
        points = [{"key": "loss", "value": step % 7, "timestamp": now, "step": step} for step in range(start, start + 1000)]
        api.post("runs/log-batch", run_id=run_id, metrics=points)
    open_page(browser, server, f"#/runs/{run_id}")
    chart = find(browser, '[data-testid="chart"][data-key="loss"]:not([data-points="0"])')
    drawn = int(chart.get_attribute("data-points"))
    assert 100 < drawn <= chart.size["width"] + 1

    plot = find(browser, '[data-key="loss"] .u-over')
    ActionChains(browser).move_to_element(plot).click_and_hold().move_by_offset(20, 0).release().perform()
    script = "return performance.getEntriesByType('resource').map(one => one.name).filter(name => name.includes('start_step'))"
    asked = until(lambda: browser.execute_script(script))
    assert len(asked) == 1
    start, end = (int(asked[0].split(f"{name}_step=")[1].split("&")[0]) for name in ("start", "end"))
    assert 0 < start < end < steps and until(lambda: int(chart.get_attribute("data-points")) > 100)

    api.log(run_id, steps, loss=100.0)
    until(lambda: "100" in texts(browser, '[data-key="loss"] .latest'))
    ActionChains(browser).double_click(plot).perform()
    until(lambda: int(chart.get_attribute("data-points")) == drawn + 1)


@pytest.mark.slow
def test_many_runs_are_read_as_they_are_scrolled_to(server: Any, browser: Any) -> None:
    api = Api(server)
    experiment = api.post("experiments/create", name="many")["experiment_id"]
    for number in range(1000):
        api.post("runs/create", experiment_id=experiment, run_name=f"many-{number}", start_time=1_000_000 + number)
    open_page(browser, server, f"#/experiments/{experiment}")
    until(lambda: texts(browser, '[data-testid="total"]') == ["1,000 runs"])
    until(lambda: names(browser)[:1] == ["many-999"])
    assert len(names(browser)) < 100

    def bottom() -> bool:
        browser.execute_script("const box = document.querySelector('.scroll'); box.scrollTop = box.scrollHeight")
        return names(browser)[-1:] == ["many-0"]

    until(bottom)
    assert len(names(browser)) < 100


def test_runs_are_compared_side_by_side(server: Any, browser: Any) -> None:
    api = Api(server)
    experiment = api.post("experiments/create", name="compared")["experiment_id"]
    ids = []
    for name in ("left", "right"):
        made = api.post("runs/create", experiment_id=experiment, run_name=name, start_time=int(time.time() * 1000))
        ids.append(made["run"]["info"]["run_id"])
        api.post("runs/log-parameter", run_id=ids[-1], key="lr", value=f"of-{name}")
        api.post("runs/log-parameter", run_id=ids[-1], key="all", value="same")
        for step in range(5):
            api.log(ids[-1], step, loss=float(step))
    open_page(browser, server, f"#/experiments/{experiment}")
    for run_id in ids:
        click(browser, f'[data-run-id="{run_id}"] [data-testid="pick"]')
    find(browser, '[data-testid="compare"] [data-key="loss"][data-points="10"]')
    rows = [row.split() for row in texts(browser, ".compared tbody tr")]
    assert sorted(rows[0][1:]) == ["of-left", "of-right"] and rows[1] == ["all", "same", "same"]
    for run_id in ids:
        api.log(run_id, 5, loss=0.0)
    find(browser, '[data-testid="compare"] [data-key="loss"][data-points="12"]')
