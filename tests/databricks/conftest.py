"""What tests of Databricks share: one fake workspace for a file of them, and an environment that says who asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.conftest import require
from tests.databricks_fake import Databricks


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databricks]:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    require("databricks-sdk", find_spec("databricks") is not None, "pip install databricks-sdk")
    running = Databricks(tmp_path_factory.mktemp("databricks"))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _ada(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Ada asks, and nobody else's settings are read; the fake has no troubles left over from the test before."""
    for name in [each for each in os.environ if each.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    tmp = request.getfixturevalue("tmp_path")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp / "databrickscfg"))
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if "workspace" in request.fixturenames:
        workspace: Databricks = request.getfixturevalue("workspace")
        workspace.order("calm")
        workspace.order("set", expired=[], cloud="AWS_PRESIGNED_URL", old=False, cut=0, page=3, url_seconds=60)
        for name, value in workspace.env().items():
            monkeypatch.setenv(name, value)
