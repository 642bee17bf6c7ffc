"""The engine is killed after each deed and before it could say so: what was done is done once, whoever goes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.errors import Unavailable
from noria.wire import jobs
from noria.wire import rules as wire
from tests.automation import tiny
from tests.automation.conftest import Ask
from tests.automation.test_chain import REPOSITORY, Chain, receiver  # noqa: F401 (a fixture)
from tests.automation.test_notify import Receiver
from tests.conftest import Running, until

KILLS = """
import os, signal
from pathlib import Path
from noria.automation import engine
from noria.store import steps
steps.LEASE_MS, engine._RENEW_SECONDS = 4000, 0.5
perform = engine.perform
def once(work, *rest):
    said = perform(work, *rest)
    mark = Path({marks!r}) / f"{{work.firing.phase}}-{{work.firing.step}}-{{said.state}}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return said
engine.perform = once
"""


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server whose engine dies the first time that a step comes to this."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tiny.path(), str(REPOSITORY)]))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    marks = tmp_path / "marks"
    marks.mkdir()
    running = Running(tmp_path / "engine", python=KILLS.format(marks=str(marks)))
    yield running
    running.stop()


def survived(chain: Chain, seconds: float) -> wire.Told:
    """The chain's firing once it is over, with the server started again each time that it is gone."""

    def over() -> wire.Told | None:
        running: Any = chain.engine
        if running.process.poll() is not None:
            running.client.close()
            running.start()
            chain.server = running.client
        try:
            found = chain.server.call(wire.HISTORY, wire.History(chain.name)).firings
            ended = [each for each in found if each.state not in wire.OPEN]
            return chain.server.call(wire.FIRING, wire.One(ended[0].id)) if ended else None
        except Unavailable:  # It was killed in between.
            time.sleep(0.1)
            return None

    return until(over, seconds)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_after_each_deed_it_does_each_once(killed: Running, noria: Ask, receiver: Receiver, tmp_path: Path) -> None:  # noqa: F811
    chain = Chain(killed, noria, receiver, tmp_path, "killed")
    chain.begin("GOOD")
    told = survived(chain, 240)
    assert told.firing.state == "done", told.firing.note
    marks = {each.name for each in (tmp_path / "marks").iterdir()}
    assert marks == {
        "then-0-waiting",
        "then-0-done",
        "then-1-done",
        "then-2-waiting",
        "then-2-done",
        "then-3-done",
        "then-4-done",
    }
    version = told.firing.steps[1]["version"]
    names = sorted(each.spec.name for each in chain.server.call(jobs.LIST, jobs.List()).jobs)
    assert len(names) == 3 and [each.startswith("evaluate-killed-") for each in names].count(True) == 2, names
    chain.model.server = chain.server
    versions = {change.version for change in chain.model.history(action="created") if change.version}
    assert versions == {chain.champion, version}
    for number in (chain.champion, version):
        assert len(chain.model.history(number, "evaluated")) == 1
    assert [change.version for change in chain.model.history(action="promoted")] == [version, chain.champion]
    assert chain.model.standing() == [version]
    assert len(receiver.got) == 2 and len({headers["Idempotency-Key"] for _, headers, _ in receiver.got}) == 1
