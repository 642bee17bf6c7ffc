"""What a training script calls. Each call appends to the spool and returns; a relay ships it when it can.

Inside a job (the launcher sets NORIA_RUN_ID) everything goes to the job's run, with no start_run needed. Elsewhere a
run is started by start_run, or by the first call that needs one, and ends with the process.
"""

from __future__ import annotations

import atexit
import errno
import faulthandler
import os
import shutil
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from struct import Struct
from time import time
from types import TracebackType
from typing import TYPE_CHECKING
from uuid import uuid4
from zlib import crc32

import msgspec

from noria import config
from noria.client.spool import Spool, now
from noria.errors import Invalid, NotFound, Unavailable
from noria.process import born, whoami
from noria.types import RunStatus
from noria.wire import limits
from noria.wire.spools import (
    FORMAT,
    FRAME,
    LIMIT,
    Artifact,
    Begin,
    Dataset,
    End,
    Header,
    Log,
    Params,
    Record,
    Rewind,
    Tags,
    too_long,
)

if TYPE_CHECKING:
    from noria.client.system import Recorder

_stack: list[ActiveRun] = []
_lock = threading.RLock()

# What `log` needs of the active run, in globals: an attribute of an object costs more, and there are ten to look up.
_fd = -1  # Of the run's spool. -1: there is no run, or its spool holds records back; writing fails then, as it should.
_known: set[str] = set()
_last = -1
_LOG = Log.__struct_config__.tag  # What a Log is written as; making one first would cost a twentieth of the call.
_encode = msgspec.msgpack.Encoder().encode
_pack = FRAME.pack
_PACKS = [Struct(f"{FRAME.format}{size}s").pack for size in range(128)]  # Frame a short payload in one go.
_write = os.write
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE}


class ActiveRun:
    """A run that this process writes to; also a context manager that ends it."""

    def __init__(self, run_id: str, folder: Path, *, in_job: bool = False, system_metrics: bool = False) -> None:
        self.run_id = run_id
        self._in_job = in_job
        self._pid = os.getpid()
        self.known: set[str] = set()
        self.last = -1
        self._params: dict[str, str] = {}
        header = Header(
            FORMAT, uuid4().hex, run_id, os.environ.get("NORIA_JOB_ID", "") if in_job else "",
            int(os.environ.get("NORIA_ATTEMPT", "0")) if in_job else 0, int(os.environ.get("RANK", "0")) if in_job else 0,
            socket.gethostname(), self._pid, born(self._pid), now())  # fmt: skip
        try:
            self.spool = Spool(folder, header)
        except OSError as error:
            raise Unavailable(f"The spool folder {folder} cannot be written ({error.strerror}).",
                              "Free some space, or set NORIA_HOME to another folder.") from None  # fmt: skip
        self._recorder = self._record_system() if system_metrics and not in_job else None
        if in_job:
            _tell_where()

    def _record_system(self) -> Recorder | None:
        interval = config.load().system_metrics_interval
        if interval <= 0:
            return None
        from noria.client import gpus
        from noria.client.system import Recorder, Sampler

        return Recorder(Sampler(Path.cwd(), gpus.reader()), self.spool.append, interval, time())

    @property
    def info(self) -> ActiveRun:
        """Scripts written for mlflow read `run.info.run_id`."""
        return self

    def append(self, record: Record) -> None:
        """Put a record into the run's spool."""
        self.spool.append(record)
        if _stack and _stack[-1] is self:
            _activate(self)  # The spool may hold now what it held not before, or the other way round.

    def log_params(self, params: Mapping[str, object]) -> None:
        fresh: dict[str, str] = {}
        for key, value in params.items():
            text = _cut(limits.key(key, "param"), str(value), limits.PARAM_VALUE, "Parameter")
            if self._params.setdefault(key, text) != text:
                raise Invalid(
                    f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                    f"value='{self._params[key][:80]}' for run ID='{self.run_id}'. Attempted logging new value '{text[:80]}'.",
                    "Log it under another name, or start a new run.",
                )
            fresh[key] = text
        if fresh:
            self.append(Params(fresh))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        self.append(Tags({limits.key(k, "tag"): _cut(k, str(v), limits.TAG_VALUE, "Tag") for k, v in tags.items()}))

    def log_file(self, source: Path, path: str) -> None:
        """A copy is kept beside the spool: the file may change as soon as this returns."""
        path = limits.artifact_path(path)
        copy = self.spool.files / uuid4().hex
        try:
            self.spool.files.mkdir(exist_ok=True, mode=0o700)
            shutil.copyfile(source, copy)
        except OSError as error:
            with suppress(OSError):
                copy.unlink(missing_ok=True)
            if error.errno not in _DISK:
                raise Invalid(
                    f"The file {str(source)!r} cannot be logged ({error.strerror}).", "Check its permissions."
                ) from None
            self.spool.lose(f"the file {str(source)!r} ({error.strerror})")
            return
        self.append(Artifact(path, f"{copy.parent.name}/{copy.name}", copy.stat().st_size))

    def end(self, status: RunStatus = "FINISHED") -> None:
        """Ends the run; in a job the exit code decides instead, so only the spool is closed."""
        if self._pid != os.getpid():
            return  # A forked child shares the spool but not the run's end.
        if self._recorder is not None:
            self._recorder.stop()
        if self._in_job and "noria.client.capsule" in sys.modules:
            sys.modules["noria.client.capsule"].finish()
        if not self._in_job:
            self.append(End(status, now()))
        self.spool.close()

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self in _stack:
            while _stack and _pop("FAILED" if kind else "FINISHED") is not self:
                pass


def _tell_where() -> None:
    """At QUIT print where every thread is: the launcher asks for it when no steps are made."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGQUIT) == signal.SIG_DFL:
        with suppress(OSError, ValueError, RuntimeError):  # A script may have closed its stderr, or put something else there.
            faulthandler.register(signal.SIGQUIT)


def _float(key: str, value: object) -> float:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise Invalid(f"Metric '{key}' was given {value!r:.80}, which is not a number.", "Log texts with noria.set_tag.")
    return float(value)


def _cut(key: str, text: str, limit: int, what: str) -> str:
    if len(text) > limit:
        warnings.warn(f"{what} '{key}' has {len(text):,} characters; the first {limit:,} are kept. "
                      "Log long texts as artifacts.", UserWarning, stacklevel=4)  # fmt: skip
    return limits.cut(text, limit)


def _pop(status: RunStatus = "FINISHED") -> ActiveRun:
    run = _stack.pop()
    _activate(_stack[-1] if _stack else None)
    run.end(status)
    return run


def _job_run() -> str:
    return os.environ.get("NORIA_RUN_ID", "")


def job_folder() -> Path | None:
    """The folder of the job that this process belongs to; None outside of a job."""
    folder = os.environ.get("NORIA_JOB_FOLDER")
    return Path(folder) if folder else None


def spool_folder() -> Path:
    """Where this process's spools go."""
    folder = job_folder()
    return folder / "spool" if folder else config.load().folder / "spool"


def start_run(
    run_id: str | None = None,
    *,
    run_name: str = "",
    experiment: str = "",
    tags: Mapping[str, object] | None = None,
    nested: bool = False,
    system_metrics: bool = False,
) -> ActiveRun:
    """Start a run, or go on with the one of this id; in a job, attach to the job's run.

    system_metrics: also log what CPU, memory, disk, network and GPUs do, every NORIA_SYSTEM_METRICS_INTERVAL seconds (10); in a
    job the launcher does this anyway. Raises Invalid if one is active already and `nested` is not given.
    """
    with _lock:
        if _stack and not nested:
            raise Invalid(
                f"Run {_stack[-1].run_id} is active already.", "End it with noria.end_run(), or pass nested=True for a child run."
            )
        attach = _job_run() if not _stack and run_id is None else ""
        parent = _stack[-1].run_id if _stack else ""
        run = ActiveRun(
            attach or limits.run_id(run_id or uuid4().hex), spool_folder(), in_job=bool(attach), system_metrics=system_metrics
        )
        labels = {"mlflow.parentRunId": parent} if parent else {}
        if not attach:
            user, source = whoami(), os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else ""
            labels |= {"mlflow.user": user, "mlflow.source.name": source, "mlflow.source.type": "LOCAL"}
            name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
            run.append(Begin(name, run_name, user, now(), labels))
        if not parent:
            _keep_capsule(run, attached=bool(attach))
        if tags or (attach and run_name):
            run.set_tags({**({"mlflow.runName": run_name} if attach and run_name else {}), **(tags or {})})
        if not _stack:
            atexit.register(_at_exit)
        else:
            _stack[-1].last = _last
        _stack.append(run)
        _activate(run)
        return run


def _keep_capsule(run: ActiveRun, *, attached: bool) -> None:
    """Have kept what is needed to do this again; in a job its launcher does, and the first task only says which Python it is."""
    header, settings = run.spool.header, config.load()
    if not settings.capsules or (attached and (header.rank or header.attempt > 1)):
        return
    from noria.client import capsule

    if capsule.made_for in ("", run.run_id):
        agents = settings.folder / "spool"  # What lies there is shipped after the job's end as well.
        capsule.begin(run.run_id, header.job_id, agents if agents.is_dir() else run.spool.path.parent)
    elif not attached:
        run.append(Tags({"noria.capsule.of": capsule.made_for}))


def _at_exit() -> None:
    failed = getattr(sys, "last_value", None) is not None
    while _stack:
        _pop("FAILED" if failed else "FINISHED")


def active_run() -> ActiveRun | None:
    """The run that calls go to; None if none was started."""
    return _stack[-1] if _stack else None


def run_id() -> str:
    """The id of the active run, which is started if there is none."""
    return _current().run_id


def _current() -> ActiveRun:
    return _stack[-1] if _stack else start_run()


def end_run(status: RunStatus = "FINISHED") -> None:
    """End the active run; nothing happens if there is none."""
    with _lock:
        if _stack:
            _pop(status)


def log(
    values: Mapping[str, float] | None = None, /, *, step: int | None = None, timestamp: float | None = None, **metrics: float
) -> None:
    """Log metrics at one step: `noria.log(loss=0.3, step=7)` or `noria.log({"val/loss": 0.3})`.

    Costs microseconds and never waits for a server. step: without one, the step after the last of this run.
    timestamp: seconds since 1970, by default now. Raises Invalid for a value that is no number or a name MLflow refuses.
    """
    # One flat body, and nothing in it that need not be: bench/log_call.py holds it against a bare write.
    global _last
    if values:
        metrics = {**values, **metrics}
    for key in metrics:  # items() would cost 75 ns more.
        if type(metrics[key]) is not float or key not in _known:
            metrics = _checked(metrics)
            break
    if type(step) is not int:
        step = _last + 1 if step is None else int(step)
    _last = step
    payload = _encode((_LOG, step, time() if timestamp is None else timestamp, metrics))
    size = len(payload)
    if size < 128:
        data = _PACKS[size](size, crc32(payload), payload)
    elif size <= LIMIT:
        data = _pack(size, crc32(payload)) + payload
    else:
        raise too_long(size)
    try:
        written = _write(_fd, data)
    except OSError:
        written = 0
    if written != size + 8:
        _again(data, written)


def _checked(metrics: Mapping[str, object]) -> dict[str, float]:
    """The metrics as floats under names that MLflow takes; the first call comes here, and starts the run."""
    known = _current().known
    for key in metrics.keys() - known:
        known.add(limits.key(str(key)))
    return {str(key): _float(key, value) for key, value in metrics.items()}


def _again(data: bytes, written: int) -> None:
    """There was no run, or its disk took only so many bytes: the spool tries once more, or holds it and all that follows."""
    run = _current()
    run.spool.rest(data, written)
    _activate(run)


def _activate(run: ActiveRun | None) -> None:
    """Put the run that calls go to, if any, where `log` looks for it."""
    global _fd, _known, _last
    _fd = run.spool.fd if run is not None and not run.spool.held else -1
    if run is None:
        _known, _last = set(), -1
    elif _known is not run.known:
        _known, _last = run.known, run.last


def log_metric(key: str, value: float, step: int = 0, timestamp: float | None = None) -> None:
    """Log one metric, as `mlflow.log_metric` does: the step is 0 unless it is given."""
    log({key: value}, step=step, timestamp=timestamp)


def log_metrics(metrics: Mapping[str, float], step: int = 0, timestamp: float | None = None) -> None:
    """Log several metrics at one step."""
    log(metrics, step=step, timestamp=timestamp)


def log_param(key: str, value: object) -> None:
    """Log a parameter, once: another value later raises Invalid. Over 6,000 characters it is cut, with a warning."""
    _current().log_params({key: value})


def log_params(params: Mapping[str, object]) -> None:
    """Log several parameters."""
    _current().log_params(params)


def set_tag(key: str, value: object) -> None:
    """Set a tag; a later value replaces it."""
    _current().set_tags({key: value})


def set_tags(tags: Mapping[str, object]) -> None:
    """Set several tags."""
    _current().set_tags(tags)


def log_artifact(local_path: str | os.PathLike[str], artifact_path: str | None = None) -> None:
    """Keep a copy of a file with the run, under its own name in the folder `artifact_path`."""
    source = Path(local_path)
    target = f"{artifact_path}/{source.name}" if artifact_path else source.name
    if source.is_dir():
        log_artifacts(source, target)
    elif source.is_file():
        _current().log_file(source, target)
    else:
        raise NotFound(f"There is no file {str(source)!r} to log.", "Check the path; it is relative to the working directory.")


def log_artifacts(local_dir: str | os.PathLike[str], artifact_path: str | None = None) -> None:
    """Keep copies of all files below a folder with the run."""
    root = Path(local_dir)
    if not root.is_dir():
        raise NotFound(f"There is no folder {str(root)!r} to log.", "Check the path; it is relative to the working directory.")
    for source in sorted(path for path in root.rglob("*") if path.is_file()):
        name = source.relative_to(root).as_posix()
        _current().log_file(source, f"{artifact_path}/{name}" if artifact_path else name)


def log_dataset(
    data: object = None,
    name: str = "",
    context: str = "training",
    *,
    digest: str = "",
    source: str = "",
    source_type: str = "local",
) -> str:
    """Record that the run reads a data set, which is known by a hash of its content; the digest.

    data: a path, an array, a table of columns, a dict, tuple or list of these, or anything that has a `digest` of its own, such as
    what `noria.train` reads. Files are read once: see noria.client.content. name: of the file, unless it is given. digest: what it is
    known by, if you know better, of at most 36 characters. In a job of several tasks the first one reads files, and the others answer "".
    Raises NotFound for a path where nothing is, Invalid for what has no content, or no name.
    """
    found = digest or _said(data, "digest")
    if not found and isinstance(data, str | os.PathLike) and _job_run() and os.environ.get("RANK", "0") != "0":
        return ""
    if not found:
        from noria.client import content  # Threads and hashes are milliseconds of a start, which few scripts need.

        hashed = content.of(data, config.load().folder / "hashes", content.teller(name or str(data)[:60]))
        found, source = hashed.digest, source or hashed.source
    source = source or _said(data, "source")
    name = name or _said(data, "name") or os.path.basename(source.rstrip("/"))
    if not name:
        raise Invalid("This data set has no name.", 'Give one, as in noria.log_dataset(data, "flowers").')
    _current().append(Dataset(name[:500], found[:36], source_type, source, context))
    if config.load().capsules:
        _keep_rows(data, found[:36])
    return found[:36]


def _keep_rows(data: object, digest: str) -> None:
    """Keep what the rows of a data set are known by, so that another version of it can be told from this one row by row."""
    from noria.client import rows

    if isinstance(data, str | os.PathLike):
        path = Path(data).expanduser()
        seen = rows.of_file(path, path.stat().st_size) if path.is_file() else None
        found = {"": seen} if seen is not None else {}
    else:
        found = rows.parts(data)
    if found:
        from noria.client import made

        made.log_text(msgspec.json.encode(found).decode(), f"noria/rows/{digest}.json")


def _said(data: object, name: str) -> str:
    """What an object says of itself; a table may have a column of that name."""
    value = getattr(data, name, "")
    return value if isinstance(value, str) else ""


def rewind(step: int) -> None:
    """The run goes on from a checkpoint whose next step is `step`: points at that step and later are superseded."""
    global _last
    _current().append(Rewind(step))
    _last = step - 1
