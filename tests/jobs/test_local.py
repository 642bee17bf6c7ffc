"""Jobs on this machine, through the command line: from the shell to a recorded exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec import structs

from noria import process
from noria.jobs.folder import Exit, Folder
from noria.jobs.localq import Entry, Machine, Queue, fit
from noria.jobs.schedulers import local
from noria.jobs.submit import submit as hand_over
from noria.process import Answer
from noria.types import Job, JobSpec
from tests.conftest import until

Noria = Callable[..., subprocess.CompletedProcess[str]]


def submit(noria: Noria, *options: str, code: str = "") -> dict[str, Any]:
    command = [sys.executable, "-c", code] if code else []
    said: dict[str, Any] = json.loads(noria("submit", "--json", *options, "--", *command).stdout)
    return said


def job(noria: Noria, prefix: str) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = json.loads(noria("ps", "--json").stdout)["jobs"]
    (found,) = [each for each in jobs if each["id"].startswith(prefix)]
    return found


def test_what_a_job_logs_can_be_read_when_wait_returns(noria: Noria) -> None:
    code = "import noria\nfor i in range(500): noria.log(loss=1 / (i + 1), step=i)\nnoria.log_param('lr', 0.1)\nprint('done')"
    submitted = submit(noria, "--name", "first", code=code)
    assert noria("wait", submitted["id"][:6]).stdout == ""
    run = json.loads(noria("runs", "show", submitted["run_id"][:8], "--history", "loss", "--json").stdout)
    assert run["info"]["status"] == "FINISHED" and run["info"]["run_name"] == "first"
    assert run["history"]["loss"][3] == {"step": 3, "value": 0.25, "timestamp": run["history"]["loss"][3]["timestamp"]}
    assert [point["step"] for point in run["history"]["loss"]] == list(range(500))
    assert noria("logs", submitted["id"][:6]).stdout == "done\n"
    ended = job(noria, submitted["id"])
    assert (ended["state"], ended["exit_code"], ended["tries"]) == ("COMPLETED", 0, 1)


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 11)", 139), ("1 / 0", 1)]
)
def test_wait_exits_with_the_jobs_code(noria: Noria, code: str, expected: int) -> None:
    submitted = submit(noria, code=code)
    done = noria("wait", submitted["id"], check=False)
    assert done.returncode == expected and done.stderr.startswith(f"noria: job {submitted['id'][:8]} failed: rank 0 ended with")
    run = json.loads(noria("runs", "show", submitted["run_id"], "--json").stdout)
    assert run["info"]["status"] == "FAILED"


def test_a_program_that_is_not_there(noria: Noria) -> None:
    submitted = json.loads(noria("submit", "--json", "--", "no-such-program").stdout)
    done = noria("wait", submitted["id"], check=False)
    assert done.returncode == 127 and "cannot start no-such-program: No such file or directory" in done.stderr


def test_ranks_see_each_other_and_their_output_says_whose_it_is(noria: Noria) -> None:
    code = (
        "import os; print(os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['MASTER_ADDR'], os.environ['OMP_NUM_THREADS'])"
    )
    submitted = submit(noria, "--tasks-per-node", "2", code=code)
    noria("wait", submitted["id"])
    assert sorted(noria("logs", submitted["id"]).stdout.splitlines()) == ["[0] 0 2 127.0.0.1 1", "[1] 1 2 127.0.0.1 1"]


def test_a_killed_task_starts_all_again_in_the_same_run(noria: Noria) -> None:
    code = """
import noria, os, signal
attempt, rank = int(os.environ["NORIA_ATTEMPT"]), int(os.environ["RANK"])
if rank == 0:
    start = 0 if attempt == 1 else 60
    if attempt > 1: noria.rewind(start)
    for step in range(start, 100):
        noria.log(loss=float(step), step=step)
        if attempt == 1 and step == 80: os.kill(os.getpid(), signal.SIGKILL)
else:
    import time
    time.sleep(60 if attempt == 1 else 0)
"""
    submitted = submit(noria, "--tasks-per-node", "2", "--max-restarts", "1", code=code)
    noria("wait", submitted["id"])
    assert job(noria, submitted["id"])["tries"] == 2
    run = json.loads(noria("runs", "show", submitted["run_id"], "--history", "loss", "--json").stdout)
    assert [point["step"] for point in run["history"]["loss"]] == list(range(100))


def test_cancel_ends_what_runs_and_what_waits(noria: Noria) -> None:
    cpus = str(len(os.sched_getaffinity(0)))
    running = submit(noria, "--cpus", cpus, code="import time; print('up', flush=True); time.sleep(60)")
    until(lambda: job(noria, running["id"])["state"] == "RUNNING")
    waiting = submit(noria, "--cpus", cpus, code="print('never')")
    until(lambda: job(noria, waiting["id"])["state"] == "SUBMITTED")
    noria("cancel", waiting["id"], running["id"])
    assert noria("wait", running["id"], check=False).returncode == 143
    assert noria("wait", waiting["id"], check=False).returncode == 143
    assert {job(noria, each["id"])["state"] for each in (running, waiting)} == {"CANCELLED"}


@pytest.mark.slow
def test_a_task_that_is_deaf_to_term_is_killed(noria: Noria) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(100)"
    submitted = submit(noria, code=code)
    until(lambda: noria("logs", submitted["id"]).stdout == "up\n")
    noria("cancel", submitted["id"])
    assert noria("wait", submitted["id"], check=False).returncode == 137
    assert job(noria, submitted["id"])["state"] == "CANCELLED"


def test_what_a_task_leaves_behind_goes_with_it(noria: Noria) -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '100'], stdout=subprocess.DEVNULL).pid, flush=True); sys.exit(3)"
    submitted = submit(noria, code=code)
    assert noria("wait", submitted["id"], check=False).returncode == 3
    assert process.born(int(noria("logs", submitted["id"]).stdout)) == ""


def test_a_time_limit_is_kept_and_named(noria: Noria) -> None:
    submitted = submit(noria, "--time", "1s", code="import time; time.sleep(60)")
    done = noria("wait", submitted["id"], check=False)
    assert done.returncode == 143 and "time limit of 1 s reached" in done.stderr


def test_jobs_outlive_the_server(noria: Noria) -> None:
    submitted = submit(noria, code="import time, noria\nfor i in range(30): noria.log(x=i, step=i); time.sleep(0.1)")
    until(lambda: job(noria, submitted["id"])["state"] == "RUNNING")
    noria("server", "stop")
    noria("wait", submitted["id"])
    run = json.loads(noria("runs", "show", submitted["run_id"], "--history", "x", "--json").stdout)
    assert len(run["history"]["x"]) == 30


def test_a_launcher_that_is_killed_is_noticed(noria: Noria) -> None:
    submitted = submit(noria, code="import time; time.sleep(60)")
    until(lambda: job(noria, submitted["id"])["state"] == "RUNNING")
    started = Folder(Path(job(noria, submitted["id"])["folder"])).started()
    assert started is not None
    os.kill(started.pid, signal.SIGKILL)
    done = noria("wait", submitted["id"], check=False)
    assert done.returncode == 1 and "without a word" in done.stderr
    assert not process.alive(started.tasks[0].pid, started.tasks[0].born)


class Stays(Queue):
    """Its runners stay for long after their jobs have ended, as where much is to be cleaned up."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.tries: list[int] = []
        self.runners: list[process.Popen[bytes]] = []

    def _runner(self, folder: str, log: Path, env: dict[str, str]) -> int:
        self.tries.append(Folder(Path(folder)).current())
        self.runners.append(process.start(["sleep", "60"], log=log, env=env, cwd=folder))
        return self.runners[-1].pid


def test_a_job_that_goes_on_starts_when_its_last_try_has_left(tmp_path: Path) -> None:
    queue, folder = Stays(tmp_path / "local"), Folder(tmp_path / "jobs" / "j1")
    first = Job("j1", "r1", JobSpec(["true"], scheduler="local"), "QUEUED", "ada", 1)

    def submitted(job: Job) -> str:
        return hand_over(job, folder, local, {}, lambda argv: Answer(0, queue.submit(folder) if "submit" in argv else "{}", ""))

    try:
        assert submitted(first) == submitted(first) == "j1" and queue.tries == [1]
        folder.write_exit(Exit(75, 1, 1, cause="preempted", saved=True, next="again"))
        second = structs.replace(first, tries=1)
        assert submitted(second) == submitted(second) == "j1" and queue.tries == [1]
        assert queue.why("j1").reason == "Its last try cleans up behind itself."
        queue.ended("j1")
        assert queue.tries == [1, 2] and queue.query()["j1"].state == "RUNNING"
        queue.ended("j1")
        assert queue.query() == {}
    finally:
        for runner in queue.runners:
            runner.kill()
            runner.wait()


def test_logs_follow_until_the_end(noria: Noria) -> None:
    submitted = submit(noria, code="import time\nfor i in range(5): print(i, flush=True); time.sleep(0.1)")
    before = time.monotonic()
    assert noria("logs", "-f", submitted["id"]).stdout.split() == ["0", "1", "2", "3", "4"]
    assert time.monotonic() - before < 15


def test_the_environment_is_the_submitters_where_it_matters_and_nothing_else(noria: Noria) -> None:
    code = "import os; print(os.environ.get('SECRET'), os.environ['WANTED'], os.environ['GIVEN'], os.environ['PATH'], os.getcwd(), 'MLFLOW_TRACKING_URI' in os.environ)"
    argv = ("submit", "--json", "--env", "WANTED", "--env", "GIVEN=a=b", "--", sys.executable, "-c", code)
    submitted = json.loads(noria(*argv, SECRET="hunter2", WANTED="yes").stdout)
    noria("wait", submitted["id"])
    assert noria("logs", submitted["id"]).stdout == f"None yes a=b {os.environ['PATH']} {Path.cwd()} True\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--nodes", "2"), "--nodes: this machine is one node"),
        (("--cpus", "10000"), "--cpus: 1 tasks with 10000 CPUs each are more than"),
        (("--mem", "900T"), "--mem: this machine has"),
        (("--gpus", "64"), "--gpus: this machine has"),
        (("--mem", "lots"), "'lots' is not a size of memory. Write 500M or 8G."),
        (("--time", "soon"), "'soon' is not a time."),
        (("--on", "lsf"), "There is no cluster 'lsf'. Use one of: local, pbs, sge, slurm; or describe it in noria.toml"),
        (("--env", "NO_SUCH_VARIABLE"), "there is no such variable here"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_once_with_the_flag(noria: Noria, options: tuple[str, ...], says: str) -> None:
    done = noria("submit", *options, "--", "true", check=False)
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_unknown_jobs_and_short_ids(noria: Noria) -> None:
    done = noria("wait", "nope", check=False)
    assert done.returncode == 1 and done.stderr.endswith(
        "noria: There is no job 'nope'. `noria ps --all` lists the jobs there are.\n"
    )


entries = some.builds(
    Entry, some.uuids().map(str), some.just("/f"), some.integers(1, 4), some.integers(0, 8), some.integers(0, 2)
)


@given(some.lists(entries, max_size=8))
def test_no_more_is_given_away_than_there_is_and_nobody_overtakes(waiting: list[Entry]) -> None:
    whole = Machine(4, 8, ["0", "1"])
    running: list[Entry] = []
    left = list(waiting)
    while left:
        started = [each for _, each in fit(enumerate(left), running, whole)]
        assert [each.id for each in started] == [each.id for each in left[: len(started)]]
        running += started
        assert sum(each.cpus for each in running) <= 4 and sum(each.mem for each in running) <= 8
        given_gpus = [gpu for each in running for gpu in each.given]
        assert len(given_gpus) == len(set(given_gpus)) == sum(each.gpus for each in running)
        left = left[len(started) :]
        assert running, "what fits the empty machine starts on it"
        running.pop(0)


def test_the_machines_metrics_come_with_a_job_over_all_of_its_tries(noria: Noria) -> None:
    code = """
import noria, os, signal, time
first = os.environ["NORIA_ATTEMPT"] == "1"
if not first: noria.rewind(2)
for step in range(0 if first else 2, 4):
    noria.log(loss=float(step), step=step)
    time.sleep(0.3)
if first: os.kill(os.getpid(), signal.SIGKILL)
"""
    submitted = submit(noria, "--max-restarts", "1", "--env", "NORIA_SYSTEM_METRICS_INTERVAL=0.1", code=code)
    noria("wait", submitted["id"])
    keys = ("loss", "system/cpu_utilization_percentage", "system/rank_0/memory_usage_megabytes")
    shown = noria("runs", "show", submitted["run_id"], *(word for key in keys for word in ("--history", key)), "--json").stdout
    history = json.loads(shown)["history"]
    assert [point["step"] for point in history["loss"]] == [0, 1, 2, 3]
    samples = history["system/cpu_utilization_percentage"]
    assert len(samples) > 8 and len({point["step"] for point in samples}) == len(samples), "the second try counts on"
    assert len(history["system/rank_0/memory_usage_megabytes"]) > 8
    assert len(list((Path(job(noria, submitted["id"])["folder"]) / "spool").glob("*.spool"))) == 3
