"""The database: one writer that commits in groups, any number of readers.

A result of `write` means that it is on the disk and survives a power cut. Whoever waits while a commit is under way
shares the next one, so that the cost of the disk is divided by the number of clients.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection as Connection
from sqlalchemy import Engine, NullPool, create_engine, event, exc

from noria.errors import Invalid, NoriaError, Unavailable, WrongVersion
from noria.store.schema import HEAD, metadata

T = TypeVar("T")
Work = Callable[[Connection], Any]
_GROUP = 256
_NETWORK = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "fuse.sshfs", "9p", "afs", "panfs", "pvfs2"}


class Store:
    """State on a local disk. Functions of the other files here take its connection first: `store.write(lambda c: runs.create(c, …))`."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the database. Raises Invalid on a network file system, WrongVersion if a newer Noria wrote it."""
        refuse_network(path.parent)
        self.path = path
        self._engine = _engine(path)
        _migrate(self._engine, path)
        self._queue: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._readers = threading.local()
        self._writer = threading.Thread(target=self._write_forever, name="noria-writer", daemon=True)
        self._writer.start()

    def write(self, work: Callable[[Connection], T]) -> Future[T]:
        """Run `work` in a transaction; the future is done when that is on the disk. A NoriaError undoes this work alone."""
        future: Future[T] = Future()
        self._queue.put((work, future))
        return future

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on this thread's own connection, on a snapshot that no writer disturbs."""
        connection: Connection | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = self._readers.connection = self._engine.connect()
        try:
            with connection.begin():
                return work(connection)
        except exc.DBAPIError as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """Finish what was asked, then stop."""
        self._queue.put(None)
        self._writer.join()
        self._engine.dispose()

    def _write_forever(self) -> None:
        with self._engine.connect() as connection:
            while (group := self._next_group()) is not None:
                _commit(connection, group)

    def _next_group(self) -> list[tuple[Work, Future[Any]]] | None:
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < _GROUP:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            group.append(more)
        return group


def _commit(connection: Connection, group: list[tuple[Work, Future[Any]]]) -> None:
    """One transaction for all; an error of one undoes that one, an error of the disk fails all."""
    outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
    try:
        with connection.begin():
            for work, future in group:
                try:
                    with connection.begin_nested():
                        outcomes.append((future, work(connection), None))
                except (exc.OperationalError, exc.InternalError):
                    raise
                except Exception as error:  # Whatever it is belongs to its caller, who waits for it.
                    outcomes.append((future, None, error))
    except Exception as error:
        failed = _unavailable(error) if isinstance(error, exc.DBAPIError) else error
        outcomes = [(future, None, failed) for _, future in group]
    for future, result, problem in outcomes:
        if not future.set_running_or_notify_cancel():
            continue  # Nobody waits any more; what was done is done.
        if problem is None:
            future.set_result(result)
        else:
            future.set_exception(problem)


def _unavailable(error: exc.DBAPIError) -> NoriaError:
    text = str(error.orig)
    if "full" in text or "disk I/O" in text or "No space" in text:
        return Unavailable(f"The server's disk does not take more data ({text}); nothing of this request was stored.",
                           "Free some space below its home: it goes on by itself.")  # fmt: skip
    return Unavailable(f"The database did not answer ({text}).", "Try again; `noria doctor` looks closer.")


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"check_same_thread": False, "timeout": 30})

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # Transactions are begun by SQLAlchemy alone (see _begin).
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _migrate(engine: Engine, path: Path) -> None:
    """Bring the tables to this release. An empty database is made as it is to be; only an older one needs Alembic."""
    try:
        with engine.connect() as connection:
            tables = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")}
            version = (
                connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
                if "alembic_version" in tables
                else None
            )
    except exc.OperationalError as error:
        raise _unavailable(error) from None
    except exc.DatabaseError as error:
        raise Invalid(f"{path} is not a database of Noria ({error.orig}).", "Move it away, or use another --home.") from None
    if not tables:
        _create(engine)
    elif version != HEAD:
        from noria.store import migrations

        if version is not None and version not in migrations.known():
            raise WrongVersion(f"{path} was written by a newer Noria (schema {version}, this one knows {HEAD}).",
                               "Upgrade with `pip install -U noria`, or use another --home.")  # fmt: skip
        migrations.upgrade(engine)


def _create(engine: Engine) -> None:
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))
    except exc.OperationalError as error:
        raise _unavailable(error) from None


def refuse_network(folder: Path) -> None:
    kind = _file_system(folder.resolve())
    if kind in _NETWORK:
        raise Invalid(
            f"{folder} lies on a network file system ({kind}), where no database is safe.",
            "Give a folder on a local disk with --home or NORIA_HOME, for example /var/tmp/noria-$USER; jobs may stay where they are.",
        )


def _file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`, from /proc/mounts; "" where there is none."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    holding = [(point, kind) for point, kind in mounts if folder.is_relative_to(point.replace("\\040", " "))]
    return max(holding, key=lambda mount: len(mount[0]), default=("", ""))[1]
