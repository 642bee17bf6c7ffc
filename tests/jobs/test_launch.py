"""What the launcher gives each task: values as values, and what only a process can show through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from noria.jobs.dialect import Placement
from noria.jobs.folder import Folder
from noria.jobs.frameworks import fixed, port, usual
from noria.jobs.machine import interfaces, network, shares
from noria.types import Job, JobSpec

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
    assert alone == {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


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


@pytest.mark.parametrize("job", ["nope:1", "nope:first"])
def test_a_rank_is_a_number(noria: Noria, job: str) -> None:
    done = noria("logs", job, check=False)
    assert done.returncode == 1 and done.stderr.count("noria: ") <= 2 and "Traceback" not in done.stderr
    assert ("'first' is not a rank" in done.stderr) == job.endswith("first")


def test_a_launcher_that_is_not_there(noria: Noria) -> None:
    job = json.loads(noria("submit", "--json", "--env", "NORIA_LAUNCHER=pvm", "--", "true").stdout)["id"]
    done = noria("wait", job, check=False)
    assert done.returncode == 127 and "NORIA_LAUNCHER is 'pvm'. Write mpi, or leave it out." in done.stderr
