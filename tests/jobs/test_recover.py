"""Whether a job goes on, as values; and what is watched, on a clock of the test's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from msgspec import structs

from noria.jobs.recover import blamed, lead, mtbf, verdict
from noria.jobs.vigil import PATIENCE, SILENCE, Peers, Steps
from noria.types import Cause, JobSpec, Try

SPEC = JobSpec(["train"])
RETRY = JobSpec(["train"], max_restarts=2)
HOPELESS: list[Cause] = [
    "user_error",
    "missing_module",
    "missing_file",
    "out_of_memory",
    "gpu_memory",
    "disk_full",
    "cannot_start",
    "cancelled",
]
LUCK: list[Cause] = ["killed", "communication", "hang"]


def tries(*causes: Cause, saved: bool = True, host: str = "", seconds: int = 100) -> list[Try]:
    return [Try(number, cause, seconds * 1000, 0 if seconds == 0 else 1, 1, [host] if host else [], 0, host, saved=saved)
            for number, cause in enumerate(causes, 1)]  # fmt: skip


def judge(found: list[Try], spec: JobSpec = SPEC, resumes: bool = True, stays: bool = True) -> str:
    return verdict(spec, found, resumes=resumes, stays=stays)


@given(some.sampled_from(HOPELESS), some.booleans(), some.booleans(), some.integers(0, 9))
def test_what_would_fail_anywhere_is_never_tried_again(cause: Cause, saved: bool, resumes: bool, restarts: int) -> None:
    assert judge(tries(cause, saved=saved), JobSpec(["x"], max_restarts=restarts), resumes) == "over"


@given(some.lists(some.sampled_from([*LUCK, "unknown", "node_failure", "bad_node"]), min_size=12, max_size=20))
def test_nothing_is_tried_for_ever_that_saves_nothing(causes: list[Cause]) -> None:
    assert judge(tries(*causes, saved=False), RETRY) == "over"


def test_a_preempted_job_goes_on_where_it_can() -> None:
    assert judge(tries("preempted")) == "here" and judge(tries("preempted"), stays=False) == "again"
    assert judge(tries(*["preempted"] * 200), stays=False) == "again"


def test_a_time_limit_is_an_end_only_for_what_saves_nothing() -> None:
    assert judge(tries("time_limit"), stays=False) == "again"
    assert judge(tries("time_limit", saved=False), stays=False) == "over"
    assert judge(tries("time_limit", saved=False), JobSpec(["x"], total=1000), stays=False) == "again"
    assert judge(tries(*["time_limit"] * 10), JobSpec(["x"], total=900), stays=False) == "over"


def test_a_node_that_failed_is_left() -> None:
    assert judge(tries("node_failure", saved=False), resumes=False, stays=False) == "again"
    assert judge(tries("bad_node", host="n1")) == "again" and blamed(tries("bad_node", host="n1")) == ["n1"]


def test_a_program_that_accuses_every_node_is_not_sent_from_one_to_the_next() -> None:
    first, second = tries("bad_node", host="n1", saved=False), tries("bad_node", host="n2", saved=False)
    assert judge(first) == "again" and judge([*first, *second]) == "over"
    checked = [structs.replace(each, started=None) for each in (*first, *second)]
    assert judge(checked) == "again" and judge(tries("bad_node", "bad_node", host="n1", saved=False)) == "again"


def test_bad_luck_is_tried_where_it_was_and_then_elsewhere() -> None:
    for cause in LUCK:
        assert judge(tries(cause, host="n1")) == "here"
        assert judge(tries(cause, cause, host="n1")) == "again"
    assert judge(tries("killed"), resumes=False) == "over" and judge(tries("killed"), RETRY, resumes=False) == "here"
    assert blamed(tries("killed", "killed", host="n1")) == ["n1"] and blamed(tries("killed", "user_error", host="n1")) == []


def test_what_nobody_understands_gets_one_more_try_for_each_that_got_on() -> None:
    assert judge(tries("unknown")) == "here" and judge(tries("unknown", saved=False)) == "over"
    assert judge(tries("unknown"), resumes=False) == "over" and judge(tries("unknown", "unknown", saved=False), RETRY) == "here"


def test_nothing_goes_on_that_is_told_not_to() -> None:
    assert judge(tries("preempted"), JobSpec(["x"], retry="never")) == "over"


def test_a_warning_leaves_time_to_save_and_most_of_a_short_limit() -> None:
    assert lead(120, 1) == 30 and lead(40, 1) == 10 and lead(3600, 60) == 180 and lead(3600, 0) == 30
    assert lead(3600, 60, warn=600) == 600 and lead(3600, 0, warn=10) == 10 and lead(60, 0, warn=600) == 15


def test_what_is_left_of_a_total_time_is_no_slice_if_tasks_would_only_be_told_to_save() -> None:
    spec = JobSpec(["x"], time=3600, total=3600)
    assert judge(tries("time_limit", seconds=3575), spec, stays=False) == "over"
    assert judge(tries("time_limit", seconds=3500), spec, stays=False) == "again"
    assert verdict(spec, tries("time_limit", seconds=3500), resumes=True, stays=False, cost=60) == "over"


def test_the_time_between_failures_is_learned() -> None:
    assert mtbf([], 1) == 86_400 and mtbf([], 128) < 30_000
    assert mtbf(tries(*["killed"] * 9, seconds=3600), 1) < 20_000 < mtbf(tries(*["time_limit"] * 9, seconds=3600), 1)


def test_a_peer_is_lost_when_its_sign_stands_still() -> None:
    peers = Peers({1: "n1", 2: "n2"})
    assert peers.silent({1: 5, 2: 5}, 1) == "" and peers.silent({1: 6}, SILENCE) == ""
    assert peers.silent({1: 7, 2: 5}, SILENCE + 2) == "n2"
    late = Peers({1: "n1"})  # First asked after data were copied for long.
    assert late.silent({}, 5000) == late.silent({}, 4999 + PATIENCE) == "" and late.silent({}, 5001 + PATIENCE) == "n1"


def test_steps_hang_by_their_own_measure() -> None:
    steps = Steps(0)
    for second in range(10):
        steps.look(second, second * 2.0)
    assert steps.usual == 2 and not steps.stuck(18 + 59, 60) and steps.stuck(18 + 61, 60)
    assert (
        not steps.suspicious(18 + 299)
        and steps.suspicious(18 + 301)
        and not steps.stuck(18 + 1799, 0)
        and steps.stuck(18 + 1801, 0)
    )
    young = Steps(0)
    young.look(0, 0)
    assert not young.stuck(599, 60) and young.stuck(601, 60) and not young.stuck(1e6, 0)
