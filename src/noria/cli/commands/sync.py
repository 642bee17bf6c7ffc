"""noria sync"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server


class Synced(Struct):
    """What was delivered, what was damaged, and what is left, in bytes but for `spools`, `runs`, `records` and `places`."""

    spools: int
    runs: int
    records: int
    bytes: int
    damaged: int
    places: int
    left: int


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="[FOLDER]...")
@click.option("--server", help="URL of the server.", show_default="the local one")
@click.option("--token", help="What the server asks for.", show_default="NORIA_TOKEN, or the local server's")
@click.option("--ended", is_flag=True, help="Nobody writes there any more: end what is open, set torn ends aside.")
@json_option
def command(folders: tuple[Path, ...], server: str | None, token: str | None, ended: bool, as_json: bool) -> None:
    """Ship spools by hand.

    Such as: noria sync jobs/4711 --server http://noria:8080. FOLDER is a job's folder, a folder of spools, or one spool, on any machine that sees it; without one, it is this home. What the server has is not sent again. Exit code 1 if something is left.
    """
    from noria import config
    from noria.cli import show
    from noria.cli.local import connect

    settings = config.load({"server": server, "token": token})
    spools = _spools(folders or (settings.folder,))
    done = sync(connect(settings), spools, ended=ended)
    if as_json:
        show.as_json(done)
    else:
        click.echo(f"noria: {_sentence(done)}", err=True)
    sys.exit(1 if done.left else 0)


def _spools(folders: tuple[Path, ...]) -> list[Path]:
    from noria.client import read
    from noria.errors import NotFound

    found: list[Path] = []
    for folder in folders:
        spools = read.below(folder)
        if not spools:
            raise NotFound(f"There is no spool in {folder}.", "Name a job's folder, a folder of spools, or a .spool file.")
        found += spools
    return found


def sync(server: Server, paths: list[Path], *, ended: bool) -> Synced:
    """Ship these spools, with a bar on a terminal."""
    from noria.agent.relay import Done, Relay
    from noria.client import read

    total, runs = Synced(len(paths), 0, 0, 0, 0, 0, 0), set()
    sizes = [path.stat().st_size for path in paths]
    bar = click.progressbar(length=sum(sizes), label="shipping", file=sys.stderr) if sys.stderr.isatty() else nullcontext()

    def told(done: Done) -> None:
        runs.add(done.run_id)
        total.records, total.bytes, total.damaged = (
            total.records + done.records,
            total.bytes + done.size,
            total.damaged + done.damaged,
        )
        total.places += bool(done.damaged)
        if shown is not None:
            shown.update(done.size + done.damaged)

    with bar as shown:
        relay, before = Relay(server, told), 0
        for path, size in zip(paths, sizes, strict=True):
            relay.ship([path])
            relay.finish(path, over=ended or read.is_over(path))
            total.left += relay.left(path)
            before += size
            if shown is not None:
                shown.update(max(0, before - shown.pos))  # What the server had already.
    total.runs = len(runs)
    return total


def _sentence(done: Synced) -> str:
    sent, read = (_count(done.records, "record"), _count(done.runs, "run")), _count(done.spools, "spool")
    parts = [f"shipped {sent[0]} of {sent[1]}, {_count(done.bytes, 'byte')}, from {read}"]
    if done.damaged:
        parts.append(f"{_count(done.damaged, 'byte')} in {_count(done.places, 'place')} were damaged and are kept beside them")
    if done.left:
        parts.append(f"{_count(done.left, 'byte')} are left: refused, as said above, or still being written (--ended if not)")
    return "; ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
