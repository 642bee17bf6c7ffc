"""One place after the other, each brought up once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.cluster import PLACES, Cluster
from tests.conftest import require


@pytest.fixture(scope="session", params=PLACES)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Every place that jobs are submitted to; a test that asks for it runs at each."""
    home = tmp_path_factory.mktemp(request.param) / "home"
    home.mkdir()
    with PLACES[request.param](home) as place:
        yield place


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128m,mode=700", "tmpfs", folder], capture_output=True, text=True
    )
    require("tmpfs", mounted.returncode == 0, f"run as root, where tmpfs can be mounted ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
