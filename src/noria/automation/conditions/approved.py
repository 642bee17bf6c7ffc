"""Somebody who did not make the candidate has said yes to it."""

from __future__ import annotations

from noria.automation.conditions import Evidence, Verdict
from noria.errors import Invalid


def judge(evidence: Evidence, *, by: tuple[str, ...] = (), count: int = 1) -> Verdict:
    """Passes if `count` people, of those in `by` if any are named there, have approved it; the author's own yes never counts.

    Raises Invalid if nobody knows who the author is.
    """
    if not evidence.authors:
        raise Invalid(
            "Nobody knows who made the candidate, so nobody can be known not to have.",
            "Register it from a run, which has a user.",
        )
    given = sorted({user for user in evidence.approvals if user not in evidence.authors and (not by or user in by)})
    own = sorted({*evidence.approvals} & {*evidence.authors})
    passed = len(given) >= count
    said = f"approved by {', '.join(given)}" if given else "approved by nobody else"
    author = f"{', '.join(evidence.authors)} made it" + (", and nobody approves their own" if own else "")
    wanted = f", {count} of {', '.join(by)} wanted" if by else f", {count} wanted" if count > 1 or not passed else ""
    return Verdict(
        passed, f"The candidate is {said}{wanted} ({author}).", {"approvals": float(len(given)), "count": float(count)}
    )
