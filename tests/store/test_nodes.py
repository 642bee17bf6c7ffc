"""What the store says of nodes, on both databases."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from noria.store import experiments, jobs, nodes
from noria.store.store import Store
from noria.types import Cause, JobSpec, Try
from noria.wire import jobs as jobs_wire
from noria.wire import nodes as wire


def test_tries_are_found_by_place_and_cause(database: Path | str) -> None:
    store = Store(database)
    store.write(experiments.seed).result()
    told: list[tuple[str, Cause, str, int]] = [
        ("", "hang", "n1", 50),
        ("", "hang", "n2", 5),
        ("old", "done", "n1", 60),
        ("", "done", "", 40),
    ]
    for cluster, cause, host, ended in told:
        spec = JobSpec(["true"], scheduler="slurm", cluster=cluster)
        job = store.write(partial(jobs.submit, request=jobs_wire.Submit(spec, "ada"))).result().job.id
        tried = [Try(1, cause, ended, 1, 0, ["n1", "n3"], None, host)]
        store.write(partial(jobs.report, request=jobs_wire.Report(job, "RUNNING", tried=tried))).result()
    found = store.read(lambda conn: nodes.records(conn, {"hang": 1.0}, {"done"}, 10))
    assert {place: [(each.cause, each.nodes, each.ended) for each in told] for place, told in found.items()} == {
        "slurm": [("hang", ["n1"], 50), ("done", ["n1", "n3"], 40)]
    }
    assert store.read(lambda conn: nodes.records(conn, {"killed"}, {"done"}, 0)) == {}
    for place in ("slurm", "", "old"):
        store.write(lambda conn, place=place: nodes.forgive(conn, wire.Forgive("n1", place))).result()  # type: ignore[misc]
    assert store.read(lambda conn: nodes.forgiven(conn, "slurm"))["n1"] > 0 and list(
        store.read(lambda conn: nodes.forgiven(conn, "pbs"))
    ) == ["n1"]
    store.close()
