"""What the server says of jobs that wait for something: their owner, other jobs, or the rest of their array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noria.errors import Conflict, Invalid, NotFound
from noria.store import experiments, jobs, runs
from noria.store.store import Store
from noria.types import Job, JobSpec
from noria.wire import jobs as wire
from noria.wire import runs as runs_wire
from tests.conftest import new_database


class Server:
    """The functions of `store.jobs`, as an agent and a person call them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def submit(self, *after: str, members: list[int] | None = None, at_once: int = 0) -> str:
        spec = JobSpec(["true"], "name", after=list(after), at_once=at_once)
        return self.store.write(lambda conn: jobs.submit(conn, wire.Submit(spec, "ada", members or []))).result().job.id

    def claim(self) -> wire.Work:
        return self.store.write(lambda conn: jobs.claim(conn, wire.Claim("ada", ["local"], "agent"))).result()

    def report(self, job: str, state: str, **said: object) -> None:
        self.store.write(lambda conn: jobs.report(conn, wire.Report(job, state, **said))).result()  # type: ignore[arg-type]

    def verb(self, name: str, job: str) -> list[Job]:
        request = wire.Cancel(job) if name == "cancel" else wire.Key(job)
        return self.store.write(lambda conn: getattr(jobs, name)(conn, request)).result().jobs  # type: ignore[no-any-return]

    def get(self, job: str) -> Job:
        return self.store.read(lambda conn: jobs.get(conn, wire.Key(job))).job

    def claimed(self) -> list[str]:
        return [job.id for job in self.claim().claimed]


@pytest.fixture
def server(database: Path | str) -> Iterator[Server]:
    store = Store(database)
    store.write(experiments.seed).result()
    yield Server(store)
    store.close()


def test_an_array_lets_so_many_of_its_members_go_at_once(server: Server) -> None:
    first = server.submit(members=[0, 1, 2, 10], at_once=2)
    array = first.removesuffix("_0")
    assert server.claimed() == [f"{array}_0", f"{array}_1"]
    server.report(f"{array}_1", "SUBMITTED", scheduler_id="7")
    server.verb("cancel", f"{array}_10")  # It held no place, so its end makes none free.
    assert server.claimed() == [f"{array}_0"]
    server.report(f"{array}_1", "FAILED", ended=1, exit_code=1)
    assert server.claimed() == [f"{array}_0", f"{array}_2"]
    with pytest.raises(Invalid, match="is an array of 4 jobs"):
        server.get(array)
    with pytest.raises(NotFound, match="has no member 7"):
        server.get(f"{array[:6]}_7")
    with pytest.raises(Invalid, match="a member twice"):
        server.submit(members=[1, 1])
    assert server.get(f"{array[:6]}_10").spec.env == {"NORIA_TASK_ID": "10"}


def test_a_job_comes_after_all_members_of_an_array(server: Server) -> None:
    array = server.submit(members=[0, 1]).partition("_")[0]
    last = server.submit(array[:5])
    assert server.get(last).reason == f"Waits for job {array}_0 and 1 more to succeed."
    server.report(f"{array}_0", "COMPLETED", ended=1, exit_code=0)
    assert (server.get(last).hold, server.get(last).reason) == ("after", f"Waits for job {array}_1 to succeed.")
    server.report(f"{array}_1", "COMPLETED", ended=1, exit_code=0)
    assert (server.get(last).hold, server.get(last).reason) == ("", "") and last in server.claimed()


def test_a_failure_ends_a_long_chain_and_their_runs(server: Server) -> None:
    chain = [server.submit()]
    for _ in range(400):
        chain.append(server.submit(chain[-1]))
    server.report(chain[0], "FAILED", ended=1, exit_code=3)
    last = server.get(chain[-1])
    assert (last.state, last.reason) == (
        "CANCELLED", f"Job {chain[-2]} has been cancelled, and this one was to come after its success.")  # fmt: skip
    run = server.store.read(lambda conn: runs.get(conn, runs_wire.Get(last.run_id))).run
    assert run.info.status == "KILLED"


def test_a_hold_at_the_scheduler_is_asked_for_until_it_is_done(server: Server) -> None:
    job = server.submit()
    server.claim()
    server.verb("hold", job)  # Its agent may be submitting it this very moment.
    assert server.claimed() == []
    server.report(job, "SUBMITTED", scheduler_id="7")
    assert server.claim().hold == [job] and server.claim().hold == [job]
    server.report(job, "SUBMITTED", done="hold")
    assert server.claim().hold == [] and server.get(job).hold == "user"
    server.verb("release", job)
    assert server.claim().release == [job] and server.get(job).hold == ""
    server.report(job, "SUBMITTED", done="hold")  # Late word of another verb.
    assert server.claim().release == [job]
    server.report(job, "RUNNING", started=1)
    with pytest.raises(Conflict, match="only a job that waits can be held"):
        server.verb("hold", job)


def test_a_hold_that_came_too_late_is_no_hold(server: Server) -> None:
    job = server.submit()
    server.claim()
    server.report(job, "SUBMITTED", scheduler_id="7")
    server.verb("hold", job)
    server.report(job, "RUNNING", started=1)
    assert (server.get(job).hold, server.get(job).reason, server.claim().hold) == ("", "", [])


def test_what_is_released_still_waits_for_what_it_comes_after(server: Server) -> None:
    first = server.submit()
    job = server.submit(first)
    server.verb("hold", job)
    assert server.verb("release", job)[0].hold == "after"
    server.verb("hold", job)
    server.report(first, "FAILED", ended=1)
    assert server.get(job).hold == "user"
    assert server.verb("release", job)[0].state == "CANCELLED"


@pytest.mark.parametrize(("state", "then"), [("FAILED", "QUEUED"), ("CANCELLED", "QUEUED"), ("COMPLETED", "COMPLETED")])
def test_a_requeued_job_has_not_ended_when_its_try_did(server: Server, state: str, then: str) -> None:
    job = server.submit()
    server.claim()
    with pytest.raises(Conflict, match="is QUEUED"):
        server.verb("requeue", job)
    server.report(job, "SUBMITTED", scheduler_id="7")
    server.report(job, "RUNNING", started=1)
    server.verb("requeue", job)
    assert server.claim().requeue == [job]
    server.report(job, state, ended=2, exit_code=0 if state == "COMPLETED" else 143)
    found = server.get(job)
    assert (found.state, found.exit_code) == (then, None if then == "QUEUED" else 0)
    assert server.claimed() == ([job] if then == "QUEUED" else []) and server.claim().requeue == []


def test_a_requeued_job_can_be_cancelled_before_it_goes_again(server: Server) -> None:
    job = server.submit()
    server.claim()
    server.report(job, "RUNNING", started=1)
    server.verb("requeue", job)
    assert server.verb("cancel", job)[0].state == "RUNNING"
    server.report(job, "FAILED", ended=2, exit_code=143)
    assert server.get(job).state == "CANCELLED"


def test_a_key_submits_once_also_when_two_race(server: Server) -> None:
    def submit(key: str, user: str = "ada", members: Sequence[int] = ()) -> wire.Submitted:
        request = wire.Submit(JobSpec(["true"]), user, list(members), key=key)
        return server.store.write(lambda conn: jobs.submit(conn, request)).result()  # type: ignore[no-any-return]

    first, again = submit("night"), submit("night", members=[0, 1])
    assert (first.known, again.known, again.job.id) == (False, True, first.job.id)
    assert submit("day").job.id != first.job.id and submit("night", "eve").job.id != first.job.id  # A key is a user's own.
    array = submit("many", members=[3, 4])
    assert submit("many").job.id == array.job.id and array.job.id.endswith("_3")
    with ThreadPoolExecutor(8) as racing:
        found = list(racing.map(lambda _: submit("race"), range(32)))
    assert len({each.job.id for each in found}) == 1 and sum(not each.known for each in found) == 1
    assert submit("").job.id != submit("").job.id


def test_a_submission_that_is_refused_leaves_its_key_free(server: Server) -> None:
    failed = server.submit()
    server.report(failed, "FAILED", ended=1, exit_code=1)

    def submit(*after: str) -> wire.Submitted:
        request = wire.Submit(JobSpec(["true"], after=list(after)), "ada", key="night")
        return server.store.write(lambda conn: jobs.submit(conn, request)).result()  # type: ignore[no-any-return]

    with pytest.raises(Invalid, match="was to come after its success"):
        submit(failed)
    assert not submit().known
    with pytest.raises(Invalid, match="key"):
        server.store.write(lambda conn: jobs.submit(conn, wire.Submit(JobSpec(["true"]), "ada", key="k" * 256))).result()


def test_two_servers_on_one_postgresql_submit_a_key_once(postgres: str) -> None:
    url = new_database(postgres)
    stores = [Store(url), Store(url)]
    stores[0].write(experiments.seed).result()
    request = [wire.Submit(JobSpec(["true"]), "ada", key=f"race {number}") for number in range(50)]
    asked = [(store, each) for each in request for store in stores]
    futures = [store.write(lambda conn, each=each: jobs.submit(conn, each)) for store, each in asked]  # type: ignore[misc]
    found = [each.result() for each in futures]
    assert len({each.job.id for each in found}) == 50 and sum(each.known for each in found) == 50
    for store in stores:
        store.close()
