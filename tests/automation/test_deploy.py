"""Endpoints that follow, are started and are asked; and the way back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.automation.actions import Act, rollback
from noria.types import ENDED
from noria.wire import jobs, registry, serving
from noria.wire import rules as wire
from tests.automation import firings, tiny
from tests.automation.conftest import Registered
from tests.conftest import Running, until


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("PYTHONPATH", tiny.path())
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    running = Running(tmp_path / "engine")
    yield running
    open_jobs = running.client.call(jobs.LIST, jobs.List(open=True)).jobs
    for each in open_jobs:
        running.client.call(jobs.CANCEL, jobs.Cancel(each.id))
    until(lambda: all(running.client.call(jobs.GET, jobs.Key(each.id)).job.state in ENDED for each in open_jobs))
    running.stop()


def test_back_by_one_however_often_it_is_asked(engine: Running) -> None:
    model = Registered(engine.client, "digits")
    first, second, third = (model.version() for _ in range(3))
    for each in (first, second, third):
        model.put(each)
    told = firings.done(engine.client, [{"rollback": "digits", "reason": "drift of {event.what}"}], what="pixels")
    assert told.firing.state == "done" and told.firing.steps == [{"model": "digits", "version": second, "archived": [third]}]
    (change,) = model.history(action="rolled_back")
    assert change.reason == "drift of pixels (rule rule)" and model.standing() == [second]
    ask = Act(engine.client, change.evidence["key"], wire.Event("e", "manual", 0), {"rollback": "digits"})
    again = rollback.act(ask)  # By an engine that knows nothing of it.
    assert again.result == told.firing.steps[0] and model.standing() == [second]
    told = firings.done(engine.client, [{"rollback": "nobody"}], name="nobody")
    assert told.firing.state == "failed" and "nobody" in told.firing.note


def deployed(engine: Running, name: str, **step: Any) -> wire.Told:
    return firings.done(engine.client, [{"deploy": "digits", "alias": "live", **step}], name=name, seconds=60)


@pytest.mark.slow
def test_an_endpoint_is_started_follows_and_stays_with_what_it_has(engine: Running) -> None:
    model = Registered(engine.client, "digits")
    first, second = model.version(tiny.GOOD), model.version(tiny.WORSE)
    start = {"start": True, "on": "local", "host": "127.0.0.1", "probe": [[1.0, 2.0, 0.0]]}
    told = deployed(engine, "start", version=first, **start)
    assert told.firing.state == "done", told.firing.note
    (result,) = told.firing.steps
    (endpoint,) = engine.client.call(serving.LIST, serving.List()).endpoints
    assert result["endpoints"] == [endpoint.url] and endpoint.version == first and endpoint.model_uri == "models:/digits@live"
    assert engine.client.call(jobs.GET, jobs.Key(result["job_id"])).job.state == "RUNNING"
    told = deployed(engine, "follow", version=second, **start)
    assert (
        told.firing.state == "done" and told.firing.steps[0]["endpoints"] == [endpoint.url] and not told.firing.steps[0]["job_id"]
    )
    told = deployed(engine, "probe", version=first, **{**start, "probe": [[1.0, 2.0]]})
    assert told.firing.state == "failed" and "The probe failed" in told.firing.note
    assert f"The alias live is {second} again." in told.firing.note
    broken = model.version(tiny.GOOD, broken=True)
    told = deployed(engine, "broken", version=broken, **start)
    assert told.firing.state == "failed" and f"digits {broken} cannot be served" in told.firing.note
    assert f"The alias live is {second} again." in told.firing.note
    assert engine.client.call(registry.GET_ALIAS, registry.AliasName("digits", "live")).model_version.version == second
    assert len(engine.client.call(jobs.LIST, jobs.List()).jobs) == 1


def test_nothing_serves_it(engine: Running) -> None:
    model = Registered(engine.client, "digits")
    model.put(model.version())
    told = firings.done(engine.client, [{"deploy": "digits"}])
    assert told.firing.state == "failed"
    assert "No endpoint that answers serves models:/digits/Production. Start one with `noria serve" in told.firing.note
    told = deployed(engine, "alias", version=model.version())
    assert told.firing.state == "failed" and "The alias live is gone again." in told.firing.note


def test_what_cannot_be_loaded_is_not_served_at_all(engine: Running) -> None:
    model = Registered(engine.client, "digits")
    told = deployed(engine, "broken", version=model.version(broken=True), start=True, on="local")
    assert told.firing.state == "failed" and "no such matrix" in told.firing.note and "noria why" in told.firing.note
