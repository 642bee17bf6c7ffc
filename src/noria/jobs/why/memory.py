"""Memory that ran out, which nobody tells the task that is killed for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from noria.jobs.why.death import KILL, Death, Diagnosis, End, explains
from noria.jobs.why.reading import told
from noria.jobs.why.signs import WHY


def out_of_memory(death: Death, ends: Sequence[End]) -> Diagnosis | None:
    """Killed for memory: the kernel says so to the control group, and Slurm to its log, but nobody to the task."""
    first = explains(death, ends)
    if first is not None and first.word is not None and first.word.worth == WHY and first.word.cause != "user_error":
        return None
    who = next((end for end in ends if end.code == KILL and not end.late), first)
    said = [f"scheduler.log: {line.strip()}" for line in death.scheduler_log.splitlines() if _is_memory(line)][-1:]
    said += [f"scheduler: {death.word.reason}"] if death.word and _is_memory(death.word.reason) else []
    said += [f"control group: {death.oom_kills} killed for memory"] if death.oom_kills else []
    said += _over(death, who) if who else []
    if not said:
        return None
    mem = death.job.spec.mem
    says = f"It used more memory than {f'the {_size(mem)} that it asked for' if mem else 'it may'}."
    cure = f"Ask for more with --mem{f' {_size(2 * mem)}' if mem else ''}, or let each task take less: smaller batches, fewer workers."
    if who is None:
        return Diagnosis("out_of_memory", says, cure, evidence=said)
    return Diagnosis("out_of_memory", death.said(who, says), cure, who.rank, who.host, said)


def _is_memory(line: str) -> bool:
    word = told(line)
    return word is not None and word.cause == "out_of_memory"


def _over(death: Death, end: End) -> list[str]:
    """A task that was killed when it had about all that the job may have."""
    record, mem = death.record(end.rank), death.job.spec.mem
    if end.code != KILL or end.late or record is None or not record.peak or not mem or record.peak < 0.9 * mem:
        return []
    return [f"{death.node_file(end.rank)}: rank {end.rank} had {_size(record.peak)} of {_size(mem)} when it was killed"]


def _size(size: int) -> str:
    for unit, power in (("G", 30), ("M", 20)):
        if size >= 1 << power:
            return f"{round(size / (1 << power), 1):g}{unit}"
    return f"{size}"
