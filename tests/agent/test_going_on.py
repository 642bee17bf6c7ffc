"""What an agent makes of an end, and that it makes the same of it again: it may be killed, or its server away, before that was told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec import structs

from noria.agent import agent
from noria.agent.going_on import GoingOn
from noria.client.http import Server
from noria.jobs.dialect import Seen
from noria.jobs.folder import Exit, Folder, Node, Started
from noria.jobs.schedulers import slurm
from noria.jobs.submit import submit
from noria.jobs.watch import judge, look
from noria.process import Answer
from noria.types import Job, JobSpec
from noria.wire.jobs import Report

JOB = Job("j1", "r1", JobSpec(["train"], scheduler="slurm"), "QUEUED", "ada", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Of a job that Slurm knows as 77, whose first try has saved itself."""
    made = Folder(tmp_path / "j1")
    assert submitted(JOB, made, "77") == "77"
    made.checkpoints.mkdir()
    (made.checkpoints / "last.json").write_text('{"attempt": 1, "step": 5, "cost": 1, "at": 5, "last": true}')
    made.write_started(Started(1, "n1", 1, "", 1, []))
    return made


def submitted(job: Job, folder: Folder, answer: str) -> str:
    return submit(job, folder, slurm, {}, lambda argv: Answer(0, answer if "sbatch" in argv[0] else "", ""))


def told(job: Job, folder: Folder, seen: Seen | None) -> Report:
    """By an agent that has just been started."""
    report = judge(job, look(folder), seen, seen is None, 99)
    assert report is not None
    going_on = GoingOn(Server("http://127.0.0.1:9", ""), lambda spec: lambda argv: Answer(0, "", ""))
    return going_on.concluded(job, folder, look(folder), seen, report, cancelled=False)


def test_an_end_that_was_not_told_is_told_the_same_and_then_forgotten(folder: Folder) -> None:
    job = structs.replace(JOB, state="RUNNING", folder=str(folder.path), scheduler_id="77", tries=1)
    folder.write_exit(Exit(75, 10, 1, 0, cause="preempted", started=1, saved=True, next="again", nodes=["n1"]))
    sacct = slurm.finals(Answer(0, "77|FAILED|75:0\n", ""))["77"]
    first = told(job, folder, sacct)
    assert (first.again, first.tries) == (True, 1) and first == told(job, folder, sacct) == told(job, folder, None)
    assert submitted(structs.replace(JOB, tries=1), folder, "78") == "78"
    assert folder.exit() is None and folder.started() is None and folder.current() == 2
    assert submitted(structs.replace(JOB, tries=1), folder, "79") == "78", "once"


def test_a_cancellation_is_asked_for_until_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "scancel").write_text(f"#!/bin/sh\necho $@ >> {asked}\ntest $(wc -l < {asked}) -gt 1")
    (tmp_path / "scancel").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(agent, "_REFUSED", 0.1)
    waits = agent.Agent("http://127.0.0.1:9", "", tmp_path)
    job = structs.replace(JOB, state="SUBMITTED", scheduler_id="77")
    for _ in range(5):
        waits._cancel(job.spec, [job])
        time.sleep(0.15)
    assert asked.read_text() == "77\n77\n"


def test_a_node_that_was_lost_stays_lost_when_its_job_is_cancelled_for_it(folder: Folder) -> None:
    job = structs.replace(JOB, state="RUNNING", folder=str(folder.path), scheduler_id="77", tries=1)
    first = told(job, folder, Seen("FAILED", None, "not heard", cause="node_failure"))
    second = told(job, folder, Seen("CANCELLED", None, "", cause="cancelled"))
    assert first.again and second.again and first.tried == second.tried


def test_a_job_that_its_node_never_begins_is_taken_back(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node died while it was handed over: some schedulers say forever that it runs."""

    def started() -> GoingOn:
        return GoingOn(Server("http://127.0.0.1:9", ""), lambda spec: lambda argv: Answer(0, "", ""))

    going_on = started()
    (folder.path / "state.json").unlink()
    job = structs.replace(JOB, state="SUBMITTED", folder=str(folder.path), scheduler_id="77")
    waits, runs = Seen("SUBMITTED", None, "Waits."), Seen("RUNNING")
    monkeypatch.setattr("noria.agent.going_on._HANDED", 0.2)
    assert going_on.lost(job, folder, runs) is None
    time.sleep(0.3)
    assert going_on.lost(job, folder, waits) is None and folder.handed() is None, "it waits again"
    assert going_on.lost(job, folder, runs) is None
    time.sleep(0.3)
    found = started().lost(job, folder, runs)
    assert found is not None and found.cause == "node_failure" and "has not begun" in found.reason
    assert going_on.lost(job, folder, runs) == found and told(job, folder, found).again
    assert submitted(structs.replace(JOB, tries=1), folder, "78") == "78" and folder.handed() is None


def test_a_job_that_prepares_itself_for_long_is_left_to_it(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It copies data, say: its launcher is heard, though no task has started."""
    going_on = GoingOn(Server("http://127.0.0.1:9", ""), lambda spec: lambda argv: Answer(0, "", ""))
    (folder.path / "state.json").unlink()
    job = structs.replace(JOB, state="SUBMITTED", folder=str(folder.path), scheduler_id="77")
    monkeypatch.setattr("noria.agent.going_on._HANDED", 0.1)
    monkeypatch.setattr("noria.agent.going_on._DEAF", 0.3)
    for seen in range(1, 6):
        folder.write_node(Node(0, "n1", 1, seen, []))
        assert going_on.lost(job, folder, Seen("RUNNING")) is None
        time.sleep(0.2)
    time.sleep(0.3)
    found = going_on.lost(job, folder, Seen("RUNNING"))
    assert found is not None and "has not been heard" in found.reason
