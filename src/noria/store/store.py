"""The store: one writer that commits in groups, any number of readers. On PostgreSQL, several such processes beside each other.

A result of `write` means that it is on the disk and survives a power cut (with `power=False`: the death of this process).
Whoever waits while a commit is under way shares the next one, so that the cost of the disk is divided by the number of clients.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from sqlalchemy import Connection as Connection
from sqlalchemy import exc

from noria.errors import NoriaError, Unavailable
from noria.store import database, events, folding, metrics, runs, webhooks
from noria.store.keeper import Keeper
from noria.store.metrics import Append
from noria.store.news import News

T = TypeVar("T")
Work = Callable[[Connection], Any]
_GROUP = 512
_TRIES = 5
_CAREFUL = 64
"""Groups after one that was done twice because something in it failed: who errs once often errs again."""
_KNOWN = 100_000


class _Item(Struct, frozen=True, gc=False):
    """What is asked of the writer (an Append, a Work, or None: to fold), and who waits for it: a Future, or one of an event loop."""

    work: Any
    future: Any


class _PartFailed(Exception):
    """A part of a group failed, and what it had done cannot be undone without the rest."""


Outcome = tuple[Any, Any, BaseException | None]
"""A future, its result, or its exception."""


class Store:
    """State in a database. Functions of the other files here take its connection first: `store.write(lambda c: runs.create(c, …))`."""

    def __init__(self, where: Path | str, *, power: bool = True) -> None:
        """Opens or makes the database: a file of SQLite, or the URL of a PostgreSQL.

        power: whether an answer is to survive a power cut, or just the death of this process. Raises Invalid on a network file
        system, WrongVersion if a newer Noria wrote it.
        """
        self._engine = database.connect(where, power=power)
        connection = self._engine.connect().execution_options(writes=True)
        self._shared = database.shared(self._engine)
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._readers = threading.local()
        self._lock = threading.Lock()
        self._fold: Future[None] | None = None  # The fold that is asked for and has not begun.
        self._behind = True  # Whether `latest` may lack what is in the hot log.
        self._doubtful = False  # Whether it is not known any more what is on the disk.
        self._careful = 0  # For how many groups each part can still be undone alone.
        self.happened: Callable[[], None] = lambda: None
        """Called in the writer's thread when something was committed that a rule may wait for; returns at once."""
        self.queued: Callable[[], None] = lambda: None
        """The same, when a webhook is to be told something."""
        self._active: dict[str, int] = {}  # Runs that may be logged to, as the writer knows them; it alone changes that.
        self._writer = threading.Thread(target=self._write_forever, args=(connection,), name="noria-writer", daemon=True)
        self._writer.start()

    def write(self, work: Callable[[Connection], T], future: Any = None) -> Any:
        """Run `work` in a transaction; the future is done when that is on the disk. A NoriaError undoes this work alone.

        future: one of an event loop, to be used instead of a new one; all of a loop's are resolved in one call into it.
        """
        return self._ask(work, future)

    def append(self, batch: Append, future: Any = None) -> Any:
        """Keep a batch of metrics. The same as a `write`, but all batches that wait go in with one statement."""
        return self._ask(batch, future)

    def _ask(self, work: Append | Work | None, future: Any) -> Any:
        future = future if future is not None else Future()
        self._queue.put(_Item(work, future))
        return future

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on this thread's own connection, on a snapshot that no writer disturbs and that has all that was answered."""
        try:
            if self._shared:  # To look is a tenth of what asking the writer costs.
                with self._reader().begin() as transaction:
                    if folding.caught_up(transaction.connection):
                        return work(transaction.connection)
            self._settle()
            connection = self._reader()
            with connection.begin():
                return work(connection)
        except Exception as error:
            raise database.known(error) from error

    def _reader(self) -> Connection:
        """This thread's own connection; a new one if the last was lost, since it would come back with another isolation."""
        connection: Connection | None = getattr(self._readers, "connection", None)
        if connection is None or connection.invalidated:
            connection = self._engine.connect()
            if self._shared:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            self._readers.connection = connection
        return connection

    def _settle(self) -> None:
        """Have `latest` brought up to what is answered by now. Those who wait for the same fold share it."""
        if not (self._behind or self._shared):
            return
        with self._lock:
            if self._fold is None:
                self._fold = self._ask(None, None)
            future = self._fold
        try:
            future.result()
        except Unavailable:
            pass  # A full disk stops what is new, not the reading of what is there.

    def news(self, heard: Callable[[str, bytes], None]) -> News | None:
        """The way to other server processes at this database; None where there can be none."""
        return News(self._engine, heard) if self._shared else None

    def close(self) -> None:
        """Finish what was asked, then stop."""
        self._queue.put(None)
        self._writer.join()
        self._engine.dispose()

    def _write_forever(self, connection: Connection) -> None:
        keeper = Keeper()
        with connection:
            while True:
                group, goes_on = self._next_group(keeper.patience(behind=self._behind))
                folds = [item.future for item in group if item.work is None]
                asked = [item for item in group if item.work is not None]
                if asked:
                    self._commit(connection, asked)
                if folds or (self._behind and keeper.due()):
                    self._catch_up(connection, keeper, folds)
                if not goes_on:
                    return
                if not self._doubtful and (error := keeper.tidy(connection, idle=not group)) is not None:
                    self._doubt(error)

    def _next_group(self, patience: float | None) -> tuple[list[_Item], bool]:
        """What waits, and whether there will be more; nothing after `patience` seconds of silence."""
        group: list[_Item] = []
        try:
            item = self._queue.get(timeout=patience)
            while item is not None:
                group.append(item)
                if len(group) == _GROUP:
                    return group, True
                item = self._queue.get_nowait()
        except queue.Empty:
            return group, True
        return group, False

    def _commit(self, connection: Connection, group: list[_Item]) -> None:
        """One transaction for all; an error of one undoes that one, an error of the disk fails all."""
        outcomes: list[Outcome] = []
        problem: Exception | None = _lost() if self._doubtful else None
        self._careful -= self._careful > 0
        for _ in range(_TRIES if problem is None else 0):
            try:
                if self._shared and all(isinstance(item.work, Append) for item in group):
                    outcomes = self._append_at_once(connection, group)
                else:
                    with connection.begin():
                        outcomes = self._apply(connection, group)
                problem = None
                break
            except _PartFailed:
                self._careful = _CAREFUL
            except Exception as error:
                problem = error
                if not database.again(error):
                    break
        if problem is not None:
            problem = self._doubt(problem)
            outcomes = [(item.future, None, problem) for item in group]
        elif connection.info.pop("appended", False):
            self._behind = True
        tell(outcomes)
        self._wake(connection)

    def _wake(self, connection: Connection) -> None:
        """Rules and webhooks are told after the commit. A connection that was lost knows of nothing, and would look for the database."""
        if connection.invalidated:
            return
        if connection.info.pop(events.HAPPENED, False):
            self.happened()
        if connection.info.pop(webhooks.QUEUED, False):
            self.queued()

    def _doubt(self, error: Exception) -> Exception:
        """What to answer after this error. After a failed sync nothing more is written: the next one would succeed and lie."""
        self._doubtful = self._doubtful or database.doubtful(error)
        return _lost() if self._doubtful else database.known(error)

    def _apply(self, connection: Connection, group: list[_Item]) -> list[Outcome]:
        appends = [item for item in group if isinstance(item.work, Append)]
        others = [item for item in group if not isinstance(item.work, Append)]
        database.hold(connection, changes=bool(others))
        outcomes = self._append(connection, appends) if appends else []
        if others or self._shared or len(self._active) > _KNOWN:
            self._active.clear()  # They may delete a run.
        each = self._apply_apart if self._careful else self._apply_together
        return [*outcomes, *each(connection, others)]

    def _apply_together(self, connection: Connection, items: Sequence[_Item]) -> Iterator[Outcome]:
        """What one needs that can be undone alone costs half as much as most that is done. Raises _PartFailed where one would be."""
        for item in items:
            try:
                yield item.future, item.work(connection), None
            except (exc.OperationalError, exc.InternalError):
                raise
            except Exception as error:  # Whatever it is, it comes again, and belongs to its caller then.
                raise _PartFailed from error

    def _apply_apart(self, connection: Connection, items: Sequence[_Item]) -> Iterator[Outcome]:
        after = False
        for item in items:
            try:
                with database.undoable(connection, after=after):
                    outcome = (item.future, item.work(connection), None)
                yield outcome
                after = True
            except (exc.OperationalError, exc.InternalError):
                raise
            except Exception as error:  # Whatever it is belongs to its caller, who waits for it.
                after = False
                yield item.future, None, database.known(error)

    def _catch_up(self, connection: Connection, keeper: Keeper, asked: list[Future[None]]) -> None:
        """Fold all that is committed by now."""
        with self._lock:
            self._fold = None  # Who asks from here on may have been answered later than what is folded now.
        outcomes: list[Outcome]
        try:
            if self._doubtful:
                raise _lost()
            keeper.fold(connection)
            self._behind = False
            outcomes = [(future, None, None) for future in asked]
        except Exception as error:
            problem = self._doubt(error)
            outcomes = [(future, None, problem) for future in asked]
        tell(outcomes)
        self._wake(connection)

    def _append(self, connection: Connection, items: Sequence[_Item]) -> list[Outcome]:
        """All batches with one look at their runs and few inserts."""
        active = self._active
        asked = {item.work.uuid for item in items} - active.keys()
        active.update(runs.active(connection, asked) if asked else ())
        outcomes: list[Outcome] = []
        fresh: list[metrics.Batch] = []
        for item in items:
            batch: Append = item.work
            key = active.get(batch.uuid)
            try:
                key = key or runs.row(connection, batch.uuid, active=True).id  # It says what is wrong with it.
            except NoriaError as error:
                outcomes.append((item.future, None, error))
                continue
            fresh.append((key, batch.names, batch.body))
            outcomes.append((item.future, None, None))
        metrics.insert(connection, fresh)
        return outcomes

    def _append_at_once(self, connection: Connection, items: Sequence[_Item]) -> list[Outcome]:
        """The same on PostgreSQL, as one statement that is its own transaction: each way there and back costs as much as the work."""
        done = database.append(connection, [(item.work.uuid, item.work.names, item.work.body) for item in items])
        if done == len(items):
            return [(item.future, None, None) for item in items]
        with connection.begin():
            outcomes: list[Outcome] = [(item.future, None, _refusal(connection, item.work.uuid)) for item in items]
            good = [item for item, (*_, refusal) in zip(items, outcomes, strict=True) if refusal is None]
            # If a run was restored just now, it is not known whose batches went in; and twice is as good as once.
            return outcomes if len(good) == done else self._append(connection, items)


def _lost() -> Unavailable:
    return Unavailable("The disk failed to keep what it was given, so nothing more is taken.",
                       "Look at the disk, then start the server again: what was answered is there.")  # fmt: skip


def _refusal(connection: Connection, uuid: str) -> NoriaError | None:
    """What is wrong with a run that takes no metrics."""
    try:
        runs.row(connection, uuid, active=True)
    except NoriaError as error:
        return error
    return None


def tell(outcomes: list[Outcome]) -> None:
    """Resolve the futures: those of event loops all at once, in their loop's thread."""
    loops: dict[Any, list[Outcome]] = {}
    for outcome in outcomes:
        future = outcome[0]
        if isinstance(future, Future):
            if future.set_running_or_notify_cancel():
                _resolve([outcome])
        else:
            loops.setdefault(future.get_loop(), []).append(outcome)
    for loop, own in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, own)
        except RuntimeError:
            pass  # The loop has ended, and with it all who waited; what was done is done.


def _resolve(outcomes: list[Outcome]) -> None:
    for future, result, problem in outcomes:
        if future.done():
            continue  # Nobody waits any more; what was done is done.
        if problem is None:
            future.set_result(result)
        else:
            future.set_exception(problem)
