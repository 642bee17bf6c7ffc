"""What its scheduler, its launcher or a person did to a try, so that none of its ranks is to blame. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from noria.jobs.why.death import Death, Diagnosis, End
from noria.jobs.why.reading import SCHEDULERS, Word, read, told
from noria.jobs.why.signs import ECHO
from noria.types import Cause, Job

_EARLY = 5
"""Seconds before its limit in which a stop means that limit: clocks begin at different moments."""


def by_person(death: Death) -> Diagnosis | None:
    if death.asked_stop:
        return Diagnosis("cancelled", "Somebody cancelled it.", "Submit it again if that was a mistake.")
    return None


def own_limit(death: Death) -> Diagnosis | None:
    """What the launcher itself decided."""
    reason, rank = (death.exit.reason, death.exit.rank) if death.exit else ("", None)
    word = told(reason)
    if word is None or word.cause not in ("time_limit", "hang"):
        return None
    rank = rank if word.cause == "hang" else None
    return Diagnosis(*_limit(death.job, word), rank, death.host(rank), [f"exit.json: {reason}"])


def _limit(job: Job, word: Word) -> tuple[Cause, str, str]:
    """With the limit that it had, and the next to try."""
    limit = job.spec.time
    if word.cause != "time_limit" or not limit:
        return word.cause, word.says, word.cure
    cure = f"Ask for more with --time {_clock(2 * limit)}, and save checkpoints so that it can go on."
    return word.cause, f"It reached its time limit of {_clock(limit)}.", cure


def _clock(seconds: int) -> str:
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def by_scheduler(death: Death, ends: Sequence[End]) -> Diagnosis | None:
    """What the scheduler did to it: it ends all ranks alike, so none of them failed. A rank that says why it failed was before it."""
    if death.exit is not None and any(end.weight == 0 for end in ends):
        return None
    for where, text in (("scheduler", death.word.reason if death.word else ""), ("scheduler.log", death.scheduler_log)):
        word = _ordered(text)
        if word is not None and word.cause == "node_failure":
            return not_heard(death, _gone(death), [f"{where}: {word.line}"])
        if word is not None:
            return Diagnosis(*_limit(death.job, word), evidence=[f"{where}: {word.line}"])
    if death.lost:
        return not_heard(death, death.lost, [])
    if death.word is not None and death.word.state == "CANCELLED":
        return Diagnosis("cancelled", "Somebody cancelled it in the scheduler.", "Submit it again if that was a mistake.")
    if _warned(death) and _at_limit(death):
        return Diagnosis(
            "time_limit",
            "It was told to stop when its time was over.",
            "Ask for more, and save checkpoints so that it can go on.",
        )
    if _warned(death):
        return Diagnosis("cancelled", "The scheduler told it to stop, and did not say why.", "Submit it again, or ask the site.")
    return None


def _warned(death: Death) -> bool:
    """Whether its tasks died of the signal by which a scheduler warns: some send it to all processes of a job."""
    codes = {each.code for node in death.nodes for each in node.ranks if each.code}
    return death.job.spec.scheduler != "local" and bool(codes) and codes <= {128 + signal.SIGUSR1, 128 + signal.SIGUSR2}


def _at_limit(death: Death) -> bool:
    """Whether it had used up its time, by the scheduler's clock, which may be in its script."""
    spec, ranks = death.job.spec, [each for node in death.nodes for each in node.ranks]
    asked = re.search(r"\b(?:h_rt|walltime)=(?:(\d+):)?(?:(\d+):)?(\d+)\b", "\n".join([*spec.raw, spec.script]))
    hours, minutes, seconds = (int(part or 0) for part in asked.groups()) if asked else (0, 0, 0)
    limit = spec.time or (hours * 3600 + minutes * 60 if asked and asked[2] else hours * 60) + seconds
    ran = max((each.ended or 0 for each in ranks), default=0) - min((each.started for each in ranks), default=0)
    return limit > 0 and ran > (limit - _EARLY) * 1000


def _ordered(text: str) -> Word | None:
    """A scheduler's word that it ended the job itself, the last one."""
    words = [word for line in text.splitlines() if (word := told(line)) and word.cause in SCHEDULERS]
    return words[-1] if words else None


def _gone(death: Death) -> list[str]:
    """The hosts that died: those that are not heard, or whose launcher said nothing of an end when that of another node did."""
    ended = [all(each.ended is not None for each in node.ranks) for node in death.nodes]
    return death.lost or ([node.host for node, done in zip(death.nodes, ended, strict=True) if not done] if any(ended) else [])


def not_heard(death: Death, hosts: Sequence[str], evidence: list[str]) -> Diagnosis:
    if not hosts:
        return Diagnosis(
            "node_failure", "A node of it went down.", "Submit it again: the scheduler leaves it out.", None, "", evidence
        )
    rank = min((each.rank for node in death.nodes if node.host in hosts for each in node.ranks), default=None)
    said = f"{hosts[0]} was not heard any more" if len(hosts) == 1 else f"{len(hosts)} nodes were not heard any more"
    lines = [f"node-{node.node}.json: last sign of {node.host}" for node in death.nodes if node.host in hosts]
    says = f"{said}: it died, or lost its network."
    return Diagnosis("node_failure", says, "Submit it again, without that node.", rank, hosts[0], [*evidence, *lines])


def never_ran(death: Death) -> Diagnosis | None:
    """A launcher that could start nothing, or was not started itself."""
    exit = death.exit
    if exit is not None and exit.rank is None and exit.reason:
        word = told(exit.reason)
        cause: Cause = word.cause if word else "cannot_start"
        cure = word.cure if word else "Look into logs/scheduler.log."
        return Diagnosis(cause, _sentence(exit.reason), cure, evidence=[f"exit.json: {exit.reason}"])
    if exit is None and not death.nodes:
        word = read(death.scheduler_log) or told(death.word.reason if death.word else "")
        if word and word.worth > ECHO:
            return Diagnosis(word.cause, word.says, word.cure, evidence=[f"scheduler.log: {word.line}"])
    return None


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
