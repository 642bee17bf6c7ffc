"""Who is measured and where: real servers in homes of their own, a PostgreSQL of the run's, and the machine that they share."""

from __future__ import annotations

import json
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from uuid import uuid4

RESULTS = Path(__file__).parent / "results"
SCRIPTS = Path(sys.executable).parent
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
NORIA, MLFLOW, PROCESS = "Noria", "MLflow", "Noria, process"
WORKERS = 4


def environment(home: str) -> dict[str, str]:
    """Ours, without the settings of the person who measures."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NORIA_", "MLFLOW_"))}
    return kept | {"NORIA_HOME": home, "XDG_CONFIG_HOME": home, "MLFLOW_DISABLE_TELEMETRY": "true"}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def keep(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


# Processes.


@contextmanager
def serving(argv: list[str], home: str, whole: Callable[[str], bool] = bool, **env: str) -> Iterator[tuple[int, str, float]]:
    """Start a server; its pid, its URL, and the seconds until GET /health answered 200. It ends with the block.

    whole: asked with the server's output, whether it is all there; by default, an answer is enough.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, argv = f"http://127.0.0.1:{port}", [word.format(home=home, port=port) for word in argv]
    start = time.perf_counter()
    with open(f"{home}/output", "wb") as out:
        server = subprocess.Popen(
            argv, cwd=home, env=environment(home) | env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.perf_counter() - start > 300:
                    raise SystemExit(f"{argv[0]} does not answer:\n{Path(home, 'output').read_text()}") from None
                time.sleep(0.002)
        took = time.perf_counter() - start
        while whole is not bool and not whole(Path(home, "output").read_text()):
            time.sleep(0.05)
        yield server.pid, url, took
    finally:
        signal_all(family(server.pid), signal.SIGCONT)
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    try:
        children = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # It ended meanwhile.
        return []
    return [pid, *(one for child in children for one in family(child))]


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def memory(pids: list[int], field: str) -> float:
    """MiB; `field` is Pss, which shares out what several processes map, or Rss."""
    texts = [_told(pid, "smaps_rollup") for pid in pids]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith(f"{field}:")) / 1024


def cpu(pids: list[int]) -> float:
    """Seconds of CPU used so far, by children that have ended too: fields 14 to 17 of /proc/PID/stat."""
    fields = [_told(pid, "stat").rpartition(")")[2].split() for pid in pids]
    return sum(int(ticks) for field in fields for ticks in field[11:15]) / os.sysconf("SC_CLK_TCK")


@contextmanager
def growth(pids: list[int]) -> Iterator[Callable[[], float]]:
    """The block is given what tells by how many MiB the processes' resident memory has grown at most, each at its peak."""
    before = {pid: _status(pid, "VmRSS") for pid in pids}
    for pid in filter(before.get, pids):
        with suppress(FileNotFoundError, ProcessLookupError):  # It ended meanwhile.
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # Linux: the peak begins anew (proc(5)).
    yield lambda: sum(max(0, _status(pid, "VmHWM") - rss) for pid, rss in before.items()) / 1024


def _status(pid: int, field: str) -> int:
    """KiB; 0 of a process that has ended."""
    lines = _told(pid, "status").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def _told(pid: int, file: str) -> str:
    """What /proc says of a process; "" of one that has ended since it was listed."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


# The servers.


class Peer(NamedTuple):
    """A server under measurement. `database` is what makes its size known: a file, or the URL of a PostgreSQL."""

    who: str
    base: str
    pid: int
    url: str
    home: Path
    database: Path | str
    token: str = ""

    @property
    def name(self) -> str:
        return f"{self.who}, {self.base}"

    def wire(self) -> Wire:
        return Wire(self.url, self.token)


class Place(NamedTuple):
    """What every row of a table is given: where it may write, how hard it shall try, and the PostgreSQL, if there is one."""

    folder: Path
    quick: bool
    postgresql: Cluster | None

    def bases(self) -> list[str]:
        return [SQLITE, POSTGRESQL] if self.postgresql else [SQLITE]

    def home(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def database(self, who: str, base: str, home: Path) -> Path | str:
        """A new one: its URL, or where a file of SQLite will be."""
        if base == POSTGRESQL:
            assert self.postgresql is not None
            return self.postgresql.new_database()
        return home / ("mlflow.db" if who == MLFLOW else "noria.db")

    def cpu(self, peer: Peer) -> float:
        """What a server has used so far, that of its database included."""
        beside = family(self.postgresql.pid) if self.postgresql and peer.base == POSTGRESQL else []
        return cpu([*family(peer.pid), *beside])


def has_mlflow() -> bool:
    return find_spec("mlflow") is not None


@contextmanager
def started(
    place: Place, who: str, base: str, fill: Callable[[Path | str], None] | None = None, home: Path | None = None
) -> Iterator[Peer]:
    """A server with a new database, or with what is in its home. fill: what puts something into the database before the start."""
    home = home or place.home()
    database = place.database(who, base, home)
    if fill is not None:
        fill(database)
    say(f"start {who}, {base}")
    with ExitStack() as stack:
        if who == MLFLOW:
            pid, url, _ = stack.enter_context(_mlflow(home, database))
            yield Peer(who, base, pid, url, home, database)
        else:
            options = [f"--db={database}"] if base == POSTGRESQL else []
            options += ["--durability=process"] if who == PROCESS else []
            pid, url, _ = stack.enter_context(noria(home, *options))
            yield Peer(who, base, pid, url, home, database, (home / "token").read_text().strip())


def noria(home: Path, *options: str) -> Any:
    return serving([f"{SCRIPTS}/noria", "server", "--home", "{home}", "--port", "{port}", *options], str(home))


def _mlflow(home: Path, database: Path | str) -> Any:
    """As fast as it goes: its default of 4 workers, on uvloop, which sets the TCP_NODELAY whose absence would cost 45 ms a call
    (uvicorn#3149); without its job runners and its log of accesses, which would only take time. A busy machine is no reason to
    restart a worker."""
    options = "--loop uvloop --no-access-log --timeout-worker-healthcheck 300"
    argv = [f"{SCRIPTS}/mlflow", "server", "--port", "{port}", "--workers", str(WORKERS), "--uvicorn-opts", options,
            "--backend-store-uri", mlflow_uri(database), "--artifacts-destination", "{home}/artifacts"]  # fmt: skip
    return serving(
        argv,
        str(home),
        lambda output: output.count("Application startup complete") >= WORKERS,
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )


def mlflow_uri(database: Path | str) -> str:
    return f"sqlite:///{database}" if isinstance(database, Path) else database.replace("postgresql:", "postgresql+psycopg:", 1)


@contextmanager
def alone(peer: Peer, others: Iterable[Peer]) -> Iterator[None]:
    """All other servers stand still, so that what one has left to do is not paid for by the next one."""
    rest = [pid for other in others if other is not peer for pid in family(other.pid)]
    signal_all(rest, signal.SIGSTOP)
    try:
        _until_it_answers(peer)
        yield
    finally:
        signal_all(rest, signal.SIGCONT)


def _until_it_answers(peer: Peer) -> None:
    """MLflow's workers may hang for half a minute after a crowd of clients."""
    fast, end = 0, time.monotonic() + 120
    while fast < 2 * WORKERS and time.monotonic() < end:
        start = time.perf_counter()
        with peer.wire() as wire:
            wire.post("/api/2.0/mlflow/experiments/search", {"max_results": 1})
        fast = fast + 1 if time.perf_counter() - start < 0.5 else 0


def settle(pid: int, seconds: float = 7.0) -> None:
    """Return when a server has used next to no CPU for so long: by then it has folded and compacted what it was given."""
    since, used, end = time.monotonic(), cpu(family(pid)), time.monotonic() + 3600
    while time.monotonic() - since < seconds and time.monotonic() < end:
        time.sleep(0.5)
        now = cpu(family(pid))
        if now - used > 0.03:
            since = time.monotonic()
        used = now


# PostgreSQL.


class Cluster(NamedTuple):
    """A PostgreSQL of our own, with its defaults: an answered commit is on the disk."""

    url: str
    pid: int
    version: str

    def new_database(self) -> str:
        import psycopg

        name = f"b{uuid4().hex}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url.replace("/postgres?", f"/{name}?")


def postgres_programs() -> Path | None:
    """Where initdb and its like are; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


@contextmanager
def postgresql(folder: Path, *, wanted: bool = True) -> Iterator[Cluster | None]:
    """A cluster for the block; None where PostgreSQL or its driver is not installed."""
    programs = postgres_programs() if wanted else None
    if programs is None or not find_spec("psycopg"):
        if wanted:
            say("PostgreSQL or psycopg is not installed here: the rows on PostgreSQL are left out.")
        yield None
        return
    home = Path(tempfile.mkdtemp(prefix="pg-", dir=folder))
    options: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    if os.getuid() == 0:  # PostgreSQL does not run as root.
        user = pwd.getpwnam("postgres")
        folder.chmod(0o755)
        os.chown(home, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    subprocess.run([f"{programs}/initdb", "-D", home / "data", "-A", "trust", "-U", "bench", "-E", "UTF8"], check=True, **options)
    settings = ["-k", str(home), "-c", "listen_addresses=", "-c", "max_connections=300"]
    server = subprocess.Popen([f"{programs}/postgres", "-D", home / "data", *settings], stderr=subprocess.DEVNULL, **options)
    try:
        while subprocess.run([f"{programs}/pg_isready", "-q", "-h", home]).returncode:
            time.sleep(0.05)
        shown = subprocess.run([f"{programs}/postgres", "--version"], capture_output=True, text=True).stdout.strip()
        yield Cluster(f"postgresql://bench@/postgres?host={home}", server.pid, shown)
    finally:
        server.send_signal(signal.SIGINT)  # Its fast shutdown.
        server.wait(60)


def size(database: Path | str) -> int:
    """Bytes on the disk. PostgreSQL is vacuumed first, as it would be in time."""
    if isinstance(database, Path):
        return sum(file.stat().st_size for file in database.parent.glob(f"{database.name}*"))
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("VACUUM")
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


# A reader of HTTP that costs next to nothing.


class Wire:
    """One connection that stays open. What comes back is read whole; `call` keeps it, `pull` throws it away."""

    def __init__(self, url: str, token: str = "") -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", buffering=1 << 16)
        self._fixed = f" HTTP/1.1\r\nhost: {host}:{port}\r\n" + (f"authorization: Bearer {token}\r\n" if token else "")
        self._room = memoryview(bytearray(1 << 20))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return json.loads(self.call("POST", path, json.dumps(body).encode()))

    def get(self, path: str) -> bytes:
        return self.call("GET", path)

    def call(self, method: str, path: str, body: bytes = b"") -> bytes:
        parts: list[bytes] = []
        self.send(method, path, len(body), [body])
        self._receive(lambda block: parts.append(bytes(block)), f"{method} {path}")
        return b"".join(parts)

    def pull(self, path: str) -> int:
        """GET; how many bytes came."""
        sizes: list[int] = []
        self.send("GET", path, 0, [])
        self._receive(lambda block: sizes.append(len(block)), f"GET {path}")
        return sum(sizes)

    def put(self, path: str, length: int, blocks: Sequence[bytes | memoryview]) -> None:
        self.send("PUT", path, length, blocks, "application/octet-stream")
        self._receive(len, f"PUT {path}")

    def send(
        self, method: str, path: str, length: int, blocks: Sequence[bytes | memoryview], kind: str = "application/json"
    ) -> None:
        head = f"{method} {path}{self._fixed}content-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode()
        if length < 1 << 16:
            self._socket.sendall(head + b"".join(blocks))
            return
        self._socket.sendall(head)
        for block in blocks:
            self._socket.sendall(block)

    def _receive(self, take: Callable[[memoryview], object], what: str) -> None:
        status, length, chunked = self._file.readline(), 0, False
        while (line := self._file.readline().lower()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name == b"content-length" else length
            chunked = chunked or (name == b"transfer-encoding" and b"chunked" in value)
        if b" 200 " not in status:
            raise SystemExit(f"{what} was answered with {status.decode().strip()}: {self._file.read(length).decode()[:500]}")
        if not chunked:
            self._body(length, take)
            return
        while length := int(self._file.readline(), 16):
            self._body(length, take)
            self._file.readline()
        self._file.readline()

    def _body(self, length: int, take: Callable[[memoryview], object]) -> None:
        while length:
            got = self._file.readinto(self._room[: min(length, len(self._room))])  # type: ignore[attr-defined]
            if not got:
                raise SystemExit("The server hung up in the middle of an answer.")
            take(self._room[:got])
            length -= got


# The machine.


def machine(folder: Path) -> dict[str, Any]:
    """What the figures are to be read with."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return {
        "cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(total / 2**20, 1), "kernel": platform.release(),
        "file_system": max(holding, key=lambda mount: len(mount[0]))[1], "fsync_ms": round(fsync(folder) * 1e3, 3),
        "load": os.getloadavg()[0], "python": platform.python_version(), "noria": version("noria"),
        "mlflow": version("mlflow") if has_mlflow() else None, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def fsync(folder: Path) -> float:
    """Seconds that a small append takes until it is on the disk; the median of 50."""
    took = []
    with open(folder / "fsync", "wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - start)
    return median(took)
