"""Importing MLflow's records: what mlflow's client reads afterwards equals what it read before, and again changes nothing."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from noria import bridges
from noria.errors import NoriaError
from noria.wire import experiments, imports, runs
from tests.conftest import Running, new_database, require, until

SOURCE = Path(__file__).parent / "scripts" / "source.py"
pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def fill(uri: str, folder: Path, count: int = 5) -> None:
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
    argv = [sys.executable, str(SOURCE), uri, str(count)]
    done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def stores(folder: Path) -> dict[str, tuple[str, str]]:
    """The tracking URI to fill and compare with, and the source to import, by format."""
    return {
        "database": (f"sqlite:///{folder}/mlflow.db", f"{folder}/mlflow.db"),
        "mlruns": (f"file://{folder}/mlruns", f"{folder}/mlruns"),
    }


@pytest.fixture(scope="module", params=["database", "mlruns"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    folder = tmp_path_factory.mktemp(request.param)
    uri, path = stores(folder)[request.param]
    fill(uri, folder)
    yield request.param, uri, path


def plain(trees: dict[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in trees.items() if tree["runs"] or name != "Default"}


def test_an_import_equals_its_source_and_a_second_one_changes_nothing(
    own_server: Running, source: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.bridges.snapshot import registry, same, snapshot

    format, uri, path = source
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    assert bridges.guess(path) == format
    seen: list[tuple[int, int]] = []
    first = bridges.run_import(own_server.client, format, path, progress=lambda *at: seen.append(at))
    assert (first.imported, first.skipped, first.completed, first.failed) == (9, 0, 0, []), first
    assert seen[0] == (0, 9) and seen[-1] == (9, 9)
    there = snapshot(own_server.url)
    same(plain(there), plain(snapshot(uri)))
    same(registry(own_server.url), registry(uri))
    again = bridges.run_import(own_server.client, "", path)
    assert (again.imported, again.skipped, again.completed, again.failed) == (0, 9, 0, []), again
    same(snapshot(own_server.url), there)


def compare(own_server: Running, uri: str, token: str) -> None:
    from tests.bridges.snapshot import registry, same, snapshot

    there = {"MLFLOW_TRACKING_TOKEN": token}
    os.environ.update(there)
    found, versions = snapshot(own_server.url), registry(own_server.url)
    same(plain(found), plain(snapshot(uri)))
    same(versions, registry(uri))


@pytest.mark.slow
@pytest.mark.timeout(240)  # MLflow's server alone takes its time to start.
def test_a_server_of_mlflow_is_imported_over_its_api(
    own_server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    port = free_port()
    argv = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{tmp_path}/m.db", "--artifacts-destination", f"{tmp_path}/kept"]  # fmt: skip
    log = (tmp_path / "mlflow.log").open("wb")
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/health"), 110)
        fill(url, tmp_path)
        first = bridges.run_import(own_server.client, bridges.guess(url), url)
        assert (first.imported, first.skipped, first.completed, first.failed) == (9, 0, 0, []), first
        compare(own_server, url, own_server.token)
        again = bridges.run_import(own_server.client, "mlflow", url)
        assert (again.imported, again.skipped, again.completed, again.failed) == (0, 9, 0, []), again
        moved = bridges.run_import(own_server.client, "database", f"{tmp_path}/m.db")  # The same runs by another way.
        assert (moved.imported, moved.skipped, moved.completed) == (0, 9, 0) and len(moved.failed) == 1, moved
        assert "mlflow-artifacts" in moved.failed[0]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


@pytest.mark.slow
def test_a_postgresql_of_mlflow_is_imported(
    own_server: Running, tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    url = new_database(postgres)
    fill(url.replace("postgresql://", "postgresql+psycopg://"), tmp_path)
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts below the folder where it runs.
    first = bridges.run_import(own_server.client, bridges.guess(url), url)
    assert (first.imported, first.failed) == (9, []), first
    compare(own_server, url.replace("postgresql://", "postgresql+psycopg://"), own_server.token)


KILLED = """
import os, sys
from noria import bridges
from noria.client.http import Server
from noria.wire import imports
imports.RUNS = 20
def progress(done, total):
    if done >= int(sys.argv[3]): os.kill(os.getpid(), 9)
bridges.run_import(Server(sys.argv[1], os.environ["NORIA_TOKEN"]), "database", sys.argv[2], progress=progress)
"""


def multiply(path: str, count: int) -> None:
    """Copies of the run "plain-0" in MLflow's tables: its client would take minutes for them."""
    with sqlite3.connect(path) as database:
        database.row_factory = sqlite3.Row
        (first,) = database.execute("SELECT * FROM runs WHERE name = 'plain-0'").fetchall()
        for table in ("runs", "params", "tags", "metrics", "latest_metrics"):
            rows = [dict(row) for row in database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (first["run_uuid"],))]
            columns = ", ".join(f'"{name}"' for name in rows[0])
            marks = ", ".join("?" * len(rows[0]))
            for number in range(count):
                fresh = [{**row, "run_uuid": f"{number:032x}"} for row in rows]
                database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", [tuple(row.values()) for row in fresh])


def everything(server: Running) -> list[object]:
    """All runs with their histories, without what is each server's own."""
    ids = [
        each.experiment_id
        for each in server.client.call(experiments.SEARCH, experiments.Search(100, view_type="ALL")).experiments
    ]
    found = server.client.call(runs.SEARCH, runs.Search(ids, run_view_type="ALL", max_results=50_000)).runs
    wanted, whole = sorted(each.info.run_id for each in found), []
    while wanted:
        some = server.client.call(imports.EXPORT, imports.Export(wanted)).runs
        whole += [(run.experiment, run.fields.info.run_id, run.fields.info.status, run.fields.data, run.series) for run in some]
        wanted = wanted[len(some) :]
    return whole


@pytest.mark.slow
def test_an_import_that_is_killed_goes_on_and_equals_one_that_was_not(own_server: Running, tmp_path: Path) -> None:
    uri, path = stores(tmp_path)["database"]
    fill(uri, tmp_path, 1)
    multiply(path, 300)
    for after in (1, 100, 250):
        argv = [sys.executable, "-c", KILLED, own_server.url, path, str(after)]
        assert subprocess.run(argv, env={**os.environ, "NORIA_TOKEN": own_server.token}).returncode == -9
    last = bridges.run_import(own_server.client, "database", path)
    assert last.skipped >= 240 and last.imported + last.skipped == 305 and last.failed == [], last
    other = Running(tmp_path / "other")
    try:
        assert bridges.run_import(other.client, "database", path).imported == 305
        assert str(everything(own_server)) == str(everything(other))  # NaN equals itself only in words.
    finally:
        other.stop()


def test_a_run_that_went_on_is_completed(own_server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    from tests.bridges.snapshot import same, snapshot

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts below the folder where it runs.
    uri, path = stores(tmp_path)["database"]
    client = MlflowClient(uri)
    run_id = client.create_run("0", run_name="goes on", start_time=5).info.run_id
    client.log_metric(run_id, "loss", 1.0, timestamp=1, step=1)
    assert bridges.run_import(own_server.client, "database", path).imported == 1
    client.log_metric(run_id, "loss", 0.5, timestamp=2, step=2)
    client.log_metric(run_id, "acc", 0.5, timestamp=2, step=2)
    client.log_param(run_id, "lr", 1)
    client.log_text(run_id, "hello", "a.txt")
    client.set_tag(run_id, "k", "v")
    client.set_terminated(run_id, end_time=9)
    second = bridges.run_import(own_server.client, "database", path)
    assert (second.imported, second.skipped, second.completed, second.failed) == (0, 0, 1, [])
    same(snapshot(own_server.url), snapshot(uri))
    assert bridges.run_import(own_server.client, "database", path).skipped == 1
    client.log_text(run_id, "late", "late.txt")
    assert bridges.run_import(own_server.client, "database", path).completed == 1


def test_wrong_sources_get_a_sentence(own_server: Running, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0" + bytes(84))
    with sqlite3.connect(tmp_path / "foreign.db") as connection:
        connection.execute("CREATE TABLE runs (a)")
    for format, where, says in (
        ("", f"{tmp_path}/nosuch", "There is nothing at"),
        ("", f"{tmp_path}/empty", "looks like no source that is known"),
        ("", f"{tmp_path}/other.db", "cannot be read"),
        ("", f"{tmp_path}/foreign.db", "no database of MLflow"),
        ("mlruns", f"{tmp_path}/empty", "no folder of MLflow's runs"),
        ("nosuch", f"{tmp_path}/empty", "There is no 'nosuch' among importers. Use one of: database, databricks, mlflow, mlruns"),
        ("mlflow", "http://127.0.0.1:9", "No MLflow server answers at http://127.0.0.1:9"),
        ("database", "postgresql://127.0.0.1:9/x", "cannot be read"),
    ):
        with pytest.raises(NoriaError) as caught:
            bridges.run_import(own_server.client, format, where)
        assert says in caught.value.message and "\n" not in caught.value.message, caught.value.message


def test_everything_goes_to_one_experiment_if_that_is_asked_for(own_server: Running, source: tuple[str, str, str]) -> None:
    done = bridges.run_import(own_server.client, source[0], source[2], experiment="all of it")
    assert done.imported == 9
    (chosen,) = [
        each
        for each in own_server.client.call(experiments.SEARCH, experiments.Search(10, view_type="ALL")).experiments
        if each.name != "Default"
    ]
    found = own_server.client.call(runs.SEARCH, runs.Search([chosen.experiment_id], run_view_type="ALL")).runs
    assert chosen.name == "all of it" and len(found) == 9
