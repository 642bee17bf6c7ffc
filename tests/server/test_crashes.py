"""kill -9, again and again: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noria.client.http import Server
from noria.errors import NoriaError, Unavailable
from noria.types import Metric
from noria.wire import runs, spools
from tests.conftest import Running, until

_POINTS = 20_000
_SCRIPT = f"""
import noria, time
noria.start_run(run_name="survivor")
for step in range({_POINTS}):
    noria.log(loss=1 / (step + 1), step=step)
    if step % 10 == 0: time.sleep(0.005)
noria.log_artifact(__file__)
"""


@pytest.mark.slow
def test_killing_server_and_relay_20_times_loses_and_doubles_nothing(own_server: Running, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(_SCRIPT)
    training = subprocess.Popen([sys.executable, str(script)], env=dict(os.environ))
    relay = start_relay(own_server)
    chance = random.Random(7)
    for round in range(20):
        time.sleep(chance.uniform(0.05, 0.5))
        if round % 2:
            own_server.kill()  # With the relay that is a part of it.
            own_server.start()
        else:
            relay.send_signal(signal.SIGKILL)
            relay.wait()
            relay = start_relay(own_server)
    assert training.wait(60) == 0
    try:
        assert own_server.client.call(spools.FLUSH, spools.Flush(30)).done
        run = own_server.client.call(runs.RESOLVE, runs.Resolve("survivor")).run
        history = own_server.client.call(runs.CURVE, runs.Curve(run.info.run_id, "loss"))
        assert history.steps == list(range(_POINTS))
        assert history.values == [1 / (step + 1) for step in range(_POINTS)]
        assert list(own_server.client.tree(run.info.artifact_uri)) == ["train.py"]
        until(lambda: own_server.client.call(runs.GET, runs.Get(run.info.run_id)).run.info.status == "FINISHED")
    finally:
        relay.kill()
        relay.wait()


def start_relay(server: Running) -> subprocess.Popen[bytes]:
    """An agent of its own, beside the one in the server: two at the same spools."""
    argv = [sys.executable, "-m", "noria.cli.main", "agent", "--server", server.url, "--token", server.token]
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL, env={**os.environ, "NORIA_HOME": str(server.folder)})


@pytest.mark.slow
def test_what_was_answered_survives_kill_9(own_server: Running) -> None:
    run = own_server.client.call(runs.CREATE, runs.Create()).run.info.run_id
    answered, sent = [], 0
    for _ in range(5):
        own_server_killed_at = time.monotonic() + random.Random(sent).uniform(0.1, 0.4)
        while True:
            if time.monotonic() > own_server_killed_at:
                own_server.kill()
            try:
                own_server.client.call(runs.LOG_BATCH, runs.LogBatch(run, [Metric("m", float(sent), sent, sent)]))
                answered.append(sent)
            except (Unavailable, NoriaError):
                break
            finally:
                sent += 1
        own_server.start()
    steps = own_server.client.call(runs.CURVE, runs.Curve(run, "m")).steps
    assert set(answered) <= set(steps) and len(steps) == len(set(steps)) and len(answered) > 50


def test_log_never_waits_for_a_server_that_stands_still(own_server: Running, tmp_path: Path) -> None:
    assert own_server.process is not None
    own_server.process.send_signal(signal.SIGSTOP)
    try:
        body = """
import noria, time
noria.start_run()
times = []
for step in range(2000):
    before = time.perf_counter(); noria.log(loss=0.5, step=step); times.append(time.perf_counter() - before)
print(sorted(times)[1980])
"""
        done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=20, env=dict(os.environ))
        assert done.stderr == "" and float(done.stdout) < 0.001
    finally:
        own_server.process.send_signal(signal.SIGCONT)


def test_a_damaged_end_is_cut_off_kept_and_reported(own_server: Running, tmp_path: Path) -> None:
    body = "import noria, os\nfor i in range(10): noria.log(loss=0.5, step=i)\nnoria.active_run().spool.path.open('ab').write(b'\\x09\\0\\0\\0torn')\nos._exit(9)"
    subprocess.run([sys.executable, "-c", body], env=dict(os.environ), check=False)
    folder = own_server.folder / "spool"
    until(lambda: list(folder.glob("shipped/*.spool")))
    (run,) = own_server.client.call(runs.SEARCH, runs.Search(["0"])).runs
    assert run.info.status == "FAILED"
    assert own_server.client.call(runs.CURVE, runs.Curve(run.info.run_id, "loss")).steps == list(range(10))
    assert [path.read_bytes() for path in folder.glob("*.damaged")] == [b"\x09\0\0\0torn"]
    assert "its last 8 bytes were damaged; all before them is saved" in (own_server.folder / "server.log").read_text()


def test_a_spool_of_a_newer_release_is_kept_and_reported_once(own_server: Running) -> None:
    folder = own_server.folder / "spool"
    folder.mkdir(exist_ok=True)
    header = spools.Header(99, "f" * 32, "a" * 32, "", 0, 0, "elsewhere", 1, "1", 1)
    path = folder / "0000-00000-1-ffff.spool"
    path.write_bytes(spools.frame(header))
    log = own_server.folder / "server.log"
    until(lambda: "does not know" in log.read_text())
    time.sleep(1.2)
    assert log.read_text().count("does not know") == 1 and path.exists()


def test_a_file_logged_first_holds_nothing_up(own_server: Running, tmp_path: Path) -> None:
    body = "import noria, sys, time\nnoria.start_run(run_name='file first')\nnoria.log_artifact(sys.argv[1])\ntime.sleep(1)\nfor i in range(300): noria.log(x=i, step=i)"
    (tmp_path / "a.txt").write_text("a")
    subprocess.run([sys.executable, "-c", body, str(tmp_path / "a.txt")], env=dict(os.environ), check=True)
    assert own_server.client.call(spools.FLUSH, spools.Flush(20)).done
    run = own_server.client.call(runs.RESOLVE, runs.Resolve("file first")).run
    assert own_server.client.call(runs.CURVE, runs.Curve(run.info.run_id, "x")).steps == list(range(300))
    assert run.info.status == "FINISHED" and list(own_server.client.tree(run.info.artifact_uri)) == ["a.txt"]


def test_a_record_that_cannot_be_kept_is_set_aside_and_the_run_says_so(own_server: Running, tmp_path: Path) -> None:
    body = """
import noria, sys
noria.start_run(run_name="odd", experiment="e" * 900)
noria.log_artifact(sys.argv[1], "x")     # x/a.txt, and then x itself as a file
noria.active_run().log_file(__import__("pathlib").Path(sys.argv[1]), "x")
noria.log(y=1.0, step=2**63)
noria.log(y=1.0, step=1, timestamp=float("nan"))
noria.log(y=2.0, step=2)
"""
    (tmp_path / "a.txt").write_text("a")
    subprocess.run([sys.executable, "-c", body, str(tmp_path / "a.txt")], env=dict(os.environ), check=True)
    assert own_server.client.call(spools.FLUSH, spools.Flush(20)).done
    run = own_server.client.call(runs.RESOLVE, runs.Resolve("odd")).run
    assert own_server.client.call(runs.CURVE, runs.Curve(run.info.run_id, "y")).steps == [2]
    assert "out of range" in {tag.key: tag.value for tag in run.data.tags}["noria.refused"]
    assert "artifact 'x' was refused" in (own_server.folder / "server.log").read_text()


def test_a_local_server_starts_within_a_second_or_so_and_stays_small(own_server: Running) -> None:
    """The figures are bench's; this holds the shape: one process, and no memory beyond what one needs."""
    assert own_server.process is not None
    pid = own_server.process.pid
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    assert pages * os.sysconf("SC_PAGE_SIZE") < 120 * 2**20
    assert isinstance(own_server.client, Server)
