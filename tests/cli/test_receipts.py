"""noria receipt, and what is said of GPUs that idle."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from noria.errors import Invalid
from noria.types import Job, JobSpec, Metric, Try
from noria.wire import jobs, runs
from noria.wire.receipts import RECEIPTS, Ask
from tests.cli.conftest import Ask as Command
from tests.conftest import Running

MIN = 60_000


def job(server: Running, user: str, **spec: Any) -> Job:
    """A job that no agent takes."""
    told = JobSpec(["python", "train.py"], agent="nobody", time=7200, cpus=4, **spec)
    return server.client.call(jobs.SUBMIT, jobs.Submit(told, user)).job


def log(server: Running, job: Job, begin: int, minutes: int, **values: float) -> None:
    """A point of each metric every half minute."""
    for key, value in values.items():
        points = [Metric(key, value, begin + step * 30_000, step) for step in range(2 * minutes + 1)]
        server.client.call(runs.LOG_BATCH, runs.LogBatch(job.run_id, points))


@pytest.fixture
def trained(server: Running, request: pytest.FixtureRequest) -> Job:
    """Two GPUs for an hour after ten minutes in the queue; one was never opened, and what the first try did is lost."""
    found = job(server, request.node.name, gpus=2, name="net", experiment=request.node.name)
    begin = found.created + 10 * MIN
    ended = {"started": begin, "ended": begin + 60 * MIN, "exit_code": 0, "tries": 2}
    tried = [Try(1, "node_failure", begin + 30 * MIN, begin), Try(2, "done", begin + 60 * MIN, begin + 30 * MIN)]
    log(server, found, begin, 60, **{
        "system/gpu_0_utilization_percentage": 90, "system/gpu_0_memory_usage_percentage": 50, "system/gpu_0_power_usage_watts": 360,
        "system/gpu_1_utilization_percentage": 0, "system/gpu_1_memory_usage_percentage": 0, "system/rank_0/memory_usage_megabytes": 3000,
    })  # fmt: skip
    log(server, found, begin + 30 * MIN + 30_000, 29, **{"time/data": 3, "time/compute": 27})
    server.client.call(jobs.REPORT, jobs.Report(found.id, "COMPLETED", tried=tried, **ended))
    return found


def test_a_receipt_says_what_became_of_the_gpus(ask: Command, trained: Job) -> None:
    text = ask("receipt", trained.id[:10]).stdout
    assert "2 GPUs for 1h 0m, in 2 tries, after 10m 0s in the queue" in text
    for line in ("compute                   0.45 GPU-h", "data wait                 0.05 GPU-h    2.5%",
                 "lost to failure           0.50 GPU-h   25.0%", "no process                1.00 GPU-h   50.0%",
                 "in all                    2.00 GPU-h"):  # fmt: skip
        assert line in text
    assert "25.0% of the time went into steps that count\n" in text
    assert "kWh, measured for 49% of the time" in text
    assert "--time 40m --mem 4G --gpus 1" in text and "2.8 GiB on a node" in text
    by_run = ask("receipt", "--json", trained.run_id[:12]).stdout
    (same,) = json.loads(by_run)["receipts"]
    assert same["job"] == trained.id and same["spent"]["lost"] == 1800 and same["next"]["--gpus"] == "1"


def test_receipts_of_a_user_and_of_a_project_are_put_together(ask: Command, server: Running, trained: Job) -> None:
    plain = job(server, trained.user)
    ended = {"started": plain.created, "ended": plain.created + 60 * MIN, "exit_code": 0}
    server.client.call(jobs.REPORT, jobs.Report(plain.id, "COMPLETED", **ended))
    text = ask("receipt", "--user", trained.user).stdout
    assert "1 job with GPUs" in text and "1 job with CPUs" in text and "4.00 CPU-h" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith((trained.id[:8], plain.id[:8]))]
    found = json.loads(ask("receipt", "--project", trained.user, "--json").stdout)["receipts"]
    assert [each["job"] for each in found] == [trained.id]
    assert "No jobs of nobody since 1d." in ask("receipt", "--user", "nobody", "--since", "1d").stderr


def test_what_has_no_receipt(ask: Command, make: Any) -> None:
    assert "There is no job 'zzz'" in ask("receipt", "zzz", check=False).stderr
    assert "Write noria receipt JOB" in ask("receipt", check=False).stderr
    assert "There is no experiment 'none'" in ask("receipt", "-x", "none", check=False).stderr
    run = make.run("by hand")
    assert f"Run '{run}' was no job." in ask("receipt", run, check=False).stderr


def test_gpus_that_idle_are_named_while_they_do(ask: Command, server: Running) -> None:
    found = job(server, "ada", gpus=1)
    begin = int(time.time() * 1000) - 20 * MIN
    server.client.call(jobs.REPORT, jobs.Report(found.id, "RUNNING", started=begin))
    log(server, found, begin, 20, **{"system/gpu_0_utilization_percentage": 1})
    sentence = "Its GPU has been idle for 20 minutes (under 5 %)."
    assert sentence in ask("ps", found.id).stdout and sentence in ask("top", "--on", "local", COLUMNS="200").stdout
    busy = job(server, "ada", gpus=1)
    server.client.call(jobs.REPORT, jobs.Report(busy.id, "RUNNING", started=begin))
    log(server, busy, begin, 20, **{"system/gpu_0_utilization_percentage": 1})
    log(server, busy, begin + 19 * MIN, 1, **{"system/gpu_0_utilization_percentage": 60})
    assert "idle" not in ask("ps", busy.id).stdout
    for each in (found, busy):
        server.client.call(jobs.REPORT, jobs.Report(each.id, "FAILED", ended=begin + 20 * MIN, exit_code=1))


def test_what_is_no_moment_and_no_page(ask: Command, server: Running) -> None:
    assert "There are no jobs of so long ago." in ask("receipt", "--user", "x", "--since", "99999999999999d", check=False).stderr
    for token in ("99999999999999999999999:a", "x:a"):
        with pytest.raises(Invalid, match="is no token of a page"):
            server.client.call(RECEIPTS, Ask(user="x", token=token))


def test_pages_of_receipts_leave_none_out(server: Running) -> None:
    ids = {job(server, "grace").id for _ in range(3)}
    members = server.client.call(jobs.SUBMIT, jobs.Submit(JobSpec(["true"], agent="nobody"), "grace", list(range(120)))).job.id
    asked, found = Ask(user="grace"), list[str]()
    while True:
        page = server.client.call(RECEIPTS, asked)
        found += [each.job for each in page.receipts]
        if not page.next_token:
            break
        asked = Ask(user="grace", token=page.next_token)
    assert len(found) == 123 == len(set(found)) and ids < set(found)
    assert len(server.client.call(RECEIPTS, Ask(members.partition("_")[0])).receipts) == 120
