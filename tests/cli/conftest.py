"""The command line against the server that all tests share, and quick ways to put runs on it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from noria.types import Metric, Param, Tag, number
from noria.wire import experiments, runs

Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ask(noria: Ask, server: Any) -> Ask:
    return partial(noria, NORIA_SERVER=server.url, NORIA_TOKEN=server.token)


class Maker:
    """Runs in an experiment of the test's own."""

    def __init__(self, server: Any, name: str) -> None:
        self.client, self.experiment = server.client, name
        self.experiment_id = self.client.call(experiments.CREATE, experiments.Create(name)).experiment_id

    def run(self, name: str, *, params: dict[str, str] | None = None, tags: dict[str, str] | None = None) -> str:
        pairs = [Tag(key, value) for key, value in (tags or {}).items()]
        request = runs.Create(self.experiment_id, "someone", name, 1_700_000_000_000, pairs)
        run_id = self.client.call(runs.CREATE, request).run.info.run_id
        made = [Param(key, value) for key, value in (params or {}).items()]
        self.client.call(runs.LOG_BATCH, runs.LogBatch(run_id, params=made))
        return run_id

    def log(self, run_id: str, step: int, time: int = 0, **values: float) -> None:
        points = [Metric(key, number(value), time or 1_700_000_000_000 + step, step) for key, value in values.items()]
        self.client.call(runs.LOG_BATCH, runs.LogBatch(run_id, points))

    def end(self, run_id: str, status: Any = "FINISHED") -> None:
        self.client.call(runs.UPDATE, runs.Update(run_id, status=status, end_time=1_700_000_090_000))


@pytest.fixture
def make(server: Any, request: pytest.FixtureRequest) -> Maker:
    return Maker(server, request.node.name)
