"""`noria.checkpoint(state, step=step)` in the loop and `noria.resume()` before it: then the script goes on where it was, whatever stopped it.

    state = noria.resume() or {"step": 0, "weights": zeros}
    for step in range(state["step"], 10_000):
        ...
        noria.log(loss=loss, step=step)
        noria.checkpoint({"step": step + 1, "weights": weights}, step=step)

A call in time does nothing but look at the clock. It saves when it is due, and at once when the job is told to stop: before its time
limit, or by a preemption. Then the process leaves with code 75, and the job goes on from here. With several ranks the first one saves.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from zlib import crc32

from noria import atomic, config
from noria.client import saved
from noria.client.fluent import active_run, job_folder, rewind
from noria.client.interval import FIRST, MTBF, pause
from noria.errors import Invalid, NoriaError, Unavailable
from noria.types import SAVED
from noria.wire.spools import Log

_DAY = 86_400.0
_CHOICE = 120.0
"""Seconds that ranks may start apart."""
_LOOKS = "?"
"""A choice that is still being made: reading what is to be whole may take long."""


class Pace:
    """When the next checkpoint is due: after `every` seconds, or by what they cost and how often this job fails."""

    def __init__(self, every: float | None = None) -> None:
        self.every = every
        self._pause = FIRST if every is None else every
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= self._pause

    def spent(self, cost: float) -> None:
        """One was made just now, and took so many seconds."""
        self._last = time.monotonic()
        if self.every is None:
            self._pause = pause(cost, float(os.environ.get(MTBF) or _DAY))


_told = threading.Event()
_begun: dict[Path, int] = {}
"""From which step this process went on, by folder: a rank that starts later may still want to read that one."""
_paces: dict[tuple[str | os.PathLike[str] | None, str], tuple[Path, Pace]] = {}


def stopping() -> bool:
    """Whether this process was told to stop: the next `checkpoint` saves, and ends it."""
    return _told.is_set()


def _listen() -> None:
    """Take TERM as a wish, unless the script does something else with it."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: _told.set())


def rank() -> int:
    """Of this process among those of the job."""
    names = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), 0)


def _size() -> int:
    return int(os.environ.get("WORLD_SIZE") or 1)


def _attempt() -> int:
    return int(os.environ.get("NORIA_ATTEMPT") or 1)


def folder_of_run(folder: str | os.PathLike[str] | None = None) -> Path:
    """Where checkpoints go: the caller's folder, the job's own, or one of the run that is active."""
    if folder is not None:
        return Path(folder)
    job, run = job_folder(), active_run()
    if job is not None:
        return job / "checkpoints"
    if run is None:
        raise Invalid("There is neither a job nor a run that a checkpoint belongs to.",
                      "Give folder=, or call noria.start_run() first: with run_id= it goes on with that run.")  # fmt: skip
    return config.load().folder / "checkpoints" / run.run_id


def fence() -> None:
    """End this process if its job was submitted anew meanwhile, because its node was taken for dead: another one writes now."""
    job = job_folder()
    if job is None:
        return
    try:
        first = int((job / "try").read_text() or 1)
    except (OSError, ValueError):
        return
    if _attempt() < first:
        print(f"noria: try {_attempt()} of this job has been replaced by try {first}, and stops.", file=sys.stderr, flush=True)
        os._exit(SAVED)


def announce() -> None:
    """Say that this program saves itself, so that it is told before its time limit and started again after what it cannot help."""
    job = job_folder()
    if job is not None:
        (job / "checkpoints").mkdir(exist_ok=True, mode=0o700)


def told_of(step: int, cost: float, *, last: bool = False) -> None:
    """Tell whoever watches the job of a checkpoint. last: the process that made it leaves."""
    job = job_folder()
    if job is not None:
        now = int(time.time() * 1000)
        saved.mark(job / "checkpoints", {"attempt": _attempt(), "step": step, "cost": round(cost, 3), "at": now, "last": last})


def checkpoint(
    state: Any = None,
    *,
    step: int,
    writer: Callable[[Path], object] | None = None,
    every: float | None = None,
    keep: int = 2,
    score: float | None = None,
    keep_best: int = 0,
    mode: str = "max",
    keep_for: float = 0.0,
    folder: str | os.PathLike[str] | None = None,
) -> Path | None:
    """Save if it is time to, and leave if the job is told to stop. Returns the new checkpoint, None if there is none.

    state: anything that pickle takes, or a function without arguments that makes it, called only when it is saved; what has torch tensors
    is saved as torch.save does. writer: instead, called with the path of a new folder to write whatever it likes into. step: the last one
    that is done. every: seconds; by default as often as costs least (Daly's interval for what a checkpoint takes and how often this job
    fails). keep, keep_best, keep_for: the last so many stay, and the best so many by `score` (greater is better with mode="max"), and
    those of the last so many seconds.

    Where the disk takes none, it warns, and tries again when the next one is due; those before are untouched.
    """
    where, pace = _pace(folder, every)
    if not _told.is_set() and not pace.due:
        return None
    if rank() != 0:
        if _told.is_set():
            _leave_after_the_first()
        return None
    last, began = _told.is_set(), time.monotonic()
    kind, write = _writing(state, writer)
    path: Path | None
    try:
        path = saved.save(where, step, kind, write, fence)
        if score is not None:
            saved.value(where, path, score)
        saved.keep(where, keep, best=keep_best, young=keep_for, also=_begun.get(where), greater=mode == "max")
        cost = time.monotonic() - began
        told_of(step, cost, last=last)
    except OSError as error:  # A training does not end for want of room: it is tried again when the next one is due.
        warnings.warn(f"The checkpoint of step {step} cannot be saved in {where} ({error.strerror}); those before are whole. "
                      "Free some space there, or give folder=.", stacklevel=2)  # fmt: skip
        path, cost = None, time.monotonic() - began
    pace.spent(cost)
    if path and (run := active_run()):
        run.append(Log(step, time.time(), {"time/checkpoint": cost}))
    if last:
        what = f"step {step} is saved, and goes on from there" if path else "it goes on from the checkpoint before"
        print(f"noria: told to stop; {what}", file=sys.stderr, flush=True)
        raise SystemExit(SAVED)
    return path


def _pace(folder: str | os.PathLike[str] | None, every: float | None) -> tuple[Path, Pace]:
    """Where the active run's checkpoints go, and when. Looked up in every step, so it is looked for once."""
    run = active_run()
    key = folder, run.run_id if run else ""
    if key not in _paces:
        _paces[key] = folder_of_run(folder), Pace(every)
        _listen()
        announce()
    return _paces[key]


def _leave_after_the_first() -> None:
    """Another rank goes on until the first one has saved: that may need it for a step to end."""
    job = job_folder()
    if job is None:
        return
    try:
        mark = json.loads((job / "checkpoints" / "last.json").read_text())
    except (OSError, ValueError):
        return
    if mark["attempt"] == _attempt() and mark["last"]:
        raise SystemExit(SAVED)


def _writing(state: Any, writer: Callable[[Path], object] | None) -> tuple[str, Callable[[Path], None]]:
    """How a state is written, and what its file's name ends with."""
    if (state is None) == (writer is None):
        raise Invalid("checkpoint() takes a state or a writer.", "Write noria.checkpoint(state, step=step).")

    def folder(path: Path) -> None:
        path.mkdir()
        assert writer is not None
        writer(path)

    def torch(path: Path) -> None:
        made = state() if callable(state) else state
        try:
            sys.modules["torch"].save(made, path)
        except RuntimeError as error:  # Its own writer calls a full disk so.
            if not any(name in str(error) for name in ("inline_container", "PytorchStreamWriter")):
                raise
            raise OSError(errno.ENOSPC, f"torch.save: {str(error).splitlines()[0]}") from error

    def plain(path: Path) -> None:
        with path.open("wb") as file:
            pickle.dump(state() if callable(state) else state, file, protocol=pickle.HIGHEST_PROTOCOL)

    if writer is not None:
        return "d", folder
    return ("pt", torch) if "torch" in sys.modules else ("pickle", plain)


def resume(reader: Callable[[Path], Any] | None = None, *, folder: str | os.PathLike[str] | None = None) -> Any:
    """The state of the newest whole checkpoint, on the CPU; None if there is none. Call it once, on every rank, before the loop.

    reader: what reads a folder that `writer` wrote; its answer is returned. A damaged checkpoint is passed over with a warning. What the
    run has logged after that checkpoint is superseded by what follows.
    """
    where = folder_of_run(folder)
    _listen()
    announce()
    fence()
    path = _chosen(where)
    if path and _size() > 1:
        _begun[where] = _step(path)
    if rank() == 0 and (path or _attempt() > 1):
        rewind(_step(path) + 1 if path else 0)
    if path is None:
        return None
    try:
        return _load(path, reader)
    except NoriaError:
        raise
    except Exception as error:  # Whatever a reader of the caller's, or a class in the pickle, raises.
        raise Invalid(f"The checkpoint {path} is whole, and cannot be read: {type(error).__name__}: {error}",
                      "Does it need a module that is missing now, or one that has changed?") from error  # fmt: skip


def _step(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("step-"))


def _load(path: Path, reader: Callable[[Path], Any] | None) -> Any:
    if path.is_dir():
        if reader is None:
            raise Invalid(
                f"The checkpoint {path} was made by a writer.", "Call noria.resume(reader) with a function that reads it."
            )
        return reader(path)
    if path.suffix == ".pt":
        # Our own file, in a folder that is ours alone.
        return import_module("torch").load(path, map_location="cpu", weights_only=False)
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 (our own file, in a folder that is ours alone)


def _chosen(where: Path) -> Path | None:
    """The newest whole one. Of several ranks the first one looks, and the others take what it found."""
    job = job_folder()
    if job is None or _size() == 1:
        return saved.latest(where)
    note = job / "checkpoints" / f".chosen-{_attempt()}{_beginning()}"
    if rank() == 0:
        atomic.write(note, _LOOKS.encode())
        path = saved.latest(where)
        atomic.write(note, (path.name if path else "").encode())
        return path
    until = time.monotonic() + _CHOICE
    while not note.exists():
        if time.monotonic() > until:
            raise Unavailable("The first rank has not said which checkpoint to go on from.", "Call noria.resume() on every rank.")
        time.sleep(0.05)
    while (name := note.read_text()) == _LOOKS:
        time.sleep(0.05)
    return where / name if name else None


def _beginning() -> str:
    """By what torchrun tells all that it starts together: which program this is, and how often it was started anew within the try. On
    several nodes each counts for itself, so the number is none to agree by."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return ""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if os.environ.get("GROUP_WORLD_SIZE") == "1" else ""
    return f"-{crc32(name.encode()):08x}-{count}"
