"""An endpoint follows its stage: promotions and rollbacks move live traffic."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria.client.http import Server
from noria.errors import NoriaError
from noria.serve.follow import moves
from noria.types import Endpoint
from noria.wire import registry, serving
from tests.automation import tiny
from tests.conftest import Running, until

NAME = "followed"


@pytest.mark.parametrize(
    ("uri", "may"),
    [
        ("models:/m/Production", True),
        ("models:/m@best", True),
        ("models:/m/latest", True),
        ("models:/m/3", False),
        ("runs:/1/m", False),
        ("/m", False),
    ],
)
def test_what_may_mean_another_version_later(uri: str, may: bool) -> None:
    assert moves(uri) is may


class Asking:
    """Somebody who asks all the time. `answers` are what the first output was, each once as it changes."""

    def __init__(self, url: str, token: str) -> None:
        self.answers: list[float] = []
        self.failed: list[str] = []
        self.asked = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(Server(url, token),)) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _ask(self, endpoint: Server) -> None:
        while not self._stop.is_set():
            try:
                answer = endpoint.call(serving.PREDICT, serving.Predict([[1.0, 0.0, 0.0]])).predictions[0][1]
            except NoriaError as error:
                self.failed.append(error.message)
                continue
            self.asked += 1
            if answer not in self.answers[-3:]:
                self.answers.append(answer)
            time.sleep(0.002)
        endpoint.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def serve(own_server: Running) -> Iterator[Callable[[str], str]]:
    """Starts an endpoint; its address."""
    started: list[subprocess.Popen[str]] = []

    def start(uri: str) -> str:
        env = {**os.environ, "PYTHONPATH": tiny.path()}
        endpoint = subprocess.Popen(
            [sys.executable, "-m", "noria.cli.main", "serve", uri], stdout=subprocess.PIPE, text=True, env=env
        )
        started.append(endpoint)
        assert endpoint.stdout is not None
        return endpoint.stdout.readline().strip()

    yield start
    for endpoint in started:
        endpoint.send_signal(signal.SIGTERM)
        assert endpoint.wait(20) in (0, -signal.SIGTERM)
        assert endpoint.stdout is not None
        endpoint.stdout.close()


def record(server: Running) -> Endpoint:
    (found,) = server.client.call(serving.LIST, serving.List()).endpoints
    return found


def put(server: Running, version: str) -> None:
    server.client.call(registry.PROMOTE, registry.Promote(NAME, version))


@pytest.mark.slow
def test_promotion_and_rollback_move_live_traffic(
    own_server: Running, serve: Callable[[str], str], noria: Callable[..., Any], tmp_path: Path
) -> None:
    """Not one request fails while three versions come and go, one of which cannot be loaded."""
    client = own_server.client
    for weight in (1.0, 2.0):
        tiny.register(client, NAME, np.full((3, 2), weight), delay=0.01)
    broken = tiny.register(client, NAME, broken=True)
    put(own_server, "1")
    url = serve(f"models:/{NAME}/Producción")
    asking = Asking(url, own_server.token)
    try:
        until(lambda: asking.answers == [1.0])
        put(own_server, "2")
        until(lambda: record(own_server).version == "2")
        until(lambda: asking.answers[-1] == 2.0)
        done = noria("models", "rollback", NAME, NORIA_SERVER=own_server.url, NORIA_TOKEN=own_server.token)
        assert done.stderr == f"noria: {NAME} 1 is in Production again instead of 2.\nnoria: {url} answers with version 1.\n"
        asked = asking.asked
        until(lambda: asking.asked > asked + 20)
        put(own_server, broken)
        problem = until(lambda: record(own_server).problem)
        assert problem == (
            f"{NAME} {broken} cannot be served, so 1 stays: The model in models:/{NAME}/{broken} cannot be loaded "
            "(ValueError: no such matrix). Save or download it again."
        )
        assert (record(own_server).version, record(own_server).run_id != "") == ("1", True)
        put(own_server, "1")
        until(lambda: not record(own_server).problem)
        client.call(registry.TRANSITION, registry.Transition(NAME, "1", "Archived"))
        assert "has no version in" in until(lambda: record(own_server).problem)
        asked = asking.asked
        until(lambda: asking.asked > asked + 20)
    finally:
        asking.stop()
    assert asking.failed == [] and asking.answers == [1.0, 2.0]


@pytest.mark.slow
def test_an_endpoint_outlives_its_server(own_server: Running, serve: Callable[[str], str]) -> None:
    client = own_server.client
    for weight in (1.0, 2.0):
        tiny.register(client, NAME, np.full((3, 2), weight))
    client.call(registry.SET_ALIAS, registry.SetAlias(NAME, "best", "1"))
    asking = Asking(serve(f"models:/{NAME}@best"), own_server.token)
    try:
        until(lambda: asking.answers == [1.0])
        client.call(registry.SET_ALIAS, registry.SetAlias(NAME, "best", "2"))
        until(lambda: asking.answers == [1.0, 2.0])
        own_server.kill()
        asked = asking.asked
        until(lambda: asking.asked > asked + 500)
    finally:
        asking.stop()
        own_server.start()
    assert asking.failed == []
