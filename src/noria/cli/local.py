"""The server that a command talks to: the one that is configured, or the local one, started if none runs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec

from noria import config, process
from noria.client.http import Server
from noria.config import Settings
from noria.errors import Unavailable
from noria.server import home
from noria.wire import spools

_START_SECONDS = 20.0


def connect(settings: Settings | None = None, *, start: bool = True) -> Server:
    """A server that answers. Raises Unavailable with the reason if there is none and none can be, or is to be, started."""
    settings = settings or config.load()
    folder = settings.folder
    if settings.server:
        who = home.holder(folder)
        ours = who is not None and who.url == settings.server.rstrip("/")
        return Server(settings.server, settings.token or (home.token(folder) if ours else ""))
    home.prepare(folder)
    token = home.token(folder)
    who = home.holder(folder)
    if who is None or not who.here:
        if not start:
            raise Unavailable("The local server is not running.", "Start it with `noria server`.")
        who = _start(settings, folder)
    return Server(who.url, token)


def _start(settings: Settings, folder: Path) -> home.Holder:
    log = folder / "server.log"
    env = {**os.environ, **_variables(settings), "NORIA_HOME": str(folder)}
    child = process.start(process.python("noria.cli.main", "server"), log=log, env=env, cwd="/")
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        who = home.holder(folder)
        if who is not None and who.here:  # Ours, or that of a command which was faster.
            print(f"noria: started the local server at {who.url}", file=sys.stderr)
            return who
        if child.poll() is not None and child.returncode and not _another_starts(folder):
            break
        time.sleep(0.01)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    raise Unavailable(f"The local server did not start: {last[0].removeprefix('noria: ')}", f"Its log is {log}.")


def _variables(settings: Settings) -> dict[str, str]:
    """The settings in force as NORIA_*: a server elsewhere than in this folder would not find ./noria.toml, and the list of
    processes, which would show flags, is everybody's to read."""
    given = {name: str(value) for name, value in msgspec.structs.asdict(settings).items() if value != ""}
    return {f"NORIA_{name.upper()}": value.lower() if value in ("True", "False") else value for name, value in given.items()}


def _another_starts(folder: Path) -> bool:
    """Whether somebody else holds the home just now and is about to answer."""
    last = (folder / "server.log").read_text(errors="replace").strip().splitlines()[-1:]
    return bool(last) and "is held by" in last[0]


def settle(server: Server, timeout: float = 10.0) -> None:
    """Wait until what scripts of this machine have logged by now can be read."""
    if not server.call(spools.FLUSH, spools.Flush(timeout)).done:
        print("noria: the relay is behind; some of what was logged last may be missing.", file=sys.stderr)
