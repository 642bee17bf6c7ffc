"""Experiments, by name or by id."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_the_life_of_an_experiment(ask: Any) -> None:
    made = ask("experiments", "create", "life of", "--tag", "team=a").stdout.strip()
    assert made.isdigit()
    (found,) = json.loads(ask("experiments", "list", "--filter", "name = 'life of'", "--json").stdout)["experiments"]
    assert found["experiment_id"] == made and found["tags"] == [{"key": "team", "value": "a"}]

    assert ask("experiments", "rename", "life of", "life after").stderr.endswith("is named 'life after' now\n")
    done = ask("experiments", "delete", made)
    assert f"`noria experiments restore {made}` undoes it" in done.stderr and done.stdout == ""
    assert "life after" not in ask("experiments", "list", "--limit", "50000").stdout
    assert "life after" in ask("experiments", "list", "--deleted").stdout

    back = json.loads(ask("experiments", "restore", "life after", "--json").stdout)
    assert (back["experiment_id"], back["lifecycle_stage"]) == (made, "active")
    assert "life after" in ask("experiments", "list", "--limit", "50000").stdout


def test_a_name_goes_before_an_id(ask: Any) -> None:
    first = ask("experiments", "create", "named").stdout.strip()
    second = ask("experiments", "create", first).stdout.strip()
    assert f"experiment {second} " in ask("experiments", "delete", first).stderr


def test_a_list_that_is_cut_says_so(ask: Any) -> None:
    for name in ("cut-1", "cut-2"):
        ask("experiments", "create", name)
    done = ask("experiments", "list", "--filter", "name LIKE 'cut-%'", "--limit", "1")
    assert "cut-2" in done.stdout and "cut-1" not in done.stdout and done.stderr == "noria: the first 1; --limit shows more\n"


@pytest.mark.parametrize("what", ["delete", "restore"])
def test_an_experiment_that_is_not_there(ask: Any, what: str) -> None:
    done = ask("experiments", what, "nowhere", check=False)
    assert (done.returncode, done.stderr) == (
        1, "noria: There is no experiment 'nowhere'. `noria experiments list` shows the experiments there are.\n")  # fmt: skip
