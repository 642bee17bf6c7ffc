"""How long a slice of a long run is: as values, and on a simulated queue that fills gaps with short jobs."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from statistics import mean

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from noria.jobs.slices import Wait, slice_time, waits_of
from noria.types import Job, JobSpec, JobState

HOUR = 3600
LIMIT, RUN, SAVE, START = 12 * HOUR, 5 * 24 * HOUR, 60, 120

WAITS = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e7)), max_size=20)


@given(st.integers(0, 10**6), st.integers(1, 10**7), st.floats(0, 1e5), st.floats(0, 1e5), WAITS)
def test_a_slice_is_never_longer_than_the_limit_or_what_remains(
    limit: int, remaining: int, save: float, start: float, seen: list[Wait]
) -> None:
    found = slice_time(limit, remaining, save, start, seen)
    assert isinstance(found, int) and 1 <= found <= remaining and (not limit or found <= limit)
    if save + start < min(limit or remaining, remaining) / 2:
        assert found >= save + start, "some of it is useful"


@given(st.integers(600, 10**6), st.integers(600, 10**7), st.lists(st.floats(0, 1e6), max_size=10), st.floats(0, 1e5))
def test_where_the_length_makes_no_difference_the_limit_is_asked_for(
    limit: int, remaining: int, lengths: list[float], waited: float
) -> None:
    assert slice_time(limit, remaining, 10, 10, [(length, waited) for length in lengths]) >= min(limit, remaining) * 0.5
    assert slice_time(limit, limit * 7, 10, 10, [(length, waited) for length in lengths]) == limit
    assert slice_time(limit, remaining, 10, 10, []) == min(limit, remaining)


def test_short_slices_where_long_ones_wait_for_days() -> None:
    seen = [(2 * HOUR, 300.0)] * 20 + [(12 * HOUR, 30.0 * HOUR)] * 20
    found = slice_time(LIMIT, RUN, SAVE, START, seen)
    assert HOUR < found < 5 * HOUR
    assert slice_time(LIMIT, RUN, 40 * 60, 40 * 60, seen) > found, "what is lost in each makes them longer"
    assert slice_time(LIMIT, RUN, SAVE, START, [(2 * HOUR, 300.0)] * 20 + [(12 * HOUR, 600.0)] * 20) == LIMIT


def test_few_observations_are_not_believed() -> None:
    chance = [(HOUR, 0.0), (12 * HOUR, 12.0 * HOUR)]
    assert slice_time(LIMIT, RUN, SAVE, START, chance) > LIMIT / 2
    assert slice_time(LIMIT, RUN, SAVE, START, chance * 30) < LIMIT / 2
    # A longer job that waited less by chance is no reason to ask for more than the rest has.
    assert slice_time(0, 6 * HOUR, SAVE, START, [(2 * HOUR, 5.0 * HOUR), (6 * HOUR, 1.0)] * 5) == 6 * HOUR


def test_a_rest_that_is_too_short_to_be_useful_is_asked_for_as_it_is() -> None:
    assert slice_time(LIMIT, 100, 300, 300, [(HOUR, 10.0)]) == 100 and slice_time(50, RUN, 60, 60, [(HOUR, 10.0)]) == 50


@given(st.integers(2 * HOUR, RUN), WAITS)
def test_the_order_of_what_was_seen_says_nothing(remaining: int, seen: list[Wait]) -> None:
    found = slice_time(LIMIT, remaining, SAVE, START, seen)
    assert abs(found - slice_time(LIMIT, remaining, SAVE, START, seen[::-1])) <= found * 0.2


def test_waits_are_those_of_jobs_that_waited_for_their_turn_alone() -> None:
    like = JobSpec(["train"], scheduler="slurm", queue="gpu", gpus=4, time=HOUR)

    def job(state: JobState, started: int | None = None, *, tries: int = 0, hold: str = "", **other: object) -> Job:
        return Job("1", "r", replace(like, **other), state, "ada", 1_000, started=started, tries=tries, hold=hold)

    asked = [
        job("COMPLETED", 61_000), job("RUNNING", 31_000, time=2 * HOUR), job("SUBMITTED"),
        job("QUEUED"), job("CANCELLED"), job("COMPLETED", 9_000, tries=2), job("SUBMITTED", hold="user"), job("COMPLETED", 9_000, after=["2"]),
        job("COMPLETED", 9_000, queue="cpu"), job("COMPLETED", 9_000, gpus=1), job("COMPLETED", 9_000, time=0), job("COMPLETED", 9_000, cluster="big"), job("COMPLETED", 9_000, total=RUN),
    ]  # fmt: skip
    assert waits_of(asked, like, 0, 101_000) == [(HOUR, 60.0), (2 * HOUR, 30.0), (HOUR, 100.0)]
    assert waits_of(asked, like, LIMIT, 101_000)[-1] == (LIMIT, 8.0), "one that names no time gets what the queue gives"


# ---- a queue that fills gaps with whoever does not delay the first that waits (EASY backfill)


class Queue:
    """Nodes, and jobs of others that come at random times. A few of them are small and of a group whose share is used up, as ours is:
    they come after all others, and start in the gaps before large jobs. It is their waits that are known."""

    def __init__(self, seed: int, load: float, size: int = 32) -> None:
        self.random, self.size, self.load = random.Random(seed), size, load
        self.now, self.free = 0.0, size
        self.running: list[tuple[float, float, int, int]] = []  # real end, requested end, number, nodes
        self.waiting: list[tuple[bool, int, int, float, float, float]] = []  # low, number, nodes, requested, real, since
        self.waits: list[Wait] = []
        self.count, self.next = 0, 0.0

    def submit(self, nodes: int, requested: float, real: float, *, low: bool) -> int:
        self.count += 1
        self.waiting.append((low, self.count, nodes, requested, real, self.now))
        self.waiting.sort()
        return self.count

    def known(self) -> list[Wait]:
        """How long those of the group waited that have started, and so far those that have not."""
        return self.waits[-200:] + [(requested, self.now - since) for low, _, _, requested, _, since in self.waiting if low]

    def _others(self) -> None:
        low = self.random.random() < 0.4
        nodes, requested = self.random.choice(SMALL if low else LARGE), min(LIMIT, HOUR * self.random.lognormvariate(1.0, 1.0))
        real = requested * self.random.uniform(0.3, 1.0)
        self.submit(nodes, requested, real, low=low)
        self.next = self.now + self.random.expovariate(1.0) * MEAN / (self.size * self.load)

    def step(self) -> int:
        """On to the next event: the number of the job that ended, 0 if one came."""
        ended = 0
        if self.running and self.running[0][0] <= self.next:
            self.now, _, ended, nodes = heapq.heappop(self.running)
            self.free += nodes
        else:
            self.now = self.next
            self._others()
        self._start()
        return ended

    def _start(self) -> None:
        while self.waiting and self.waiting[0][2] <= self.free:
            self._begin(self.waiting[0])
        if not self.waiting:
            return
        first, free, shadow = self.waiting[0][2], self.free, 0.0
        for end, nodes in sorted((requested, nodes) for _, requested, _, nodes in self.running):
            if free < first:
                free, shadow = free + nodes, end
        for each in self.waiting[1:]:
            _, _, nodes, requested, *_ = each
            if nodes <= self.free and (self.now + requested <= shadow or nodes <= free - first):
                free -= nodes if self.now + requested > shadow else 0
                self._begin(each)

    def _begin(self, job: tuple[bool, int, int, float, float, float]) -> None:
        low, number, nodes, requested, real, since = job
        self.waiting.remove(job)
        self.free -= nodes
        heapq.heappush(self.running, (self.now + real, self.now + requested, number, nodes))
        if low:
            self.waits.append((requested, self.now - since))


SMALL, LARGE = (1, 2), (4, 16, 32)
MEAN = 0.65 * HOUR * 4.2 * (0.4 * 1.5 + 0.6 * 52 / 3)
"""Node seconds of a job of others, about."""


def days(seed: int, ask: Callable[[int, Sequence[Wait]], int], load: float) -> float:
    """How many days a run of five takes: useful seconds count, and each slice loses its start and its checkpoint."""
    queue = Queue(seed, load)
    while queue.now < 10 * 24 * HOUR:  # Until it is as full as it stays.
        queue.step()
    began, left = queue.now, float(RUN)
    while left > 0:
        length = ask(int(left) + SAVE + START, queue.known())
        number = queue.submit(2, length, length, low=True)
        while queue.step() != number:
            pass
        left -= length - SAVE - START
    return (queue.now - began) / (24 * HOUR)


def gains(load: float) -> list[float]:
    """How many times longer the run takes with the limit always than with learned slices."""
    always = [days(seed, lambda left, _: min(LIMIT, left), load) for seed in range(8)]
    learned = [days(seed, lambda left, seen: slice_time(LIMIT, left, SAVE, START, seen), load) for seed in range(8)]
    return [one / other for one, other in zip(always, learned, strict=True)]


def test_on_a_busy_queue_learned_slices_end_sooner_than_the_limit() -> None:
    found = gains(0.9)
    assert mean(found) > 1.15 and min(found) > 0.95, found


def test_on_an_idle_queue_nothing_is_lost() -> None:
    found = gains(0.3)
    assert mean(found) > 0.98 and min(found) > 0.9, found
