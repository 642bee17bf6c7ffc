"""Why one try of a job ended, from what its folder and its scheduler say. Pure: the launcher asks it on the node, and `noria why` again.

The rank that complains loudest is rarely the one that failed: when one dies, the others lose their connections to it, wait in vain,
or are ended by the launcher. So ranks are ordered by what their end is worth as an explanation, and by time only after that.
"""

from __future__ import annotations

from noria.jobs.why.death import Death, Diagnosis, endings
from noria.jobs.why.memory import out_of_memory
from noria.jobs.why.ranks import by_exit, by_ranks
from noria.jobs.why.scheduled import by_person, by_scheduler, never_ran, not_heard, own_limit
from noria.jobs.why.unsaid import unsaid


def diagnose(death: Death) -> Diagnosis:
    """What ended this try. Always an answer: `unknown` where nothing says it."""
    exit = death.exit
    if exit is not None and exit.code == 0:
        if death.lost:  # What ran there did not end, whatever the others say.
            return not_heard(death, death.lost, [])
        return Diagnosis("done", "It ended as it should.")
    ends = endings(death)
    told = by_person(death) or own_limit(death) or by_scheduler(death, ends) or never_ran(death)
    return told or out_of_memory(death, ends) or by_ranks(death, ends) or by_exit(death) or _silent(death)


def _silent(death: Death) -> Diagnosis:
    """Nothing says why."""
    code = death.exit.code if death.exit else death.word.exit_code if death.word else None
    if death.exit is None and death.job.spec.scheduler == "local":  # Whoever asks runs on that node, which lives.
        return Diagnosis("killed", "Its launcher was killed, or this machine was restarted.", "Submit it again.")
    if death.exit is None and code in (None, 1):
        return Diagnosis("node_failure", "Its launcher left no word: it was killed, or its node died.", "Submit it again.")
    cause, says, cure = unsaid(code or 0, "")
    return Diagnosis(cause, f"Its launcher: {says}" if death.exit is None else says, cure)
