"""Spools of scripts that run outside of jobs: shipped as they grow, and put aside once they are done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from noria.agent.relay import Relay
from noria.client import disk


class Scripts:
    def __init__(self, relay: Relay, folder: Path, complain: Callable[[str, str], None]) -> None:
        """folder: where the spools are. complain: is told about what, and a sentence."""
        self._relay, self._folder, self._complain = relay, folder, complain

    def ship(self) -> bool:
        """Whether there are any."""
        spools = sorted(self._folder.glob("*.spool"))
        for path in spools:
            try:
                self._relay.ship([path])
                if self._relay.finish(path):
                    self._put_aside(path, self._folder / "shipped")
            except OSError as error:  # One spool that cannot be moved must not hold up the others.
                self._complain(str(path), f"spool {path} cannot be put aside: {error.strerror}")
        return bool(spools)

    def _put_aside(self, path: Path, shipped: Path) -> None:
        """Files that the server has are removed; those that it did not take are kept."""
        files = path.with_suffix(".files")
        if self._relay.keeps_files(path):
            disk.move(files, shipped)
        else:
            shutil.rmtree(files, ignore_errors=True)
        disk.move(path, shipped)
        self._relay.forget(path)
