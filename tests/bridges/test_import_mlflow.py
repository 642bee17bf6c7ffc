"""Importing MLflow's records: what mlflow's client reads afterwards equals what it read before, and again changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria import bridges
from tests.conftest import Running, require

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
