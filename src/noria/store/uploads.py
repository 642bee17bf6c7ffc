"""Uploads in parts: sent in any order, again, and by somebody who comes back later; the file appears when it is complete.

An upload is a folder. `data` is the file as it grows: all parts but the last have one size, so that each has its place from the
start and nothing is copied in the end. `last` is the last part, whose place is known only then. A part is taken once its bytes
are on the disk; then, and not before, there is an empty file named after its number, size and checksum. `sealed` says that all
parts are there: from then on they are only put together and put in place, and whoever dies over it is followed by the next.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
from msgspec import Struct

from noria import atomic
from noria.errors import Conflict, Invalid, NoriaError, NotFound, Unavailable

if TYPE_CHECKING:
    from noria.store.artifacts import Artifacts

PARTS = 10_000
_ID = re.compile(r"[0-9a-f]{32}")
_TAKEN = re.compile(r"(\d+)-(\d+)-([0-9a-f]{8})")
_KEPT = 7 * 86_400
"""Seconds without a new part after which an upload is given up."""
_TIDY_EVERY = 3600
_TAKING = threading.Lock()
"""Who sends a part, whether it is taken and whether the upload is sealed change one after another. Several server processes do not
share this: two of them at one part of one upload must be sent the same bytes, which is what a sender does who tries again."""


class Plan(Struct, frozen=True):
    """What an upload is to become."""

    path: str
    parts: int


class Taken(Struct, frozen=True):
    """A part that is on the disk. etag: the CRC-32 of its bytes."""

    size: int
    etag: str


class Uploads:
    """All uploads in parts. Calls block."""

    def __init__(self, folder: Path, artifacts: Artifacts) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._artifacts = folder, artifacts
        self._sending: dict[tuple[Path, int], Part] = {}
        self._completing: set[str] = set()
        self._tidied = -math.inf

    def create(self, path: str, parts: int, key: str = "") -> tuple[str, list[int], bool]:
        """An upload's id, the parts that are still to be sent, and whether the file is in its place already.

        key: names the content, so that the same upload is found again; "" for one that nobody will look for.
        """
        if not 1 <= parts <= PARTS:
            raise Invalid(f"An upload has 1 to {PARTS} parts, not {parts}.", "Choose another size for the parts.")
        self._artifacts.check(path)
        plan = Plan(path, parts)
        upload = hashlib.sha256(msgspec.json.encode((plan, key))).hexdigest()[:32] if key else uuid4().hex
        with _told():
            self._tidy()
            return upload, *self._missing(self.folder / upload, plan)

    def _missing(self, folder: Path, plan: Plan) -> tuple[list[int], bool]:
        if (folder / "sealed").exists() and not (folder / "data").exists():
            if self._is_there(folder, plan.path):
                return [], True
            shutil.rmtree(folder)  # It was there once, and the sender wants it there again.
        if not (folder / "plan").exists():
            _write(folder / "plan", msgspec.json.encode(plan))
        taken = _taken(folder)
        return [number for number in range(1, plan.parts + 1) if number not in taken], False

    def part(self, upload: str, number: int, size: int) -> Part:
        """Take part `number`, from 1 on, of `size` bytes. Whoever is sending the same one just now is told to stop."""
        folder, plan = self._known(upload)
        if not 1 <= number <= plan.parts or size < 1:
            raise Invalid(f"Part {number} of {size} bytes cannot be one of the {plan.parts} parts of '{plan.path[-200:]}'.")
        last = number == plan.parts
        with _told(), _TAKING:
            if (folder / "sealed").exists():
                raise Conflict(f"The upload of '{plan.path[-200:]}' is complete.", "Create another to change the file.")
            if not last:
                _claim(folder, size)
            return Part(folder, number, size, last, self._sending)

    def complete(self, upload: str, etags: dict[int, str]) -> None:
        """Put the file in its place; again is harmless. etags: what the sender knows of its parts.

        Raises Conflict when a part is missing, or is another one than the sender's; it is to be sent again.
        """
        folder, plan = self._known(upload)
        if upload in self._completing:
            raise Unavailable(f"'{plan.path[-200:]}' is just being completed.", "Ask again in a moment.")
        self._completing.add(upload)
        try:
            with _told():
                self._complete(folder, plan, etags)
        finally:
            self._completing.discard(upload)

    def _complete(self, folder: Path, plan: Plan, etags: dict[int, str]) -> None:
        with _TAKING:
            if not (folder / "sealed").exists():
                _check(folder, plan, etags)
                _write(folder / "sealed", b"")
        if (folder / "last").exists():
            _join(folder, plan.parts)
        if (folder / "data").exists():
            self._artifacts.place(plan.path, folder / "data")
            _write(folder / "etag", self._etag(plan.path))
            _forget_parts(folder)

    def abort(self, upload: str) -> None:
        """Forget an upload and its parts; nothing happens if there is none."""
        shutil.rmtree(self._folder(upload), ignore_errors=True)

    def _folder(self, upload: str) -> Path:
        if not _ID.fullmatch(upload):
            raise Invalid(f"'{upload[:80]}' is no upload's id.")
        return self.folder / upload

    def _known(self, upload: str) -> tuple[Path, Plan]:
        folder = self._folder(upload)
        try:
            return folder, msgspec.json.decode((folder / "plan").read_bytes(), type=Plan)
        except FileNotFoundError:
            raise NotFound(
                f"There is no upload {upload}; it was aborted, or given up after {_KEPT // 86_400} days.", "Create it anew."
            ) from None

    def _etag(self, path: str) -> bytes:
        opened = self._artifacts.open(path)
        opened.close()
        return opened.etag.encode()

    def _is_there(self, folder: Path, path: str) -> bool:
        """Whether the file is still the one that was put there."""
        try:
            return self._etag(path) == (folder / "etag").read_bytes()
        except (NoriaError, FileNotFoundError):
            return False

    def _tidy(self) -> None:
        """Remove uploads that nobody goes on with."""
        if time.monotonic() - self._tidied < _TIDY_EVERY:
            return
        self._tidied = time.monotonic()
        for folder in self.folder.iterdir():
            with suppress(FileNotFoundError):  # Another server tidies up here, too.
                if _ID.fullmatch(folder.name) and time.time() - folder.stat().st_mtime > _KEPT:
                    shutil.rmtree(folder, ignore_errors=True)


class Part:
    """One part on its way in. Any thread may call, one at a time; it ends with either `commit` or `abandon`."""

    def __init__(self, folder: Path, number: int, size: int, last: bool, sending: dict[tuple[Path, int], Part]) -> None:
        self._folder, self._number, self._size, self._sending = folder, number, size, sending
        self._at = 0 if last else (number - 1) * size
        self._end = self._at + size
        self._crc = 0
        sending[folder, number] = self
        _untake(folder, number)
        self._file = os.open(folder / ("last" if last else "data"), os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if last else 0), 0o666)

    def write(self, blocks: Sequence[bytes]) -> None:
        self._check_current()
        for block in blocks:
            if self._at + len(block) > self._end:
                raise Invalid(f"Part {self._number} has more than the {self._size} bytes that were announced.")
            self._crc = zlib.crc32(block, self._crc)
            with _told():
                while block:
                    done = os.pwrite(self._file, block, self._at)
                    self._at, block = self._at + done, block[done:]

    def commit(self) -> str:
        """The part's etag; its bytes are on the disk."""
        if self._at != self._end:
            raise Invalid(f"Part {self._number} ended {self._end - self._at} bytes early.", "Send it again.")
        etag = f"{self._crc:08x}"
        with _told():
            os.fdatasync(self._file)
            with _TAKING:
                self._check_current()
                (self._folder / f"{self._number}-{self._size}-{etag}").touch()
        self.abandon()
        return etag

    def abandon(self) -> None:
        os.close(self._file)
        if self._sending.get((self._folder, self._number)) is self:
            del self._sending[self._folder, self._number]

    def _check_current(self) -> None:
        if self._sending.get((self._folder, self._number)) is not self:
            raise Conflict(f"Part {self._number} is being sent again meanwhile.", "The later one counts.")


def _check(folder: Path, plan: Plan, etags: dict[int, str]) -> None:
    """Raise Conflict unless all parts are there, as the sender knows them."""
    taken = _taken(folder)
    for number, etag in etags.items():
        if number in taken and etag != taken[number].etag:
            _untake(folder, number)
            del taken[number]
    missing = [number for number in range(1, plan.parts + 1) if number not in taken]
    if missing:
        raise Conflict(
            f"Part {missing[0]} of '{plan.path[-200:]}' is missing or not what was sent ({len(missing)} of {plan.parts} are).",
            "Send it, then complete again.",
        )


def _taken(folder: Path) -> dict[int, Taken]:
    """The parts that are on the disk."""
    found = [_TAKEN.fullmatch(name) for name in os.listdir(folder)]
    return {int(each[1]): Taken(int(each[2]), each[3]) for each in found if each}


def _untake(folder: Path, number: int) -> None:
    """A part that is sent again is not taken until it has come. This is on the disk before its bytes change."""
    old = [name for name in os.listdir(folder) if name.startswith(f"{number}-")]
    for name in old:
        (folder / name).unlink(missing_ok=True)
    if old:
        _sync(folder)


def _forget_parts(folder: Path) -> None:
    for name in os.listdir(folder):
        if _TAKEN.fullmatch(name):
            (folder / name).unlink(missing_ok=True)


def _claim(folder: Path, size: int) -> None:
    """All parts but the last have the size of whichever was first. A link is made by one alone, and its content with it."""
    try:
        os.symlink(str(size), folder / "size")
    except FileExistsError:
        if (first := os.readlink(folder / "size")) != str(size):
            raise Invalid(f"This part has {size} bytes, and others {first}.", "All parts but the last have one size.") from None


def _join(folder: Path, parts: int) -> None:
    """Put the last part behind the others, and make `data` whole on the disk. What was done already is done again."""
    if parts > 1:
        taken = _taken(folder)
        with open(folder / "last", "rb") as last, open(folder / "data", "r+b") as data:
            data.seek(sum(taken[number].size for number in range(1, parts)))
            shutil.copyfileobj(last, data, 1 << 20)
            data.truncate()
            data.flush()
            os.fsync(data.fileno())
        (folder / "last").unlink()
    else:
        (folder / "last").rename(folder / "data")
    _sync(folder)


def _write(path: Path, content: bytes) -> None:
    """A small file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, content, sync=True)
    _sync(path.parent)
    _sync(path.parent.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told() -> Iterator[None]:
    """What a user is told of an error of the disk."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"The server's disk did not take the upload ({error.strerror}); the parts before are kept.",
                          "If it is full, free some space there; then go on.") from None  # fmt: skip
