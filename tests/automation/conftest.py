"""A server, the command line against it, and a flavor that loads at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from noria.client.http import Server
from noria.types import Change
from noria.wire import registry
from tests.automation import tiny

Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ask(noria: Ask, server: Any) -> Ask:
    return partial(noria, NORIA_SERVER=server.url, NORIA_TOKEN=server.token, PYTHONPATH=tiny.path(), OMP_NUM_THREADS="1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.held_out(tmp_path / "held_out.npz")


class Registered:
    """A model of the test's own."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name

    def version(self, *args: Any, **options: Any) -> str:
        return tiny.register(self.server, self.name, *args, **options)

    def put(self, version: str, stage: str = "Production") -> None:
        self.server.call(registry.PROMOTE, registry.Promote(self.name, version, stage, user="eve"))

    def standing(self, stage: str = "Production") -> list[str]:
        quoted = f"name='{self.name}'"
        known = self.server.call(registry.SEARCH_VERSIONS, registry.SearchVersions(quoted)).model_versions
        return [each.version for each in known if each.current_stage == stage]

    def history(self, version: str = "", action: str = "") -> list[Change]:
        return self.server.call(registry.HISTORY, registry.History(self.name, version, action)).changes


@pytest.fixture
def model(server: Any, request: pytest.FixtureRequest) -> Registered:
    return Registered(server.client, "".join(each if each.isalnum() else "-" for each in request.node.name))


def said(done: subprocess.CompletedProcess[str]) -> Any:
    """What was printed as JSON."""
    return json.loads(done.stdout)
