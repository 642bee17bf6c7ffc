"""Where jobs can go: the schedulers that answer here, and the clusters that noria.toml names."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from msgspec import Struct

from noria import config, process
from noria.config import Profile
from noria.errors import Invalid
from noria.jobs.dialect import SCHEDULERS, Dialect
from noria.jobs.ssh import Connection
from noria.process import Answer
from noria.types import JobSpec

LOCAL = "local"
_PATIENCE = 5.0
"""Seconds that a scheduler has to answer whoever did not name one."""


class Cluster(Struct, frozen=True):
    """One place for jobs. name: its profile's, or that of its scheduler."""

    name: str
    scheduler: str
    profile: Profile

    @property
    def dialect(self) -> Dialect:
        return SCHEDULERS.get(self.scheduler)

    @property
    def is_named(self) -> bool:
        return self.name != self.scheduler

    @property
    def is_elsewhere(self) -> bool:
        """Whether an agent of its own takes its jobs, so that nothing there can be asked from here."""
        return bool(self.profile.ssh) or self.profile.agent

    def connection(self) -> Connection:
        """The connection to its login node, open; a person may be asked for a password or a code. Raises Unavailable."""
        connection = Connection(self.profile.ssh, config.load().folder)
        connection.open(ask=sys.stdin.isatty())
        return connection

    def run(self, argv: Sequence[str]) -> Answer:
        """Run one of this cluster's commands, where and as its profile says."""
        if self.profile.ssh:
            variables = [f"{name}={value}" for name, value in self.profile.variables.items()]
            return self.connection().run(["env", *variables, *argv] if variables else argv)
        return process.run(argv, env={**os.environ, **self.profile.variables})


def named(name: str) -> Cluster:
    """The cluster of a profile, or of a scheduler. Raises Invalid, with the names there are."""
    found = config.profile(name)
    known = config.profiles()
    scheduler = found.scheduler or name
    if not found.scheduler and name in known and name not in SCHEDULERS.names():
        raise Invalid(
            f"[profiles.{name}] in noria.toml does not say which scheduler it has.", 'Add scheduler = "slurm", "pbs" or "sge".'
        )
    if name not in known and name not in SCHEDULERS.names():
        names = ", ".join(sorted({*known, *SCHEDULERS.names()}))
        raise Invalid(
            f"There is no cluster '{name}'.", f"Use one of: {names}; or describe it in noria.toml, as [profiles.{name}]."
        )
    SCHEDULERS.get(scheduler)
    return Cluster(name, scheduler, found)


def chosen(name: str | None = None) -> Cluster:
    """The cluster that was named; else the one of the settings; else the one that answers here; else this machine."""
    wanted = name or config.load().on
    return named(wanted or found())


def must_reach(spec: JobSpec) -> None:
    """Raise Invalid if no agent that we know of could take this job: it would wait for ever, without a word."""
    if spec.agent or config.load().server:  # Somebody else's agent may reach it.
        return
    program = SCHEDULERS.get(spec.scheduler).NODES[0]
    if not shutil.which(program, path=spec.variables.get("PATH")):
        raise Invalid(f"--on {spec.place}: this machine has no {program}.",
                      f'Submit on a login node, or say in noria.toml how to get to one: [profiles.NAME], scheduler = "{spec.scheduler}", ssh = "LOGIN".')  # fmt: skip


def of(scheduler: str) -> Cluster:
    """The cluster for a job script of this scheduler: that of the settings, if it has it."""
    wanted = config.load().on
    usual = named(wanted) if wanted else None
    return usual if usual is not None and usual.scheduler == scheduler else named(scheduler)


def found() -> str:
    """The scheduler that answers on this machine, or LOCAL. Where one is installed and does not answer, a sentence says so."""
    here = [name for name in SCHEDULERS.own() if name != LOCAL and installed(name)]
    answering = [name for name in here if answers(name)]
    if len(answering) > 1:
        raise Invalid(
            f"{' and '.join(answering)} both answer here.", 'Choose one with --on, or for good with on = "…" in noria.toml.'
        )
    if here and not answering:
        print(
            f"noria: {' and '.join(here)} {'does' if len(here) == 1 else 'do'} not answer here, so this goes to this machine's own queue; --on says otherwise.",
            file=sys.stderr,
        )
    return answering[0] if answering else LOCAL


def installed(name: str) -> bool:
    """Whether this machine has its commands. Asking which costs nothing, and some have a namesake of another scheduler's."""
    return shutil.which(SCHEDULERS.get(name).NODES[0]) is not None


def answers(name: str) -> bool:
    return installed(name) and process.run(SCHEDULERS.get(name).PROBE, timeout=_PATIENCE).code == 0
