"""The N-th call of the disk fails, for every N: no call of the client raises, and nothing is lost or doubled."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import noria
from noria.client import disk, fluent, read
from noria.errors import Unavailable
from noria.wire import spools
from noria.wire.spools import Begin, End, Header, Log, Params, Record, Rewind, Tags
from tests.faults import FAULTS, FaultyOs, until_none_fails


def records(path: Path) -> tuple[list[Record], bool]:
    """What can be read of a spool, and whether all of it can."""
    with disk.opened(path) as fd:
        pieces = list(read.pieces(fd))
    return [record for each in pieces for record in spools.records(each.frames)], all(each.frames for each in pieces)


def session() -> Path | None:
    """What a training script does. None if the disk did not even let it begin."""
    try:
        run = noria.start_run()
    except Unavailable as error:
        assert "cannot be written" in error.message
        return None
    for step in range(4):
        noria.log(loss=0.5, step=step)
    noria.log_param("lr", 0.1)
    noria.log({f"metric/{number}": 1.0 for number in range(20)}, step=4)  # Longer than what is framed in one go.
    noria.set_tag("text", "x" * 500)
    noria.rewind(3)
    noria.log(loss=0.25, step=3)
    noria.end_run()
    return run.spool.path


EXPECTED = [Header, Header, Begin, (0, 1), (1, 1), (2, 1), (3, 1), Params, (4, 20), Tags, Rewind, (3, 1), End]


@pytest.mark.parametrize("error", FAULTS)
@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_disk_that_fails_for_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int, error: int
) -> None:
    begun = 0
    for faulty in until_none_fails(times, error):
        with monkeypatch.context() as patch:
            patch.setattr(disk, "os", faulty)
            patch.setattr(fluent, "_write", faulty.write)
            path = session()
        if path is None:
            continue
        begun += 1
        found, undamaged = records(path)
        said = re.search(r"(\d+) records or files could not be written", capsys.readouterr().err)
        lost = int(said[1]) if said else 0  # The disk may fail until the end, and then it is said how much is missing.
        assert [(r.step, len(r.metrics)) if isinstance(r, Log) else type(r) for r in found] == EXPECTED[: len(EXPECTED) - lost]
        assert undamaged or lost
        assert not lost or times > 2
    assert begun > 12


def test_a_disk_that_stays_full_says_how_many_are_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noria.start_run()
    with monkeypatch.context() as patch:
        full = FaultyOs(1, 10**9, errno.ENOSPC)
        patch.setattr(disk, "os", full)
        patch.setattr(fluent, "_write", full.write)
        for step in range(100):
            noria.log(loss=0.5, step=step)
        noria.end_run()
    err = capsys.readouterr().err
    assert f"The disk of the spool {run.spool.path} is full or gone" in err and "101 records or files could not be written" in err
    assert len(records(run.spool.path)[0]) == 3


def test_what_is_held_is_bounded_and_what_is_lost_is_counted_with_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noria.start_run()
    with monkeypatch.context() as patch:
        full = FaultyOs(1, 10**9, errno.ENOSPC)
        patch.setattr(disk, "os", full)
        patch.setattr(fluent, "_write", full.write)
        for number in range(2500):
            noria.set_tag("text", f"{number:08d}" * 1000)
        assert len(run.spool.held) <= 16 * 2**20
    noria.log(loss=0.5)  # There is room again.
    noria.end_run()
    found, undamaged = records(run.spool.path)
    kept = [record.tags["text"] for record in found if isinstance(record, Tags) and "text" in record.tags]
    assert undamaged and kept == [f"{number:08d}" * 1000 for number in range(len(kept))]
    (lost,) = [record.tags["noria.lost"] for record in found if isinstance(record, Tags) and "noria.lost" in record.tags]
    count = 2501 - len(kept)  # The log that found room came too late for itself: what is held goes first.
    assert int(lost.split()[0]) in (count, count - 1) and lost.endswith("records or files, for which a full disk had no room")
    assert "are lost from now on" in capsys.readouterr().err


def test_a_file_that_finds_no_room_stops_nobody(tmp_path: Path) -> None:
    body = """
import noria, resource, sys
noria.start_run()
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, most))
noria.log_artifact(sys.argv[1])
noria.log(loss=0.5)
"""
    (tmp_path / "large.bin").write_bytes(bytes(100_000))
    env = {"NORIA_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", body, str(tmp_path / "large.bin")], capture_output=True, text=True, env=env, timeout=60
    )
    assert done.returncode == 0 and done.stderr.startswith("noria: lost the file '") and "Training goes on." in done.stderr
    (path,) = (tmp_path / "spool").glob("*.spool")
    found, _ = records(path)
    assert [record.tags["noria.lost"][:2] for record in found if isinstance(record, Tags)] == ["1 "]
    assert not list(path.with_suffix(".files").iterdir())


def test_threads_on_a_failing_disk_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky(FaultyOs):
        """Every seventh write is short."""

        def __getattr__(self, name: str) -> object:
            self.first = self.calls + 1 if name == "write" and self.calls % 7 == 0 else 10**9
            return super().__getattr__(name)

    flaky = Flaky(1, 1, 0)
    run = noria.start_run()
    with monkeypatch.context() as patch:
        patch.setattr(disk, "os", flaky)
        patch.setattr(fluent, "_write", lambda fd, data: flaky.write(fd, data))
        threads = [threading.Thread(target=_log, args=(first,)) for first in range(0, 2000, 500)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    noria.end_run()
    steps = [record.step for record in records(run.spool.path)[0] if isinstance(record, Log)]
    assert sorted(steps) == list(range(2000))


def _log(first: int) -> None:
    for step in range(first, first + 500):
        noria.log(loss=0.5, step=step)


def test_one_call_that_is_too_long_says_so(tmp_path: Path) -> None:
    body = """
import noria
from noria.errors import NoriaError
for call in (noria.log_params, noria.log):
    try: call({f"{'k' * 240}{number}": 1 for number in range(80_000)})
    except NoriaError as error: print(error)
noria.log(loss=0.5)
"""
    done = subprocess.run(
        [sys.executable, "-c", body],
        capture_output=True,
        text=True,
        env={"NORIA_HOME": str(tmp_path), "NORIA_CAPSULES": "false"},
        timeout=60,
    )
    assert done.stderr == "" and done.stdout.count("One call may log 16 MiB, and this one has") == 2
