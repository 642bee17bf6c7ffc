"""What actions take, and what they say of it before anything is done; commands as steps; submission by key."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.automation.actions import ACTIONS
from noria.automation.notices import NOTICES
from noria.errors import Invalid
from noria.wire import jobs, runs
from tests.automation import firings, tiny
from tests.automation.conftest import Registered
from tests.conftest import Running, until

OURS = ("run", "register", "evaluate", "promote", "rollback", "deploy", "notify")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("PYTHONPATH", tiny.path())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    running = Running(tmp_path / "engine")
    yield running
    running.stop()


@pytest.mark.parametrize("name", OURS)
def test_each_action_teaches_its_settings(name: str) -> None:
    module: Any = ACTIONS.module(name)
    said = inspect.getdoc(module) or ""
    if name == "notify":
        said += "".join(inspect.getdoc(NOTICES.module(each)) or "" for each in NOTICES.own())
    of_jobs = set(ACTIONS.module("run").Place.__struct_fields__)
    untold = [each for each in module.SETTINGS if each not in of_jobs and not re.search(rf"\b{each}\b", said)]
    assert said.count("{") and not untold


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"run": ""}, "has nothing to run"),
        ({"run": ["python", "train.py"]}, "no folder to begin it in"),
        ({"run": ["true"], "folder": "here"}, "nobody knows relative to what"),
        ({"run": ["true"], "folder": "/", "parameters": {"a": 1}}, "has parameters, which only a project has"),
        ({"run": "project"}, "nobody knows relative to what"),
        ({"run": "/project", "folder": "/"}, "which only a command has"),
        ({"run": "/project", "time": "soon"}, "'time': 'soon' is not a time"),
        ({"run": "/project", "mem": "much"}, "'mem': 'much' is not a size"),
        ({"run": "/project", "nodes": "two"}, "'nodes'"),
        ({"run": "/project", "gpu": 1}, "Did you mean 'gpus'"),
        ({"run": "/project", "within": "never"}, "is not a time"),
        ({"register": 7}, "'register'"),
        ({"evaluate": "digits", "against": "Best"}, "Invalid Model Version stage"),
        ({"evaluate": "digits", "held_out": "held_out.npz"}, "nobody knows relative to what"),
        ({"promote": "digits", "to": "Best"}, "Invalid Model Version stage"),
        ({"promote": "digits", "ungated": True, "gate": "/gate.toml"}, "something to judge by too"),
        ({"rollback": "digits", "stage": "Archived"}, "no stage that a version stands in alone"),
        ({"deploy": "digits", "version": 3}, "no alias to set to it"),
        ({"deploy": "digits", "within": "soon"}, "is not a time"),
    ],
)
def test_what_can_never_work_is_refused_when_the_rule_is_added(server: Running, step: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=re.escape(said)):
        firings.add(server.client, "wrong", {"manual": True}, [step])


def test_a_command_is_a_step(engine: Running, tmp_path: Path) -> None:
    code = "import noria, os, sys; noria.log(score=float(sys.argv[1])); print(os.getcwd(), os.environ['WHO'])"
    step = {
        "run": [sys.executable, "-c", code, "{event.score}"],
        "folder": str(tmp_path),
        "on": "local",
        "name": "scored",
        "env": {"WHO": "ada"},
    }
    told = firings.done(engine.client, [step, {"note": "{steps.0.metrics.score} by {steps.0.job_id}"}], score=0.75)
    assert told.firing.state == "done", told.firing.note
    job = engine.client.call(jobs.GET, jobs.Key(told.firing.steps[0]["job_id"])).job
    assert told.firing.steps[1]["note"] == f"0.75 by {job.id}" and job.spec.name == "scored"
    tags = {tag.key: tag.value for tag in engine.client.call(runs.GET, runs.Get(job.run_id)).run.data.tags}
    assert (tags["noria.rule"], tags["noria.firing"]) == ("rule", told.firing.id)
    assert f"{tmp_path} ada" in (engine.folder / "jobs" / job.id / "logs").joinpath("rank0.log").read_text()


def test_a_job_that_takes_too_long_is_cancelled(engine: Running, tmp_path: Path) -> None:
    slow = {"run": ["sleep", "600"], "folder": str(tmp_path), "on": "local", "within": "1s"}
    told = firings.done(engine.client, [slow, {"note": "never"}])
    assert (
        told.firing.state == "failed"
        and "has not ended within 1s" in told.firing.note
        and "so it was cancelled" in told.firing.note
    )
    (job,) = engine.client.call(jobs.LIST, jobs.List()).jobs
    until(lambda: engine.client.call(jobs.GET, jobs.Key(job.id)).job.state == "CANCELLED")
    assert len(told.firing.steps) == 0


def test_what_is_not_there_is_said_and_not_tried_again(engine: Running, tmp_path: Path) -> None:
    model = Registered(engine.client, "digits")
    model.version()
    for number, (step, said) in enumerate([
        ({"run": str(tmp_path / "nowhere"), "on": "local"}, "nowhere"),
        ({"run": ["true"], "folder": str(tmp_path / "nowhere"), "on": "local"}, "there is no such folder here"),
        ({"run": ["no-such-program"], "folder": str(tmp_path), "on": "nosuch"}, "There is no cluster 'nosuch'"),
        ({"register": "digits"}, "No step before this one has a run"),
        ({"evaluate": "digits", "on": "local"}, "It has no gate that says so"),
        ({"evaluate": "nobody", "held_out": "/nowhere.npz", "on": "local"}, "nobody"),
        ({"evaluate": "digits", "held_out": "/nowhere.npz", "on": "local"}, "/nowhere.npz"),
        ({"promote": "digits", "on": "local"}, "Nothing says when a version of digits may be promoted"),
        ({"promote": "digits", "version": 9, "on": "local", "ungated": True}, "9"),
    ]):  # fmt: skip
        told = firings.done(engine.client, [step], name=f"rule {number}")
        assert told.firing.state == "failed" and said in told.firing.note and len(told.lines) == 1, told.firing.note
    assert engine.client.call(jobs.LIST, jobs.List()).jobs == []


def test_ungated_is_said_aloud(engine: Running) -> None:
    model = Registered(engine.client, "digits")
    version = model.version()
    told = firings.done(engine.client, [{"promote": "digits", "ungated": True, "to": "Staging"}])
    assert told.firing.state == "done" and "no gate was applied" in told.firing.note and model.standing("Staging") == [version]


def test_a_key_at_the_command_line(noria: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    first = noria("submit", "--key", "night", "--", "true")
    again = noria("submit", "--key", "night", "--", "false")
    assert first.stdout == again.stdout and "submitted before with this key" in again.stderr
    assert noria("submit", "--key", "day", "--", "true").stdout != first.stdout
    assert noria("submit", "--key", "k" * 300, "--", "true", check=False).returncode == 1


def test_data_at_the_front_door(noria: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    data = tmp_path / "flowers"
    data.mkdir()
    empty = noria("data", "add", str(data), check=False)
    assert empty.returncode == 1 and "has no files" in empty.stderr
    (data / "rose.txt").write_text("red")
    first = noria("data", "add", str(data), "--json")
    assert '"new": true' in first.stdout.replace('"new":true', '"new": true')
    assert "is known already" in noria("data", "add", str(data)).stderr
    assert "is a new version" in noria("data", "add", str(data), "--name", "roses").stderr
    (data / "rose.txt").write_text("white")
    assert "is a new version" in noria("data", "add", str(data)).stderr
    assert noria("data", "list", "--name", "flowers").stdout.count(str(data)) == 2
