"""The lineage in a real browser: reached from a run and from a version, read from left to right, by mouse, keyboard and in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from noria.types import Dataset, DatasetInput, Endpoint, PredictionLog, Tag
from noria.wire import registry, runs, serving

from .conftest import Api, find

pytestmark = pytest.mark.browser


def life(server: Any) -> tuple[str, str]:
    """Two runs of a data set of their own, of which one became a version that is served; that run and the model's name."""
    api, call = Api(server), server.client.call
    run_id = api.create_run("best")
    name = f"roses-{run_id[:6]}"
    for each in (run_id, api.create_run("other")):
        call(runs.LOG_INPUTS, runs.LogInputs(each, [DatasetInput(Dataset("roses", run_id[::-1], "local", "/data/roses"))]))
        call(runs.SET_TAG, runs.SetTag("mlflow.source.git.commit", "c0ffee" + "0" * 34, each))
    call(registry.CREATE, registry.CreateModel(name, [Tag("kind", "rose")]))
    call(registry.CREATE_VERSION, registry.CreateVersion(name, f"runs:/{run_id}/model", run_id))
    endpoint = Endpoint(
        run_id[:12], f"models:/{name}/1", "http://127.0.0.1:4001", "RUNNING", 1_790_000_000_000, name, "1", run_id, "node7"
    )
    call(serving.PUT, serving.Put(endpoint))
    log = PredictionLog("/var/predictions", 1234, 1_790_000_000_000, 1_790_000_900_000, versions={"1": 1234})
    call(serving.LOGGED, serving.Logged(endpoint.endpoint_id, log))
    return run_id, name


def kept(browser: Any, name: str) -> None:
    """A picture, for whoever wants to look."""
    if folder := os.environ.get("SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def keys(browser: Any) -> list[str]:
    boxes = browser.find_elements("css selector", '[data-testid="lineage"] a.box')
    return [box.get_attribute("data-kind") for box in boxes]


def test_a_run_leads_to_its_lineage_and_on_to_all_that_is_in_it(server: Any, browser: Any) -> None:
    run_id, name = life(server)
    browser.get(f"{server.url}/#token={server.token}")
    find(browser, '[data-testid="run-row"]')
    browser.get(f"{server.url}/#/runs/{run_id}")
    find(browser, '[data-testid="run-view"] [data-testid="lineage"][data-nodes="7"]')
    find(browser, '[data-testid="run-view"] section[aria-label="Lineage"] h2 a').click()

    find(browser, '[data-testid="lineage-view"] [data-testid="lineage"][data-nodes="7"]')
    assert "#/lineage/run%3A" in browser.current_url
    assert sorted(keys(browser)) == sorted(["data", "code", "run", "model", "version", "endpoint", "predictions"])
    kept(browser, "lineage-run")
    xs = {box.get_attribute("data-kind"): box.rect for box in browser.find_elements("css selector", "a.box")}
    order = ["data", "run", "model", "version", "endpoint", "predictions"]
    assert [xs[kind]["x"] for kind in order] == sorted({xs[kind]["x"] for kind in order}), "what was made stands to the right"
    here = find(browser, 'a.box[aria-current="true"]')
    assert "best" in here.text and here.get_attribute("data-key") == f"run:{run_id}"
    assert find(browser, 'a.box[data-kind="version"]').get_attribute("href").endswith(f"#/models/{name}")

    find(browser, 'a.box[data-kind="data"]').click()
    find(browser, '[data-testid="lineage-view"] [data-testid="lineage"][data-nodes="7"]')
    assert keys(browser).count("run") == 2, "the data set has two runs, and its code is not made of it"
    kept(browser, "lineage-data")
    refusals = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not refusals


def test_by_keyboard_in_words_and_from_one_side(server: Any, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    _, name = life(server)
    browser.get(f"{server.url}/#token={server.token}")
    find(browser, '[data-testid="run-row"]')
    browser.get(f"{server.url}/#/models/{name}")
    find(browser, 'a[href*="#/lineage/version"]').click()
    find(browser, '[data-testid="lineage-view"] [data-testid="lineage"][data-nodes="7"]')

    first, *_ = browser.find_elements("css selector", "a.box")
    first.send_keys("")
    seen = []
    for _ in range(7):
        box = browser.switch_to.active_element
        seen.append((float(box.value_of_css_property("left")[:-2]), box.get_attribute("data-kind")))
        box.send_keys(Keys.TAB)
    assert [x for x, _ in seen] == sorted(x for x, _ in seen) and seen[-1][1] == "predictions"

    find(browser, '[data-testid="lineage-view"] summary').click()
    text = find(browser, '[data-testid="lineage-text"]').text
    assert f"Version {name}/1 served by Endpoint http://127.0.0.1:4001" in text and "Data roses read by Run best" in text
    kept(browser, "lineage-words")
    browser.find_elements("css selector", ".sides input")[2].click()
    find(browser, '[data-testid="lineage"][data-nodes="3"]')
    assert keys(browser) == ["version", "endpoint", "predictions"] and "side=down" in browser.current_url


def test_data_sets_are_listed_and_what_is_not_there_is_said(server: Any, browser: Any) -> None:
    run_id, _ = life(server)
    browser.get(f"{server.url}/#token={server.token}")
    find(browser, '[data-testid="run-row"]')
    find(browser, 'nav a[href="#/lineage"]').click()
    assert "roses" in find(browser, f'a[href="#/lineage/data%3A{run_id[::-1]}"]').text
    kept(browser, "lineage-list")
    browser.get(f"{server.url}/#/lineage/run:nothing")
    assert "There is no run 'nothing'" in find(browser, '[data-testid="error"]').text
