"""A job's folder on its node's own disk, and copies of data there: through the command line, on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.errors import Unavailable
from noria.jobs import scratch
from noria.jobs.folder import Folder
from tests.conftest import until

Noria = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's own disk: where our folder on it will be."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    return tmp_path / "disk" / f"noria-{os.getuid()}"


def submit(noria: Noria, *options: str, code: str) -> str:
    return str(json.loads(noria("submit", "--json", *options, "--", sys.executable, "-c", code).stdout)["id"])


def ran(noria: Noria, *options: str, code: str) -> str:
    job = submit(noria, *options, code=code)
    noria("wait", job)
    return noria("logs", job).stdout


def jobs(disk: Path) -> list[str]:
    return sorted(path.name for path in disk.iterdir() if path.name != "kept")


WRITES = "import os, tempfile; open(os.environ['NORIA_SCRATCH'] + '/x', 'w').write('x'); print(os.environ['NORIA_SCRATCH'], tempfile.mkdtemp())"


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "os.kill(os.getpid(), 9)"])
def test_a_job_has_a_folder_that_goes_with_it(noria: Noria, disk: Path, end: str) -> None:
    job = submit(noria, code=f"{WRITES}\n{end}")
    noria("wait", job, check=False)
    where, temporary = (
        noria("logs", job).stdout.split() if end != "os.kill(os.getpid(), 9)" else (f"{disk}/{job}-0", f"{disk}/{job}-0/")
    )
    assert where == f"{disk}/{job}-0" and temporary.startswith(f"{where}/")
    until(lambda: jobs(disk) == [])


def test_it_goes_when_the_job_is_cancelled_and_when_its_launcher_was_killed(noria: Noria, disk: Path) -> None:
    waits = f"{WRITES}\nimport sys, time; sys.stdout.flush(); time.sleep(60)"
    first = submit(noria, code=waits)
    until(lambda: (disk / f"{first}-0" / "x").exists())
    noria("cancel", first)
    until(lambda: jobs(disk) == [])
    second = submit(noria, code=waits)
    until(lambda: (disk / f"{second}-0" / "x").exists())
    (found,) = json.loads(noria("ps", "--json", second).stdout)["jobs"]
    started = until(lambda: Folder(Path(found["folder"] or Path(os.environ["NORIA_HOME"]) / "jobs" / second)).started())
    os.kill(started.pid, signal.SIGKILL)
    noria("wait", second, check=False)
    assert jobs(disk) != []
    assert ran(noria, code="print(1)") == "1\n"
    until(lambda: jobs(disk) == [])


def test_what_the_profile_names_goes_first_and_env_last(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fast").mkdir()
    Path("noria.toml").write_text(f"[profiles.local.site]\nscratch = '{tmp_path}/fast'\n")
    said = ran(noria, "--env", "TMPDIR=/mine", code="import os; print(os.environ['NORIA_SCRATCH'], os.environ['TMPDIR'])")
    assert said.startswith(f"{tmp_path}/fast/noria-") and said.endswith(" /mine\n")


def test_a_node_without_room_for_it_runs_the_job(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noria.toml").write_text("[profiles.local.site]\nscratch = '/no/such'\n")
    job = submit(noria, code="import os; print('NORIA_SCRATCH' in os.environ)")
    noria("wait", job)
    assert noria("logs", job).stdout == "False\n"
    log = Path(os.environ["NORIA_HOME"]) / "jobs" / job / "logs/scheduler.log"
    assert "noria: no scratch folder: " in log.read_text() and "has no /no/such" in log.read_text()
    job = submit(noria, "--stage", str(tmp_path / "noria.toml"), code="pass")
    done = noria("wait", job, check=False)
    assert done.returncode == 127 and "the job cannot start: " in done.stderr and "has no /no/such" in done.stderr


def test_a_folder_of_somebody_elses_is_not_used(disk: Path) -> None:
    disk.symlink_to("/")
    with pytest.raises(Unavailable, match="belongs to somebody else"):
        scratch.ours(disk.parent)


# ---- copies of data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data.d"
    (folder / "train/a").mkdir(parents=True)
    (folder / "train/a/1.bin").write_bytes(b"one")
    (folder / "labels.csv").write_text("a,b\n")
    (folder / "again").symlink_to("train")
    (folder / "train/round").symlink_to(folder)
    return folder


def test_data_are_copied_once_for_all_jobs_of_a_node(noria: Noria, disk: Path, data: Path) -> None:
    code = "import os; at = os.environ['NORIA_STAGE_DATA']; print(at, open(at + '/train/a/1.bin').read(), open(os.environ['NORIA_STAGE_L'] + '').read().strip())"
    asks = ("--stage", str(data), "--stage", f"{data}/labels.csv:l")
    said = ran(noria, *asks, code=code)
    where = Path(said.split()[0])
    assert where.is_relative_to(disk / "kept") and where.name == "data.d" and said.endswith(" one a,b\n")
    assert oct((where / "train/a/1.bin").stat().st_mode & 0o777) == "0o444"
    made = where.stat().st_ctime_ns
    assert ran(noria, *asks, code=code) == said and where.stat().st_ctime_ns == made
    (data / "train/a/1.bin").write_bytes(b"two")
    changed = ran(noria, *asks, code=code)
    assert " two " in changed and not changed.startswith(f"{where} "), "what was changed is copied anew"
    until(lambda: jobs(disk) == [])


def test_jobs_that_start_together_share_one_copy(noria: Noria, disk: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(64 << 20))
    code = "import os; os.stat(os.environ['NORIA_STAGE_BIG'])"
    ids = [submit(noria, "--stage", str(big), code=code) for _ in range(3)]
    noria("wait", *ids)
    assert len([path for path in (disk / "kept").iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [("/no/such", "there is no /no/such here"), ("/etc/passwd:a b", "there is no /etc/passwd:a b here"), ("/etc/passwd:a-b", "is no name")],
)  # fmt: skip
def test_what_cannot_be_staged_is_refused(noria: Noria, given: str, says: str) -> None:
    done = noria("submit", "--stage", given, "--", "true", check=False)
    assert done.returncode == 1 and f"--stage {given}" in done.stderr and done.stderr.count("\n") == 1
    done = noria("submit", "--stage", "/etc/passwd:x", "--stage", "/etc/group:X", "--", "true", check=False)
    assert "'X' is no name, or that of another" in done.stderr


def test_data_that_are_gone_when_the_job_starts(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "d").write_text("x")
    job = submit(noria, "--stage", str(tmp_path / "d"), "--begin", "1s", code="pass")
    (tmp_path / "d").unlink()
    done = noria("wait", job, check=False)
    assert done.returncode == 127 and f"There is no {tmp_path}/d to stage." in done.stderr


# ---- room


def filled(size: int) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "x").write_bytes(bytes(size))

    return fill


def keep(root: Path, key: str, size: int) -> Path:
    with scratch.kept(root, key, size, filled(size), lambda: False) as copy:
        return copy


def test_no_room_is_said_before_anything_is_copied(noria: Noria, small: Path, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(100 << 20)
    job = json.loads(noria("submit", "--json", "--stage", f"{tmp_path}/large", "--", "true", TMPDIR=str(small)).stdout)["id"]
    done = noria("wait", job, check=False)
    assert done.returncode == 127 and f"has 0.1 GB left in {small}, and 0.1 GB are to be copied there" in done.stderr
    assert kept(small / f"noria-{os.getuid()}") == []


def test_unused_copies_make_room_the_oldest_first_and_used_ones_stay(small: Path) -> None:
    """64 MiB stay free besides: three copies leave 83 MiB, and one of 30 needs 94."""
    for age, key in enumerate(("new", "old", "used")):
        keep(small, key, 15 << 20)
        os.utime(small / f"noria-{os.getuid()}/kept/{key}.lock", (time.time() - 60 * age,) * 2)
    with scratch.kept(small, "used", 0, filled(0), lambda: False):
        keep(small, "next", 30 << 20)
        assert kept(small / f"noria-{os.getuid()}") == ["new", "next", "used"]


def kept(disk: Path) -> list[str]:
    return sorted(path.name for path in (disk / "kept").iterdir() if path.is_dir())


def test_a_copy_that_nobody_used_for_a_week_goes(disk: Path) -> None:
    keep(disk.parent, "old", 10)
    keep(disk.parent, "young", 10)
    os.utime(disk / "kept/old.lock", (time.time() - 8 * 24 * 3600,) * 2)
    keep(disk.parent, "next", 10)
    assert kept(disk) == ["next", "young"]


def test_a_copy_that_failed_leaves_nothing(disk: Path) -> None:
    def fill(folder: Path) -> None:
        filled(10)(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), scratch.kept(disk.parent, "a", 10, fill, lambda: False):
        pass
    assert kept(disk) == []


def test_a_job_that_is_to_stop_does_not_wait_for_anothers_copy(disk: Path) -> None:
    waits = scratch.held(disk / "kept/a", shared=False, stopped=lambda: True)
    with scratch.kept(disk.parent, "a", 10, filled(10), lambda: False), pytest.raises(Unavailable, match="was to stop"), waits:
        pass
