"""What is used of budgets, on both databases, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noria.errors import Forbidden, Invalid, NotFound
from noria.store import budgets, experiments, jobs
from noria.store.budgets import period
from noria.store.experiments import now
from noria.store.store import Store
from noria.types import JobSpec, Try
from noria.wire import budgets as wire
from noria.wire import jobs as jobs_wire

HOUR = 3_600_000


class Books:
    """The functions of `store.budgets`, and jobs that use them up."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def budget(self, whose: Any, name: str, hours: float, counts: Any = "GPU", per: Any = "total") -> None:
        request = wire.Set(wire.Budget(whose, name, counts, hours, per))
        self.store.write(lambda conn: budgets.set_(conn, request)).result()

    def submit(self, user: str = "ada", members: int = 0, **spec: Any) -> str:
        request = jobs_wire.Submit(JobSpec(["true"], **spec), user, [*range(members)])
        return self.store.write(lambda conn: jobs.submit(conn, request)).result().job.id

    def report(self, job: str, state: Any, **said: Any) -> None:
        self.store.write(lambda conn: jobs.report(conn, jobs_wire.Report(job, state, **said))).result()

    def ran(self, hours: float, ago: float = 0, **spec: Any) -> str:
        """A job that has ended so many hours ago."""
        job, end = self.submit(**spec), now() - round(ago * HOUR)
        self.report(job, "COMPLETED", started=end - round(hours * HOUR), ended=end, exit_code=0)
        return job

    def standing(self) -> wire.Standing:
        (found,) = self.store.read(lambda conn: budgets.list_(conn, wire.List())).budgets
        return found


@pytest.fixture
def books(database: Path | str) -> Iterator[Books]:
    store = Store(database)
    store.write(experiments.seed).result()
    yield Books(store)
    store.close()


def test_what_was_held_counts_and_what_may_be_is_promised(books: Books) -> None:
    books.budget("user", "ada", 100)
    books.ran(5, gpus=4, nodes=2)
    books.ran(50, cpus=4)  # No GPUs: of another budget.
    books.ran(5, gpus=1, user="bob")
    waits = books.submit(gpus=2, time=4 * 3600)
    assert (round(books.standing().used, 3), books.standing().promised, books.standing().jobs) == (40, 8, 1)
    books.report(waits, "RUNNING", started=now() - HOUR)
    assert (round(books.standing().used, 2), round(books.standing().promised, 2)) == (42, 6)
    with pytest.raises(
        Forbidden, match=r"ada has used 42\.0 of 100\.0 GPU-hours in all, 6\.0 more may go to 1 job that wait"
    ) as told:
        books.submit(gpus=8, time=7 * 3600)
    assert "this one may take 56.0. Ask for at most 52.0 (--time, --gpus), or ask for more" in told.value.message
    with pytest.raises(Forbidden, match=r"these 30 may take 60\.0"):
        books.submit(gpus=1, time=7200, members=30)
    books.submit(gpus=8, time=6 * 3600)
    books.submit(cpus=64, time=10**6)


def test_a_budget_that_is_used_up_takes_nothing_more(books: Books) -> None:
    books.budget("project", "llm", 10)
    books.ran(8, gpus=1, experiment="llm")
    books.ran(3, gpus=1, experiment="llm", user="bob")
    with pytest.raises(
        Forbidden, match=r"project 'llm' has used 11\.0 of 10\.0 GPU-hours in all \(ada 8\.0, bob 3\.0\)\. Ask for more"
    ):
        books.submit(gpus=1, experiment="llm")
    books.submit(gpus=1)
    books.budget("project", "llm", 20)  # In its place.
    books.submit(gpus=1, experiment="llm", user="bob")
    books.store.write(lambda conn: budgets.remove(conn, wire.Remove("project", "llm"))).result()
    books.submit(gpus=64, time=10**6, experiment="llm")
    with pytest.raises(NotFound, match="The project 'llm' has no budget"):
        books.store.write(lambda conn: budgets.remove(conn, wire.Remove("project", "llm"))).result()


def test_jobs_without_gpus_have_budgets_of_cpu_hours(books: Books) -> None:
    books.budget("user", "ada", 100, "CPU")
    books.ran(5, cpus=4, tasks_per_node=2)
    assert round(books.standing().used, 3) == 40
    with pytest.raises(Forbidden, match="CPU-hours"):
        books.submit(cpus=61, time=3600)
    books.submit(gpus=8, cpus=61, time=3600)


def test_waiting_between_tries_is_not_held(books: Books) -> None:
    books.budget("user", "ada", 100)
    job, end = books.submit(gpus=1), now()
    tries = [Try(1, "preempted", end - 8 * HOUR, end - 10 * HOUR, saved=True), Try(2, "done", end, end - HOUR)]
    books.report(job, "RUNNING", started=end - 10 * HOUR, tries=1)
    assert round(books.standing().used, 3) == 10
    books.report(job, "FAILED", ended=end - 8 * HOUR, tries=1, tried=tries[:1], again=True)
    assert round(books.standing().used, 3) == 2
    books.report(job, "RUNNING", started=end - HOUR, tries=2)
    assert round(books.standing().used, 3) == 3
    found = books.store.read(lambda conn: jobs.get(conn, jobs_wire.Key(job))).job
    known = books.store.read(lambda conn: jobs.tries(conn, jobs_wire.Key(job))).tries
    assert found.started == end - 10 * HOUR and known == tries[:1], "it goes on, so nothing has become of the second try"
    books.report(job, "COMPLETED", ended=end, exit_code=0, tries=2, tried=tries)
    assert round(books.standing().used, 3) == 3


def test_a_try_in_the_place_of_another_takes_nothing_more(books: Books) -> None:
    """Tries in one allocation are told together at its end."""
    books.budget("user", "ada", 100)
    job, end = books.submit(gpus=1), now()
    for number in (1, 2):
        books.report(job, "RUNNING", started=end - (5 - number) * HOUR, tries=number)
    assert round(books.standing().used, 3) == 4
    books.report(job, "COMPLETED", ended=end, exit_code=0, tries=2, tried=[Try(2, "done", end, end - 3 * HOUR)])
    assert round(books.standing().used, 3) == 4


def test_a_month_counts_what_was_held_in_it(books: Books) -> None:
    books.budget("user", "ada", 1000, per="month")
    begin, end = period("month", now())
    since = (now() - begin) / HOUR
    books.ran(since + 5, gpus=1)
    books.ran(2, ago=since + 1, gpus=1)
    assert books.standing().used == pytest.approx(since, abs=0.01) and books.standing().resets == end


@pytest.mark.parametrize(("per", "begin", "end"), [("month", "2026-11-01", "2026-12-01"), ("week", "2026-11-16", "2026-11-23")])
def test_weeks_begin_on_mondays_and_months_on_the_first(per: Any, begin: str, end: str) -> None:
    at = int(datetime(2026, 11, 21, 18, tzinfo=UTC).timestamp() * 1000)
    assert [f"{datetime.fromtimestamp(each / 1000, UTC):%Y-%m-%d}" for each in period(per, at)] == [begin, end]
    assert period("total", at) == (0, 0)
    december = int(datetime(2026, 12, 31, 23, tzinfo=UTC).timestamp() * 1000)
    assert period("month", december)[1] == int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000)


def test_a_budget_is_a_number(books: Books) -> None:
    for hours in (-1, float("nan"), float("inf")):
        with pytest.raises(Invalid, match="hours is none"):
            books.budget("user", "ada", hours)
