"""What tests share: real servers in homes of their own, and one way to say that a component is missing."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from xdist.scheduler import LoadScopeScheduling

from noria.client import fluent
from noria.client.http import Server
from noria.server import home
from noria.store import run_search
from noria.store.store import Store
from noria.wire import runs

START_SECONDS = 20


def require(component: str, present: bool, cure: str) -> None:
    """Skip without a component, but fail where NORIA_REQUIRE says that it was installed."""
    if present:
        return
    if component in os.environ.get("NORIA_REQUIRE", "").split(","):
        pytest.fail(f"{component} is required here and missing")
    pytest.skip(f"{component} is missing: {cure}")


def need(*modules: str) -> None:
    """Skip a whole file without these modules, but fail where NORIA_REQUIRE says that they were installed."""
    missing = [name for name in modules if find_spec(name) is None]
    required = sorted({*missing} & {*os.environ.get("NORIA_REQUIRE", "").split(",")})
    if required:
        raise pytest.UsageError(f"{', '.join(required)} is required here and missing")
    if missing:
        pytest.skip(f"{', '.join(missing)} is missing: pip install 'noria[frameworks]'", allow_module_level=True)


class ByPlace(LoadScopeScheduling):
    """What stays together where several processes share the tests: a place that is brought up belongs to one of them, and so does a file."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        found = re.search(r"\[(?:.*-)?((?:local|slurm|sge|pbs)(?:-sandbox)?)(?:-.*)?\]$", name)
        return f"on {found[1]}" if found and file.startswith("tests/jobs/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPlace:
    return ByPlace(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Places come first: they take longest, and leave the cores to others while they wait."""
    items.sort(key=lambda item: "cluster" not in getattr(item, "fixturenames", ()))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test sees the settings of whoever runs it nor a run that another left active, nor leaves anything in their home."""
    for name in list(os.environ):
        if name.startswith(("NORIA_", "MLFLOW_")) and name != "NORIA_REQUIRE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NORIA_MACHINE", str(tmp_path / "machine"))  # Tests do not wait for each other's jobs.
    monkeypatch.setenv(
        "NORIA_CAPSULES", "false"
    )  # Tests that look at files, spools and tags count them; those of capsules say so.
    monkeypatch.setenv("NORIA_ON", "local")  # Tests that mean another scheduler say so, whatever answers on this machine.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield
    while fluent.active_run():
        fluent.end_run()


class Running:
    """A real server process."""

    def __init__(self, folder: Path, *options: str, python: str = "pass") -> None:
        """python: what the process does before it becomes a server."""
        self.folder, self.options, self.python = folder, options, python
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / "server.log").open("ab")
        env = {"NORIA_MACHINE": str(self.folder / "machine"), **os.environ, "NORIA_HOME": str(self.folder)}
        code = f"{self.python}\nfrom noria.cli.main import main\nmain()"
        argv = [sys.executable, "-c", code, "server", *self.options]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True)
        log.close()
        until = time.monotonic() + START_SECONDS
        while (who := home.holder(self.folder)) is None or who.pid != self.process.pid:
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "server.log").read_text()
            time.sleep(0.005)
        self.url = who.url
        self.client = Server(self.url, self.token)

    @property
    def token(self) -> str:
        return home.token(self.folder)

    def kill(self) -> None:
        assert self.process is not None
        self.client.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(15)


def _postgres_programs() -> Path | None:
    """Where initdb and its like are; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


class Postgres:
    """A PostgreSQL of our own."""

    def __init__(self) -> None:
        programs = _postgres_programs()
        require("postgresql", programs is not None, "install the package postgresql")
        require("postgresql", find_spec("psycopg") is not None, "pip install 'psycopg[binary]'")
        self.folder = Path(tempfile.mkdtemp(prefix="noria-pg-"))
        self._programs, self._data = programs, self.folder / "data"
        self._options: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        if os.getuid() == 0:  # PostgreSQL does not run as root.
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        made = [f"{programs}/initdb", "-D", self._data, "-A", "trust", "-U", "noria", "-E", "UTF8"]
        subprocess.run(made, check=True, **self._options)
        self.url = f"postgresql://noria@/postgres?host={self.folder}"
        self.start()

    def start(self) -> None:
        argv = [f"{self._programs}/postgres", "-D", self._data, "-k", str(self.folder), "-c", "listen_addresses="]
        self.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, **self._options)
        ready = [f"{self._programs}/pg_isready", "-q", "-h", self.folder]
        until(lambda: subprocess.run(ready, stdin=subprocess.DEVNULL).returncode == 0)

    def kill(self) -> None:
        """All at once, as when its machine dies."""
        own = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, own)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # Its fast shutdown.
        self.process.wait(20)
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL of our own; make databases in it with `new_database`."""
    running = Postgres()
    yield running.url
    running.stop()


def new_database(postgres: str) -> str:
    """The URL of an empty database."""
    import psycopg

    name = f"t{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Both kinds of database, empty: what Store takes."""
    if request.param == "sqlite":
        return tmp_path / "noria.db"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests that do not harm it."""
    running = Running(tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Running]:
    """A server of the test's own, in NORIA_HOME."""
    running = Running(tmp_path / "home")
    yield running
    running.stop()


@pytest.fixture
def noria(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """The command line, as a user has it; the server that it may start is stopped at the end."""

    def call(*args: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "noria.cli.main", *args]
        done = subprocess.run(
            argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **env}, timeout=100
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    yield call
    call("server", "stop", check=False)


def searched(store: Store, request: runs.Search) -> runs.Found:
    """A search's answer as a client has it: what the store gives is JSON in part."""
    return msgspec.json.decode(msgspec.json.encode(store.read(lambda conn: run_search.search(conn, request))), type=runs.Found)


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `true` returned when it first was; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    pytest.fail(f"not within {seconds} s")


def which(program: str) -> bool:
    return shutil.which(program) is not None
