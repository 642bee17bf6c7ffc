"""What `noria why` answers, whatever state a job is in."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.jobs.dialect import Other
from noria.types import Cause, Try

Kind = Literal["done", "failed", "cancelled", "waiting", "held", "running", "stuck", "slow"]


class Why(Struct, frozen=True):
    """reason: one sentence or two. cure: the smallest change that helps, "" if none is needed. evidence: lines as they stand, and where.

    others: the jobs that have, or wait before it for, what it wants. shares: of the time of a step, what goes where, from 0 to 1.
    start: when it may start, in milliseconds since 1970.
    """

    kind: Kind
    reason: str
    cure: str = ""
    cause: Cause | None = None
    rank: int | None = None
    host: str = ""
    evidence: list[str] = []
    others: list[Other] = []
    shares: dict[str, float] = {}
    start: int | None = None
    tries: list[Try] = []
