"""Artifacts in an object store, or anywhere else that fsspec reaches by a URL. Credentials and endpoints are fsspec's own settings
(for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and so on); Noria reads none of them.

An upload that was answered is in the store, whole: an object appears when it is complete; where files grow in sight, one grows
elsewhere and is moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from noria.errors import Forbidden, Invalid, NoriaError, NotFound, Unavailable
from noria.store.artifacts import STAGING, Incoming, Opened, parts_of
from noria.store.store import tell
from noria.store.uploads import Uploads
from noria.types import File

_AT_ONCE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci"}
"""Where an object appears when it is complete."""
_BLOCK = 16 << 20
_MOST_BLOCKS = 9000
_READ_AHEAD = 4 << 20


class Remote:
    """The tree below a URL. staging: a folder on the local disk for uploads in parts."""

    in_parts = False  # A whole file goes on to the store as it comes; parts would wait here, and go all at once in the end.

    def __init__(self, url: str, staging: Path) -> None:
        try:
            from fsspec.core import url_to_fs

            self.fs, root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise Invalid(
                f"Artifacts cannot be kept at {url} ({error}).",
                "`pip install 'noria[s3]'` brings what S3 needs; for another store, the package of fsspec that it names.",
            ) from None
        self.url, self._root = url.rstrip("/"), root.rstrip("/")
        protocol = self.fs.protocol
        self._at_once = bool(_AT_ONCE & {protocol} if isinstance(protocol, str) else _AT_ONCE & set(protocol))
        self.pool = ThreadPoolExecutor(16, "noria-files")
        self.uploads = Uploads(staging, self)

    def put(self, path: str, data: bytes, future: Any = None) -> Any:
        parts_of(path)
        storing = self.pool.submit(self._put, path, data)
        if future is None:
            return storing
        storing.add_done_callback(lambda done: tell([(future, None, done.exception())]))
        return future

    def _put(self, path: str, data: bytes) -> None:
        name = self.beside(path)
        with self.speaking(path, writes=True):
            self.fs.pipe_file(name, data)
            self.appear(name, path)

    def check(self, path: str) -> None:
        parts_of(path)

    def begin(self, path: str, size: int) -> Incoming:
        parts_of(path)
        return _Growing(self, path, max(_BLOCK, size // _MOST_BLOCKS))

    def place(self, path: str, source: Path) -> None:
        parts_of(path)
        name = self.beside(path)
        with self.speaking(path, writes=True):
            self.fs.put_file(str(source), name)
            self.appear(name, path)
        source.unlink()

    def open(self, path: str) -> Opened:
        parts_of(path)
        with self.speaking(path):
            self.fs.invalidate_cache()
            return _InStore(self, path, self.fs.info(self.full(path)))

    def list(self, path: str, relative_to: str = "") -> list[File]:
        if path:
            parts_of(path)
        folder, below = self.full(path), path.removeprefix(relative_to).strip("/")
        try:
            with self.speaking(path):
                self.fs.invalidate_cache()
                entries = self.fs.ls(folder, detail=True)
        except NotFound:
            return []
        files = []
        for entry in entries:
            name = self.fs._strip_protocol(entry["name"]).removeprefix(folder).strip("/")
            if name and name != STAGING:  # An object store may list the folder itself, as an object of no length.
                shown = f"{below}/{name}" if below else name
                files.append(File(shown, True) if entry["type"] == "directory" else File(shown, False, entry["size"]))
        return sorted(files, key=lambda file: file.path)

    def delete(self, path: str) -> None:
        parts_of(path)
        try:
            with self.speaking(path):
                self.fs.invalidate_cache()
                self.fs.rm(self.full(path), recursive=True)
        except NotFound:
            pass

    def full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def beside(self, path: str) -> str:
        """The name to write a file to, which `appear` makes the right one."""
        if self._at_once:
            return self.full(path)
        name = self.full(f"{STAGING}/{uuid4().hex}.part")
        with self.speaking(path, writes=True):
            self.fs.makedirs(self.fs._parent(name), exist_ok=True)
        return name

    def appear(self, name: str, path: str) -> None:
        if not self._at_once:
            self.fs.makedirs(self.fs._parent(self.full(path)), exist_ok=True)
            self.fs.mv(name, self.full(path))

    @contextmanager
    def speaking(self, path: str, writes: bool = False) -> Iterator[None]:
        """What a user is told of an error of the store. Each library has kinds of its own, so all are caught."""
        name = path[-200:]
        try:
            yield
        except NoriaError:
            raise
        except (IsADirectoryError, FileExistsError, NotADirectoryError):
            raise Invalid(
                f"'{name}' is a folder, or one of the folders on the way to it is a file.", "Choose another name."
            ) from None
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not writes:
                raise NotFound(f"No such artifact: '{name}'.", "List the run's artifacts to see what there is.") from None
            if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
                raise Forbidden(f"The artifact store {self.url} does not let the server in ({_short(error)}).",
                                "Mend the server's credentials.") from None  # fmt: skip
            raise Unavailable(f"The artifact store {self.url} failed ({_short(error)}); nothing of '{name}' was stored or read.",
                              "Try again in a while.") from None  # fmt: skip


class _Growing:
    """A large file that is being written to the store, block by block."""

    def __init__(self, store: Remote, path: str, block: int) -> None:
        self._store, self._path, self._name = store, path, store.beside(path)
        with store.speaking(path, writes=True):
            self._file = store.fs.open(self._name, "wb", block_size=block)

    def write(self, blocks: Sequence[bytes]) -> None:
        with self._store.speaking(self._path, writes=True):
            self._file.write(b"".join(blocks))

    def commit(self) -> None:
        with self._store.speaking(self._path, writes=True):
            self._file.close()
            self._store.appear(self._name, self._path)

    def abandon(self) -> None:
        try:
            if hasattr(self._file, "discard"):
                self._file.discard()
                self._file.closed = True  # Otherwise it would be completed as it is when it is collected.
            else:
                self._file.close()
            if self._name != self._store.full(self._path):
                self._store.fs.rm_file(self._name)
        except Exception:
            pass  # The store is what failed; what is left there is not seen.


class _InStore:
    """A file that is read. If it is replaced meanwhile, a store that can tell ends the reading with an error."""

    def __init__(self, store: Remote, path: str, info: dict[str, Any]) -> None:
        if info["type"] == "directory":
            raise IsADirectoryError
        self._store, self._path = store, path
        self._file: Any = None
        self.size, self.modified = info["size"], _seconds(info)
        self.etag = str(info.get("ETag") or info.get("etag") or f"{self.modified:.6f}-{self.size}").strip('"')

    def read(self, start: int, size: int) -> bytes:
        with self._store.speaking(self._path):
            if self._file is None:
                self._file = self._store.fs.open(
                    self._store.full(self._path), "rb", block_size=_READ_AHEAD, cache_type="readahead"
                )
            self._file.seek(start)
            return bytes(self._file.read(size))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _seconds(info: dict[str, Any]) -> float:
    """When a file was written, as far as its store says so."""
    when = info.get("LastModified") or info.get("last_modified") or info.get("mtime") or info.get("created") or 0.0
    return when.timestamp() if isinstance(when, datetime) else float(when)


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200].rstrip(".") if text else type(error).__name__
