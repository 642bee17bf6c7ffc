"""The same jobs everywhere: on this machine, on a real Slurm, on a real Grid Engine and in the sandboxes, through the command line.

What is short is submitted at once and looked at by one test each; what disturbs others comes after it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria.jobs.folder import Folder
from tests.clusters.cluster import Cluster
from tests.conftest import require, which

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

BARE = os.path.realpath(sys.executable)
"""A Python without Noria."""
SHORT = {
    "0": (sys.executable, "-c", "print('hello')"),
    "1": (sys.executable, "-c", "raise ValueError('too bad')"),
    "9": ("sh", "-c", "exit 9"),
    "signal": ("sh", "-c", "kill -SEGV $$"),
    "shell": ("sh", "-c", 'echo "$((6 * 7))" "$NORIA_JOB_ID" "$(pwd)"'),
    "missing": ("/no/such/python", "train.py"),
    "logs": (BARE, "-c", "import noria\nfor i in range(5): noria.log(x=i / 2, step=i)\nprint(noria.__file__)"),
    "limit": (sys.executable, "-c", "import time; print('on', flush=True); time.sleep(100)"),
}
OPTIONS = {"limit": ("--time", "4s")}


several_nodes = pytest.mark.parametrize("cluster", ["slurm", "sge"], indirect=True, scope="session")
"""What needs a scheduler, or more than this machine."""


@pytest.fixture(scope="module")
def short(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """All short jobs, once they have ended, by name."""
    ids = {name: cluster.submit("--name", name, *OPTIONS.get(name, ()), "--", *argv) for name, argv in SHORT.items()}
    yield dict(zip(ids, cluster.ended(*ids.values(), seconds=100), strict=True))


@pytest.mark.parametrize(("name", "code"), [("0", 0), ("1", 1), ("9", 9), ("signal", 139)])
def test_the_exit_code_comes_back(cluster: Cluster, short: dict[str, Any], name: str, code: int) -> None:
    job = short[name]
    assert (job["exit_code"], job["state"]) == (code, "FAILED" if code else "COMPLETED")
    assert cluster.noria("wait", job["id"], check=False).returncode == code


def test_what_a_failed_task_said_last_is_the_reason(cluster: Cluster, short: dict[str, Any]) -> None:
    said = "rank 0 ended with exit code 1, after saying: ValueError: too bad"
    assert short["1"]["reason"] == said and said in cluster.noria("wait", short["1"]["id"], check=False).stderr


def test_a_plain_shell_script(cluster: Cluster, short: dict[str, Any]) -> None:
    assert cluster.logs(short["shell"]["id"]).split()[:2] == ["42", short["shell"]["id"]]


def test_an_interpreter_that_is_missing(short: dict[str, Any]) -> None:
    assert short["missing"]["exit_code"] == 127
    assert short["missing"]["reason"] == "cannot start /no/such/python: No such file or directory"


def test_a_python_without_noria_logs(cluster: Cluster, short: dict[str, Any]) -> None:
    assert "/.lib/noria/noria/__init__.py" in cluster.logs(short["logs"]["id"])
    assert cluster.history(short["logs"]["run_id"], "x") == [0, 0.5, 1, 1.5, 2]


def test_the_time_limit_ends_a_job_and_is_named(short: dict[str, Any]) -> None:
    job = short["limit"]
    assert (job["state"], job["exit_code"], job["reason"]) == ("FAILED", 143, "time limit of 4 s reached")
    assert 3.5 <= (job["ended"] - job["started"]) / 1000 < 15


def test_what_each_task_was_is_kept(cluster: Cluster, short: dict[str, Any]) -> None:
    (node,) = Folder(cluster.folder(short["1"]["id"])).nodes()
    (rank,) = node.ranks
    assert (rank.rank, rank.code, rank.last[-1]) == (0, 1, "ValueError: too bad")
    assert rank.ended is not None and rank.started <= rank.ended <= node.seen
    assert rank.peak is not None and 5 << 20 < rank.peak < 1 << 30


def test_cancel_what_runs_and_what_waits(cluster: Cluster) -> None:
    whole = cluster.full()
    running = cluster.submit(*whole, "--", "sleep", "100")
    cluster.reaches("RUNNING", running)
    waiting = cluster.submit(*whole, "--", "echo", "never")
    cluster.reaches("SUBMITTED", waiting)
    cluster.noria("cancel", waiting, running)
    jobs = cluster.ended(running, waiting)
    assert [job["state"] for job in jobs] == ["CANCELLED", "CANCELLED"]
    assert "never" not in cluster.logs(waiting)


def test_the_log_is_followed(cluster: Cluster) -> None:
    code = "import time\nfor i in range(8): print(i, time.time(), flush=True); time.sleep(0.5)"
    job = cluster.python(code)
    told = cluster.run(sys.executable, "-c", FOLLOW, job).stdout.splitlines()
    printed = [line.split() for line in told]
    assert [number for number, _, _ in printed] == [str(number) for number in range(8)]
    assert all(float(seen) - float(said) < 2 for _, said, seen in printed[1:]), "lines come while the job runs"


FOLLOW = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "noria.cli.main", "logs", "-f", sys.argv[1]], stdout=subprocess.PIPE, text=True)
for line in child.stdout: print(line.strip(), time.time())
sys.exit(child.wait())
"""


@several_nodes
def test_a_script_of_its_own_is_run_as_it_is(cluster: Cluster) -> None:
    (cluster.home / "train.sh").write_text(cluster.script_of_its_own)
    job = json.loads(cluster.noria("submit", "--json", "./train.sh").stdout)["id"]
    (ended,) = cluster.ended(job)
    assert ended["state"] == "COMPLETED", cluster.printed(job)
    lines = cluster.logs(job).split()
    assert len(lines) == 4 and sorted(lines.count(line) for line in set(lines)) == [2, 2]


@several_nodes
def test_a_submission_that_is_refused_says_why(cluster: Cluster) -> None:
    options, words = cluster.refused
    job = cluster.submit(*options, "--", "true")
    (ended,) = cluster.ended(job)
    assert ended["state"] == "FAILED" and words in ended["reason"] and "\n" not in ended["reason"]
    assert ended["reason"][:40] in cluster.noria("ps").stdout


def test_two_nodes_with_four_ranks_train_one_model(cluster: Cluster) -> None:
    training = (sys.executable, "-m", "noria.train.digits", "--epochs", "2", "--max-examples", "1024", "--width", "8")
    job = cluster.submit(*cluster.over(2, 2), "--", *training)
    (ended,) = cluster.ended(job, seconds=120)
    assert ended["state"] == "COMPLETED", cluster.printed(job)
    losses = cluster.history(ended["run_id"], "loss")
    assert len(losses) > 10 and losses[-1] < losses[0]
    nodes = Folder(cluster.folder(job)).nodes()
    assert [rank.rank for node in nodes for rank in node.ranks] == list(range(cluster.ranks(2, 2)))
    assert len({node.host for node in nodes}) == min(2, cluster.nodes)


def test_the_rank_that_failed_first_is_named(cluster: Cluster) -> None:
    code = """
import os, sys, time
if os.environ["RANK"] != os.environ["LAST"]: time.sleep(100)
time.sleep(1)
sys.exit("I am the one")
"""
    last = cluster.ranks(2, 2) - 1
    job = cluster.python(code, *cluster.over(2, 2), "--env", f"LAST={last}")
    (ended,) = cluster.ended(job)
    where = f" on {Folder(cluster.folder(job)).nodes()[-1].host}" if cluster.nodes > 1 else ""
    assert ended["reason"] == f"rank {last}{where} ended with exit code 1, after saying: I am the one"
    assert f"rank {last} failed first" in cluster.noria("logs", job).stderr
    assert cluster.logs(f"{job}:{last}") == "I am the one\n"


def test_an_array_of_two_hundred(cluster: Cluster) -> None:
    first = cluster.submit("--array", "1-200", "--", "sh", "-c", "exit $((NORIA_TASK_ID == 42))")
    members = {name for name in cluster.jobs() if name.startswith(first.partition("_")[0])}
    assert len(members) == 200
    ended = {job["id"]: job["state"] for job in cluster.ended(*members, seconds=170)}
    assert [name.partition("_")[2] for name, state in ended.items() if state != "COMPLETED"] == ["42"]


def test_what_waits_is_held_and_released(cluster: Cluster) -> None:
    first = cluster.submit(*cluster.full(), "--", "sleep", "100")
    cluster.reaches("RUNNING", first)
    held = cluster.submit(*cluster.full(), "--", "true")
    cluster.reaches("SUBMITTED", held)
    cluster.noria("hold", held)
    cluster.until(lambda: "held" in cluster.jobs()[held]["reason"].lower(), [held])
    cluster.noria("cancel", first)
    cluster.ended(first)
    assert cluster.jobs()[held]["state"] not in ("RUNNING", "COMPLETED")
    cluster.noria("release", held)
    (job,) = cluster.ended(held)
    assert job["state"] == "COMPLETED"


def test_one_job_after_the_other_and_none_after_a_failure(cluster: Cluster) -> None:
    first = cluster.submit("--", "sleep", "1")
    second = cluster.submit("--after", first, "--", "false")
    third = cluster.submit("--after", second, "--", "true")
    one, two, three = cluster.ended(first, second, third)
    assert (one["state"], two["state"]) == ("COMPLETED", "FAILED") and one["ended"] <= two["started"]
    assert three["state"] in ("FAILED", "CANCELLED") and three["started"] is None


def test_a_job_is_requeued(cluster: Cluster) -> None:
    code = "import noria, time\nprint('up', flush=True)\ntime.sleep(0 if (noria.job_folder() / 'again').exists() else 100)"
    job = cluster.python(code)
    cluster.reaches("RUNNING", job)
    (cluster.folder(job) / "again").touch()
    cluster.noria("requeue", job)
    (ended,) = cluster.ended(job, seconds=100)
    assert ended["state"] == "COMPLETED" and cluster.logs(job).count("up") == 2


def test_fifty_jobs_at_once(cluster: Cluster) -> None:
    ids = json.loads(cluster.run(sys.executable, "-c", FIFTY, cluster.on).stdout)
    ended = cluster.ended(*ids, seconds=100)
    assert [job["state"] for job in ended] == ["COMPLETED"] * 50
    assert len({job["scheduler_id"] for job in ended}) == 50


FIFTY = """
import json, sys
from noria.cli.local import connect
from noria.process import whoami
from noria.types import JobSpec
from noria.wire import jobs
server, spec = connect(), JobSpec(["true"], scheduler=sys.argv[1])
print(json.dumps([server.call(jobs.SUBMIT, jobs.Submit(spec, whoami())).job.id for _ in range(50)]))
"""


PROGRAMS = Path(__file__).parent.parent / "clusters" / "programs"
FRAMEWORKS = {
    "mpi4py": (2, "ring.py", ("--launcher", "mpi")),
    "tensorflow": (1, "mirrored.py", ()),
    "jax": (1, "psum.py", ()),
}
"""Tasks on each of two nodes, the script, and options."""


@pytest.fixture(scope="module")
def frameworks(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """A job on two nodes with each framework that is installed here, once all have ended, by name."""
    if not cluster.is_real:
        pytest.skip("frameworks are for real clusters; in a sandbox the launcher does the same")
    there = [name for name in FRAMEWORKS if find_spec(name)]
    ids = {}
    for name in there:
        tasks, script, options = FRAMEWORKS[name]
        ids[name] = cluster.submit(*cluster.over(2, tasks), *options, "--", sys.executable, str(PROGRAMS / script))
    yield dict(zip(ids, cluster.ended(*ids.values(), seconds=150), strict=True)) if ids else {}


def finished(cluster: Cluster, frameworks: dict[str, Any], name: str) -> Any:
    require(name, name in frameworks, "pip install 'noria[frameworks]'")
    job = frameworks[name]
    assert job["state"] == "COMPLETED", f"{job['reason']}\n{cluster.printed(job['id'])}"
    return job


@several_nodes
def test_nodes_meet_by_the_network_that_leads_to_each_other(cluster: Cluster) -> None:
    job = cluster.submit(*cluster.over(2, 1), "--", "sh", "-c", 'echo "$GLOO_SOCKET_IFNAME" "$NCCL_SOCKET_IFNAME"')
    cluster.ended(job)
    assert cluster.logs(job) == "[0] eth0 =eth0\n[1] eth0 =eth0\n"


@several_nodes
def test_an_mpi4py_program(cluster: Cluster, frameworks: dict[str, Any]) -> None:
    require("openmpi", which("mpirun"), "install the package openmpi-bin")
    job = finished(cluster, frameworks, "mpi4py")
    lines = sorted(line for line in cluster.logs(f"{job['id']}:0").splitlines() if "rank" in line)
    assert [line.split(" on ")[0] for line in lines] == [f"rank {rank} of 4" for rank in range(4)], lines
    assert len({line.split(" on ")[1] for line in lines}) == 2
    assert cluster.history(job["run_id"], "total") == [10]


@several_nodes
def test_tensorflow_trains_on_two_workers(cluster: Cluster, frameworks: dict[str, Any]) -> None:
    job = finished(cluster, frameworks, "tensorflow")
    lines = [line for line in cluster.logs(job["id"]).splitlines() if "] worker" in line]
    assert lines == ["[0] worker 0 of 2: [3.0, 1.0]", "[1] worker 1 of 2: [3.0, 1.0]"]
    losses = cluster.history(job["run_id"], "loss")
    assert len(losses) == 40 and losses[-1] < losses[0] / 100


@several_nodes
def test_jax_finds_its_coordinator(cluster: Cluster, frameworks: dict[str, Any]) -> None:
    job = finished(cluster, frameworks, "jax")
    lines = [line for line in cluster.logs(job["id"]).splitlines() if "process" in line]
    assert lines == ["[0] process 0 of 2: 3", "[1] process 1 of 2: 3"]


def test_an_openmp_program_has_the_threads_that_it_asked_for(cluster: Cluster) -> None:
    require("gcc", which("gcc"), "install the package gcc")
    (cluster.home / "threads.c").write_text((PROGRAMS / "threads.c").read_text())
    cluster.run("gcc", "-O2", "-fopenmp", "threads.c", "-o", "threads")
    job = cluster.submit(*cluster.over(2, 1), "--cpus", "1", "--env", "OMP_NUM_THREADS=2", "--", "./threads")
    (ended,) = cluster.ended(job)
    assert ended["state"] == "COMPLETED", cluster.printed(job)
    lines = cluster.logs(job).splitlines()
    assert len(lines) == 2 and all("2 threads on" in line and line.endswith(": 500000500000") for line in lines)
