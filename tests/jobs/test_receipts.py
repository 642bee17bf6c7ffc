"""What a job did with what it was given, as values: tries, steps and samples of machines that were never there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import asdict, replace

from noria.jobs.receipts import Series, idling, proposed, receipt
from noria.store.chunks import Points, join, points
from noria.types import Cause, Job, JobSpec, Try

MIN = 60_000
JOB = Job("abc", "run", JobSpec(["train"], gpus=2, cpus=8, time=7200), "COMPLETED", "ada", 0, started=10 * MIN, ended=70 * MIN)


def flat(value: float, begin: float, end: float, every: float = 10.0, first: int = 0) -> Points:
    """A sample every so many seconds, from and to minutes."""
    times = range(round(begin * MIN), round(end * MIN) + 1, round(every * 1000))
    return points([value] * len(times), list(times), range(first, first + len(times)))


def steps(begin: float, end: float, first: int = 0, **seconds: float) -> Series:
    """A step every ten seconds, and what each took."""
    return {f"time/{name}": flat(value, begin + 1 / 6, end, first=first) for name, value in seconds.items()}


def both(first: Series, then: Series) -> Series:
    return {key: join([first[key], then[key]]) for key in first}


def gpu(number: int, busy: float, begin: float = 10, end: float = 70, memory: float = 50.0) -> Series:
    return {
        f"system/gpu_{number}_utilization_percentage": flat(busy, begin, end),
        f"system/gpu_{number}_memory_usage_percentage": flat(memory, begin, end),
        f"system/gpu_{number}_power_usage_watts": flat(300, begin, end),
    }


def attempt(number: int, begin: float, end: float, cause: Cause, saved: bool = False) -> Try:
    return Try(number, cause, round(end * MIN), round(begin * MIN), saved=saved)


def minutes(job: Job, tries: Sequence[Try], series: Series) -> dict[str, float]:
    """Device-minutes by class, without what is none, which add up to what it was given."""
    spent = receipt(job, tries, series, "Default", 1e6).spent
    found = {name: round(value / 60, 1) for name, value in asdict(spent).items() if value > 0.5}
    assert sum(found.values()) - found.get("queue", 0) == pytest.approx(spent.given / 60, abs=0.5)
    return found


def test_steps_say_where_the_time_went() -> None:
    series = steps(12, 70, data=2, compute=6, communication=1, checkpoint=0.5)
    found = minutes(JOB, [attempt(1, 10, 70, "done")], series)
    assert found == {"queue": 20, "startup": pytest.approx(4, abs=0.5), "data": pytest.approx(23.2, abs=0.2),
                     "compute": pytest.approx(75.4, abs=0.7), "communication": pytest.approx(11.6, abs=0.1),
                     "checkpoint": pytest.approx(5.8, abs=0.1)}  # fmt: skip


def test_a_point_stands_for_the_steps_since_the_one_before() -> None:
    """Whoever logs each tenth step says the same."""
    times = range(11 * MIN, 70 * MIN + 1, 60_000)
    series = {"time/compute": points([6.0] * 60, list(times), range(0, 600, 10))}
    assert minutes(replace(JOB, spec=JobSpec(["train"], gpus=1)), [attempt(1, 10, 70, "done")], series) == {
        "queue": 10,
        "compute": 60,
    }


def test_what_was_taken_back_is_lost() -> None:
    """It died at minute 40, and went on from what it had at minute 30: the points between are gone."""
    series = both(steps(10, 30, compute=10), steps(43, 70, first=120, compute=10))
    tries = [attempt(1, 10, 40, "node_failure", saved=True), attempt(2, 42, 70, "done")]
    found = minutes(JOB, tries, series)
    assert found["lost"] == 20 and found["queue"] == 24 and found["startup"] == pytest.approx(2, abs=0.1)
    assert minutes(JOB, [tries[0], replace(tries[1], started=round(40.5 * MIN))], series)["queue"] == 20  # Again in place.


def test_a_try_that_goes_on_counts_since_it_began() -> None:
    """Whatever is heard of the machine: a job of CPUs alone, in the queue for most of the time."""
    job = replace(JOB, state="RUNNING", ended=None, spec=JobSpec(["train"]))
    tries = [attempt(1, 10, 20, "preempted", saved=True), Try(2, "unknown", 0, 900 * MIN)]
    spent = receipt(job, tries, {}, "Default", 1000 * 60).spent
    assert (spent.given, spent.queue) == (110 * 60, 890 * 60)
    in_place = [Try(1, "unknown", 0, 10 * MIN), Try(2, "unknown", 0, 30 * MIN)]
    assert receipt(job, in_place, {}, "Default", 1000 * 60).spent.given == 990 * 60


@pytest.mark.parametrize(("cause", "lost"), [("time_limit", 20), ("preempted", 20), ("node_failure", 20)])
def test_what_was_taken_back_is_lost_whatever_ended_the_try(cause: Cause, lost: float) -> None:
    """It ended at minute 40 with nothing newer than minute 30, and goes on from there; one that saved last has lost nothing."""
    tries = [attempt(1, 10, 40, cause, saved=True), attempt(2, 42, 70, "done")]
    assert minutes(JOB, tries, both(steps(10, 30, compute=10), steps(43, 70, first=120, compute=10)))["lost"] == lost
    whole = minutes(JOB, tries, both(steps(10, 39.5, compute=10), steps(43, 70, first=177, compute=10)))
    assert whole.get("lost", 0) == (1 if cause == "node_failure" else 0)


def test_what_is_there_twice_is_lost_as_well() -> None:
    """A program without checkpoints begins again, and does not say so."""
    series = both(steps(10, 40, compute=10), steps(40, 70, compute=10))
    found = minutes(JOB, [attempt(1, 10, 40, "out_of_memory"), attempt(2, 40, 70, "done")], series)
    assert found == {"queue": 20, "lost": 60, "compute": 60}


@pytest.mark.parametrize(("cause", "saved", "lost"), [
    ("node_failure", False, 120), ("node_failure", True, 0), ("done", False, 0), ("cancelled", False, 0), ("preempted", False, 120)])  # fmt: skip
def test_a_program_that_says_nothing_loses_all_that_it_did_not_save(cause: Cause, saved: bool, lost: float) -> None:
    assert minutes(JOB, [attempt(1, 10, 70, cause, saved)], {}).get("lost", 0) == lost


def test_the_last_checkpoint_stays_when_nobody_goes_on() -> None:
    series = dict(steps(10, 70, compute=10))
    series["time/checkpoint"] = points([1.0], [50 * MIN], [240])
    assert minutes(JOB, [attempt(1, 10, 70, "hang", saved=True)], series)["lost"] == 40


def test_checkpoints_alone_say_what_was_lost() -> None:
    """`noria.checkpoint` logs what it took, whatever else the program says."""
    saves = {"time/checkpoint": points([30.0] * 3, [20 * MIN, 30 * MIN, 60 * MIN], [100, 200, 300])}
    tries = [attempt(1, 10, 40, "node_failure", saved=True), attempt(2, 40, 70, "done")]
    assert minutes(JOB, tries, saves) == {"queue": 20, "lost": 20, "checkpoint": 3, "compute": 97}


def test_gpus_tell_work_from_idleness_and_from_no_process() -> None:
    assert minutes(JOB, [], {**gpu(0, 90), **gpu(1, 0, memory=0.1)}) == {"queue": 20, "compute": 60, "unused": 60}
    assert minutes(JOB, [], {**gpu(0, 90), **gpu(1, 2)}) == {"queue": 20, "compute": 60, "idle": 60}
    waits = {**steps(10, 70, data=5, compute=5), **gpu(0, 3), **gpu(1, 3)}
    assert minutes(JOB, [], waits) == {"queue": 20, "data": 60, "compute": 60}


def test_energy_is_the_power_of_all_gpus_while_it_was_told() -> None:
    found = receipt(JOB, [], {**gpu(0, 90), **gpu(1, 90, 10, 40)}, "", 1e6)
    assert found.joules == pytest.approx(300 * 90 * 60, rel=0.01) and found.metered == pytest.approx(0.75, abs=0.01)
    gap = points([300.0] * 6, [minute * MIN + each * 10_000 for minute in (11, 60) for each in range(3)], range(6))
    assert receipt(JOB, [], {"system/gpu_0_power_usage_watts": gap}, "", 1e6).joules == pytest.approx(300 * 40)
    assert receipt(JOB, [], {}, "", 1e6).joules is None


def test_without_gpus_cpus_are_counted() -> None:
    job = replace(JOB, spec=JobSpec(["train"], cpus=4, tasks_per_node=2))
    found = receipt(job, [], {"system/cpu_utilization_percentage": flat(1, 10, 40)}, "", 1e6)
    assert (found.counts, found.devices, found.joules, found.spent.given) == ("CPU", 8, None, 8 * 3600)
    assert found.spent.idle == pytest.approx(8 * 3600)


def test_a_job_that_waits_or_runs_is_counted_until_now() -> None:
    waits = replace(JOB, state="SUBMITTED", started=None, ended=None)
    assert asdict(receipt(waits, [], {}, "", 600).spent)["queue"] == 1200
    runs = replace(JOB, state="RUNNING", ended=None)
    found = receipt(runs, [attempt(1, 10, 20, "node_failure"), Try(2, "unknown", 0, 20 * MIN)], {}, "", 40 * 60)
    assert (found.tries, found.seconds, found.spent.lost) == (2, 1800, 1200)
    again = receipt(
        runs, [attempt(1, 10, 20, "preempted", saved=True), Try(2, "unknown", 0, 31 * MIN)], gpu(0, 90, 30, 40), "", 40 * 60
    )
    assert (again.seconds, again.spent.queue) == (1200, 2 * 1200)


def test_what_to_ask_for_next_time() -> None:
    used = {
        "system/rank_0/memory_usage_megabytes": flat(6000, 10, 70), "system/rank_1/memory_usage_megabytes": flat(8000, 10, 70),
        "system/rank_0/cpu_utilization_percentage": flat(250, 10, 70), **gpu(0, 90), **gpu(1, 0, memory=0.1),
    }  # fmt: skip
    job = replace(JOB, spec=replace(JOB.spec, tasks_per_node=2, mem=64 * 2**30))
    done = receipt(job, [], used, "", 1e6)
    assert proposed(done) == {"--time": "1h30m", "--mem": "16G", "--gpus": "1", "--cpus": "3"}
    assert proposed(replace(done, last="time_limit", state="FAILED"))["--time"] == "3h"
    assert proposed(replace(done, last="out_of_memory", state="FAILED"))["--mem"] == "96G"
    assert "--time" not in proposed(replace(done, asked=replace(done.asked, time=5400.0)))


@pytest.mark.parametrize(("series", "sentence"), [
    ({**gpu(0, 1, 0, 20), **gpu(1, 2, 5, 20)}, "Its 2 GPUs have been idle for 15 minutes (under 5 %)."),
    ({**gpu(0, 1, 0, 20), **gpu(1, 80, 0, 20)}, "1 of its 2 GPUs has been idle for 20 minutes (under 5 %)."),
    (gpu(0, 1, 12, 20), ""), (gpu(0, 1, 0, 16), ""), ({}, "")])  # fmt: skip
def test_gpus_are_flagged_while_they_idle(series: Series, sentence: str) -> None:
    assert idling(replace(JOB, state="RUNNING"), series, 20 * 60) == sentence
