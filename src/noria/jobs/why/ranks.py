"""The rank whose end explains those of the others, or what its log says alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import structs

from noria.jobs.why.death import LATE, Death, Diagnosis, End, explains
from noria.jobs.why.reading import Word, read
from noria.jobs.why.signs import ECHO, LOST, UNMET, WHY
from noria.jobs.why.starters import Inner, inner
from noria.jobs.why.unsaid import unsaid
from noria.types import Cause, Job

_TIMED = re.compile(r"(?i)time[d]?[ -]?out|timeout|watchdog|monitoredBarrier|joined")
_NAMED = re.compile(
    r"(?i)timed out task names:\s+\S*?task:(\d+)|\branks? \[?(\d+)\]?(?=[^.]{0,20}(?:failed to (?:pass|join|respond|reach)|did not (?:join|respond|reach)|has not joined|is unresponsive))"
)
_MOST = 5
"""Lines of evidence."""


def by_ranks(death: Death, ends: Sequence[End]) -> Diagnosis | None:
    """The rank whose end explains those of the others."""
    first = explains(death, ends)
    if first is None:
        return None
    word = first.word
    if word is None or _is_empty(word, death.logs.get(first.rank, "")):
        return _unsaid(death, first)
    if word.cause == "communication":
        return _communication(death, ends, first, word)
    cause, says, cure = _fitting(death.job, word)
    within = inner(death.logs.get(first.rank, ""))
    rank, host = _started(death, first, within) if within else (first.rank, first.host)
    return Diagnosis(
        cause, death.said(structs.replace(first, rank=rank, host=host), says), cure, rank, host, _evidence(death, first)
    )


def _is_empty(word: Word, log: str) -> bool:
    """Whether it only says that something within it ended, which its starter tells better."""
    return (word.worth == ECHO and word.cause == "user_error") or (word.worth < WHY and inner(log) is not None)


def _communication(death: Death, ends: Sequence[End], first: End, word: Word) -> Diagnosis:
    """Who waits names whom it waits for: the rank that is not among those who complain."""
    absent = _absent(death, ends, first)
    if absent is None:
        cause, says, cure = _fitting(death.job, word)
        return Diagnosis(cause, death.said(first, says), cure, first.rank, first.host, _evidence(death, first))
    rank, why = absent
    host = death.host(rank)
    says = f"Rank {rank}{death.on(host)} {why}, and rank {first.rank} waited for it in vain."
    cure = f"Look at what that rank did last: noria logs {death.job.id[:8]}:{rank}"
    return Diagnosis("communication", says, cure, rank, host, _evidence(death, first))


def _absent(death: Death, ends: Sequence[End], first: End) -> tuple[int, str] | None:
    """The rank that others waited for, if they waited for one."""
    if first.word is None or first.word.says not in (LOST, UNMET):
        return None
    texts = "\n".join(text[-8192:] for text in death.logs.values())
    if named := _NAMED.search(texts):
        return int(named[1] or named[2]), "did not come"
    complain = {end.rank for end in ends if end.word is not None and end.word.cause == "communication"}
    finished = [each for node in death.nodes for each in node.ranks if each.code == 0 and (each.ended or 0) <= first.ended + LATE]
    if finished and finished[0].rank not in complain:
        return finished[0].rank, "had ended by itself before the others"
    silent = sorted({each.rank for node in death.nodes for each in node.ranks} - complain)
    if _TIMED.search(first.word.line) and len(silent) == 1:
        return silent[0], "did not take part"
    return None


def _fitting(job: Job, word: Word) -> tuple[Cause, str, str]:
    """The same words mean another thing in a job that asked for no GPU, or that has a file system of its own."""
    if word.cause == "bad_node" and "no GPU" in word.says and not job.spec.gpus and "gpu" not in " ".join(job.spec.raw):
        return "user_error", "It asked for no GPU, and the program wants one.", "Ask for one with --gpus 1."
    if word.cause == "bad_node" and "only be read" in word.says and job.spec.environment.image:
        return "user_error", "It writes into its image, which can only be read.", "Write to the job's folder, or to $TMPDIR."
    if word.says == LOST and job.spec.world_size == 1:
        return word.cause, "It lost its connection to another program or a server.", "Look at how that one ended, or try again."
    return word.cause, word.says, word.cure


def _unsaid(death: Death, first: End) -> Diagnosis:
    """An end without a word in the log, but for that of a program which started the one that ended."""
    log = death.logs.get(first.rank, "")
    within = inner(log)
    code = first.code if within is None or within.code is None else within.code
    cause, says, cure = unsaid(code, log)
    if within is None:
        return Diagnosis(cause, death.said(first, says), cure, first.rank, first.host, _evidence(death, first))
    says = f"Rank {within.rank} of {within.starter}{f' on {within.host}' if within.host else ''}: {says}"
    rank, host = _started(death, first, within)
    return Diagnosis(cause, says, cure, rank, host, _evidence(death, first))


def _started(death: Death, first: End, within: Inner) -> tuple[int, str]:
    """mpirun's ranks are the job's own; what others start, Noria does not number."""
    if within.starter not in ("mpirun", "mpiexec") or death.job.spec.world_size == 1:
        return first.rank, first.host
    node = within.rank // max(1, death.job.spec.tasks_per_node)
    return within.rank, next((each.host for each in death.nodes if each.node == node), within.host)


def by_exit(death: Death) -> Diagnosis | None:
    """Where no rank has left a record: what the logs say by themselves, and what the launcher took from them."""
    texts = dict(sorted(death.logs.items()))
    if death.exit is not None and death.exit.last:
        texts.setdefault(death.exit.rank or 0, "\n".join(death.exit.last))
    words = [(rank, word) for rank, text in texts.items() if (word := read(text)) and word.worth > ECHO]
    if words:
        rank, word = max(words, key=lambda pair: pair[1].worth)
        cause, says, cure = _fitting(death.job, word)
        return Diagnosis(cause, says, cure, rank, death.host(rank), [f"rank{rank}.log: {word.line}"])
    return None


def _evidence(death: Death, end: End) -> list[str]:
    """The line that decided, or the log's last ones, and how the task ended."""
    log = [line.strip() for line in death.logs.get(end.rank, "").splitlines() if line.strip()]
    said = [f"rank{end.rank}.log: {line[:300]}" for line in ([end.word.line] if end.word else log[-_MOST:])]
    return [*said, f"{death.node_file(end.rank)}: rank {end.rank} ended with {_coded(end.code)}"]


def _coded(code: int) -> str:
    return f"signal {code - 128}" if code > 128 else f"exit code {code}"
