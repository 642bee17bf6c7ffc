"""Clusters behind a login node: what commands need before a job can go there."""

from __future__ import annotations

import os

from noria import config, process
from noria.agent.reach import Reach
from noria.cli.local import connect as server
from noria.errors import Invalid
from noria.jobs import clusters


def reach(name: str) -> Reach:
    cluster = clusters.named(name)
    if not cluster.profile.ssh:
        raise Invalid(
            f"Cluster '{name}' is reached without ssh.", f'Write ssh = "LOGIN" in [profiles.{name}] of noria.toml if it is not.'
        )
    return Reach(cluster, config.load().folder)


def connect(name: str) -> Reach:
    """Open the connection, asking whoever is there, and leave a process behind that keeps an agent at its other end."""
    found = reach(name)
    server()  # Its home must be there before the process that looks for it.
    found.cluster.connection()
    if not found.holder():
        # In this folder, since its noria.toml may be the one that knows the cluster.
        process.start(process.python("noria.cli.main", "cluster", "keep", name), log=found.log, env=os.environ, cwd=os.getcwd())
    return found


def disconnect(name: str) -> None:
    found = reach(name)
    pid = found.holder()
    if pid:
        process.end(pid, process.born(pid))
    found.connection.close()
