"""Some of the cases of bench/causes.py, on this machine: real programs that fail for real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters.cluster import Cluster, local
from tests.jobs.causes import CASES, Case, asked, submitted, truth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
QUICK = [case for case in CASES if case.quick]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, dict[str, str]]]:
    """All of them, by name, once they have ended."""
    home = tmp_path_factory.mktemp("causes")
    with local(home) as cluster:
        ids = {case.name: submitted(cluster, case) for case in QUICK}
        for case in QUICK:
            if case.act is not None:
                cluster.reaches("RUNNING", ids[case.name], seconds=100)
                case.act(cluster, ids[case.name])
        cluster.ended(*ids.values(), seconds=100)
        yield cluster, ids


@pytest.mark.parametrize("case", QUICK, ids=[case.name for case in QUICK])
def test_the_cause_the_rank_and_the_node_are_right(jobs: tuple[Cluster, dict[str, str]], case: Case) -> None:
    cluster, ids = jobs
    said = asked(cluster, ids[case.name])
    assert said["cause"] in case.causes, said
    assert case.rank is None or (said["rank"], said["host"]) == (case.rank, truth(cluster, ids[case.name], case)), said
    assert said["reason"] and said["cure"] and said["evidence"], said
