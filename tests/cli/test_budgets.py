"""noria budget, and the refusal of a job that would take too much."""

from __future__ import annotations

import json

from tests.cli.conftest import Ask


def test_a_project_keeps_to_its_budget(ask: Ask) -> None:
    set_ = ask("budget", "set", "--project", "thrifty", "--cpu-hours", "3", "--gpu-hours", "0", "--per", "week")
    assert [line.split()[:5] for line in set_.stdout.splitlines()[1:]] == [
        ["project", "thrifty", "0", "GPU", "week"], ["project", "thrifty", "3", "CPU", "week"]]  # fmt: skip
    wide = ("submit", "--experiment", "thrifty", "--on", "local", "--cpus", "1")
    refused = ask(*wide, "--time", "4h", "--", "true", check=False)
    assert refused.returncode == 1 and refused.stderr.startswith(
        "noria: project 'thrifty' has used 0.0 of 3.0 CPU-hours this week, and this one may take 4.0. "
        "Ask for at most 3.0 (--time, --gpus), or wait until it resets on "
    )
    job = ask(*wide, "--time", "2h", "--", "true").stdout.strip()
    ask("wait", job)
    (gpus, cpus) = [
        each for each in json.loads(ask("budget", "list", "--json").stdout)["budgets"] if each["budget"]["name"] == "thrifty"
    ][::-1]
    assert (gpus["budget"]["counts"], cpus["used"] < 0.1, cpus["promised"]) == ("GPU", True, 0)
    assert "project thrifty has no budget any more" in ask("budget", "remove", "-x", "thrifty").stderr
    ask("cancel", ask(*wide, "--time", "400h", "--", "sleep", "9").stdout.strip())


def test_what_is_no_budget(ask: Ask) -> None:
    assert "Write --user NAME or --project EXPERIMENT." in ask("budget", "set", "--gpu-hours", "1", check=False).stderr
    assert "Write --gpu-hours 1000" in ask("budget", "set", "--user", "ada", check=False).stderr
    assert "The user 'nobody' has no budget." in ask("budget", "remove", "--user", "nobody", check=False).stderr
