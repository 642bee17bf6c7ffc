"""A job's folder on a full disk, and one that somebody removes: through the command line, on this machine."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import require, until
from tests.jobs.test_asks import job

Noria = Callable[..., subprocess.CompletedProcess[str]]
WAITS = "import os, sys, time\nopen('up', 'w')\nwhile not os.path.exists('go'): time.sleep(0.05)\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Path]:
    """The folder of jobs, on a file system of 2 MiB."""
    folder = tmp_path / "home/jobs"
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", folder], capture_output=True, text=True)
    require("tmpfs", mounted.returncode == 0, f"run as root, where tmpfs can be mounted ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def submit(noria: Noria, *options: str, code: str) -> str:
    return str(json.loads(noria("submit", "--json", *options, "--", sys.executable, "-c", code).stdout)["id"])


def fill(folder: Path) -> Path:
    """A file that leaves no byte."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return path


@pytest.mark.parametrize("code", [0, 5])
def test_a_job_whose_disk_is_full_goes_on_and_its_end_is_known(noria: Noria, jobs: Path, code: int) -> None:
    name = submit(noria, "--tasks-per-node", "2", code=f"{WAITS}open('done' + os.environ['RANK'], 'w')\nsys.exit({code})")
    until(lambda: Path("up").exists() and job(noria, name)["state"] == "RUNNING")
    fill(jobs)
    Path("go").touch()
    assert noria("wait", name, check=False).returncode == code
    assert len([*Path().glob("done?")]) >= (1 if code else 2), "the first that fails ends the other"
    assert job(noria, name)["state"] == ("FAILED" if code else "COMPLETED")


def test_a_job_that_finds_no_room_waits_for_it_and_says_so(noria: Noria, jobs: Path) -> None:
    filler = fill(jobs)
    name = submit(noria, code="print(6 * 7)")
    until(lambda: "cannot be written: No space left on device" in job(noria, name)["reason"])
    assert job(noria, name)["state"] == "QUEUED"
    filler.unlink()
    noria("wait", name)
    assert noria("logs", name).stdout == "42\n"


@pytest.mark.parametrize("code", [0, 5])
def test_a_folder_that_was_removed_is_said_and_the_end_is_known(noria: Noria, code: int) -> None:
    name = submit(noria, code=f"{WAITS}sys.exit({code})")
    until(lambda: Path("up").exists() and job(noria, name)["state"] == "RUNNING")
    shutil.rmtree(job(noria, name)["folder"])
    said = "its folder is gone: somebody removed it, or the site purges what is old there"
    until(lambda: job(noria, name)["reason"] == said)
    Path("go").touch()
    assert noria("wait", name, check=False).returncode == code
    ended = job(noria, name)
    assert (ended["state"], ended["exit_code"]) == ("FAILED" if code else "COMPLETED", code)
    assert ended["reason"] == "its folder was removed while it ran, and what it printed and logged since is lost"
    assert noria("logs", name, check=False).stderr.count("Traceback") == 0
    assert noria("wait", submit(noria, code="pass")).stdout == "", "the queue goes on"


def test_a_job_whose_folder_was_removed_before_it_started(noria: Noria) -> None:
    all_cpus = ("--cpus", str(len(os.sched_getaffinity(0))))
    first = submit(noria, *all_cpus, code=WAITS)
    name = submit(noria, *all_cpus, code="pass")
    folder = until(lambda: job(noria, name)["folder"])
    shutil.rmtree(folder)
    Path("go").touch()
    noria("wait", first)
    done = noria("wait", name, check=False)
    assert done.returncode == 1 and "its folder is gone: somebody removed it" in done.stderr
