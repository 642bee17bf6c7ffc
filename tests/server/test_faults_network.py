"""A network that delivers requests twice or three times, late, and loses answers: the state is that of once."""

from __future__ import annotations

import http.client
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from noria.client.http import Server
from noria.errors import Unavailable
from noria.types import Metric, Param
from noria.wire import runs
from tests.clients import Shipper, check, history, latest, new_run
from tests.conftest import Running, require

_AGAIN = (runs.LOG_BATCH.path, runs.LOG_METRIC.path, runs.LOG_PARAM.path, "/api/2.0/noria/spools/ship", "/mlflow-artifacts/")
"""Requests that change nothing when they come again, whatever came meanwhile."""


class Network(ThreadingHTTPServer):
    """In front of a server."""

    daemon_threads = True

    def __init__(self, running: Running) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.to, self.chance, self.lock = running.url.removeprefix("http://"), random.Random(5), threading.Lock()
        self.late: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.doubled = self.lost = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def deliver(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.to, timeout=30)
        connection.request(method, path, body or None, headers)
        with connection.getresponse() as answer:
            found = answer.status, answer.getheaders(), answer.read()
        connection.close()
        return found


class Passing(BaseHTTPRequestHandler):
    server: Network
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = (self.command, self.path, body, dict(self.headers))
        network, again = self.server, any(path in self.path for path in _AGAIN)
        with network.lock:
            times, lost, late = network.chance.choice((1, 1, 2, 3)), network.chance.random() < 0.15, network.chance.random() < 0.3
            before = network.late.pop(network.chance.randrange(len(network.late))) if len(network.late) > 5 else None
            if again and late:
                network.late.append(request)
        if before is not None:
            network.deliver(*before)
        for _ in range(times if again else 1):
            status, headers, answer = network.deliver(*request)
        network.doubled += again and times > 1
        if again and lost:
            network.lost += 1
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("date", "server", "connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def network(running: Running) -> Iterator[Network]:
    between = Network(running)
    thread = threading.Thread(target=between.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield between
    between.shutdown()
    thread.join()
    for request in between.late:
        between.deliver(*request)
    between.server_close()


def insist(server: Server, request: runs.LogBatch) -> None:
    """Ask until there is an answer."""
    while True:
        try:
            server.call(runs.LOG_BATCH, request)
            return
        except Unavailable:
            continue


@pytest.mark.slow
def test_requests_that_come_again_late_or_without_an_answer_count_once(own_server: Running) -> None:
    run = new_run(own_server)
    with network(own_server) as between:

        def log(number: int) -> None:
            server = Server(between.url, own_server.token)
            for step in range(40):
                metrics = [Metric(f"c{number}/{each}", step / 7, step, step) for each in range(3)]
                insist(server, runs.LogBatch(run, metrics, [Param(f"{number}/{step}", str(step))]))
            server.close()

        def ship(number: int) -> Shipper:
            shipper = Shipper(own_server, number)
            shipper.server = Server(between.url, own_server.token)
            for _ in range(40):
                shipper.step()
            shipper.server.close()
            return shipper

        with ThreadPoolExecutor(8) as pool:
            shippers = [pool.submit(ship, number) for number in (1, 2)]
            list(pool.map(log, range(6)))
        lost, doubled = between.lost, between.doubled
    assert lost > 20 and doubled > 50
    for number in range(6):
        points = history(own_server.client, run, f"c{number}/")
        assert points == {(f"c{number}/{each}", step, step / 7) for each in range(3) for step in range(40)}
    params = own_server.client.call(runs.GET, runs.Get(run)).run.data.params
    assert {(each.key, each.value) for each in params} == {
        (f"{number}/{step}", str(step)) for number in range(6) for step in range(40)
    }
    for shipper in shippers:
        shipper.result().verify(own_server.client)
    check(own_server)


def test_16_equal_batches_at_once_are_one_point(server: Running) -> None:
    run = new_run(server)
    together = threading.Barrier(16)

    def send(_: int) -> None:
        client = Server(server.url, server.token)
        together.wait()
        client.call(runs.LOG_BATCH, runs.LogBatch(run, [Metric("m", 0.5, 7, 7)], [Param("p", "1")]))
        client.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(16)))
    assert history(server.client, run, "m") == {("m", 7, 0.5)}
    (point,) = server.client.call(runs.GET_HISTORY, runs.GetHistory("m", run)).metrics
    assert (point.value, point.timestamp, point.step) == (0.5, 7, 7)


SCRIPT = """
import mlflow
with mlflow.start_run() as run:
    for step in range(60):
        mlflow.log_metrics({"a": step / 3, "b": -step}, step=step)
        mlflow.log_param(f"p{step}", step)
    mlflow.log_text("text", "file.txt")
print(run.info.run_id)
"""


@pytest.mark.mlflow
@pytest.mark.slow
def test_the_mlflow_client_comes_through_such_a_network(own_server: Running, tmp_path: Path) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    with network(own_server) as between:
        env = {
            **os.environ,
            "MLFLOW_TRACKING_URI": between.url,
            "MLFLOW_TRACKING_TOKEN": own_server.token,
            "PYTHONWARNINGS": "ignore",
        }
        env |= {"MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0", "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0"}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, cwd=tmp_path, timeout=100)
        assert done.returncode == 0, done.stderr
        assert between.lost > 5 and between.doubled > 20
    run = done.stdout.split()[-1]
    assert history(own_server.client, run, "") == {
        (key, step, value) for step in range(60) for key, value in (("a", step / 3), ("b", -step))
    }
    found = own_server.client.call(runs.GET, runs.Get(run)).run
    assert {(each.key, each.value) for each in found.data.params} == {(f"p{step}", str(step)) for step in range(60)}
    assert latest(own_server.client, run) == {"a": (59, 59 / 3), "b": (59, -59.0)} and found.info.status == "FINISHED"
    assert list(own_server.client.tree(found.info.artifact_uri)) == ["file.txt"]
    check(own_server)
