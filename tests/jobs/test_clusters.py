"""Which cluster a job goes to: one that is found, one that is named, and several side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria import sandbox
from noria.types import Job
from noria.wire import jobs as wire
from tests.conftest import Running, until

Noria = Callable[..., subprocess.CompletedProcess[str]]
MARK = (sys.executable, "-c", "import os; print(os.environ.get('SLURM_JOB_PARTITION'), os.environ.get('SLURM_CLUSTER_NAME'))")


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[Callable[[str, str], dict[str, str]]]:
    """Opens sandboxes: name and kind; the variables by which it is reached."""
    opened: list[Path] = []

    def open_(name: str, kind: str) -> dict[str, str]:
        opened.append(tmp_path / name)
        return sandbox.open_(opened[-1], kind)

    yield open_
    for box in opened:
        sandbox.end(box)


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the noria.toml of the folder that commands are run in."""
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / "noria.toml").write_text(text) and None


def table(values: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items()) + " }"


def jobs(noria: Noria) -> dict[str, dict[str, Any]]:
    return {job["id"]: job for job in json.loads(noria("ps", "--json", "--all").stdout)["jobs"]}


def known(server: Running) -> dict[str, Job]:
    return {job.id: job for job in server.client.call(wire.LIST, wire.List()).jobs}


def test_a_scheduler_that_answers_here_gets_the_jobs(noria: Noria, boxes: Any) -> None:
    env = {**boxes("box", "slurm"), "NORIA_ON": ""}
    job = noria("submit", "--nodes", "2", "--", "true", **env).stdout.strip()
    noria("wait", job)
    assert jobs(noria)[job]["spec"]["scheduler"] == "slurm" and jobs(noria)[job]["scheduler_id"].isdigit()


def test_one_that_does_not_answer_is_named_and_this_machine_is_used(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho 'Slurmctld(primary) at head is DOWN'\nexit 1\n")
    (tmp_path / "scontrol").chmod(0o755)
    done = noria("submit", "--json", "--", *MARK, NORIA_ON="", PATH=f"{tmp_path}:{os.path.dirname(sys.executable)}")
    assert json.loads(done.stdout)["spec"]["scheduler"] == "local"
    assert "noria: slurm does not answer here, so this goes to this machine's own queue; --on says otherwise.\n" in done.stderr


def test_two_clusters_side_by_side(noria: Noria, boxes: Any, toml: Any) -> None:
    one, two = boxes("one", "slurm"), boxes("two", "slurm")
    toml(f'on = "two"\n[profiles.two]\nscheduler = "slurm"\nvariables = {table(two)}\nask = {{ queue = "high", time = "10m" }}\n')
    env = {**one, "NORIA_ON": ""}
    first = noria("submit", "--on", "slurm", "--", *MARK, **env).stdout.strip()
    second = noria("submit", "--", *MARK, **env).stdout.strip()
    third = noria("submit", "--queue", "low", "--", *MARK, **env).stdout.strip()
    noria("wait", first, second, third)
    assert [noria("logs", job).stdout.split()[0] for job in (first, second, third)] == ["low", "high", "low"]
    assert [jobs(noria)[job]["scheduler_id"] for job in (first, second, third)] == ["1", "1", "2"]
    shown = noria("ps").stdout.splitlines()
    assert [line.split()[2] for line in shown[1:]] == ["two", "two", "slurm"]
    assert {line.split()[1] for line in noria("queues", "--on", "two", **env).stdout.splitlines()[1:]} == {"two"}


def test_job_folders_lie_where_the_profile_says(noria: Noria, boxes: Any, toml: Any, tmp_path: Path) -> None:
    env = boxes("box", "slurm")
    toml(f"[profiles.slurm]\nhome = '{tmp_path}/shared'\n")
    job = noria(
        "submit", "--on", "slurm", "--", sys.executable, "-c", "import noria; noria.log(x=1); print('here')", **env
    ).stdout.strip()
    noria("wait", job)
    assert jobs(noria)[job]["folder"] == f"{tmp_path}/shared/jobs/{job}" and noria("logs", job).stdout == "here\n"
    shown = noria("runs", "show", jobs(noria)[job]["run_id"], "--json").stdout
    assert {"key": "x", "value": 1.0}.items() <= json.loads(shown)["data"]["metrics"][0].items()
    findings = {
        each["what"]: each["says"] for each in json.loads(noria("doctor", "--json", check=False, **env).stdout)["findings"]
    }
    assert findings["jobs on slurm"].startswith(f"their folders are made in {tmp_path}/shared")


def test_a_profile_may_freeze_the_code(noria: Noria, toml: Any, tmp_path: Path) -> None:
    toml("[profiles.local]\nask = { freeze = true, tasks-per-node = 2 }\n")
    spec = json.loads(noria("submit", "--json", "--on", "local", "--", "pwd").stdout)
    noria("wait", spec["id"])
    assert spec["spec"]["tasks_per_node"] == 2
    assert noria("logs", f"{spec['id']}:1").stdout == f"{tmp_path}/home/jobs/{spec['id']}/code\n"


def test_both_are_watched_and_cancelled(noria: Noria, boxes: Any, toml: Any) -> None:
    one, two = boxes("one", "slurm"), boxes("two", "slurm")
    toml(f'[profiles.two]\nscheduler = "slurm"\nvariables = {table(two)}\n')
    submitted = [noria("submit", "--on", on, "--", "sleep", "100", **one).stdout.strip() for on in ("slurm", "two")]
    until(lambda: all(jobs(noria)[job]["state"] == "RUNNING" for job in submitted), 30)
    noria("cancel", submitted[1])
    until(lambda: jobs(noria)[submitted[1]]["state"] == "CANCELLED", 30)
    assert jobs(noria)[submitted[0]]["state"] == "RUNNING", "both are job 1 of their schedulers"
    noria("cancel", submitted[0])
    until(lambda: jobs(noria)[submitted[0]]["state"] == "CANCELLED", 30)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", ("--on", "nowhere"), "There is no cluster 'nowhere'. Use one of: local, pbs, sge, slurm; or describe it in noria.toml, as [profiles.nowhere]."),
        ("[profiles.big]\nhome = '/x'", ("--on", "big"), "[profiles.big] in noria.toml does not say which scheduler it has. Add scheduler"),
        ("[profiles.big]\nscheduler = 'lsf'", ("--on", "big"), "There is no 'lsf' among schedulers."),
        ("[profiles.big]\nscheduler = 'slurm'\nnode = 3", ("--on", "big"), "[profiles.big] in noria.toml is wrong: Object contains unknown field `node`"),
        ("[profiles.local]\nask = { gpu = 1 }", ("--on", "local"), "[profiles.local] in noria.toml asks for 'gpu', which `noria submit` has no option for."),
    ],
)  # fmt: skip
def test_a_profile_that_is_wrong(noria: Noria, toml: Any, text: str, options: tuple[str, ...], said: str) -> None:
    toml(text)
    done = noria("submit", *options, "--", "true", check=False)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_an_agent_that_may_not_stay_catches_up(noria: Noria, boxes: Any, own_server: Running, tmp_path: Path) -> None:
    team = {"NORIA_SERVER": own_server.url, "NORIA_TOKEN": own_server.token, **boxes("box", "slurm")}
    cron = ("agent", "--once", "--home", str(tmp_path / "there"))
    job = noria("submit", "--on", "slurm", "--", "sh", "-c", "sleep 4; echo done; exit 3", **team).stdout.strip()
    assert known(own_server)[job].state == "QUEUED"
    noria(*cron, **team)
    assert known(own_server)[job].state in ("SUBMITTED", "RUNNING")
    until(lambda: (tmp_path / "there" / "jobs" / job / "exit.json").exists(), 30)
    assert known(own_server)[job].ended is None, "nobody has looked"
    noria(*cron, **team)
    assert (known(own_server)[job].state, known(own_server)[job].exit_code) == ("FAILED", 3)


def test_an_agent_that_may_not_stay_sees_that_a_job_is_lost(
    noria: Noria, boxes: Any, own_server: Running, tmp_path: Path
) -> None:
    team = {"NORIA_SERVER": own_server.url, "NORIA_TOKEN": own_server.token, **boxes("box", "slurm")}
    cron = ("agent", "--once", "--home", str(tmp_path / "there"))
    whole = ("--nodes", "4", "--cpus", "4")
    _, job = (noria("submit", "--on", "slurm", *whole, "--", "sleep", "100", **team).stdout.strip() for _ in range(2))
    noria(*cron, **team)
    sandbox.end(tmp_path / "box")
    noria(*cron, **{**team, **boxes("other", "slurm")})
    assert known(own_server)[job].state == "FAILED" and "left the queue without a word" in known(own_server)[job].reason


def test_a_scheduler_that_is_not_here_is_no_place_to_wait_for(noria: Noria, tmp_path: Path) -> None:
    done = noria("submit", "--on", "pbs", "--", "true", check=False, PATH=str(tmp_path))
    assert (
        done.returncode == 1
        and "--on pbs: this machine has no pbsnodes. Submit on a login node, or say in noria.toml" in done.stderr
    )
