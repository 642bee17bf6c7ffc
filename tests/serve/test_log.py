"""The log of predictions: what it holds, what it costs, and what it does when its disk is full."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from noria.errors import Invalid
from noria.serve import log as log_module
from noria.serve.log import VERSION, Answered, Log, lines, logged, segments
from noria.types import PredictionLog
from tests.conftest import until

BODY = b'{"inputs": [[1, 2],\n [3, 4]]}'


def told(into: list[PredictionLog]) -> Any:
    return lambda state: (into.append(state), True)[1]


def one(number: int = 0, version: str = "3", body: bytes = BODY) -> Answered:
    return Answered(1000 + number, f"r{number}", version, body, b'{"predictions": [0.5]}', 1.23456)


def test_what_is_handed_over_is_in_the_file(tmp_path: Path) -> None:
    states: list[PredictionLog] = []
    log = Log(tmp_path / "e1", told(states), inputs=True)
    for number in range(1000):
        log.put(one(number, "3" if number < 600 else "4"))
    log.close()
    found = list(lines(tmp_path / "e1"))
    assert [each["id"] for each in found] == [f"r{number}" for number in range(1000)]
    assert found[0] == {
        "time": 1000, "id": "r0", "version": "3", "latency_ms": 1.235, "outputs": {"predictions": [0.5]}, "inputs": {"inputs": [[1, 2], [3, 4]]},
        "inputs_digest": hashlib.sha256(b'{"inputs":[[1,2],[3,4]]}').hexdigest()[:32],
    }  # fmt: skip
    assert states[-1] == PredictionLog(str(tmp_path / "e1"), 1000, 1000, 1999, 0, 1.0, {"3": 600, "4": 400})


def test_inputs_are_kept_only_where_that_was_asked_for(tmp_path: Path) -> None:
    log = Log(tmp_path, told([]))
    log.put(one())
    log.put(one(1, body=b"a,b\n1,2\n"))
    log.close()
    first, second = lines(tmp_path)
    assert "inputs" not in first and second["inputs_digest"] == hashlib.sha256(b"a,b\n1,2\n").hexdigest()[:32]


def test_files_turn_and_the_oldest_go(tmp_path: Path) -> None:
    log = Log(tmp_path, told([]), most=40_000)
    for number in range(2000):
        log.put(one(number))
        if not number % 20:
            until(lambda: log._queue.empty())
    log.close()
    found = segments(tmp_path)
    assert 1 < len(found) <= 4 and int(found[0].stem) > 1 and sum(path.stat().st_size for path in found) <= 40_000
    assert [each["id"] for each in lines(tmp_path)][-1] == "r1999"
    again = Log(tmp_path, told([]), most=40_000)
    again.put(one(7))
    again.close()
    assert [each["id"] for each in lines(tmp_path)][-2:] == ["r1999", "r7"], "another process goes on behind"


def test_a_full_disk_stops_the_log_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log_module, "_AGAIN", 0.3)
    write, room = os.write, [True]

    def full(fd: int, data: bytes) -> int:
        if room[0] or not data.startswith(b'{"time"'):
            return write(fd, data)
        if len(data) > 300:
            return write(fd, data[:100])  # Half of a line goes in before the disk is full.
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log_module.os, "write", full)
    log = Log(tmp_path, told([]))
    log.put(one(0))
    until(lambda: log.state().count == 1)
    room[0] = False
    log.put(one(1))
    until(lambda: log.state().lost == 1)
    log.put(one(2))
    until(lambda: log.state().lost == 2)
    room[0] = True
    time.sleep(0.35)
    log.put(one(3))
    log.close()
    assert [each["id"] for each in lines(tmp_path)] == ["r0", "r3"]
    assert (log.state().count, log.state().lost) == (2, 2)
    assert capfd.readouterr().err.count("serving goes on") == 1


def test_what_no_memory_is_set_aside_for_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_WAITING", 1000)
    log = Log(tmp_path, told([]))
    log.put(one(0, body=b"x" * 2000))
    log.put(one(1))
    log.close()
    assert (log.state().count, log.state().lost) == (1, 1)


def test_a_line_that_is_cut_or_none_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "000001.jsonl").write_bytes(b'{"id": "a"}\nnot json\n[]\n{"id": "b"}\n{"id": "c"')
    assert [each["id"] for each in lines(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_is_none(tmp_path: Path, share: float) -> None:
    with pytest.raises(Invalid, match="cannot be kept"):
        Log(tmp_path, told([]), sample=share)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An endpoint, as short as they come."""
    body = (await receive())["body"]
    scope[VERSION] = "4" if b"new" in body else "3"
    await send({"type": "http.response.start", "status": 400 if b"bad" in body else 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"predictions": [1]}'})


async def ask(app: Any, body: bytes, path: str = "/invocations", **headers: str) -> dict[bytes, bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "path": path, "headers": given}, receive, send)
    return dict(sent[0]["headers"])


def test_answers_are_logged_with_the_version_that_gave_them(tmp_path: Path) -> None:
    log = Log(tmp_path, told([]))
    app = logged(answer, log)

    async def run() -> None:
        assert (await ask(app, b'"old"', x_request_id="mine"))[b"x-request-id"] == b"mine"
        assert len((await ask(app, b'"new"'))[b"x-request-id"]) == 32
        await ask(app, b'"bad"')
        await ask(app, b'"other"', "/health")

    asyncio.run(run())
    log.close()
    assert [(each["version"], each["outputs"]) for each in lines(tmp_path)] == [
        ("3", {"predictions": [1]}),
        ("4", {"predictions": [1]}),
    ]
    assert next(lines(tmp_path))["id"] == "mine"


def test_a_sample_is_a_sample(tmp_path: Path) -> None:
    states: list[PredictionLog] = []
    log = Log(tmp_path, told(states), sample=0.25)
    log._chance.seed(7)
    app = logged(answer, log)

    async def run() -> None:
        for _ in range(1000):
            await ask(app, b"1")

    asyncio.run(run())
    log.close()
    assert 200 < states[-1].count < 300 and states[-1].sample == 0.25


def test_it_costs_an_answer_next_to_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path, told([]))
    app, body = logged(answer, log), json.dumps({"inputs": [[0.5] * 784]}).encode()

    async def times(which: Any) -> float:
        taken = []
        for _ in range(500):
            begun = time.perf_counter()
            await ask(which, body)
            taken.append(time.perf_counter() - begun)
            await asyncio.sleep(0)
        return statistics.median(taken)

    bare, with_log = asyncio.run(times(answer)), asyncio.run(times(app))
    log.close()
    assert with_log - bare < 0.0005, (bare, with_log)
    assert log.state().count == 500
