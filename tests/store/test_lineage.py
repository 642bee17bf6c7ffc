"""Walks over the tables, on both databases: chains, forks, cycles, what is gone, and how long they take."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.errors import Invalid, NotFound
from noria.store import datasets, endpoints, experiments, jobs, lineage, logged_models, registering, runs, stages
from noria.store.store import Store
from noria.types import Code, Dataset, DatasetInput, Endpoint, JobSpec, ModelInput, ModelOutput, PredictionLog, Tag
from noria.wire import jobs as jobs_wire
from noria.wire import lineage as wire
from noria.wire import logged_models as models_wire
from noria.wire import registry as registry_wire
from noria.wire import runs as runs_wire
from noria.wire import serving

COMMIT, FROZEN, DIGEST = "c" * 40, "f" * 32, "d" * 32


class Book:
    """Short names for what the tests write."""

    def __init__(self, store: Store) -> None:
        self.store, self.models = store, set[str]()

    def write(self, work: Any, request: Any) -> Any:
        return self.store.write(lambda conn: work(conn, request)).result()

    def run(self, name: str = "", digest: str = "", tags: dict[str, str] | None = None) -> str:
        labels = [Tag(*pair) for pair in (tags or {}).items()]
        uuid: str = self.write(runs.create, runs_wire.Create("0", "ada", name, 1000, labels)).run.info.run_id
        if digest:
            self.write(runs.log_inputs, runs_wire.LogInputs(uuid, [DatasetInput(Dataset("flowers", digest, "local", "/data"))]))
        return uuid

    def model(self, run: str) -> str:
        made: str = self.write(logged_models.create, models_wire.Create("0", "net", source_run_id=run)).model.info.model_id
        self.write(runs.log_outputs, runs_wire.LogOutputs(run, [ModelOutput(made)]))
        return made

    def version(self, source: str, run: str = "", model: str = "", name: str = "flowers") -> str:
        if name not in self.models:
            self.write(registering.create, registry_wire.CreateModel(name))
            self.models.add(name)
        request = registry_wire.CreateVersion(name, source, run, model_id=model)
        return f"{name}/{self.write(registering.create_version, request).model_version.version}"

    def serve(self, name: str, version: str) -> str:
        uri = f"models:/{name}/{version}"
        self.write(endpoints.put, serving.Put(Endpoint("e1", uri, "http://127.0.0.1:4000", "RUNNING", 5, name, version)))
        return "e1"

    def trace(self, name: str, direction: wire.Direction = "both", **more: Any) -> wire.Graph:
        return self.store.read(lambda conn: lineage.trace(conn, wire.Trace(name, direction=direction, **more)))


@pytest.fixture
def book(database: Path | str) -> Iterator[Book]:
    opened = Store(database)
    opened.write(experiments.seed).result()
    yield Book(opened)
    opened.close()


def chain(book: Book) -> dict[str, str]:
    """One of each kind, from data to predictions."""
    spec = JobSpec(["python", "train.py"], "train", code=Code(f"/code/{FROZEN}.tar", "", {}, COMMIT, True))
    job = book.write(jobs.submit, jobs_wire.Submit(spec, "ada")).job
    book.write(runs.log_inputs, runs_wire.LogInputs(job.run_id, [DatasetInput(Dataset("flowers", DIGEST, "local", "/data"))]))
    model = book.model(job.run_id)
    version = book.version(f"models:/{model}", model=model)
    endpoint = book.serve(*version.split("/"))
    book.write(
        endpoints.logged, serving.Logged(endpoint, PredictionLog("/home/predictions/e1", 7, 1000, 2000, versions={"1": 7}))
    )
    return {"data": DIGEST, "code": FROZEN, "job": job.id, "run": job.run_id, "model": model, "version": version, "endpoint": endpoint,
            "predictions": endpoint}  # fmt: skip


def said(graph: wire.Graph) -> set[str]:
    title = {node.key: node.kind for node in graph.nodes}
    return {f"{title[edge.source]} {edge.verb} {title[edge.target]}" for edge in graph.edges}


CHAIN = {"code frozen as code", "code run by job", "job made run", "data read by run", "run logged model", "model registered as version",
         "version served by endpoint", "endpoint answered predictions"}  # fmt: skip


def test_both_walks_give_the_same_chain(book: Book) -> None:
    ids = chain(book)
    up = book.trace(f"predictions:{ids['predictions']}", "up")
    assert said(up) == CHAIN and not up.truncated
    from_data, from_code = book.trace(DIGEST, "down"), book.trace(COMMIT, "down")
    assert {*from_data.edges, *from_code.edges} == {*up.edges}
    assert {node.key: node for node in (*from_data.nodes, *from_code.nodes)} == {node.key: node for node in up.nodes}
    for kind, name in ids.items():
        assert {*book.trace(name, kind=kind).edges} <= {*up.edges}
        assert book.trace(f"{kind}:{name}").root == f"{kind}:{name}"
    assert {*book.trace(ids["run"], "both").edges} == {*up.edges}


def test_what_nodes_say_of_themselves(book: Book) -> None:
    ids = chain(book)
    nodes = {node.kind: node for node in book.trace(ids["run"]).nodes if node.id != COMMIT}
    assert (nodes["data"].title, nodes["data"].where, nodes["data"].facts["runs"]) == ("flowers", "/data", "1")
    assert (nodes["code"].title, nodes["code"].where) == ("snapshot ffffffffffff with changes", f"/code/{FROZEN}.tar")
    assert (nodes["job"].title, nodes["job"].state, nodes["job"].facts["command"]) == ("train", "QUEUED", "python train.py")
    assert (nodes["run"].state, nodes["run"].facts["experiment"]) == ("SCHEDULED", "Default")
    assert (nodes["version"].id, nodes["endpoint"].title) == ("flowers/1", "http://127.0.0.1:4000")
    assert (nodes["predictions"].title, nodes["predictions"].facts["answered"]) == ("7 predictions", "version 1: 7")


def test_names_that_people_have_for_things(book: Book) -> None:
    ids = chain(book)
    for text, kind in (
        (ids["run"][:9], "run"), ("train", "run"), (ids["job"][:9], "job"), (DIGEST[:8], "data"), ("flowers", "data"), (ids["model"], "model"),
        (f"models:/{ids['model']}", "model"), ("flowers/1", "version"), ("models:/flowers/1", "version"), ("models:/flowers/latest", "version"),
        ("e1", "endpoint"), ("http://127.0.0.1:4000/invocations", "endpoint"), (FROZEN[:7], "code"), (f"runs:/{ids['run']}", "run"),
    ):  # fmt: skip
        assert book.trace(text).root.partition(":")[::2] == (kind, ids[kind]), text
    assert book.trace(COMMIT[:8]).root == f"code:{COMMIT}"
    for text in ("", "nothing", "zz/9", "runs:/nobody", "http://elsewhere", "m-1", "models:/m-1", "'", "%", "job:nothing", "\0"):
        with pytest.raises((NotFound, Invalid)):
            book.trace(text)
    book.run("twin")
    book.run("twin")
    with pytest.raises(Invalid, match=r"'twin' means run .* and run"):
        book.trace("twin")


def test_folders_of_runs_copies_and_sources_elsewhere(book: Book) -> None:
    run = book.run("r", DIGEST)
    first = book.version(f"runs:/{run}/nets/best", run)
    copy = book.version(f"models:/{first}", name="other")
    book.version("s3://bucket/net", run)
    down = book.trace(DIGEST, "down")
    assert said(down) == {"data read by run", "run logged model", "model registered as version", "version copied to version",
                          "run registered as version"}  # fmt: skip
    assert f"model:runs:/{run}/nets/best" in {node.key for node in down.nodes}
    assert said(book.trace(copy, "up")) == said(down) - {"run registered as version"}
    assert book.trace(f"runs:/{run}/nets/best").root == f"model:runs:/{run}/nets/best"


def test_what_is_deleted_is_said_and_breaks_nothing(book: Book) -> None:
    ids = chain(book)
    book.write(runs.remove, runs_wire.Get(ids["run"]))
    book.write(logged_models.remove, models_wire.Key(ids["model"]))
    book.write(registering.remove_version, registry_wire.VersionKey("flowers", "1"))
    states = {node.kind: node.state for node in book.trace(ids["endpoint"], "up").nodes}
    assert states["version"] == "gone" and "run" not in states, "what a version was made of went with it"
    states = {node.kind: node.state for node in book.trace(DIGEST, "down").nodes}
    assert (states["run"], states["model"]) == ("deleted", "deleted")
    child = book.run("child", tags={"mlflow.parentRunId": "0" * 32, "noria.job": "never"})
    assert {node.state for node in book.trace(child, "up").nodes} == {"gone", "RUNNING"}


def test_cycles_end(book: Book) -> None:
    one, two = book.run("one"), book.run("two")
    for reads, writes in ((one, two), (two, one)):
        model = book.model(writes)
        book.write(runs.log_inputs, runs_wire.LogInputs(reads, models=[ModelInput(model)]))
    for run, parent in ((one, two), (two, one)):
        book.write(runs.set_tag, runs_wire.SetTag("mlflow.parentRunId", parent, run))
    graph = book.trace(one, depth=100)
    assert len(graph.nodes) == 4 and len(graph.edges) == 6 and not graph.truncated


def test_evaluations_follow_their_version(book: Book) -> None:
    chain(book)
    by = book.run("evaluate", "9" * 32, {"noria.evaluation.of": "flowers/1"})
    evidence = {"run_id": by, "held_out": "/x.npz", "metrics": {}}
    book.write(stages.note, registry_wire.Note("flowers", "1", "evaluated", "ada", "accuracy 0.9", evidence))
    graph = book.trace("flowers/1", "down")
    assert {"version evaluated in evaluation", "version evaluated by run", "run found evaluation"} <= said(graph)
    found = next(node for node in graph.nodes if node.kind == "evaluation")
    assert (found.title, found.facts["data"], found.facts["user"]) == ("accuracy 0.9", "/x.npz", "ada")
    assert {edge.target for edge in book.trace("9" * 32, "down").edges} == {f"run:{by}", found.key}
    assert "data read by run" in said(book.trace(found.key, "up"))


def test_depth_and_room_are_kept(book: Book) -> None:
    chain(book)
    near = book.trace(DIGEST, "down", depth=1)
    assert [node.kind for node in near.nodes] == ["data", "run"] and not near.truncated
    assert [node.kind for node in book.trace(DIGEST, depth=0).nodes] == ["data"]
    few = book.trace(DIGEST, "down", max_nodes=3)
    assert len(few.nodes) <= 3 and few.truncated
    assert not book.trace(DIGEST, "down", max_nodes=6).truncated
    assert book.trace(DIGEST, "down", max_nodes=1).truncated


def busy(book: Book) -> float:
    """Seconds that this thread and the database have computed: what else the machine does is not ours."""

    def own(conn: Any) -> list[int]:
        asked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        return list(conn.exec_driver_sql(asked).scalars()) if conn.dialect.name == "postgresql" else []

    ticks = 0
    for pid in book.store.read(own):
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.thread_time() + ticks / os.sysconf("SC_CLK_TCK")


def test_ten_thousand_runs_of_one_data_set_in_50_ms(book: Book) -> None:
    many = [(f"{number:032x}", "r", {"mlflow.user": "ada"}) for number in range(10_000)]
    book.store.write(lambda conn: runs.insert_scheduled(conn, 0, "ada", many)).result()
    from sqlalchemy import select

    from noria.store import rows
    from noria.store.schema import dataset, run

    def fill(conn: Any) -> None:
        body = b'{"dataset": {"name": "flowers", "digest": "%s", "source_type": "", "source": ""}}' % DIGEST.encode()
        keys = conn.execute(select(run.c.id)).scalars().all()
        rows.insert(conn, dataset, ("run", "name", "digest", "body"), [(number, "flowers", DIGEST, body) for number in keys])
        conn.exec_driver_sql("ANALYZE")  # As PostgreSQL does by itself within a minute.

    book.store.write(fill).result()
    oldest = f"{0:032x}"
    version = book.version(f"runs:/{oldest}/net", oldest)
    book.trace(DIGEST)  # The statements are compiled.
    begun = busy(book)
    for _ in range(20):
        graph = book.trace(DIGEST, max_nodes=200)
    took = (busy(book) - begun) / 20
    assert graph.truncated and len(graph.nodes) <= 200
    assert f"version:{version}" in {node.key for node in graph.nodes}, "runs that led to versions come first"
    assert next(node.facts["runs"] for node in graph.nodes if node.kind == "data") == "10000"
    assert took < 0.05, took
    listed = book.store.read(lambda conn: datasets.list_(conn, wire.ListData())).data
    assert [(each.digest, each.names, each.runs) for each in listed] == [(DIGEST, ["flowers"], 10_000)]


def test_one_content_under_two_names_is_one_node(book: Book) -> None:
    one, two = book.run("one", DIGEST), book.run("two")
    other = DatasetInput(Dataset("blossoms", DIGEST, "local", "/copy"))
    book.write(runs.log_inputs, runs_wire.LogInputs(two, [other, DatasetInput(Dataset("tulips", "e" * 8))]))
    graph = book.trace(DIGEST, "down")
    assert [node.title for node in graph.nodes if node.kind == "data"] == ["blossoms, flowers"]
    assert {node.id for node in graph.nodes if node.kind == "run"} == {one, two}
    listed = book.store.read(lambda conn: datasets.list_(conn, wire.ListData("blossoms"))).data
    assert [(each.digest, each.names, each.runs) for each in listed] == [(DIGEST, ["blossoms", "flowers"], 2)]
