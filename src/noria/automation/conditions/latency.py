"""The candidate answers fast enough, as its evaluation measured it."""

from __future__ import annotations

from math import inf

from noria.automation.conditions import Evidence, Verdict
from noria.errors import Invalid


def judge(evidence: Evidence, *, p50_ms: float = inf, p99_ms: float = inf, examples_per_second: float = 0.0) -> Verdict:
    """Passes if half (p50) and 99 % (p99) of single predictions take at most so many milliseconds, and batches reach that throughput.

    Raises Invalid if nothing was measured, or no budget is given.
    """
    wanted = {name: limit for name, limit in (("p50_ms", p50_ms), ("p99_ms", p99_ms)) if limit != inf}
    wanted |= {"examples_per_second": examples_per_second} if examples_per_second else {}
    if not wanted:
        raise Invalid("The condition latency was given no budget.", "Give p50_ms, p99_ms or examples_per_second.")
    missing = [name for name in wanted if name not in evidence.cost]
    if missing:
        raise Invalid(f"{missing[0]} of the candidate was not measured.", "Give a held-out file, with --held-out or in the gate.")
    over = [name for name, limit in wanted.items() if not _within(name, evidence.cost[name], limit)]
    said = "; ".join(_said(name, evidence.cost[name], limit) for name, limit in wanted.items())
    figures = {**{name: evidence.cost[name] for name in wanted}, **{f"budget_{name}": limit for name, limit in wanted.items()}}
    return Verdict(not over, f"The candidate is {'too slow' if over else 'fast enough'}: {said}.", figures)


def _within(name: str, value: float, limit: float) -> bool:
    return value >= limit if name == "examples_per_second" else value <= limit


def _said(name: str, value: float, limit: float) -> str:
    if name == "examples_per_second":
        return f"{value:.4g} examples/s in batches, at least {limit:g} wanted"
    return f"{name.removesuffix('_ms')} of single predictions {value:.4g} ms, at most {limit:g} ms allowed"
