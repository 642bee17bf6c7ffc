"""noria doctor"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click
from msgspec import Struct

from noria.cli.show import json_option


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
    return [*_machine(), *_home(settings.folder), *_server(settings.folder), *_schedulers(), *_packages()]


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


def _server(home: Path) -> list[Finding]:
    from noria.client.http import Server
    from noria.errors import NoriaError
    from noria.server.home import holder, token
    from noria.wire import jobs

    who = holder(home)
    if who is None or not who.here:
        return [Finding("server", None, "not running; the first command that needs it starts it")]
    try:
        Server(who.url, token(home)).call(jobs.LIST, jobs.List(limit=1))
    except NoriaError as error:
        return [Finding("server", False, error.message)]
    return [Finding("server", True, f"answers at {who.url} (process {who.pid})")]


def _schedulers() -> list[Finding]:
    from noria import process
    from noria.jobs.launch import SCHEDULERS

    found = [name for name in SCHEDULERS.names() if process.run(SCHEDULERS.get(name).PROBE, timeout=10).code == 0]
    return [Finding("schedulers", bool(found), ", ".join(found) or "none")]


def _packages() -> list[Finding]:
    cures = {
        "torch": "pip install 'noria[train]'",
        "optuna": "pip install 'noria[search]'",
        "mlflow": "only for scripts that use it",
    }
    return [Finding(name, None, "installed" if find_spec(name) else f"not installed ({cure})") for name, cure in cures.items()]
