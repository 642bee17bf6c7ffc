"""Asynchronous trials: an algorithm suggests, jobs run, and successive halving ends those that fall behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from noria.client.http import Server
from noria.process import whoami
from noria.search.algorithms import ALGORITHMS
from noria.search.halving import decide
from noria.search.space import Direction, Space, Trial, Value
from noria.types import ENDED, Job, JobSpec
from noria.wire import jobs, runs

_TICK = 0.2


class Plan(Struct, frozen=True):
    """What to search and how. `metric` is logged once for each unit of length (epoch); `rungs` are lengths at which trials are compared."""

    space: Space
    metric: str
    trials: int
    at_once: int
    rungs: Sequence[int]
    eta: int = 3
    direction: Direction = "minimize"
    algorithm: str = "tpe"
    seed: int = 0


class Attempt(Struct, frozen=True):
    """One trial and its job. `curve` holds the metric's values, one per unit of length."""

    number: int
    params: dict[str, Value]
    job: Job
    curve: Sequence[float] = ()
    stopped: bool = False

    @property
    def ended(self) -> bool:
        return self.job.state in ENDED

    def trial(self, direction: Direction) -> Trial:
        """What the algorithm learns from it. A trial that was stopped early counts with the best that it reached."""
        if not self.ended:
            return Trial(self.params)
        if not self.curve or (self.job.state != "COMPLETED" and not self.stopped):
            return Trial(self.params, "failed")
        return Trial(self.params, "done", best(self.curve, direction))


def best(curve: Sequence[float], direction: Direction) -> float:
    return max(curve) if direction == "maximize" else min(curve)


def tune(
    server: Server, plan: Plan, spec: Callable[[int, dict[str, Value]], JobSpec], tell: Callable[[Sequence[Attempt]], None]
) -> list[Attempt]:
    """Run all trials, `at_once` at a time, and return them as they ended.

    spec: the job of a trial, from its number and parameters. tell: called whenever something changed. A trial that fails
    is counted and the search goes on.
    """
    attempts: list[Attempt] = []
    while True:
        while len(attempts) < plan.trials and sum(not each.ended for each in attempts) < plan.at_once:
            attempts.append(_start(server, plan, spec, attempts))
        looked = [each if each.ended else _look(server, plan, each, attempts) for each in attempts]
        if looked != attempts:
            attempts = looked
            tell(attempts)
        if len(attempts) == plan.trials and all(each.ended for each in attempts):
            return attempts
        time.sleep(_TICK)


def _start(server: Server, plan: Plan, spec: Callable[[int, dict[str, Value]], JobSpec], attempts: Sequence[Attempt]) -> Attempt:
    history = [each.trial(plan.direction) for each in attempts]
    params = ALGORITHMS.get(plan.algorithm).suggest(plan.space, history, plan.seed, plan.direction)
    number = len(attempts)
    job = server.call(jobs.SUBMIT, jobs.Submit(spec(number, params), whoami())).job
    return Attempt(number, params, job)


def _look(server: Server, plan: Plan, attempt: Attempt, attempts: Sequence[Attempt]) -> Attempt:
    """The attempt as it is now; told to stop if it fell behind."""
    job = server.call(jobs.GET, jobs.Key(attempt.job.id)).job
    curve = [float(value) for value in server.call(runs.CURVE, runs.Curve(job.run_id, plan.metric)).values]
    attempt = replace(attempt, job=job, curve=curve)
    if attempt.ended or attempt.stopped:
        return attempt
    others = [each.curve for each in attempts if each.number != attempt.number]
    # A rung may have been passed between two looks: the curve is judged as it stood there.
    behind = any(
        decide(curve[:rung], others, plan.rungs, eta=plan.eta, direction=plan.direction) == "stop"
        for rung in plan.rungs
        if len(curve) >= rung
    )
    if behind:
        server.call(jobs.CANCEL, jobs.Cancel(job.id, f"stopped early: behind other trials after {len(curve)} epochs"))
    return replace(attempt, stopped=behind)
