"""One place after the other, each brought up once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters.cluster import PLACES, Cluster


@pytest.fixture(scope="session", params=PLACES)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Every place that jobs are submitted to; a test that asks for it runs at each."""
    home = tmp_path_factory.mktemp(request.param) / "home"
    home.mkdir()
    with PLACES[request.param](home) as place:
        yield place
