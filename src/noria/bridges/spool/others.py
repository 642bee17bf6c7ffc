"""Which spools of a folder other processes write: a step's process writes to a run that this one began."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import msgspec

from noria.wire import spools as wire

_HEADER = 4096
"""Bytes in which a spool's first record ends."""


class Others:
    """What is known of the writers of one folder's spools, each of which is opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, tuple[str, str, int]] = {}

    def sizes(self, run_id: str) -> dict[str, int]:
        """The spools of a run that other processes write, also those that a relay has put aside, by name, and their sizes."""
        found, me = {}, (socket.gethostname(), os.getpid())
        for path in [*self.folder.glob("*.spool"), *self.folder.glob("shipped/*.spool")]:
            with suppress(OSError, msgspec.MsgspecError):  # Moved just now, or not whole yet.
                if path.name not in self._writers:
                    with path.open("rb") as file:
                        data = file.read(_HEADER)
                    header = next(wire.records(memoryview(data)[: wire.whole(data)]), None)
                    if not isinstance(header, wire.Header):
                        continue
                    self._writers[path.name] = header.run_id, header.host, header.pid
                own_run, *writer = self._writers[path.name]
                if own_run == run_id and tuple(writer) != me:
                    found[path.name] = path.stat().st_size
        return found
