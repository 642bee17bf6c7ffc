"""What the launcher gives each task: values as values, and what only a process can show through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from noria.jobs import drill
from noria.jobs.dialect import Placement
from noria.jobs.folder import Exit, Folder
from noria.jobs.frameworks import fixed, port, usual
from noria.jobs.launch import main
from noria.jobs.machine import interfaces, network, shares
from noria.jobs.mpi import Mpi
from noria.jobs.remote import orders
from noria.types import Job, JobSpec
from tests.conftest import until

Noria = Callable[..., subprocess.CompletedProcess[str]]
TWO = Job("j1", "r1", JobSpec(["true"], nodes=2, tasks_per_node=2, cpus=3), "RUNNING", "ada", 1)
SECOND = Placement(["a1", "b2"], 1, None)


def test_every_task_is_a_worker_of_tensorflow_and_knows_which() -> None:
    found = json.loads(usual(TWO, SECOND, 1, local=1)["TF_CONFIG"])
    first = port(TWO, 1) + 2
    assert found["cluster"] == {"worker": [f"a1:{first}", f"a1:{first + 1}", f"b2:{first}", f"b2:{first + 1}"]}
    assert found["task"] == {"type": "worker", "index": 3}


def test_all_frameworks_meet_where_rank_0_is_at_ports_of_their_own_in_each_try() -> None:
    said = [{**usual(TWO, SECOND, attempt, 0), **fixed(TWO, SECOND, attempt, 0, {})} for attempt in (1, 2)]
    assert [(each["RANK"], each["LOCAL_RANK"], each["WORLD_SIZE"], each["MASTER_ADDR"]) for each in said] == [
        ("2", "0", "4", "a1")
    ] * 2
    ports = [
        int(address.rpartition(":")[2]) for each in said for address in (each["MASTER_PORT"], each["JAX_COORDINATOR_ADDRESS"])
    ]
    assert len(set(ports)) == 4 and all(1024 < each < 32768 for each in ports)


def test_slurm_says_what_it_would_have_said_to_tasks_of_its_own() -> None:
    env = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}
    said = fixed(TWO, SECOND, 1, 1, env)
    assert (said["SLURM_PROCID"], said["SLURM_LOCALID"], said["SLURM_NTASKS"], said["SLURM_CPUS_PER_TASK"]) == (
        "3",
        "1",
        "4",
        "3",
    )
    assert not any(name.startswith("SLURM") for name in fixed(TWO, SECOND, 1, 1, {}))


def test_one_process_alone_is_told_of_no_cluster() -> None:
    alone = usual(Job("j", "r", JobSpec(["true"]), "RUNNING", "ada", 1), Placement(["here"], 0, None), 1, 0)
    assert alone == {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}


@given(some.sets(some.integers(0, 63)), some.integers(1, 8), some.integers(1, 8))
def test_tasks_share_what_they_may_use_evenly_and_without_overlap(allowed: set[int], tasks: int, cpus: int) -> None:
    parts = shares(sorted(allowed), tasks, cpus, lambda cpu: (cpu % 2, cpu // 4))
    if tasks == 1 or tasks * cpus > len(allowed):
        assert parts == []
        return
    given_away = [cpu for part in parts for cpu in part]
    assert len(parts) == tasks and len({len(part) for part in parts}) == 1 and len(parts[0]) >= cpus
    assert len(set(given_away)) == len(given_away) and set(given_away) <= allowed


def test_tasks_stay_on_a_socket_of_their_own() -> None:
    """Four cores with two threads each, numbered as most machines do: 0 and 4 are one core, 0 to 1 and 4 to 5 one socket."""
    assert shares(range(8), 2, 2, lambda cpu: (cpu % 4 // 2, cpu % 4, cpu)) == [[0, 4, 1, 5], [2, 6, 3, 7]]


def test_no_interface_is_named_for_a_node_that_nobody_knows() -> None:
    assert interfaces("no-such-node.invalid") == {}
    assert interfaces("127.0.0.1")["GLOO_SOCKET_IFNAME"] == "lo"
    assert (network("127.0.0.1"), network("no-such-node.invalid")) == ("127.0.0.0/8", "")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one CPU")
def test_tasks_run_on_cpus_of_their_own(noria: Noria) -> None:
    code = "import os; print(*sorted(os.sched_getaffinity(0)))"
    argv = ("submit", "--json", "--tasks-per-node", "2", "--", sys.executable, "-c", code)
    job = json.loads(noria(*argv).stdout)["id"]
    noria("wait", job)
    cpus = [set(noria("logs", f"{job}:{rank}").stdout.split()) for rank in (0, 1)]
    assert cpus[0] and cpus[1] and not cpus[0] & cpus[1]


def test_what_a_job_says_itself_stands_but_not_who_it_is(noria: Noria) -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['TF_CONFIG'], os.environ['RANK'])"
    given = ("--env", "OMP_NUM_THREADS=5", "--env", "TF_CONFIG={}", "--env", "RANK=7")
    job = json.loads(noria("submit", "--json", *given, "--tasks-per-node", "2", "--", sys.executable, "-c", code).stdout)["id"]
    noria("wait", job)
    assert noria("logs", job).stdout == "[0] 5 {} 0\n[1] 5 {} 1\n"


def test_the_end_of_each_task_is_kept(noria: Noria) -> None:
    code = "x = bytearray(200 << 20)\nprint('one\\n\\ntwo')\nimport os\nif os.environ['RANK'] == '1': raise SystemExit('three')"
    job = json.loads(noria("submit", "--json", "--tasks-per-node", "2", "--", sys.executable, "-c", code).stdout)["id"]
    done = noria("wait", job, check=False)
    assert done.stderr.endswith("rank 1 ended with exit code 1, after saying: three\n")
    (found,) = [each for each in json.loads(noria("ps", "--json").stdout)["jobs"] if each["id"] == job]
    (node,) = Folder(Path(found["folder"])).nodes()
    assert node.ranks[1].last == ["one", "two", "three"] and node.ranks[1].code == 1
    assert node.ranks[0].peak is not None  # It may have been ended before it had its memory.
    assert node.ranks[1].peak is not None and 200 << 20 < node.ranks[1].peak < 500 << 20


def launched(folder: Folder, code: str, **asked: int) -> subprocess.Popen[bytes]:
    """The launcher of a job of this machine, once its task runs."""
    spec = JobSpec([sys.executable, "-c", code], scheduler="local", **asked)  # type: ignore[arg-type]  # By name, whatever it is.
    folder.make(Job("j1", "a" * 32, spec, "QUEUED", "ada", 1), {}, "")
    started = subprocess.Popen([sys.executable, "-m", "noria.jobs.launch", str(folder.path)])
    until(lambda: folder.started() is not None)
    return started


def ended(launcher: subprocess.Popen[bytes], folder: Folder) -> Exit:
    launcher.wait(50)
    exit = folder.exit()
    assert exit is not None
    return exit


def test_a_folder_that_cannot_be_read_for_a_while_ends_no_job(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    running = launched(folder, "import time; time.sleep(4)", time=600)
    for name in ("try", "drill"):
        (folder.path / name).mkdir()  # Which nobody can read as a file.
    folder.checkpoints.mkdir()
    for name in ("node-1.json", "try-0.json", "checkpoints/last.json"):
        (folder.path / name).touch()  # As after a power cut.
    time.sleep(3)
    for name in ("try", "drill"):
        (folder.path / name).rmdir()
    assert ended(running, folder).cause == "done" and running.returncode == 0


def test_a_launcher_that_cannot_begin_says_nothing_for_the_try_that_replaced_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    spec = JobSpec(["true"], scheduler="local", env={"NORIA_LAUNCHER": "pvm"})
    folder.make(Job("j1", "a" * 32, spec, "QUEUED", "ada", 1), spec.env, "")
    folder.replace(2)
    assert main(str(folder.path), "1") == 75 and not (folder.path / "exit.json").exists()
    assert main(str(folder.path)) == 127 and not (folder.path / "exit.json").exists()
    folder.replace(1)
    assert main(str(folder.path)) == 127
    exit = folder.exit()
    assert exit is not None and (exit.cause, exit.attempt) == ("cannot_start", 1)


SAVES = """
import noria, time
noria.resume()
for step in range(300): time.sleep(0.1); noria.checkpoint({}, step=step)
"""


def test_a_drill_of_a_time_limit_needs_none(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    running = launched(folder, SAVES)
    until(folder.checkpoints.is_dir)
    folder.write("drill", "timeout 1")
    exit = ended(running, folder)
    assert (exit.cause, exit.code, exit.saved, exit.next) == ("time_limit", 75, True, "again")


def test_a_warning_comes_late_enough_for_some_work(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    running, began = launched(folder, SAVES, time=12, warn=60), time.monotonic()
    assert ended(running, folder).cause == "time_limit" and time.monotonic() - began > 6


def test_a_code_that_means_something_else_is_no_preemption(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    exit = ended(launched(folder, "raise SystemExit(75)"), folder)
    assert exit.cause != "preempted" and exit.next == "over"


@pytest.mark.parametrize("kind", ["hang", "oom"])
def test_a_drill_of_a_node_where_mpirun_has_started_nothing(tmp_path: Path, kind: str) -> None:
    folder = Folder(tmp_path / "job")
    folder.make(TWO, {}, "")
    folder.write("drill", f"{kind} 1")
    idle = Mpi(folder, TWO, Placement(["localhost", "localhost"], 1, None), frozenset(), 10)
    drill.obey(idle)
    assert idle.drilled == kind


def test_what_mpirun_has_ordered_is_answered_as_soon_as_that_can_be_written(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    folder.make(TWO, {}, "")
    answer = orders(folder.path) / "1-a.exit"
    answer.mkdir(parents=True)
    folder.write("orders/1-a.json", '{"host": "localhost", "command": "exit 3"}')
    second = Mpi(folder, TWO, Placement(["localhost", "localhost"], 1, None), frozenset(), 10)
    assert second._running()
    second.processes()[0].wait()
    assert second._running() and answer.is_dir()
    answer.rmdir()
    assert second._running() and answer.read_text() == "3"


def test_what_cannot_be_written_down_is_no_hang(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    code = "import noria, time\nfor step in range(5): noria.log(x=1, step=step); time.sleep(1.2 if step < 4 else 6)"
    running = launched(folder, code, hang=3)
    (folder.path / "dump-1").mkdir()
    assert ended(running, folder).cause == "done"


def test_a_hang_is_one_though_somebody_removed_the_log(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "job")
    code = "import noria, time\nfor step in range(5): noria.log(x=1, step=step); time.sleep(1.2 if step < 4 else 60)"
    running = launched(folder, code, hang=3)
    (folder.logs / "rank0.log").unlink()
    exit = ended(running, folder)
    assert exit.cause == "hang" and "rank 0 of try 1" in (folder.stacks / "rank0.txt").read_text()


@pytest.mark.parametrize("job", ["nope:1", "nope:first"])
def test_a_rank_is_a_number(noria: Noria, job: str) -> None:
    done = noria("logs", job, check=False)
    assert done.returncode == 1 and done.stderr.count("noria: ") <= 2 and "Traceback" not in done.stderr
    assert ("'first' is not a rank" in done.stderr) == job.endswith("first")


def test_a_launcher_that_is_not_there(noria: Noria) -> None:
    job = json.loads(noria("submit", "--json", "--env", "NORIA_LAUNCHER=pvm", "--", "true").stdout)["id"]
    done = noria("wait", job, check=False)
    assert done.returncode == 127 and "NORIA_LAUNCHER is 'pvm'. Write mpi, or leave it out." in done.stderr
