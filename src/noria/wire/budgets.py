"""Budgets: how many GPU-hours or CPU-hours the jobs of a user or of a project may take."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.types import Name
from noria.wire.endpoint import OWN, Empty, Endpoint

Whose = Literal["user", "project"]
Counts = Literal["GPU", "CPU"]
Per = Literal["week", "month", "total"]


class Budget(Struct, frozen=True):
    """A project is an experiment. Jobs without GPUs are counted in CPU-hours, others in GPU-hours; weeks and months are UTC's."""

    whose: Whose
    name: Name
    counts: Counts
    hours: float
    per: Per = "month"


class Standing(Struct, frozen=True):
    """What is used of a budget, by whom, in hours. `promised` is what jobs that wait or run may still take until their time limits; `resets`
    is when it begins anew, in milliseconds since 1970, 0 for never."""

    budget: Budget
    used: float
    promised: float
    jobs: int
    users: dict[str, float]
    resets: int = 0


class Set(Struct, frozen=True):
    """In place of the one that this user or project has for these devices."""

    budget: Budget


class Remove(Struct, frozen=True):
    """All budgets of a user or a project."""

    whose: Whose
    name: Name


class List(Struct, frozen=True):
    pass


class Listed(Struct, frozen=True):
    budgets: list[Standing]


SET = Endpoint("POST", f"{OWN}/budgets", Set, Listed)
LIST = Endpoint("GET", f"{OWN}/budgets", List, Listed)
REMOVE = Endpoint("POST", f"{OWN}/budgets/remove", Remove, Empty)
