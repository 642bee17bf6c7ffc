"""Several queues on one machine: two homes, as two users or one user twice have them."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.errors import Unavailable
from noria.jobs.neighbours import Ledger, Share, Taken, Wanted, claimed
from noria.process import born
from tests.conftest import require, until
from tests.jobs.test_asks import job

Noria = Callable[..., subprocess.CompletedProcess[str]]
CPUS = str(len(os.sched_getaffinity(0)))
WHOLE = Wanted(4, 4 << 30, 2)


@pytest.fixture
def two(noria: Noria, tmp_path: Path) -> Iterator[list[Callable[..., subprocess.CompletedProcess[str]]]]:
    """`noria` in two homes."""
    homes = [str(tmp_path / name) for name in ("one", "two")]

    def at(home: str) -> Callable[..., subprocess.CompletedProcess[str]]:
        return lambda *args, **more: noria(*args, NORIA_HOME=home, **more)

    yield [at(home) for home in homes]
    for home in homes:
        noria("server", "stop", check=False, NORIA_HOME=home)


def test_what_one_queue_gives_away_another_does_not(two: list[Noria]) -> None:
    one, other = two
    first = one("submit", "--cpus", CPUS, "--", "sleep", "60").stdout.strip()
    until(lambda: job(one, first)["state"] == "RUNNING", 30)
    second = other("submit", "--", "true").stdout.strip()
    said = f"has {CPUS} CPUs of this machine in other queues."
    until(lambda: said in job(other, second)["reason"], 30)
    assert job(other, second)["state"] == "SUBMITTED"
    one("cancel", first)
    until(lambda: job(other, second)["state"] == "COMPLETED", 30)


def test_a_queue_whose_runner_died_holds_nobody_up(two: list[Noria]) -> None:
    one, other = two
    first = one("submit", "--cpus", CPUS, "--", "sleep", "60").stdout.strip()
    until(lambda: job(one, first)["state"] == "RUNNING", 30)
    one("server", "stop")
    subprocess.run(["pkill", "-KILL", "-f", "^sleep 60$"], check=False)
    subprocess.run(["pkill", "-KILL", "-f", first], check=False)
    second = other("submit", "--", "true").stdout.strip()
    until(lambda: job(other, second)["state"] == "COMPLETED", 30)


def _taken(cpus: int, gpus: list[str] | None = None) -> Taken:
    return Taken(cpus, 0, gpus or [], os.getpid(), born(os.getpid()))


def _as(user: str, work: Callable[[], None]) -> None:
    """Do it in a child of another user."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            entry = pwd.getpwnam(user)
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A ledger that other users can reach."""
    path = Path(f"/dev/shm/noria-test-{os.getpid()}")
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


def test_users_see_each_other_and_who_used_less_goes_first(folder: Path, tmp_path: Path) -> None:
    require("root", os.getuid() == 0, "only root can be two users")

    def theirs() -> None:
        with Ledger(folder, Path("/home/nobody")).open() as page:
            page.write([_taken(3, ["0"])], Wanted(1, 0, 1), WHOLE)

    _as("nobody", theirs)
    mine = Ledger(folder, tmp_path)
    with mine.open() as page:
        assert [(user, each.cpus, each.gpus) for user, each in page.taken()] == [], "its process has ended"
        assert page.first() == [], "nobody has used anything, and the smaller uid goes first"
        page.write([_taken(2)], None, WHOLE)
    time.sleep(0.1)
    with mine.open() as page:
        page.write([], None, WHOLE)
        assert page.first() == []
    with mine.open() as page:
        assert page.first() == [Wanted(1, 0, 1)], "now this user has used half of the machine for a moment"

    def forged() -> None:
        (folder / f"{0}-forged").write_bytes(json.dumps({"uid": 0, "user": "root", "running": []}).encode())
        with Ledger(folder, Path("/home/nobody")).open() as page:
            assert [share.uid for share in page.others] == [0], "root's own, and not what says that it is root's"

    _as("nobody", forged)


def test_use_is_forgotten_by_half_in_a_day() -> None:
    share = Share(1, "ada", used=8.0, at=1000.0)
    assert (share.use(1000.0), share.use(1000.0 + 86_400), share.use(1000.0 + 3 * 86_400)) == (8.0, 4.0, 1.0)


def test_without_a_ledger_a_queue_is_alone(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = noria("submit", "--", sys.executable, "-c", "print(1)", NORIA_MACHINE=str(tmp_path / "file" / "x"))
    assert noria("wait", done.stdout.strip()).returncode == 0


def test_a_lock_that_is_never_let_go_is_passed_over(folder: Path, tmp_path: Path) -> None:
    import fcntl

    with Ledger(folder, tmp_path).open():
        pass
    with (folder / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        with Ledger(folder, tmp_path).open() as page:
            page.write([], None, WHOLE)
        assert 1.5 < time.monotonic() - began < 10


def test_a_job_is_told_which_gpus_where_its_scheduler_only_counts_them(
    noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from noria.jobs import launch
    from noria.jobs.folder import Folder
    from noria.types import Job, JobSpec

    monkeypatch.setattr(launch, "gpus", lambda: ["0", "1", "2", "3"])
    monkeypatch.setenv("PE_HOSTFILE", str(tmp_path / "hosts"))
    (tmp_path / "hosts").write_text("here 1 q@here\n")
    spec = JobSpec(["sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES"'], scheduler="sge", gpus=2, cwd=str(tmp_path))
    folder = Folder(tmp_path / "job")
    folder.make(Job("a" * 12, "b" * 32, spec, "SUBMITTED", "ada", 0), {}, "")
    with claimed(Ledger(tmp_path / "machine", tmp_path / "other"), 1, ["0", "1", "2", "3"]):
        assert launch.main(str(folder.path)) == 0
    assert (folder.logs / "rank0.log").read_text() == "1,2\n"
    assert len(list((tmp_path / "machine").glob("*-*"))) == 0, "nothing is left of either"


def test_jobs_on_one_node_have_gpus_of_their_own(tmp_path: Path) -> None:
    one, two, three = (Ledger(tmp_path / "machine", tmp_path / name) for name in ("one", "two", "three"))
    with claimed(one, 2, ["0", "1", "2"]) as first:
        with claimed(two, 1, ["0", "1", "2"]) as second:
            assert (first, second) == (["0", "1"], ["2"])
            refused = pytest.raises(Unavailable, match="this node has 3 GPUs, and other jobs have 0, 1, 2 of them")
            with refused, claimed(three, 1, ["0", "1", "2"], patience=0.1):
                pass
        with claimed(three, 1, ["0", "1", "2"]) as third:
            assert third == ["2"]


def test_what_others_put_there_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    folder, mine = tmp_path / "machine", tmp_path / "precious"
    mine.write_text("mine")
    ledger = Ledger(folder, tmp_path)
    with ledger.open() as page:
        page.write([], None, WHOLE)
    (own,) = (path for path in folder.iterdir() if path.name != "lock")
    (folder / f".{own.name}").symlink_to(mine)
    (folder / f"{os.getuid()}-link").symlink_to(mine)
    os.mkfifo(folder / f"{os.getuid()}-pipe")
    (folder / f"{os.getuid()}-large").write_bytes(b" " * (2 << 20))
    with ledger.open() as page:
        assert page.others == []
        page.write([_taken(1)], None, WHOLE)
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(mine)
    with ledger.open() as page:
        page.write([], None, WHOLE)
    assert mine.read_text() == "mine" and mine.stat().st_mode & 0o077 in (0o044, 0)
    (tmp_path / "elsewhere").symlink_to(folder)
    with Ledger(tmp_path / "elsewhere", tmp_path).open() as page:
        assert page.others == [], "a folder that is a link is no ledger"
