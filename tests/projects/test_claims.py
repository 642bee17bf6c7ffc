"""Who builds: one of many processes, whatever becomes of the others."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from noria.errors import Invalid, Unavailable
from noria.projects import claims
from noria.projects.claims import Ended, Holder
from tests.conftest import until


def never() -> bool:
    return False


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def claim(folder: Path, holder: Holder, number: int = 1) -> Path:
    path = folder / f"x.{number}.claim"
    path.write_bytes(msgspec.json.encode(holder))
    return path


def elsewhere(**changes: str) -> Holder:
    return Holder("ada", "node7", "another start", os.getpid(), "1", int(time.time()))


def test_one_at_a_time_though_some_are_killed(tmp_path: Path) -> None:
    """Twelve processes, each of which wants it some times; a third of them are killed while they have it."""
    inside, turns = tmp_path / "inside", tmp_path / "turns"

    def take(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(3):
            with claims.claimed(tmp_path, "x", never, lambda line: None) as mine:
                assert mine is not None and mine.stands()
                # Whoever was killed in here left this: its claim is not ours.
                os.close(os.open(f"{inside}.{mine.number}", os.O_CREAT | os.O_EXCL))
                alone = [name for name in os.listdir(tmp_path) if name.startswith("inside.")]
                assert len(alone) == 1, alone
                time.sleep(rng.random() * 0.01)
                os.unlink(f"{inside}.{mine.number}")
                if rng.random() < 0.2:
                    os.kill(os.getpid(), signal.SIGKILL)
            with turns.open("a") as file:
                file.write(".")

    pids = [child(lambda seed=seed: take(seed)) for seed in range(12)]  # type: ignore[misc]
    ends = [os.waitpid(pid, 0)[1] for pid in pids]
    killed = ends.count(signal.SIGKILL)
    assert 0 < killed < 12 and ends.count(0) == 12 - killed
    assert len(turns.read_text()) >= 3 * (12 - killed)
    assert len(claims.numbers(tmp_path, "x")) == 1, "the highest one stays, and the others go"


def test_a_holder_elsewhere_is_waited_for_by_name_and_followed_when_it_beats_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = claim(tmp_path, elsewhere())
    os.utime(path, (0, 0))  # Clocks of other nodes say nothing.
    monkeypatch.setattr(claims, "VOID", 1.0)
    said: list[str] = []
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.2):
            os.utime(path)

    beating = threading.Thread(target=beat)
    beating.start()
    threading.Timer(2.0, stop.set).start()
    began = time.monotonic()
    with claims.claimed(tmp_path, "x", never, said.append) as mine:
        assert mine is not None and mine.number == 2
    beating.join()
    assert 2.5 < time.monotonic() - began < 10
    assert said == [f"waiting for ada (process {os.getpid()} on node7), who builds it already"]


def test_a_dead_holder_of_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    pid = child(lambda: None)
    os.waitpid(pid, 0)
    claim(tmp_path, Holder("ada", socket.gethostname(), claims._boot(), pid, "1", int(time.time())), 7)
    began = time.monotonic()
    with claims.claimed(tmp_path, "x", never, lambda line: None) as mine:
        assert mine is not None and mine.number == 8
    assert time.monotonic() - began < 1


def test_a_holder_that_wakes_up_finds_that_it_was_followed(tmp_path: Path) -> None:
    with claims.claimed(tmp_path, "x", never, lambda line: None) as mine:
        assert mine is not None and mine.stands()
        claim(tmp_path, elsewhere(), 2)
        assert not mine.stands()
        mine.path.unlink()
    assert isinstance(claims.read(tmp_path / "x.2.claim"), Holder), "and harms nobody at its end"


def test_whoever_waited_hears_why_it_failed_and_whoever_comes_later_tries(tmp_path: Path) -> None:
    heard: list[str] = []

    def wait() -> None:
        with claims.claimed(tmp_path, "x", never, waiting.append):
            raise AssertionError("it was not waited for")

    def hear() -> None:
        try:
            wait()
        except Invalid as error:
            heard.append(error.message)

    waiting: list[str] = []
    other = threading.Thread(target=hear)
    with pytest.raises(Unavailable), claims.claimed(tmp_path, "x", never, lambda line: None):
        other.start()
        until(lambda: waiting)
        raise Unavailable("There is no network.", "Plug it in.")
    other.join()
    assert heard[0].endswith("could not build it either just now: There is no network. Plug it in.")
    assert claims.read(tmp_path / "x.1.claim") == Ended("There is no network. Plug it in.")
    with claims.claimed(tmp_path, "x", never, lambda line: None) as mine:
        assert mine is not None and mine.number == 2


def test_none_is_given_once_it_is_done(tmp_path: Path) -> None:
    with claims.claimed(tmp_path, "x", lambda: True, lambda line: None) as mine:
        assert mine is None
    assert os.listdir(tmp_path) == []
