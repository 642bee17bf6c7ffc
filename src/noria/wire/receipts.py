"""Receipts: what jobs were given, and what became of it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.types import JobState
from noria.wire.endpoint import OWN, Endpoint


class Spent(Struct, frozen=True):
    """Seconds of a device, summed over devices, by what it did meanwhile. `queue` is what it was not given yet; the others add up to
    what it was given. `lost` is work that had to be done again, `unused` are devices that no process ever opened."""

    queue: float = 0.0
    startup: float = 0.0
    data: float = 0.0
    compute: float = 0.0
    communication: float = 0.0
    checkpoint: float = 0.0
    lost: float = 0.0
    idle: float = 0.0
    unused: float = 0.0

    @property
    def given(self) -> float:
        return float(sum(getattr(self, name) for name in self.__struct_fields__)) - self.queue

    @property
    def effective(self) -> float:
        """The share of what was given that went into steps which count."""
        return (self.data + self.compute + self.communication) / self.given if self.given else 0.0


class Needs(Struct, frozen=True):
    """As a JobSpec asks: seconds, bytes per node, GPUs per node, CPUs per task; 0 where nobody knows."""

    time: float = 0.0
    mem: int = 0
    gpus: int = 0
    cpus: float = 0.0


class Receipt(Struct, frozen=True):
    """Of one job. What is counted are GPUs, or CPUs if it has none. `seconds` is how long it had them, all tries together, and `steps`
    says whether its program told where its time went. `joules` are those of its GPUs, measured for the share `metered` of the time;
    None if nothing was measured. `last` is why its last try ended, if that is known."""

    job: str
    run_id: str
    name: str
    user: str
    experiment: str
    state: JobState
    counts: Literal["GPU", "CPU"]
    devices: int
    seconds: float
    tries: int
    spent: Spent
    steps: bool
    asked: Needs
    used: Needs
    joules: float | None = None
    metered: float = 0.0
    last: str = ""
    effective: float = 0.0


class Ask(Struct, frozen=True):
    """Of a job or the members of an array, or of all jobs of a user or an experiment that have not ended before `since`
    (milliseconds since 1970), newest first."""

    id: str = ""
    user: str = ""
    experiment: str = ""
    since: int = 0
    token: str = ""


class Receipts(Struct, frozen=True):
    """A page; `next_token` asks for the next one, if it is not empty."""

    receipts: list[Receipt]
    next_token: str = ""


class Idle(Struct, frozen=True):
    pass


class Idling(Struct, frozen=True):
    """Of running jobs that leave GPUs idle, by id: a sentence."""

    jobs: dict[str, str]


RECEIPTS = Endpoint("GET", f"{OWN}/receipts", Ask, Receipts)
IDLE = Endpoint("GET", f"{OWN}/receipts/idle", Idle, Idling)
