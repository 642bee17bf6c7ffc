"""noria doctor"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.config import Settings


class Finding(Struct, frozen=True):
    """One thing that was looked at. `ok` is None for what is merely good to know."""

    what: str
    ok: bool | None
    says: str


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Say what is missing here, and how to mend it.

    Exit code 1 if something is broken.
    """
    from noria.cli import show

    findings = examine()
    if as_json:
        show.as_json({"findings": findings})
    else:
        marks = {True: "ok", False: "BROKEN", None: "-"}
        show.table(("WHAT", "", ""), [(each.what, marks[each.ok], each.says) for each in findings], "")
    sys.exit(1 if any(each.ok is False for each in findings) else 0)


def examine() -> list[Finding]:
    from noria import config

    settings = config.load()
    return [*_machine(), *_home(settings.folder), *_state(settings), *_server(settings), *_schedulers(), *_packages()]


def _machine() -> list[Finding]:
    from noria.hardware.probe import probe

    machine = probe()
    names = ", ".join(f"{gpu.name} ({gpu.memory / 2**30:.0f} GiB)" for gpu in machine.gpus) or "none found by nvidia-smi"
    return [
        Finding("machine", None, f"{machine.cpus} CPUs, {machine.memory / 2**30:.0f} GiB memory"),
        Finding("GPUs", None, names),
    ]


def _home(home: Path) -> list[Finding]:
    from noria.errors import NoriaError
    from noria.hardware.probe import free
    from noria.store.database import refuse_network

    room = free(home)
    enough = room > 2**30
    found = [
        Finding(
            "home", enough, f"{home}, {room / 2**30:.1f} GiB free" + ("" if enough else ": free some space, or set NORIA_HOME")
        )
    ]
    try:
        refuse_network(home)
    except NoriaError as error:
        found.append(Finding("file system", False, error.message))
    token = home / "token"
    if token.exists() and token.stat().st_mode & 0o077:
        found.append(Finding("token", False, f"{token} can be read by others: chmod 600 {token}"))
    damaged = sorted(home.rglob("*.damaged"))
    if damaged:
        found.append(Finding("spools", None, f"{len(damaged)} had damaged ends, which are kept: {damaged[0]}"))
    return found


def _state(settings: Settings) -> list[Finding]:
    """Where a server started here keeps what it knows, and what it promises."""
    if settings.server:
        return []
    kept = f"PostgreSQL at {_without_password(settings.db)}" if settings.db else "SQLite in the home"
    promise = "a power cut" if settings.durability == "power" else "the death of the server, not a power cut"
    found = [Finding("state", None, f"{kept}; what is answered survives {promise}")]
    if settings.db and not find_spec("psycopg"):
        found.append(Finding("psycopg", False, "not installed, and PostgreSQL needs it: pip install 'noria[postgresql]'"))
    return found


def _without_password(url: str) -> str:
    return re.sub(r"(?<=//)([^:/@]*):[^@]*@", r"\1:***@", url)


def _server(settings: Settings) -> list[Finding]:
    from noria.cli.local import connect
    from noria.errors import NoriaError
    from noria.server.home import holder
    from noria.wire import jobs

    who = holder(settings.folder)
    if not settings.server and (who is None or not who.here):
        return [Finding("server", None, "not running; the first command that needs it starts it")]
    try:
        server = connect(settings, start=False)
        server.call(jobs.LIST, jobs.List(limit=1))
    except NoriaError as error:
        return [Finding("server", False, error.message)]
    process = f" (process {who.pid})" if who is not None and who.url == server.url else ""
    return [Finding("server", True, f"answers at {server.url}{process}")]


def _schedulers() -> list[Finding]:
    from noria.jobs import clusters
    from noria.jobs.dialect import SCHEDULERS

    found = [name for name in SCHEDULERS.names() if clusters.answers(name)]
    return [Finding("schedulers", bool(found), ", ".join(found) or "none"), *map(_job_folders, {*found} - {clusters.LOCAL})]


def _job_folders(scheduler: str) -> Finding:
    """Whether nodes are likely to see what is written here for them."""
    from noria import config, mounts
    from noria.jobs import clusters

    folder = Path(clusters.named(scheduler).profile.home or config.load().folder).expanduser()
    kind = mounts.kind(folder)
    if kind in mounts.NETWORK:
        return Finding(f"jobs on {scheduler}", True, f"their folders are made in {folder}, which is shared ({kind})")
    return Finding(f"jobs on {scheduler}", None, f"their folders are made in {folder} ({kind}). If nodes do not see it: [profiles.{scheduler}] "
                   'home = "/a/shared/folder" in noria.toml')  # fmt: skip


def _packages() -> list[Finding]:
    cures = {
        "torch": "pip install 'noria[train]'",
        "optuna": "pip install 'noria[search]'",
        "mlflow": "only for scripts that use it",
        "pandas": "only for noria.search_runs",
    }
    return [Finding(name, None, "installed" if find_spec(name) else f"not installed ({cure})") for name, cure in cures.items()]
