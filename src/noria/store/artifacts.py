"""Artifact files on the server's disk. A path is checked part by part, and nothing is followed that is a link."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import uuid4

from noria.errors import Invalid, NotFound, Unavailable
from noria.types import File
from noria.wire import limits


class Upload:
    """One file on its way in: written beside, synced, and renamed when it is whole."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._beside = target.parent / f".{uuid4().hex}.part"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Invalid(f"'{target.parent.name}' is a file already, so nothing can be stored below it.") from None
        self._file = self._beside.open("xb")

    def write(self, block: bytes) -> None:
        try:
            self._file.write(block)
        except OSError as error:
            raise self._failed(error) from None

    def commit(self) -> None:
        """After this the file is on the disk, whole, under its name."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._beside, self._target)
        except IsADirectoryError:
            raise Invalid(f"'{self._target.name}' is a folder already.", "Choose another name.") from None
        except OSError as error:
            raise self._failed(error) from None
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def abandon(self) -> None:
        """Nothing remains of an upload that did not commit."""
        try:
            self._file.close()
        except OSError:
            pass  # What could not be flushed is about to be removed.
        self._beside.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> Unavailable:
        return Unavailable(f"The server's disk did not take '{self._target.name}' ({error.strerror}); nothing of it was stored.",
                           "Free some space below its home, then upload again.")  # fmt: skip


class Artifacts:
    """A tree of files below one folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()

    def path(self, path: str) -> Path:
        """The file that a path means; Invalid if it is not below the root."""
        target = self.root / limits.artifact_path(path)
        if not target.resolve().is_relative_to(self.root):
            raise Invalid(f"Invalid path: '{path[:200]}'.")
        return target

    def upload(self, path: str) -> Upload:
        if not path:
            raise Invalid("Invalid path: an artifact needs a name.")
        return Upload(self.path(path))

    def file(self, path: str) -> Path:
        target = self.path(path)
        if not target.is_file():
            raise NotFound(f"No such artifact: '{path[:200]}'", "List the run's artifacts to see what there is.")
        return target

    def list(self, path: str, relative_to: str = "") -> list[File]:
        """The entries of a folder, by name; empty for what is no folder. Names are relative to `relative_to`."""
        folder, root = self.path(path), self.path(relative_to)
        if not folder.is_dir():
            return []
        entries = [entry for entry in os.scandir(folder) if not (entry.name.startswith(".") and entry.name.endswith(".part"))]
        entries.sort(key=lambda entry: entry.name)
        return [self._entry(entry, root) for entry in entries]

    @staticmethod
    def _entry(entry: os.DirEntry[str], root: Path) -> File:
        name = Path(entry.path).relative_to(root).as_posix()
        return (
            File(name, True)
            if entry.is_dir(follow_symlinks=False)
            else File(name, False, entry.stat(follow_symlinks=False).st_size)
        )

    def delete(self, path: str) -> None:
        """Remove a file or a folder; nothing happens if there is none."""
        target = self.path(path)
        if target == self.root:
            raise Invalid("Invalid path: the root cannot be deleted.")
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
