"""Who waits for whom, in a job that runs and does not move: heartbeats, last steps and stacks. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from msgspec import Struct

from noria.jobs.folder import Node
from noria.jobs.why.answer import Why
from noria.types import Job


class Pace(Struct, frozen=True):
    """The steps that one rank has logged lately: (step, seconds since 1970), in their order."""

    points: list[tuple[int, float]]

    @property
    def step(self) -> int:
        return self.points[-1][0]

    @property
    def at(self) -> float:
        return self.points[-1][1]

    @property
    def usual(self) -> float:
        """Seconds between two of its records; 0 if there is but one."""
        gaps = [after[1] - before[1] for before, after in zip(self.points, self.points[1:], strict=False)]
        return median(gaps) if gaps else 0.0


class Frame(Struct, frozen=True):
    """Where a rank stands: the innermost line of its main thread that is not the interpreter's own waiting, and all functions above it."""

    where: str
    functions: list[str]


SILENT = 90.0
"""Seconds without a node's heartbeat, which comes every 15, after which it is not heard any more."""
_LEAST, _TIMES = 60.0, 20
"""A rank stands still after so many seconds, and after so many times what it usually takes from one record to the next."""
_TOGETHER = re.compile(
    r"all_?reduce|all_?gather|reduce_?scatter|broadcast|barrier|all_?to_?all|\brecv\b|\bsend\b|synchronize|wait_for_workers|_sync_|nccl|gloo|"
    r"work\.wait|wait_?tensor|process_group|monitored|allreduce|collective|join\b|_store"
)
"""Functions in which a rank waits for others."""
_FRAME = re.compile(
    r'File "(?P<file>[^"]+)", line (?P<line>\d+)(?:,)? in (?P<name>\S+)|^\s+(?P<name2>[\w.<>]+) \((?P<file2>[^():]+):(?P<line2>\d+)\)',
    re.MULTILINE,
)
_THREAD = re.compile(r"^(?:(?:Current )?[Tt]hread .*)$", re.MULTILINE)
_IDLE = ("selectors.py", "threading.py", "socket.py", "queue.py", "<frozen")


def explain(job: Job, nodes: Sequence[Node], paces: Mapping[int, Pace], stacks: Mapping[int, str], now: float) -> Why | None:
    """now: seconds since 1970. None if it moves, or nothing says that it does not."""
    quiet = [node for node in nodes if now - node.seen / 1000 > SILENT]
    if quiet:
        return _unheard(quiet, now)
    still = {rank: pace for rank, pace in paces.items() if _stands(pace, now)}
    ended = [each.rank for node in nodes for each in node.ranks if each.ended is not None]
    if (paces and not still) or not (paces or stacks):
        return None
    if paces and len(still) < len(paces) and not stacks:
        return None  # Some go on: ranks that do not work together, or that log seldom.
    frames = {rank: found for rank, text in stacks.items() if (found := stack(text))}
    return _elsewhere(job, nodes, still, frames, ended, now)


def _stands(pace: Pace, now: float) -> bool:
    return now - pace.at > max(_LEAST, _TIMES * pace.usual)


def _unheard(quiet: Sequence[Node], now: float) -> Why:
    hosts = ", ".join(node.host for node in quiet[:5])
    lines = [f"node-{node.node}.json: {node.host} was last heard {_span(now - node.seen / 1000)} ago" for node in quiet]
    first = min((each.rank for node in quiet for each in node.ranks), default=None)
    said = f"Nothing is heard of {hosts} any more: its node died, or the job's folder cannot be written from there."
    return Why(
        "stuck",
        said,
        "If it does not come back, cancel and submit again without that node.",
        "node_failure",
        first,
        quiet[0].host,
        lines,
    )


def _elsewhere(
    job: Job, nodes: Sequence[Node], still: Mapping[int, Pace], frames: Mapping[int, Frame], ended: Sequence[int], now: float
) -> Why:
    """The rank that the others wait for: by its stack, by its last step, or because it has ended."""
    lines = [f"rank {rank}: last step {pace.step}, {_span(now - pace.at)} ago" for rank, pace in sorted(still.items())][:8]
    lines += [f"stacks/rank{rank}.txt: in {frame.where}" for rank, frame in sorted(frames.items())][:8]
    odd, why = _odd(still, frames, ended, sum(len(node.ranks) for node in nodes))
    if odd is None:
        together = frames and all(waits(frame) for frame in frames.values())
        alone = len(still) == 1 and not frames
        said = "All ranks wait for each other." if together else "No rank has moved for long, and none is behind the others."
        said = "It has logged nothing for long, and only one rank logs: nothing says where the others are." if alone else said
        cure = (
            "Look at the line in which they wait: do all ranks call it equally often?"
            if together
            else "Look where they stand: py-spy dump --pid PID on the node."
        )
        return Why("stuck", said, cure, "hang", None, "", lines)
    host = next((node.host for node in nodes if any(each.rank == odd for each in node.ranks)), "")
    on = f" on {host}" if host and job.spec.nodes > 1 else ""
    others = max(len(still), len(frames)) - 1
    waits = f", and {others} other{'s' if others != 1 else ''} wait{'s' if others == 1 else ''} for it" if others > 0 else ""
    said = f"Rank {odd}{on} {why}{waits}."
    return Why("stuck", said, f"See what it did last: noria logs {job.id[:8]}:{odd}", "hang", odd, host, lines)


def _odd(still: Mapping[int, Pace], frames: Mapping[int, Frame], ended: Sequence[int], ranks: int) -> tuple[int | None, str]:
    if ended and len(ended) < max(len(still), len(frames), 1):
        return ended[0], "has ended already"
    if len(frames) == ranks == 1 and not still:
        rank, frame = next(iter(frames.items()))
        return rank, f"is in {frame.where}"
    busy = [rank for rank, frame in frames.items() if not waits(frame)]
    if frames and 0 < len(busy) < len(frames):
        return busy[0], f"is elsewhere, in {frames[busy[0]].where}"
    places = Counter(frame.where for frame in frames.values())
    if len(places) > 1 and (rare := min(places.values())) < max(places.values()):
        rank = next(rank for rank, frame in sorted(frames.items()) if places[frame.where] == rare)
        return rank, f"is elsewhere, in {frames[rank].where}"
    steps = {rank: pace.step for rank, pace in still.items()}
    if steps and min(steps.values()) < max(steps.values()):
        behind = min(steps, key=lambda rank: (steps[rank], rank))
        return behind, f"is behind, at step {steps[behind]} of {max(steps.values())}"
    if len(steps) == ranks == 1:
        rank = next(iter(steps))
        return rank, f"has not moved since step {steps[rank]}" + (f", and is in {frames[rank].where}" if rank in frames else "")
    return None, ""


def waits(frame: Frame) -> bool:
    return any(_TOGETHER.search(name) for name in frame.functions[:6])


def stack(text: str) -> Frame | None:
    """The main thread of what faulthandler, py-spy or traceback printed; the innermost line first."""
    found = [_named(match) for match in _FRAME.finditer(_main(text))]
    if "most recent call last" in text:
        found.reverse()
    own = [each for each in found if not any(idle in each[1] for idle in _IDLE)] or found
    if not own:
        return None
    name, file, line = own[0]
    return Frame(f"{name} ({file.rpartition('/')[2]}:{line})", [each[0] for each in own])


def _named(match: re.Match[str]) -> tuple[str, str, str]:
    said = match.groupdict()
    return said["name"] or said["name2"], said["file"] or said["file2"], said["line"] or said["line2"]


def _main(text: str) -> str:
    """The part about the main thread: py-spy names it, faulthandler puts it last."""
    starts = [match.start() for match in _THREAD.finditer(text)] or [0]
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    return next((part for part in parts if "MainThread" in part.partition("\n")[0]), parts[-1])


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"
