"""What tries say about nodes: as values, and by the command line of a server whose agent reported them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria import process
from noria.jobs.avoid import Avoid
from noria.jobs.dialect import Node
from noria.jobs.health import BLAMED, HALF_LIFE, SUSPECT, WELL, avoided, parted, suspects
from noria.process import Answer
from noria.types import Cause, JobSpec, JobState, Try
from noria.wire import jobs as jobs_wire
from noria.wire import nodes as wire
from noria.wire.nodes import Record, Suspect
from tests.conftest import Running

NOW = 1_800_000_000_000
HOUR = 3_600_000
Noria = Callable[..., CompletedProcess[str]]


def told(job: str, cause: Cause, *nodes: str, ago: float = 0, user: str = "ada", ran: float = 1) -> Record:
    """A try that ended `ago` hours before NOW, after `ran` hours."""
    ended = NOW - int(ago * HOUR)
    return Record(job, user, cause, ended, list(nodes), ended - int(ran * HOUR))


def checked(job: str, node: str, *, ago: float = 0, user: str = "ada") -> Record:
    """A try that ended before it began, because the check of its nodes found this one broken."""
    ended = NOW - int(ago * HOUR)
    return Record(
        job, user, "bad_node", ended, [node], None, f"the job cannot start: node {node} is not sound: CPU 3 computes wrongly"
    )


def scores(*records: Record, now: int = NOW) -> dict[str, float]:
    return {each.node: each.score for each in suspects("slurm", records, now)}


def test_a_doubt_fades_by_half_in_a_half_life() -> None:
    broken = checked("a", "n1")
    assert scores(broken) == {"n1": 1.0}
    assert scores(broken, now=NOW + HALF_LIFE)["n1"] == pytest.approx(0.5)
    assert scores(broken, now=NOW + 8 * HALF_LIFE) == {}


def test_a_node_that_carries_jobs_well_is_forgiven_sooner() -> None:
    broken, before = told("a", "node_failure", "n1", ago=10), told("b", "done", "n1", ago=20)
    after = [told(f"c{number}", "done", "n1", "n2", ago=5) for number in range(8)]
    assert scores(broken, before) == scores(broken) and scores(broken, *after)["n1"] < scores(broken)["n1"] / 3
    assert scores(broken, *(told(each.job, "done", "n1", ago=5, ran=0.001) for each in after))["n1"] > 0.65
    (found,) = suspects("slurm", [broken, before, *after], NOW)
    assert (found.well, found.evidence, found.avoided) == (8, [broken], False)


def test_a_programs_own_error_says_nothing_of_its_node() -> None:
    for cause in (
        "user_error",
        "out_of_memory",
        "gpu_memory",
        "missing_module",
        "time_limit",
        "cancelled",
        "disk_full",
        "unknown",
    ):
        assert scores(*(told(f"{cause}{number}", cause, "n1") for number in range(20))) == {}


def test_jobs_are_counted_and_not_their_tries() -> None:
    assert scores(*(told("a", "hang", "n1", ago=ago) for ago in range(20))) == scores(told("a", "hang", "n1"))
    assert scores(told("a", "hang", "n1"), told("b", "hang", "n1"))["n1"] > SUSPECT > scores(told("a", "hang", "n1"))["n1"]


def test_a_job_that_fails_everywhere_blackens_no_node() -> None:
    everywhere = [told("a", "hang", f"n{number}") for number in range(10)]
    assert max(scores(*everywhere).values()) < 0.05
    # Nor do many jobs of a user whose program hangs wherever it runs; the same from users whose other jobs end well is another matter.
    program = [told(f"j{number}-{again}", "hang", f"n{number}") for number in range(10) for again in range(2)]
    assert max(scores(*program).values()) < 0.1
    fine = [told(f"w{number}", "done", "m1") for number in range(200)]
    assert min(scores(*program, *fine).values()) > SUSPECT


def test_users_are_witnesses_of_their_own() -> None:
    one = [told(f"a{number}", "killed", "n1") for number in range(2)]
    noise = [told(f"x{number}", "killed", f"m{number}") for number in range(6)]
    other = told("b", "killed", "n1", user="bob")
    assert scores(*one, *noise)["n1"] < SUSPECT < scores(*one, *noise, other, told("c", "hang", "n1", user="eve"))["n1"]


def test_where_nobody_knows_the_node_all_of_the_job_share_it() -> None:
    found = scores(told("a", "node_failure", "n1", "n2", "n3", "n4"))
    assert max(found.values()) < 0.2 and len(found) == 4
    several = scores(*(told(f"j{number}", "node_failure", "n1", f"m{number}", user=f"u{number}") for number in range(6)))
    assert several["n1"] > 0.5 and all(score < 0.25 for node, score in several.items() if node != "n1")


def test_what_was_forgiven_counts_no_more() -> None:
    records = [checked("a", "n1", ago=2), checked("b", "n2", ago=2), told("c", "hang", "n1", ago=0.5)]
    found = {each.node: each for each in suspects("slurm", records, NOW, {"n1": NOW - HOUR})}
    assert [each.job for each in found["n1"].evidence] == ["c"] and found["n2"].score > 0.9


def test_a_log_is_no_check_of_its_node() -> None:
    assert scores(told("a", "bad_node", "n1"))["n1"] < SUSPECT
    program = [told(f"j{number}", "bad_node", f"n{number}") for number in range(6)]
    assert max(scores(*program).values()) < 0.1 and scores(*program, checked("k", "n1"))["n1"] == 1.0
    words = replace(
        told("a", "bad_node", "n1"), reason="The check of its nodes found one broken: n1 is not sound: so a program prints"
    )
    assert scores(words)["n1"] < SUSPECT


def test_a_task_without_others_that_reaches_no_server_says_nothing_of_its_node() -> None:
    alone = [replace(told(user, "communication", "n1", user=user), tasks=1) for user in ("ada", "bob", "eve")]
    assert scores(*alone) == {} and scores(*(replace(each, tasks=2) for each in alone))["n1"] > SUSPECT


CAUSES = sorted({*BLAMED, *WELL, "user_error"})
RECORDS = st.lists(
    st.builds(
        told, st.sampled_from("abcdef"), st.sampled_from(CAUSES), st.sampled_from(["n1", "n2", "n3"]),
        ago=st.floats(0, 200), user=st.sampled_from(["ada", "bob"]),
    ),
    max_size=30,
)  # fmt: skip


@given(RECORDS, st.integers(0, 300))
def test_scores_are_chances_and_only_fall_while_nothing_happens(records: list[Record], later: int) -> None:
    first, then = scores(*records), scores(*records, now=NOW + later * HOUR)
    assert all(0 <= score <= 1 for score in first.values())
    assert all(score <= first[node] + 1e-9 for node, score in then.items())
    assert scores(*reversed(records)).keys() == first.keys()


# ---- whom a job is kept from


def node(name: str, *queues: str, state: str = "idle", gpus: int = 0) -> Node:
    return Node(name, state, 8, 8, 2**34, 2**34, gpus, gpus, queues=list(queues))


def doubted(*names: str) -> list[Suspect]:
    return [Suspect("slurm", name, 0.9 - at / 100, 0, []) for at, name in enumerate(names)]


SPEC = JobSpec(["true"], scheduler="slurm")
FORTY = [node(f"n{number}", "main") for number in range(40)]


def test_a_job_is_kept_from_the_worst_of_few() -> None:
    assert avoided(SPEC, doubted("n7", "n9", "gone"), FORTY) == ["n7", "n9"]
    assert avoided(SPEC, doubted(*(each.name for each in FORTY)), FORTY) == ["n0", "n1", "n2", "n3"]
    assert avoided(SPEC, [Suspect("slurm", "n1", 0.4, 0, [])], FORTY) == []
    assert avoided(SPEC, doubted("n1", "n2"), FORTY[:4]) == ["n1"] and avoided(SPEC, doubted("n1"), FORTY[:3]) == []


def test_enough_nodes_are_left_for_the_job_to_start() -> None:
    wide = JobSpec(["true"], scheduler="slurm", nodes=39)
    assert avoided(wide, doubted("n1", "n2"), FORTY) == ["n1"]
    assert avoided(JobSpec(["true"], nodes=40), doubted("n1"), FORTY) == []
    assert avoided(JobSpec(["true"], nodes=39, exclude=["n5"]), doubted("n1"), FORTY) == []
    down = [node("d1", "main", state="down*"), *FORTY[:3]]
    assert avoided(SPEC, doubted("n1"), down) == []
    for unknown in (JobSpec(["true"], constraint="ib"), JobSpec(["true"], reservation="r"), JobSpec(["true"], as_is=True)):
        assert avoided(unknown, doubted("n1"), FORTY) == []


def test_a_small_queue_or_the_few_nodes_with_gpus_are_not_emptied() -> None:
    small = [node(f"g{number}", "gpu", gpus=4) for number in range(4)]
    bad = doubted(*(each.name for each in small))
    for spec in (SPEC, JobSpec(["true"], queue="gpu"), JobSpec(["true"], gpus=1)):
        assert avoided(spec, bad, [*FORTY, *small]) == ["g0"]
    assert avoided(JobSpec(["true"], queue="main"), bad, [*FORTY, *small]) == []


def test_names_with_and_without_a_domain_are_one() -> None:
    assert avoided(SPEC, doubted("n7.site.edu", "n7"), FORTY) == ["n7"]
    boxes = [node(f"127.0.0.{number}") for number in range(1, 12)]
    assert avoided(SPEC, doubted("127.0.0.3"), boxes) == ["127.0.0.3"]


def test_a_job_parts_from_the_nodes_that_failed_it_as_long_as_others_are_up() -> None:
    two = [node("n1"), node("n2")]
    assert parted(SPEC, ["n2", "n1"], two) == ["n2"] and parted(SPEC, ["n1.site.edu"], two) == ["n1"]
    assert parted(SPEC, ["n2", "n1"], [node("n1"), node("n2", state="down*")]) == ["n2"]
    assert parted(SPEC, ["n1"], [node("n1"), node("n2", state="down*")]) == []
    assert parted(SPEC, ["n1"], [node("n1")]) == [] == parted(SPEC, ["gone"], two)
    assert parted(SPEC, ["n3", "n1"], FORTY) == ["n3", "n1"]
    assert parted(JobSpec(["true"], nodes=2), ["n1"], two) == []
    assert parted(JobSpec(["true"], exclude=["n2"]), ["n1"], two) == []
    assert parted(JobSpec(["true"], constraint="ib"), ["n3", "n1"], FORTY) == ["n3"]


@given(st.integers(1, 60), st.integers(1, 70), st.sets(st.integers(0, 59)), st.lists(st.integers(0, 59), max_size=5, unique=True))
def test_a_job_that_could_start_still_can(count: int, wanted: int, ill: set[int], own: list[int]) -> None:
    nodes = [node(f"n{number}", "ab"[number % 2]) for number in range(count)]
    spec = JobSpec(["true"], nodes=wanted, exclude=[f"n{number}" for number in own])
    found = avoided(spec, doubted(*(f"n{number}" for number in sorted(ill))), nodes)
    assert len(found) <= max(count // 10, 1)
    assert not found or count - len({*found, *spec.exclude} & {each.name for each in nodes}) >= wanted


# ---- the server that agents of all users report to


def ended(server: Running, user: str, cause: Cause, host: str, *, cluster: str = "", hours: float = 0) -> str:
    """A job of this user that had one try, which ended so many hours ago, as an agent reports it."""
    spec = JobSpec(["true"], scheduler="slurm", cluster=cluster)
    job = server.client.call(jobs_wire.SUBMIT, jobs_wire.Submit(spec, user)).job
    moment = int((time.time() - hours * 3600) * 1000)
    began, says = (None, f"node {host} is not sound: it said so") if cause == "bad_node" else (moment - HOUR, "said so")
    tried = Try(1, cause, moment, began, 1, [host, "n8"], 0, "" if cause in WELL else host, says)
    state: JobState = "COMPLETED" if cause == "done" else "FAILED"
    server.client.call(jobs_wire.REPORT, jobs_wire.Report(job.id, state, ended=moment, tried=[tried]))
    return job.id


def test_what_happened_to_one_user_keeps_the_jobs_of_others_away(own_server: Running, noria: Noria) -> None:
    first, second = (
        ended(own_server, "ada", "hang", "127.0.0.2", hours=3),
        ended(own_server, "bob", "killed", "127.0.0.2", hours=2),
    )
    ended(own_server, "eve", "done", "127.0.0.2", hours=1)
    ended(own_server, "eve", "user_error", "127.0.0.3")
    ended(own_server, "eve", "bad_node", "127.0.0.2", cluster="big")
    shown = json.loads(noria("cluster", "suspects", "--on", "slurm", "--json").stdout)["nodes"]
    assert [(each["node"], each["place"], each["well"], each["avoided"]) for each in shown] == [("127.0.0.2", "slurm", 1, True)]
    assert [(told["job"], told["user"], told["cause"]) for told in shown[0]["evidence"]] == [
        (second, "bob", "killed"), (first, "ada", "hang")]  # fmt: skip
    lines = noria("cluster", "suspects").stdout.splitlines()
    assert lines[1].startswith("127.0.0.2*  big    100%") and "bad node" in lines[1] and lines[1].endswith("said so")
    assert first[:8] in lines[3] and "3h ago" in lines[3] and len(lines) == 4

    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> Answer:
        asked.append(argv)
        line = "NodeName=127.0.0.{} CPUTot=4 RealMemory=4000 State=IDLE Partitions=main"
        return Answer(0, "\n".join(line.format(number) for number in range(1, 5)), "")

    avoid = Avoid(own_server.client)
    assert avoid.nodes(JobSpec(["true"], scheduler="slurm", exclude=["127.0.0.4"]), run) == ["127.0.0.4"], "three are left"
    assert avoid.nodes(JobSpec(["true"], scheduler="slurm"), run) == ["127.0.0.2"] and len(asked) == 1
    assert avoid.nodes(JobSpec(["true"], scheduler="pbs"), run) == [] and len(asked) == 1

    assert "No job speaks against a node 'n8'" in noria("cluster", "forgive", "n8", check=False).stderr
    noria("cluster", "forgive", "127.0.0.2", "--on", "slurm")
    assert json.loads(noria("cluster", "suspects", "--on", "slurm", "--json").stdout)["nodes"] == []
    assert Avoid(own_server.client).nodes(JobSpec(["true"], scheduler="slurm"), run) == []
    assert [each.place for each in own_server.client.call(wire.SUSPECTS, wire.List()).nodes] == ["big"]
    ended(own_server, "ada", "bad_node", "127.0.0.2")
    assert Avoid(own_server.client).nodes(JobSpec(["true"], scheduler="slurm"), run) == ["127.0.0.2"], "it is not mended"


def test_a_server_that_is_gone_keeps_no_job_back(own_server: Running) -> None:
    ended(own_server, "ada", "bad_node", "n1")
    own_server.stop()
    spec = JobSpec(["true"], scheduler="slurm", exclude=["n5"])
    assert Avoid(own_server.client).nodes(spec, lambda _: process.run(["false"])) == ["n5"]
