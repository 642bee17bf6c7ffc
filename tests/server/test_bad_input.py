"""Bad input gets one sentence, the right status and MLflow's code, and nothing is lost."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from noria.client.http import Server
from noria.door import Gate
from noria.errors import Invalid, NotFound, Unauthenticated, Unavailable, WrongVersion
from noria.types import Metric, Param
from noria.wire import artifacts, runs
from tests.conftest import Running


def send(server: Running, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Status and body of a raw request; the token is sent unless a header says otherwise."""
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"{server.url}{path}", body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def problem(server: Running, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, str]:
    status, content = send(server, method, path, body, **headers)
    fields = json.loads(content)
    assert "Traceback" not in fields["message"] and "\n" not in fields["message"]
    return status, fields["error_code"], fields["message"]


@pytest.fixture
def run(server: Running) -> str:
    return server.client.call(runs.CREATE, runs.Create()).run.info.run_id


def test_an_unknown_run(server: Running) -> None:
    status, code, message = problem(server, "GET", "/api/2.0/mlflow/runs/get?run_id=nope")
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert message == "Run with id=nope not found. `noria runs list` shows the runs there are."


@pytest.mark.parametrize("value", ["NaN", '"NaN"', "Infinity", '"Infinity"', "-Infinity"])
def test_nan_and_infinities_are_kept_as_they_are(server: Running, run: str, value: str) -> None:
    body = f'{{"run_id": "{run}", "key": "m", "value": {value}, "timestamp": 1, "step": 2}}'.encode()
    assert send(server, "POST", "/api/2.0/mlflow/runs/log-metric", body)[0] == 200
    true = float(value.strip('"'))
    (kept,) = server.client.call(runs.CURVE, runs.Curve(run, "m")).values
    assert str(float(kept)) == str(true)
    (point,) = server.client.call(runs.GET_HISTORY, runs.GetHistory("m", run)).metrics
    (last,) = server.client.call(runs.GET, runs.Get(run)).run.data.metrics
    assert repr(point) == repr(last) and (point.timestamp, point.step) == (1, 2)
    assert str(float(point.value)) == str(true if math.isnan(true) else math.copysign(sys.float_info.max, true))
    for path in (
        f"mlflow/runs/get?run_id={run}",
        f"mlflow/metrics/get-history?run_id={run}&metric_key=m",
        f"noria/runs/curve?run_id={run}&key=m",
    ):
        json.loads(send(server, "GET", f"/api/2.0/{path}")[1], parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b"", b"\xff\xfe", b'{"run_id": 3}', b"[" * 100_000, b'{"run_id":"x","key":"m","value":1e999,"timestamp":1,"step":9223372036854775808}',
     b'{"run_id":"x","key":"m","value":1,"timestamp":1,"step":7.9}'],
)  # fmt: skip
def test_malformed_bodies_are_the_clients_fault(server: Running, body: bytes) -> None:
    status, code, _ = problem(server, "POST", "/api/2.0/mlflow/runs/log-metric", body)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")


def test_a_missing_field_is_named_as_mlflow_names_it(server: Running) -> None:
    _, _, message = problem(server, "POST", "/api/2.0/mlflow/runs/log-metric", b'{"run_id": "x", "value": 1, "timestamp": 1}')
    assert message.startswith("Missing value for required parameter 'key'.")


def test_a_parameter_of_ten_megabytes_is_cut(server: Running, run: str) -> None:
    server.client.call(runs.LOG_PARAM, runs.LogParam("long", "x" * 10_000_000, run))
    (param,) = server.client.call(runs.GET, runs.Get(run)).run.data.params
    assert param.value == "x" * 6000


def test_a_parameter_is_written_once(server: Running, run: str) -> None:
    for _ in range(2):
        server.client.call(runs.LOG_PARAM, runs.LogParam("lr", "0.1", run))
    with pytest.raises(Invalid, match="Changing param values is not allowed"):
        server.client.call(runs.LOG_BATCH, runs.LogBatch(run, [Metric("m", 1.0, 1)], [Param("lr", "0.2")]))
    found = server.client.call(runs.GET, runs.Get(run)).run.data
    assert [param.value for param in found.params] == ["0.1"] and found.metrics == []


@pytest.mark.parametrize(
    "name", ["../up", "a/../../up", "..%2f..%2fup", "%2e%2e/up", "..\\up", "a%00b", "/etc/cron.d/x", "a//b", "%252e%252e/../up"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_artifacts_cannot_lead_elsewhere(server: Running, run: str, name: str, method: str) -> None:
    before = {path for path in server.folder.parent.rglob("*") if "artifacts" not in path.parts}
    path = f"{artifacts.CONTENT}/0/{run}/artifacts/{name}"  # As it is: clients of Python's would tidy it up.
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {server.token}\r\nContent-Length: 4\r\n\r\nevil"
    answer = raw(server, head)
    assert answer.split()[1] in (b"400", b"404"), answer
    assert {path for path in server.folder.parent.rglob("*") if "artifacts" not in path.parts} - before <= {
        server.folder / "noria.db-journal"
    }


def raw(server: Running, head: str) -> bytes:
    """The whole answer to a request that is sent as it is written."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(head.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Running) -> None:
    head = (
        "POST /api/2.0/mlflow/runs/log-batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: 999999999999\r\n\r\n"
    )
    assert raw(server, head).split()[1] == b"413"


def test_what_is_not_there_answers_as_mlflow_clients_expect(server: Running) -> None:
    status, content = send(server, "POST", "/api/3.0/mlflow/traces", b"{}")
    assert status == 404 and not content.startswith(b"{")
    assert send(server, "GET", "/version") == (200, b"3.3.0")


def test_a_token_is_asked_for_on_every_route_but_the_open_ones(server: Running) -> None:
    for path in (
        "/api/2.0/mlflow/runs/get?run_id=x",
        "/api/2.0/noria/jobs",
        "/get-artifact?run_id=x&path=y",
        "/nothing",
        "/api/2.0/noria/live?run_id=x",
    ):
        for header in ("", "Bearer wrong", "Basic " + base64.b64encode(b"me:wrong").decode(), "Basic !", "Nonsense"):
            status, code, message = problem(server, "GET", path, Authorization=header)
            assert (status, code) == (401, "UNAUTHENTICATED") and "`noria env`" in message
    basic = base64.b64encode(f"anybody:{server.token}".encode()).decode()
    assert send(server, "GET", "/api/2.0/noria/jobs", Authorization=f"Basic {basic}")[0] == 200
    assert send(server, "GET", "/health", Authorization="")[0] == 200


def test_no_door_stands_open_for_want_of_a_token() -> None:
    async def app(*_: object) -> None: ...

    with pytest.raises(Invalid, match="There is no token to ask for"):
        Gate(app, "")


def test_the_token_is_its_owners_alone(server: Running) -> None:
    assert (server.folder / "token").stat().st_mode & 0o777 == 0o600
    assert server.token not in (server.folder / "server.log").read_text()


def noria_server(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "noria.cli.main", "server", *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, env={**os.environ, **env})


def test_a_port_in_use(server: Running, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    done = noria_server("--port", port, "--home", str(tmp_path / "other"))
    assert done.returncode == 1
    assert (
        done.stderr
        == f"noria: Port {port} on 127.0.0.1 cannot be used (address already in use). Give another --port, or none to take a free one.\n"
    )


def test_a_second_server_on_the_same_home_says_who_holds_it(server: Running) -> None:
    assert server.process is not None
    done = noria_server("--home", str(server.folder))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"is held by process {server.process.pid}" in done.stderr and server.url in done.stderr


def test_no_auth_is_for_loopback_alone(tmp_path: Path) -> None:
    done = noria_server("--no-auth", "--host", "0.0.0.0", "--home", str(tmp_path))
    assert done.returncode == 1 and "reachable from others" in done.stderr


def test_without_a_token_other_sites_are_kept_out(tmp_path: Path) -> None:
    running = Running(tmp_path / "open", "--no-auth")
    try:
        create = ("POST", "/api/2.0/mlflow/runs/create", b"{}")
        assert send(running, *create, Authorization="")[0] == 200
        assert problem(running, *create, Origin="http://evil.example")[:2] == (403, "PERMISSION_DENIED")
        assert problem(running, *create, Host="evil.example")[:2] == (403, "PERMISSION_DENIED")
        assert send(running, *create, Origin=running.url)[0] == 200
    finally:
        running.stop()


def test_no_server_at_all(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(Unavailable, match=r"No Noria server answers at .* Start one with `noria server`"):
        Server(url).call(runs.GET, runs.Get("x"))


def test_a_server_of_another_version(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.client.http.PROTOCOL", 2)
    with pytest.raises(WrongVersion, match=r"speaks protocol 1, this client speaks 2. Upgrade the older"):
        server.client.call(runs.GET, runs.Get("x"))


def test_errors_keep_their_class_over_the_wire(server: Running) -> None:
    with pytest.raises(NotFound):
        server.client.call(runs.GET, runs.Get("x"))
    with closing(Server(server.url, "wrong")) as stranger, pytest.raises(Unauthenticated):
        stranger.call(runs.GET, runs.Get("x"))


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit of util-linux is missing")
def test_a_full_disk_is_answered_with_503_and_heals_without_a_restart(tmp_path: Path) -> None:
    # A limit on the size of files stands for a full disk: it can be lifted again from outside, without root.
    running = Running(tmp_path / "full", python="import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)")
    try:
        assert running.process is not None
        run = running.client.call(runs.CREATE, runs.Create()).run.info.run_id
        limit = (running.folder / "noria.db-wal").stat().st_size + 200_000
        subprocess.run(["prlimit", "--pid", str(running.process.pid), f"--fsize={limit}:unlimited"], check=True)
        stored = refused = 0
        for step in range(200):
            try:
                running.client.call(
                    runs.LOG_BATCH, runs.LogBatch(run, [Metric(f"m{k}", float(step), step, step) for k in range(50)])
                )
                stored += 1
            except Unavailable as error:
                assert "Free some space" in error.message
                refused += 1
        assert stored and refused
        subprocess.run(["prlimit", "--pid", str(running.process.pid), "--fsize=unlimited:unlimited"], check=True)
        running.client.call(runs.LOG_BATCH, runs.LogBatch(run, [Metric("m0", -1.0, 999, 999)]))
        points = running.client.call(runs.GET_HISTORY, runs.GetHistory("m0", run)).metrics
        assert len(points) == stored + 1
    finally:
        running.stop()
