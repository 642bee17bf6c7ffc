"""The spool, read: piece by piece, past whatever is damaged, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from noria.client import disk
from noria.wire.spools import FORMAT, FRAME, LIMIT, Begin, Close, End, Header, decode, resume, tagged, whole

BATCH = 1 << 20
"""Bytes of frames in one piece; a single frame may be larger."""
_HEAD = 1 << 16
_TAIL = 4096
_ENDS = {End.__struct_config__.tag, Close.__struct_config__.tag}


class Piece(Struct, frozen=True):
    """What lies between two places of a spool: whole frames, or damage, of which `frames` is empty.

    `last`: the file ends here. Damage there may be a record that is being written just now.
    """

    start: int
    end: int
    frames: bytes
    last: bool = False


def piece(fd: int, start: int) -> Piece | None:
    """What lies in a spool from `start` on; None at its end."""
    data = disk.read(fd, start, BATCH)
    if not data:
        return None
    size = whole(data)
    if not size:
        data += disk.read(fd, start + len(data), LIMIT + FRAME.size)
        size = whole(data, BATCH)
    return Piece(start, start + size, data[:size]) if size else _damage(fd, start, data)


def _damage(fd: int, start: int, data: bytes) -> Piece:
    """The stretch without a whole frame that begins at `start`; `data` is what lies there, enough for any frame in its first BATCH."""
    at, skip, step = start, 1, BATCH
    while True:
        found = resume(data, skip, step)
        if found >= 0:
            return Piece(start, at + found, b"")
        if len(data) <= step:
            return Piece(start, at + len(data), b"", last=True)
        at, skip, step = at + step, 0, LIMIT
        data = disk.read(fd, at, step + LIMIT + FRAME.size)


def pieces(fd: int) -> Iterator[Piece]:
    """All of a spool."""
    start = 0
    while (found := piece(fd, start)) is not None:
        yield found
        start = found.end


def header(fd: int, path: Path, run_id: str = "") -> Header | None:
    """Who wrote this spool; None while no record of it is whole.

    If both headers are damaged, the file's name says which spool it is, and the run is `run_id`, or one named after the spool.
    Raises msgspec.MsgspecError for a header of another format.
    """
    head = disk.read(fd, 0, _HEAD)
    start = 0 if whole(head, 1) else resume(head)
    if start >= 0:
        tag, begin, end = next(tagged(head[start:]))
        if tag == Header.__struct_config__.tag:
            found = decode(head[start + begin + FRAME.size : start + end])
            assert isinstance(found, Header)
            return found
    elif (first := piece(fd, 0)) is None or first.last:
        return None
    attempt, rank, created, spool_id = name(path)
    return Header(FORMAT, spool_id, run_id or spool_id, "", attempt, rank, "", 0, "", created)


def name(path: Path) -> tuple[int, int, int, str]:
    """Attempt, rank, time and id, from a spool's name."""
    attempt, rank, created, spool_id = path.stem.split("-", 3)
    return int(attempt), int(rank), int(created), spool_id


def ended(fd: int) -> bool:
    """Whether the last record says that the writer is done."""
    tail, at, last = disk.read(fd, max(0, disk.size(fd) - _TAIL), _TAIL), 0, -1
    while 0 <= at < len(tail):
        size = whole(tail[at:])
        last = [-1, *(tag for tag, _, _ in tagged(tail[at : at + size]))][-1]
        at = at + size if size else resume(tail, at + 1)
    return at == len(tail) and last in _ENDS


def below(folder: Path) -> list[Path]:
    """The spools in a job's folder, a folder of spools or jobs, or a home; or the one spool that `folder` is. [] if there are none."""
    if folder.is_file():
        return [folder]
    return sorted(path for pattern in ("", "spool/", "*/spool/", "jobs/*/spool/") for path in folder.glob(f"{pattern}*.spool"))


def is_over(path: Path) -> bool:
    """Whether a spool is that of a job that has ended."""
    return (path.parent.parent / "exit.json").exists()


def began(fd: int) -> bool:
    """Whether the writer began its run, and answers for its end: that stands right behind the header."""
    head, at = disk.read(fd, 0, _HEAD), 0
    while 0 <= at < len(head):
        size = whole(head[at:])
        for tag, _, _ in tagged(head[at : at + size]):
            if tag != Header.__struct_config__.tag:
                return tag == Begin.__struct_config__.tag
        at = at + size if size else resume(head, at + 1)
    return False
