"""Small files that others read while they are written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write(path: Path, content: bytes, *, mode: int = 0o666, sync: bool = False) -> None:
    """Put `content` at `path`: whoever reads it finds that, or what was there before, whole.

    mode: as for open(2), so less the umask. sync: also after a power cut; that the name is new is for the folder's owner to sync.
    Raises OSError, and then leaves what was there.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):  # What went wrong before is what is told.
            beside.unlink()
        raise
