"""Which database: opened, made or brought up to this release, and its failures in one sentence."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, Select, create_engine, event, exc, inspect, make_url

from noria import mounts
from noria.errors import Invalid, Unavailable, WrongVersion
from noria.store import arrays, run_versions
from noria.store.arrays import array
from noria.store.schema import HEAD, metadata

# Of PostgreSQL's advisory locks, those of ours; the names say what one holds while it has them.
_APPENDING, _FOLDING, _CHANGING, _MIGRATING = range(0x6E6F7269, 0x6E6F7269 + 4)
_TROUBLE = (exc.OperationalError, exc.InternalError, exc.InterfaceError)
_UNSYNCED = {"SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC"}
# Our queries are short: to compile them, or to start processes for them, takes longer than they do.
_SHORT = ("-c jit=off", "-c max_parallel_workers_per_gather=0")
_SEARCHING = "SELECT set_config('statement_timeout', ?, true), set_config('plan_cache_mode', 'force_custom_plan', true)"
_LONGEST = 20.0
"""Seconds that a search may take."""
_RETRY = {"40001", "40P01"}
"""serialization_failure and deadlock_detected: to be tried again."""


def connect(where: Path | str, *, power: bool) -> Engine:
    """The engine of a database that has this release's tables. `where` is a file of SQLite or the URL of a PostgreSQL."""
    if isinstance(where, Path):
        refuse_network(where.parent)
        engine, name = _sqlite(where, power=power), str(where)
    else:
        engine, name = _postgresql(where, power=power), _shown(where)
    try:
        _migrate(engine, name)
    except exc.OperationalError as error:
        raise Unavailable(f"The database {name} cannot be opened ({_said(error)}).", "Is it there, and may you use it?") from None
    except exc.DatabaseError as error:
        raise Invalid(f"{name} is not a database of Noria ({_said(error)}).", "Move it away, or use another --home.") from None
    return engine


def look(where: Path | str) -> Engine:
    """The engine of a database that is only to be read, be a server at work on it or not. Raises Invalid if it is none of this
    release."""
    if isinstance(where, Path) and not where.is_file():
        raise Invalid(f"There is no database at {where}.", "Name the server's folder with --home, or its PostgreSQL with --db.")
    engine, name = (
        (_sqlite(where, power=True), str(where)) if isinstance(where, Path) else (_postgresql(where, power=True), _shown(where))
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(
            "SET TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ" if shared(engine) else "PRAGMA query_only=ON"
        )

    try:
        with engine.connect() as connection:
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    except exc.DBAPIError as error:
        raise Invalid(f"{name} cannot be read as a database of Noria ({_said(error)}).") from None
    if version != HEAD:
        raise WrongVersion(
            f"{name} has schema {version}, and this Noria checks {HEAD}.", "Start the server once, which brings it here."
        )
    return engine


def shared(engine: Engine) -> bool:
    """Whether other processes may write to it."""
    return engine.dialect.name == "postgresql"


def _sqlite(path: Path, *, power: bool) -> Engine:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"check_same_thread": False, "timeout": 30})
    pragmas = (
        "journal_mode=WAL", f"synchronous={'FULL' if power else 'NORMAL'}", "foreign_keys=ON",
        "cache_size=-16384", "temp_store=MEMORY", "wal_autocheckpoint=4000", "journal_size_limit=67108864",
    )  # fmt: skip

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # Transactions are begun by SQLAlchemy alone (see _begin).
        if path.stat().st_size == 0:  # It counts for a new file alone, and in any other it would be a write beside the writer's.
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine


def _postgresql(url: str, *, power: bool) -> Engine:
    try:
        import psycopg  # noqa: F401 (SQLAlchemy would say it in more words)

        parsed = make_url(url)
    except ImportError:
        raise Invalid("PostgreSQL needs psycopg, which is not installed.", "pip install 'noria[postgresql]'") from None
    except exc.ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise Invalid(f"'{url[:80]}' is not the URL of a database of a kind that Noria knows.",
                      "Write postgresql://user:password@host/name, or leave --db out for SQLite.")  # fmt: skip
    commit = [] if power else ["-c synchronous_commit=off"]
    options = {"options": " ".join([*commit, *_SHORT, "-c timezone=UTC"]), "connect_timeout": 10, "cursor_factory": _binary()}
    engine = create_engine(parsed.set(drivername="postgresql+psycopg"), poolclass=NullPool, connect_args=options)
    event.listen(engine, "connect", lambda connection, _: arrays.teach(connection))
    return engine


def _binary() -> type[Any]:
    """Cursors whose results come as PostgreSQL has them: as text, blobs are twice as large, and numbers are printed and read."""
    import psycopg

    class Binary(psycopg.Cursor[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.format = psycopg.pq.Format.BINARY

    return Binary


def _shown(url: str) -> str:
    """A URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def _migrate(engine: Engine, name: str) -> None:
    """Bring the tables to this release. An empty database is made as it is to be; only an older one needs Alembic."""
    with engine.connect() as connection:
        if shared(engine):
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_MIGRATING})")  # Let go with the connection.
            connection.commit()
        tables = set(inspect(connection).get_table_names())
        version = None
        if "alembic_version" in tables:
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        connection.rollback()
        if not tables:
            with connection.begin():
                metadata.create_all(connection)
                run_versions.count(connection)
                connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
                connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{HEAD}')")  # noqa: S608 (our own constant)
        elif version != HEAD:
            _upgrade(connection, version, name)


def _upgrade(connection: Connection, version: str | None, name: str) -> None:
    from noria.store import migrations

    if version is None:
        raise Invalid(f"{name} holds tables, and not those of Noria.", "Give it a database of its own.")
    if version not in migrations.known():
        raise WrongVersion(f"{name} was written by a newer Noria (schema {version}, this one knows {HEAD}).",
                           "Upgrade with `pip install -U noria`, or use another --home.")  # fmt: skip
    with connection.begin():
        migrations.upgrade(connection)


# Short statements straight through the driver: what SQLAlchemy does around one takes several times as long as it does.


def run(conn: Connection, text: str, values: Sequence[object] = ()) -> Any:
    """The driver's cursor of a statement of ours, in the transaction that is open; `?` in its text are the values. Raises what
    SQLAlchemy would."""
    with _known(conn, text) as raw:
        return raw.execute(_marked(text) if shared(conn.engine) else text, values)


Asked = tuple[str, Sequence[object]]
"""A statement, and its values."""


def written(conn: Connection, query: Select[Any]) -> Asked:
    """A query as text of ours: to build and compile one takes longer than many a database to answer it."""
    compiled: Any = query.compile(dialect=_positional(conn.dialect.name), compile_kwargs={"render_postcompile": True})
    return str(compiled), [compiled.params[name] for name in compiled.positiontup]


@cache
def _positional(name: str) -> Any:
    made: Any = make_url(f"{name}://").get_dialect()
    return made(paramstyle="qmark")


def run_all(conn: Connection, *asked: Asked) -> list[Any]:
    """The same of several statements of which none needs what another answers: PostgreSQL is told all of them at once."""
    with _known(conn, asked[0][0]) as raw:
        if not shared(conn.engine):
            return [raw.execute(text, values) for text, values in asked]
        with raw.pipeline():
            return [raw.execute(_marked(text), values) for text, values in asked]


@contextmanager
def _known(conn: Connection, text: str) -> Iterator[Any]:
    """The driver's connection, whose errors become SQLAlchemy's."""
    raw: Any = conn.connection.driver_connection
    kinds: Any = conn.dialect.loaded_dbapi
    try:
        yield raw
    except kinds.Error as error:
        if getattr(raw, "closed", False):
            conn.invalidate(error)  # The next transaction begins with a new one.
        raise exc.DBAPIError.instance(text, None, error, kinds.Error) from error


@cache
def _marked(text: str) -> str:
    return text.replace("?", "%s")


@contextmanager
def undoable(conn: Connection, *, after: bool = False) -> Iterator[None]:
    """What was done inside is undone if it fails, and nothing else of the transaction; if the database is in trouble, all of it is.

    after: whether the last thing in this transaction was another such block, which succeeded.
    """
    if after and shared(conn.engine):  # Letting go of its savepoint costs no way of its own then.
        run_all(conn, ("RELEASE SAVEPOINT one", ()), ("SAVEPOINT one", ()))
    else:
        run(conn, "SAVEPOINT one")
    try:
        yield
    except (exc.OperationalError, exc.InternalError):
        raise
    except BaseException:
        run(conn, "ROLLBACK TO SAVEPOINT one")
        run(conn, "RELEASE SAVEPOINT one")
        raise
    if not shared(conn.engine):
        run(conn, "RELEASE SAVEPOINT one")


# What several processes at one PostgreSQL must not do at once. SQLite has one writer, and needs none of it.


def hold(conn: Connection, *, changes: bool) -> None:
    """Taken by each group of writes until its commit: rows of the hot log are not looked for while they are being written, and
    what is more than such rows is changed by one process at a time."""
    if shared(conn.engine):
        also = f", pg_advisory_xact_lock({_CHANGING})" if changes else ""
        run(conn, f"SELECT pg_advisory_xact_lock_shared({_APPENDING}){also}")


def hold_appends(conn: Connection) -> None:
    """No rows are being appended when this returns, and none are until the end of the transaction."""
    if shared(conn.engine):
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_APPENDING})")


def hold_changes(conn: Connection) -> None:
    """The rest of the transaction changes runs, which others wait to do: rows that are locked in another order would be a deadlock."""
    if shared(conn.engine):
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CHANGING})")


def hold_fold(conn: Connection) -> None:
    """One process folds or compacts at a time."""
    if shared(conn.engine):
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_FOLDING})")


_APPEND = f"""
WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared({_APPENDING}))
INSERT INTO metric_log (run, names, body)
SELECT run.id, fresh.names, fresh.body FROM held, unnest(%s::text[], %s::text[], %s::bytea[]) AS fresh (uuid, names, body)
JOIN run ON run.uuid = fresh.uuid AND run.lifecycle_stage = 'active'
"""  # noqa: S608 (our own number)


def append(conn: Connection, batches: Sequence[tuple[str, str, bytes]]) -> int:
    """Batches of metrics (uuid, names, body) into PostgreSQL, as a transaction of its own; how many of them had a run to go to."""
    with conn.begin():
        raw: Any = conn.connection.driver_connection
        kinds: Any = conn.dialect.loaded_dbapi
        try:
            raw.autocommit = True
            columns = zip(("TEXT", "TEXT", "BYTEA"), zip(*batches, strict=True), strict=True)
            done = raw.execute(_APPEND, [array(kind, column) for kind, column in columns])
            raw.autocommit = False
        except kinds.Error as error:
            if raw.closed:
                conn.invalidate(error)  # The next transaction begins with a new one.
            else:
                raw.autocommit = False
            raise exc.DBAPIError.instance(_APPEND, None, error, kinds.Error) from error
    conn.info["appended"] = True
    return int(done.rowcount)


def count_rows(conn: Connection) -> None:
    """Have PostgreSQL look at its tables, beside us: until its own daemon comes by, it takes a large one for a small one, and goes to
    every row that an index finds to see whether it counts."""
    if shared(conn.engine):
        threading.Thread(target=_look, args=(conn.engine,), name="noria-vacuum", daemon=True).start()


def _look(engine: Engine) -> None:
    with suppress(exc.DBAPIError), engine.connect() as connection:  # There will be a next time, and PostgreSQL's own.
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
            "VACUUM (ANALYZE, SKIP_LOCKED) run, latest, param, tag"
        )


def give_back(conn: Connection, pages: int) -> bool:
    """Hand some free pages of the file back to the disk, and at last its log too; whether there are more. PostgreSQL does that by
    itself."""
    if shared(conn.engine):
        return False
    raw: Any = conn.connection.driver_connection
    raw.executescript(f"PRAGMA incremental_vacuum({pages})")  # `execute` would make one step of it, which is one page.
    if raw.execute("PRAGMA freelist_count").fetchone()[0]:
        return True
    raw.execute("PRAGMA busy_timeout=0")  # A reader at work is a reason to leave it for the next time.
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    raw.execute("PRAGMA busy_timeout=30000")
    return False


def again(error: Exception) -> bool:
    """Whether the same transaction may well succeed at once."""
    return isinstance(error, exc.DBAPIError) and getattr(error.orig, "sqlstate", "") in _RETRY


@contextmanager
def in_time(conn: Connection) -> Iterator[None]:
    """What is asked of the database inside is given up after so many seconds: a search can be made to take for ever.

    PostgreSQL plans each search for its own values: a plan for any values takes a common one for a rare one, and twice as long.
    """
    done = threading.Event()
    if shared(conn.engine):
        run(conn, _SEARCHING, (str(int(_LONGEST * 1000)),))
    else:
        threading.Thread(target=_watch, args=(conn.connection.driver_connection, done, _LONGEST), daemon=True).start()
    try:
        yield
    except exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", "") != "57014" and getattr(error.orig, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
            raise
        raise Invalid(
            f"This search was given up after {_LONGEST:g} s.", "Ask for less, or for something that is rarer."
        ) from None
    finally:
        done.set()


def _watch(raw: Any, done: threading.Event, seconds: float) -> None:
    """Interrupt SQLite until it is done: between two statements it does not hear."""
    while not done.wait(seconds):
        raw.interrupt()
        seconds = 0.01


def doubtful(error: Exception) -> bool:
    """Whether it is not known any more what is on the disk: a sync failed, and the next one may lie about the same pages."""
    return isinstance(error, exc.DBAPIError) and getattr(error.orig, "sqlite_errorname", "") in _UNSYNCED


def known(error: Exception) -> Exception:
    """What the database said, as an error of ours: a value that it cannot keep, or that it is in trouble itself. Any other error as
    it is, which is a defect."""
    if isinstance(error, exc.DataError | OverflowError | UnicodeEncodeError):
        return Invalid(
            f"A value is none that the database can keep ({str(getattr(error, 'orig', error)).splitlines()[0][:200]})."
        )
    if isinstance(error, _TROUBLE) and getattr(error.orig, "sqlite_errorname", "") != "SQLITE_ERROR":
        return _unavailable(error)
    return error


def _unavailable(error: exc.DBAPIError) -> Unavailable:
    text = _said(error)
    if any(word in text for word in ("full", "disk I/O", "No space")):
        return Unavailable(f"The server's disk does not take more data ({text}); nothing of this request was stored.",
                           "Free some space below its home: it goes on by itself.")  # fmt: skip
    return Unavailable(f"The database did not answer ({text}).", "Try again; `noria doctor` looks closer.")


def _said(error: exc.DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or ["it did not say why"])[0]


def refuse_network(folder: Path) -> None:
    kind = mounts.kind(folder)
    if kind in mounts.NETWORK:
        raise Invalid(
            f"{folder} lies on a network file system ({kind}), where no database is safe.",
            "Give a folder on a local disk with --home or NORIA_HOME, for example /var/tmp/noria-$USER; job folders may lie here, "
            'with home = "…" in the [profiles.…] of the cluster.',
        )
