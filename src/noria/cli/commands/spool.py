"""noria spool"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from msgspec import Struct

from noria.cli.show import json_option
from noria.wire.spools import State


class Verified(Struct, frozen=True):
    """One spool as it lies there. `damaged`: from which byte to which nothing can be read."""

    path: str
    run_id: str
    records: int
    bytes: int
    state: State
    damaged: list[tuple[int, int]]


@click.group()
def command() -> None:
    """Look at what scripts have written for the relay."""


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Say whether every record of spools can be read.

    FOLDER is a job's folder, a folder of spools, or one spool. A spool is whole; open: more may come; torn: its last record is cut short; or damaged. Exit code 1 if one is damaged.
    """
    from noria.cli import show
    from noria.client import read
    from noria.errors import NotFound

    paths = read.below(folder)
    if not paths:
        raise NotFound(f"There is no spool in {folder}.", "Name a job's folder, a folder of spools, or a .spool file.")
    found = [look(path) for path in paths]
    if as_json:
        show.as_json({"spools": found})
    else:
        rows = [
            (Path(each.path).name, each.run_id[:8] or "-", f"{each.records:,}", f"{each.bytes:,}", _words(each)) for each in found
        ]
        show.table(("SPOOL", "RUN", "RECORDS", "BYTES", "STATE"), rows, "")
    sys.exit(1 if any(each.state == "damaged" for each in found) else 0)


def look(path: Path) -> Verified:
    """Read a spool from its beginning to its end."""
    from msgspec import MsgspecError

    from noria.client import disk, read
    from noria.wire import spools

    records, damaged, torn, run_id = 0, [], False, ""
    with disk.opened(path) as fd:
        for piece in read.pieces(fd):
            records += sum(tag != spools.Header.__struct_config__.tag for tag, _, _ in spools.tagged(piece.frames))
            if not piece.frames:
                damaged.append((piece.start, piece.end))
                torn = piece.last
        try:
            header = read.header(fd, path)
            run_id = header.run_id if header is not None else ""
        except (MsgspecError, ValueError):
            pass  # Of another release, or not named as a spool: its run is not known here.
        state: State = "whole" if read.ended(fd) or read.is_over(path) else "open"
        if damaged:
            state = "torn" if torn and len(damaged) == 1 else "damaged"
        return Verified(str(path), run_id, records, disk.size(fd), state, damaged)


def _words(found: Verified) -> str:
    places = ", ".join(f"byte {start:,} ({end - start:,} bytes)" for start, end in found.damaged[:3])
    return f"{found.state} at {places}{', …' if found.damaged[3:] else ''}" if places else found.state
