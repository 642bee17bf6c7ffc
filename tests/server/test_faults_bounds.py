"""Nothing a client sends, or does not send, takes more than its share of memory, time or connections."""

from __future__ import annotations

import gzip
import json
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from noria.errors import Unavailable
from noria.types import Metric
from noria.wire import experiments, limits, runs
from tests.clients import latest, new_run
from tests.conftest import Running, until

MIB = 1 << 20
QUICK = """
import noria.server.connection as connection
connection.HEAD_SECONDS, connection.IDLE_SECONDS = 1.0, 2.0
"""
"""For Running(python=…): a client has seconds for what it has tens of otherwise."""


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "home", python=QUICK)
    yield running
    running.stop()


@contextmanager
def connected(running: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=20) as connection:
        yield connection


def head(running: Running, endpoint: str = runs.LOG_BATCH.path, *lines: str) -> bytes:
    fixed = (f"POST {endpoint} HTTP/1.1", "Host: x", f"Authorization: Bearer {running.token}", "Content-Type: application/json")
    return "\r\n".join([*fixed, *lines]).encode() + b"\r\n"


def answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, str]]:
    """Status, headers and JSON of the one answer that comes before the connection ends."""
    data = b""
    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < _length(data):
        block = connection.recv(65536)
        if not block:
            break
        data += block
    start, _, body = data.partition(b"\r\n\r\n")
    lines = start.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), json.loads(body)


def _length(data: bytes) -> int:
    return int(data.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)


def said(found: tuple[int, dict[str, str], dict[str, str]], status: int, words: str) -> None:
    """One sentence, as JSON."""
    code, headers, body = found
    assert code == status and words in body["message"] and body["error_code"], found
    assert headers["content-type"] == "application/json" and "Traceback" not in body["message"]
    assert (headers.get("retry-after") == "1") == (status == 503)


def memory(running: Running, what: str) -> int:
    """A line of /proc/PID/status, in bytes."""
    assert running.process is not None
    text = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(text.partition(what + ":")[2].split()[0]) * 1024


@contextmanager
def growth_below(running: Running, most: int) -> Iterator[None]:
    """The server's memory grows by less than `most` bytes meanwhile, at its highest."""
    assert running.process is not None
    Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")  # The highest begins anew.
    before = memory(running, "VmRSS")
    begun = time.monotonic()
    yield
    grown = memory(running, "VmHWM") - before
    print(f"grown by {grown / MIB:.0f} MiB in {time.monotonic() - begun:.1f} s")
    assert grown < most, f"grown by {grown / MIB:.0f} MiB"


def metrics_of(size: int) -> bytes:
    """A body of so many bytes of metrics."""
    one = b'{"key":"a","value":1.5,"timestamp":1,"step":1},'
    return b'{"run_id":"x","metrics":[' + one * (size // len(one)) + one[:-1] + b"]}"


@pytest.mark.slow
def test_a_huge_body_is_refused_before_it_is_read(own_server: Running) -> None:
    block = metrics_of(MIB)
    with growth_below(own_server, 64 * MIB):
        with connected(own_server) as connection:  # Its length is known.
            connection.sendall(head(own_server, runs.LOG_BATCH.path, f"Content-Length: {256 * MIB}") + b"\r\n")
            said(answer(connection), 413, f"over {limits.BODY >> 20} MiB")
        with connected(own_server) as connection:  # It is not.
            connection.sendall(head(own_server, runs.LOG_BATCH.path, "Transfer-Encoding: chunked") + b"\r\n")
            for _ in range(64):
                connection.sendall(b"%x\r\n" % len(block) + block + b"\r\n")
            said(answer(connection), 413, f"over {limits.BODY >> 20} MiB")


@pytest.mark.slow
def test_large_bodies_at_once_have_bounded_memory_and_hold_nobody_up(own_server: Running) -> None:
    run, body = new_run(own_server), metrics_of(limits.BODY - MIB)

    def send(_: int) -> int:
        with connected(own_server) as connection:
            connection.settimeout(60)
            connection.sendall(head(own_server, runs.LOG_BATCH.path, f"Content-Length: {len(body)}") + b"\r\n" + body)
            found = answer(connection)
            said(found, found[0], "at most 1000 metrics" if found[0] == 400 else "all that it takes at once")
            return found[0]

    with growth_below(own_server, 600 * MIB), ThreadPoolExecutor(16) as pool:
        sent = [pool.submit(send, number) for number in range(16)]
        waits = []
        while not all(each.done() for each in sent):
            begun = time.monotonic()
            own_server.client.call(runs.LOG_METRIC, runs.LogMetric("m", 1.0, 1, run))
            waits.append(time.monotonic() - begun)
    statuses = [each.result() for each in sent]
    print(f"{statuses}, meanwhile another client waited {max(waits):.2f} s at most")
    assert set(statuses) <= {400, 503} and 400 in statuses and max(waits) < 5.0


@pytest.mark.slow
def test_half_sent_requests_are_closed_and_healthy_clients_unharmed(quick: Running) -> None:
    run = new_run(quick)
    half = {
        b"": "",
        b"POST /api/2.0": "headers did not come within 1 s",
        head(quick): "headers did not come within 1 s",
        head(quick, runs.LOG_BATCH.path, "Content-Length: 1000") + b'\r\n{"run_id":': "Nothing more of the request came for 2 s",
        head(quick, runs.LOG_BATCH.path, "Transfer-Encoding: chunked")
        + b"\r\n5\r\n{": "Nothing more of the request came for 2 s",
    }
    with ExitStack() as stack:
        waiting = [(stack.enter_context(connected(quick)), sent, words) for sent, words in half.items() for _ in range(60)]
        begun = time.monotonic()
        for connection, sent, _ in waiting:
            connection.sendall(sent)
        slowest = 0.0
        while time.monotonic() - begun < 2.0:
            asked = time.monotonic()
            quick.client.call(runs.LOG_BATCH, runs.LogBatch(run, [Metric("m", 1.0, 1, 1)]))
            slowest = max(slowest, time.monotonic() - asked)
        for connection, _, words in waiting:
            if words:
                said(answer(connection), 408, words)
            assert connection.recv(1) == b""
        assert time.monotonic() - begun < 8.0
    print(f"healthy clients waited {slowest:.3f} s at most")
    assert slowest < 2.0


def test_a_slow_body_that_comes_on_is_taken_and_a_server_that_slept_blames_nobody(quick: Running) -> None:
    run = new_run(quick)
    body = msgspec.json.encode(runs.LogBatch(run, [Metric("m", 1.0, 1, 1)]))
    with connected(quick) as connection:
        connection.sendall(head(quick, runs.LOG_BATCH.path, f"Content-Length: {len(body)}") + b"\r\n")
        for place in range(0, len(body), len(body) // 4):
            time.sleep(0.7)
            connection.sendall(body[place : place + len(body) // 4])
        assert answer(connection)[0] == 200
        connection.sendall(head(quick, runs.LOG_BATCH.path, f"Content-Length: {len(body)}") + b"\r\n" + body[:9])
        assert quick.process is not None
        time.sleep(0.2)
        quick.process.send_signal(19)  # SIGSTOP
        time.sleep(5)
        quick.process.send_signal(18)
        time.sleep(1.2)
        connection.sendall(body[9:])
        assert answer(connection)[0] == 200


@pytest.mark.slow
def test_whoever_takes_nothing_of_an_answer_is_let_go(quick: Running, tmp_path: Path) -> None:
    run = quick.client.call(runs.GET, runs.Get(new_run(quick))).run
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(100 * MIB)
    quick.client.upload(run.info.artifact_uri, "big", big)
    assert quick.process is not None
    files = Path(f"/proc/{quick.process.pid}/fd")
    path = f"/get-artifact?run_id={run.info.run_id}&path=big"
    before = len(list(files.iterdir()))
    with ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(connected(quick))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {quick.token}\r\n\r\n".encode())
            connection.recv(1000)
        assert len(list(files.iterdir())) >= before + 10
        until(lambda: len(list(files.iterdir())) < before + 3)


def test_a_slow_reader_of_a_large_answer_gets_all_of_it(quick: Running, tmp_path: Path) -> None:
    run = quick.client.call(runs.GET, runs.Get(new_run(quick))).run
    (tmp_path / "big").write_bytes(bytes(16 * MIB))
    quick.client.upload(run.info.artifact_uri, "big", tmp_path / "big")
    with connected(quick) as connection:
        path = f"/get-artifact?run_id={run.info.run_id}&path=big"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {quick.token}\r\n\r\n".encode()
        )
        taken = 0
        while block := connection.recv(MIB):
            taken += len(block)
            time.sleep(4.0 * len(block) / (16 * MIB))
    assert taken > 16 * MIB


def test_too_many_connections_are_told_so(tmp_path: Path) -> None:
    running = Running(tmp_path / "home", python="import noria.server.connection as c; c.room = lambda: 20")
    try:
        with ExitStack() as stack:
            for _ in range(19):  # And that of the agent.
                stack.enter_context(connected(running))
            time.sleep(0.3)
            for _ in range(3):
                last = stack.enter_context(connected(running))
            said(answer(last), 503, "20 connections, which are all that it takes")
            for _ in range(3):  # The client closes its connection when it is told so, and makes a new one.
                assert not _answers(running)
        until(lambda: _answers(running))
    finally:
        running.stop()


def _answers(running: Running) -> bool:
    try:
        return bool(new_run(running))
    except Unavailable:
        return False


def test_readers_are_sent_away_before_writers(tmp_path: Path) -> None:
    running = Running(tmp_path / "home", python="import noria.server.load as load; load.READS._most = 0")
    try:
        run = new_run(running)
        running.client.call(runs.LOG_METRIC, runs.LogMetric("m", 1.0, 1, run))
        with connected(running) as connection:
            connection.sendall(head(running, runs.SEARCH.path, "Content-Length: 2") + b"\r\n{}")
            said(answer(connection), 503, "requests to read, which is all that it takes at once")
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000, 413, "head is over 64 KiB"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000, 413, "head is over 64 KiB"),
        (b"GET /" + b"a" * 100_000, 413, "head is over 64 KiB"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "Invalid HTTP request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "Invalid HTTP request"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "Invalid HTTP request"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, "Invalid HTTP request"),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Invalid HTTP request"),
    ],
)  # fmt: skip
def test_what_is_no_request_gets_a_sentence(server: Running, sent: bytes, status: int, words: str) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        said(answer(connection), status, words)


def test_a_trailer_without_end_is_refused(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(head(server, runs.LOG_BATCH.path, "Transfer-Encoding: chunked") + b"\r\n0\r\n")
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b"X: y\r\n" * 1000)
        said(answer(connection), 413, "head is over 64 KiB")


@pytest.mark.slow
def test_bombs_go_off_harmlessly(own_server: Running) -> None:
    run = new_run(own_server)
    packed = gzip.compress(bytes(1024 * MIB), 9)
    deep = b"[" * 100_000
    bombs = [
        ("/api/2.0/mlflow/runs/log-batch", packed, "Content-Encoding: gzip", (400, 413, 415)),
        ("/api/2.0/mlflow/runs/log-batch", gzip.compress(packed, 9), "Content-Encoding: gzip", (400, 413, 415)),
        ("/api/2.0/mlflow/runs/log-batch", packed, "Content-Encoding: br, gzip", (400, 413, 415)),
        ("/api/2.0/mlflow/runs/log-batch", b'{"run_id":"x","metrics":' + deep + b"]" * 100_000 + b"}", "X: x", (400,)),
        ("/api/2.0/mlflow/runs/log-batch", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "X: x", (400,)),
        (
            "/api/2.0/mlflow/runs/log-batch",
            b'{"run_id":"x","tags":[{"key":"a","value":"' + b"\\u0000" * 4_000_000 + b'"}]}',
            "X: x",
            (400, 404),
        ),
        (
            "/api/2.0/mlflow/runs/log-batch",
            b'{"run_id":"x","metrics":[{"key":"a","value":' + b"9" * 5_000_000 + b',"timestamp":1}]}',
            "X: x",
            (400, 404),
        ),
        (
            "/api/2.0/mlflow/runs/log-batch",
            b'{"run_id":"' + run.encode() + b'","params":[{"key":"a","value":"' + b"x" * 20_000_000 + b'"}]}',
            "X: x",
            (200, 400),
        ),
    ]
    for path, body, header, expected in bombs:
        with growth_below(own_server, 150 * MIB), connected(own_server) as connection:
            begun = time.monotonic()
            connection.sendall(head(own_server, path, header, f"Content-Length: {len(body)}") + b"\r\n" + body)
            status, headers, found = answer(connection)
            assert status in expected and headers["content-type"] == "application/json", found
            assert len(found.get("message", "")) < 1000
            assert time.monotonic() - begun < 8.0


FILTERS = [
    " and ".join(["metrics.m > 1"] * 10_000),
    " and ".join([f"params.p{each} = '{each}'" for each in range(3_000)]),
    "params.a LIKE '" + "%a" * 20_000 + "'",
    "params.a ILIKE '" + "%a" * 300 + "b'",
    "params.a LIKE '" + "%" * 200_000 + "'",
    "(" * 20_000 + "metrics.m > 1" + ")" * 20_000,
    "params.`" + "a" * 1_000_000 + "` = 'x'",
    "attributes.run_id IN (" + ",".join(["'x'"] * 50_000) + ")",
    "metrics.m > " + "9" * 1_000_000,
    "'" * 100_000,
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["runs", "experiments"])
def test_filters_that_ask_for_too_much_are_answered_soon(own_server: Running, kind: str) -> None:
    run = new_run(own_server)
    own_server.client.call(runs.LOG_PARAM, runs.LogParam("a", "a" * 6000, run))
    for text in FILTERS:
        request = runs.Search(["0"], text) if kind == "runs" else experiments.Search(max_results=100, filter=text)
        path = runs.SEARCH.path if kind == "runs" else experiments.SEARCH.path
        body = msgspec.json.encode(request)
        with growth_below(own_server, 64 * MIB), connected(own_server) as connection:
            begun = time.monotonic()
            connection.sendall(head(own_server, path, f"Content-Length: {len(body)}") + b"\r\n" + body)
            status, headers, found = answer(connection)
            assert status in (200, 400, 413) and headers["content-type"] == "application/json", (text[:60], found)
            assert status == 200 or len(found["message"]) < 2000, text[:60]
            assert time.monotonic() - begun < 8.0, text[:60]
    assert latest(own_server.client, run) == {}
