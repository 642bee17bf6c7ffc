"""What is different in what two runs came to: bit by bit, how far, and from which step on. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

_TIMED = re.compile(
    r"(^|/)(system|time)/|(^|[/_.])(seconds?|secs|ms|duration|elapsed|eta|throughput|latency|time|fps|tflops|mfu)($|[/_.])|per_(sec|second|s)$"
)
_MADE = re.compile(r"(^|/)(MLmodel|noria\.digests\.json)$|/README\.md$|^noria/")


class Curve(Struct, frozen=True):
    """A metric's points in their order."""

    steps: list[int]
    values: list[float]


class Parted(Struct, frozen=True, omit_defaults=True):
    """A metric of two runs. same: bit for bit. absolute, relative: the largest difference at one point, and to the larger of both. first: the
    step at which they part. only: "old" or "new", if the other has none. timed: it is a clock's, which is never twice the same."""

    key: str
    same: bool
    points: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    first: int | None = None
    old: float | None = None
    new: float | None = None
    only: str = ""
    timed: bool = False


class Effect(Struct, frozen=True, omit_defaults=True):
    """same: whether all metrics that are no clock's are so bit for bit. artifacts: by path "same", "other", "old" or "new" (only there).
    seconds: how long each run took."""

    same: bool
    metrics: list[Parted]
    artifacts: dict[str, str] = {}
    seconds: tuple[float | None, float | None] = (None, None)

    @property
    def relative(self) -> float:
        """The largest difference of a metric that is no clock's."""
        return max(
            (math.inf if each.only else each.relative for each in self.metrics if not each.timed and not each.same), default=0.0
        )


def effect(
    old: Mapping[str, Curve], new: Mapping[str, Curve], artifacts: Mapping[str, str], seconds: tuple[float | None, float | None]
) -> Effect:
    """Metrics that part most come first."""
    met = [_parted(key, old.get(key), new.get(key)) for key in sorted({*old, *new})]
    met.sort(key=lambda each: (each.timed, each.same, -(math.inf if each.only else each.relative), each.key))
    return Effect(all(each.same for each in met if not each.timed), met, dict(artifacts), seconds)


def _parted(key: str, old: Curve | None, new: Curve | None) -> Parted:
    timed = bool(_TIMED.search(key))
    if old is None or new is None:
        return Parted(key, False, only="new" if old is None else "old", timed=timed)
    points = max(len(old.steps), len(new.steps))
    pairs = list(zip(old.steps, new.steps, old.values, new.values, strict=False))
    parts = [(a, x, y) for a, b, x, y in pairs if a != b or not _equal(x, y)]
    if not parts and len(old.steps) == len(new.steps):
        return Parted(key, True, points, timed=timed)
    longer = old if len(old.steps) > len(new.steps) else new
    first, one, two = parts[0] if parts else (longer.steps[len(pairs)], None, None)
    far = [_far(x, y) for _, x, y in parts]
    absolute, relative = max((each[0] for each in far), default=math.inf), max((each[1] for each in far), default=math.inf)
    return Parted(key, False, points, absolute, relative, first, one, two, timed=timed)


def _equal(one: float, two: float) -> bool:
    """Bit for bit; what is no number is like what is no number, and 0.0 is not -0.0."""
    if math.isnan(one) or math.isnan(two):
        return math.isnan(one) and math.isnan(two)
    return one == two and math.copysign(1.0, one) == math.copysign(1.0, two)


def _far(one: float, two: float) -> tuple[float, float]:
    if not (math.isfinite(one) and math.isfinite(two)):
        return (0.0, 0.0) if _equal(one, two) else (math.inf, math.inf)
    apart, size = abs(one - two), max(abs(one), abs(two))
    return apart, apart / size if size else 0.0


def judged(path: str) -> bool:
    """Whether a file is compared: Noria's own and MLflow's papers of a model name their run and its time."""
    return not _MADE.search(path)


def told(effect: Effect) -> list[str]:
    """In words, the shortest way first."""
    judged = [each for each in effect.metrics if not each.timed]
    points = sum(each.points for each in judged)
    if not judged:
        lines = ["no metrics to compare"]
    elif effect.same:
        lines = [f"same metrics bit for bit: {_count(len(judged), 'metric')}, {_count(points, 'point')}"]
    else:
        other = [each for each in judged if not each.same]
        lines = [f"{len(other)} of {len(judged)} metrics differ"]
        lines += [_line(each) for each in other[:20]]
    others = [path for path, how in effect.artifacts.items() if how != "same"]
    if effect.artifacts:
        same = len(effect.artifacts) - len(others)
        lines.append(
            f"{same} of {_count(len(effect.artifacts), 'file')} the same"
            + (f"; other: {', '.join(others[:5])}" if others else "")
        )
    old, new = effect.seconds
    if old is not None and new is not None:
        lines.append(f"took {new:.1f} s, before {old:.1f} s")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _line(each: Parted) -> str:
    if each.only:
        return f"  {each.key}: only the {'first' if each.only == 'old' else 'second'} run has it"
    if each.old is None or each.new is None:
        return f"  {each.key}: one run has more points, from step {each.first} on"
    return (f"  {each.key}: from step {each.first} on ({each.old!r} and {each.new!r} there), at most {each.absolute:.3g} apart, "
            f"relatively {each.relative:.2g}")  # fmt: skip


def digests_told(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """By path, how the files of two runs compare, by what each was hashed to."""
    paths: Sequence[str] = sorted({*old, *new})
    return {
        path: "new" if path not in old else "old" if path not in new else "same" if old[path] == new[path] else "other"
        for path in paths
    }
