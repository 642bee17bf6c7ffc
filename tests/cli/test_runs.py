"""Runs: lists whose columns are chosen by need, one run whole, deleting and restoring."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from noria.cli.columns import choose
from noria.cli.show import fit, spark
from noria.types import Metric, Param, Run, RunData, RunInfo
from noria.wire import logged_models, runs


def run(name: str, experiment: str = "0", metrics: dict[str, float] | None = None, params: dict[str, str] | None = None) -> Run:
    info = RunInfo(name * 8, name * 8, name, experiment, "", "FINISHED", 1, "", "active", 2)
    values = [Metric(key, value, 1) for key, value in (metrics or {}).items()]
    return Run(info, RunData(values, [Param(key, value) for key, value in (params or {}).items()]))


def heads(*found: Run, width: int = 200, mentioned: str = "", asked: tuple[str, ...] = ()) -> list[str]:
    fixed = ["RUN", "NAME", "STATUS", "STARTED", "TOOK"]
    return [each.head for each in choose(found, {"0": "a", "1": "b"}, width, mentioned, asked) if each.head not in fixed]


def test_columns_are_what_tells_the_runs_apart() -> None:
    one, two = run("x", params={"lr": "1", "same": "s"}, metrics={"loss": 1}), run("y", params={"lr": "2", "same": "s"})
    assert heads(one, two) == ["loss", "lr"]
    assert heads(one, run("y", "1", params={"lr": "2", "same": "s"})) == ["EXPERIMENT", "loss", "lr"]
    assert heads(run("x", metrics={"system/cpu": 1, "a": 1, "b": 1, "c": 1})) == ["a", "b", "c"]


def test_what_was_asked_about_comes_first_and_what_does_not_fit_is_left_out() -> None:
    one = run("x", metrics={"a": 1, "b": 1, "val/loss": 1}, params={"lr": "1"})
    assert heads(one, mentioned='metrics."val/loss" < 1 and params.lr = "1"')[:2] == ["val/loss", "lr"]
    assert heads(one, width=60) == ["a", "b"]
    assert heads(one, width=60, asked=("metrics.b", "params.lr")) == ["b", "lr"]


def test_columns_of_a_table_are_cut_where_they_are_widest() -> None:
    assert fit([8, 40, 30], 60) == [8, 24, 24]
    assert fit([8, 40], 80) == [8, 40]
    assert fit([80, 80], 10) == [8, 8]


def test_a_curve_in_one_line() -> None:
    assert spark([0, 1, 2, 7]) == "▁▂▃█"
    assert spark([math.nan, 3, math.inf, 3]) == " ▄ ▄"
    assert spark([math.nan]) == ""


def test_a_list_in_a_pipe_is_whole_and_without_colour(ask: Any, make: Any) -> None:
    first, second = make.run("short", params={"lr": "0.1"}), make.run("a-name-that-is-far-too-long", params={"lr": "0.2"})
    make.log(first, 3, loss=0.25)
    out = ask("runs", "list", "--experiment", make.experiment).stdout
    assert "\x1b" not in out and out.splitlines()[0].split() == ["RUN", "NAME", "STATUS", "STARTED", "TOOK", "loss", "lr"]
    assert "a-name-that-is-far-too-…" in out and second[:8] in out and "0.25" in out
    assert max(len(line) for line in out.splitlines()) <= 80

    found = json.loads(ask("runs", "list", "-x", make.experiment_id, "--filter", "params.lr = '0.1'", "--json").stdout)["runs"]
    assert [each["info"]["run_id"] for each in found] == [first]
    done = ask("runs", "list", "-x", make.experiment, "--limit", "1")
    assert done.stderr == "noria: the first 1; --limit shows more\n"
    assert "No run matches" in ask("runs", "list", "-x", make.experiment, "--filter", "metrics.loss > 9").stderr


def test_deleted_runs_come_back(ask: Any, make: Any) -> None:
    one, two = make.run("one"), make.run("two")
    done = ask("runs", "delete", one, two)
    assert done.stdout == "" and f"2 runs are deleted; `noria runs restore {one[:8]} {two[:8]}` undoes it" in done.stderr
    assert "No runs yet" in ask("runs", "list", "-x", make.experiment).stderr
    assert {line.split()[1] for line in ask("runs", "list", "-x", make.experiment, "--deleted").stdout.splitlines()[1:]} == {
        "one",
        "two",
    }
    back = json.loads(ask("runs", "restore", one[:12], "--json").stdout)["runs"]
    assert [(each["run_id"], each["lifecycle_stage"]) for each in back] == [(one, "active")]


def test_one_run_whole(ask: Any, make: Any, tmp_path: Path) -> None:
    key = make.run("whole", params={"lr": "0.1"}, tags={"kind": "test", "mlflow.note.content": "What it was for."})
    for step, value in enumerate([4.0, 1.0, 3.0], start=-1):
        make.log(key, step, loss=value)
    make.log(key, 0, broken=math.nan)
    make.end(key)
    (tmp_path / "a.txt").write_text("12345")
    root = make.client.call(runs.GET, runs.Get(key)).run.info.artifact_uri
    make.client.upload(root, "texts/a.txt", tmp_path / "a.txt")

    out = ask("runs", "show", key, "--curves", "--plot", "loss", "--history", "loss").stdout
    assert "\x1b" not in out
    lines = [line.split() for line in out.splitlines()]
    assert ["loss", "3", "1", "4", "1", "4", "█▁▆"] in lines and ["broken", "nan", "0", "nan", "-", "-"] in lines
    assert ["lr", "0.1"] in lines and ["kind", "test"] in lines and ["texts/a.txt", "5"] in lines and ["-1", "4"] in lines
    assert "What it was for." in out and "took 1m 30s" in out and "loss by step" in out
    assert not any(line[:1] == ["mlflow.note.content"] for line in lines)

    shown = json.loads(ask("runs", "show", key, "--json").stdout)
    assert {each["key"]: (each["first"], each["last"], each["min"], each["max"]) for each in shown["metrics"]} == {
        "loss": (4, 3, 1, 4), "broken": ("NaN", "NaN", None, None)}  # fmt: skip
    assert [each["path"] for each in shown["files"]] == ["texts/a.txt"]


def test_many_files_are_listed_when_they_are_asked_for(ask: Any, make: Any, tmp_path: Path) -> None:
    key = make.run("files")
    root = make.client.call(runs.GET, runs.Get(key)).run.info.artifact_uri
    (tmp_path / "x").write_text("")
    for number in range(22):
        make.client.upload(root, f"{number:02}", tmp_path / "x")
    done = ask("runs", "show", key)
    assert "noria: the first 20 files; --files lists them all" in done.stderr and "\n21 " not in done.stdout
    assert "\n21 " in ask("runs", "show", key, "--files").stdout


def test_a_models_version_is_made_of_a_run(ask: Any, make: Any, tmp_path: Path) -> None:
    key = make.run("with-model")
    done = ask("models", "register", key, "digits-cli", check=False)
    assert done.returncode == 1 and "has kept no model at 'model'" in done.stderr
    root = make.client.call(runs.GET, runs.Get(key)).run.info.artifact_uri
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    make.client.upload(root, "net/MLmodel", tmp_path / "MLmodel")
    assert ask("models", "register", f"runs:/{key[:10]}/net", "digits-cli", "--tag", "a=b").stdout == "1\n"
    again = json.loads(ask("models", "register", f"runs:/{key}/net", "digits-cli", "--json").stdout)
    assert (again["version"], again["source"], again["run_id"]) == ("2", f"runs:/{key}/net", key)
    assert "digits-cli 1" in ask("runs", "show", key).stdout


def test_a_logged_model_is_registered_as_such(ask: Any, make: Any) -> None:
    key = make.run("logged")
    made = make.client.call(logged_models.CREATE, logged_models.Create(make.experiment_id, "net", source_run_id=key)).model.info
    make.client.call(runs.LOG_OUTPUTS, runs.LogOutputs(key, [runs.ModelOutput(made.model_id)]))
    found = json.loads(ask("models", "register", key, "logged-cli", "--json").stdout)
    assert found["source"] == f"models:/{made.model_id}" and found["run_id"] == key


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (("runs", "lst"), 2, "There is no command 'lst'. Did you mean 'noria runs list'?"),
        (("rums",), 2, "Did you mean 'noria runs'?"),
        (("batch", "."), 2, "Write: noria submit -- python train.py"),
        (("experiments", "csv"), 2, "Write: noria runs export --format csv --experiment NAME"),
        (("models", "serve"), 2, "Write: noria serve models:/NAME/Production"),
        (("xyzzy",), 2, "`noria --help` lists them all."),
        (("runs", "list", "--column", "loss"), 1, "'loss' is no column. Write metrics.KEY, params.KEY or tags.KEY."),
        (("runs", "show", "nowhere", "--plot", "x"), 1, "There is no run 'nowhere'."),
        (("models", "register", "models:/a/1", "b"), 1, "Write runs:/RUN/model"),
        (("models", "register", "runs:/run_id/model", "b"), 1, "There is no run 'run_id'."),
    ],
)
def test_what_to_write_instead(ask: Any, make: Any, argv: tuple[str, ...], code: int, says: str) -> None:
    make.run("there-is-one")
    done = ask(*argv, check=False)
    assert done.returncode == code and says in done.stderr and done.stdout == ""
