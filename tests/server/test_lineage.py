"""A whole life through the front door: a job with frozen code and data, its run, model and version, an endpoint and its predictions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.client import content
from noria.errors import Invalid, NotFound
from noria.types import Job
from noria.wire import jobs, lineage
from tests.conftest import Running, new_database, until

Noria = Callable[..., subprocess.CompletedProcess[str]]
SCRIPT = """
import numpy as np

import noria
from noria.train import architectures

noria.log_dataset({data!r}, "flowers")
noria.log_model(architectures.build("mlp", inputs=2, width=3, num_classes=2), "model", input_example=np.zeros((1, 2), dtype="float32"))
noria.log(loss=0.5, step=0)
"""
CHAIN = {"code frozen as code", "code run by job", "job made run", "data read by run", "run logged model", "model registered as version",
         "version served by endpoint", "endpoint answered predictions"}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    options = ("--db", new_database(request.getfixturevalue("postgres"))) if request.param == "postgresql" else ()
    running = Running(tmp_path / "home", *options)
    yield running
    running.stop()


def said(graph: lineage.Graph) -> set[str]:
    kinds = {node.key: node.kind for node in graph.nodes}
    return {f"{kinds[edge.source]} {edge.verb} {kinds[edge.target]}" for edge in graph.edges}


def ended(server: Running, job_id: str) -> Job:
    def over() -> Job | None:
        job = server.client.call(jobs.GET, jobs.Key(job_id)).job
        return job if job.state in ("COMPLETED", "FAILED", "CANCELLED") else None

    found: Job = until(over, 90)
    return found


def predict(url: str, token: str) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/invocations", b'{"inputs": [[1.0, 2.0]]}', headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert len(json.loads(answer.read())["predictions"]) == 1
        return {name.lower(): value for name, value in answer.headers.items()}


@pytest.mark.slow
def test_both_walks_of_a_whole_life_give_the_same_chain(
    home: Running, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    data = tmp_path / "flowers.csv"
    data.write_text("a,b\n1,2\n")
    (tmp_path / "code" / "train.py").write_text(SCRIPT.format(data=str(data)))
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "c")):
        subprocess.run(["git", *words], check=True, stdin=subprocess.DEVNULL)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()

    job_id = noria("submit", "--on", "local", "--freeze", "--", sys.executable, "train.py").stdout.split()[0]
    job = ended(home, job_id)
    assert job.state == "COMPLETED", noria("logs", job_id).stdout
    version = noria("models", "register", f"runs:/{job.run_id}/model", "flowers").stdout.strip()
    argv = [sys.executable, "-m", "noria.cli.main", "serve", f"models:/flowers/{version}", "--log-predictions", "--log-inputs"]
    endpoint = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert endpoint.stdout is not None
    try:
        url = endpoint.stdout.readline().strip()
        ids = [predict(url, home.token)["x-request-id"] for _ in range(3)]
    finally:
        endpoint.send_signal(signal.SIGTERM)
        endpoint.wait(20)
        endpoint.stdout.close()

    def trace(name: str, direction: lineage.Direction) -> lineage.Graph:
        return home.client.call(lineage.TRACE, lineage.Trace(name, direction=direction))

    digest = content.of(data).digest
    served = trace(url, "up")
    up = trace(f"predictions:{served.root.partition(':')[2]}", "up")
    from_data, from_code = trace(digest, "down"), trace(commit, "down")
    assert said(up) == CHAIN
    assert {*from_data.edges, *from_code.edges} == {*up.edges}
    nodes = {node.kind: node for node in up.nodes}
    assert nodes["data"].title == "flowers" and nodes["job"].state == "COMPLETED" and nodes["run"].id == job.run_id
    assert (nodes["predictions"].title, nodes["predictions"].facts["answered"]) == ("3 predictions", f"version {version}: 3")

    told = noria("lineage", str(data)).stdout
    assert "data flowers" in told and "registered as version flowers/1" in told and "answered 3 predictions" in told
    assert f"frozen from code commit {commit[:12]}" in noria("lineage", url, "--up").stdout
    assert json.loads(noria("lineage", "flowers/1", "--json").stdout)["root"] == "version:flowers/1"
    assert noria("lineage", job_id, "--dot").stdout.startswith("digraph lineage {")
    assert noria("data", "hash", str(data)).stdout.strip() == digest
    assert json.loads(noria("data", "list", "--json").stdout)["data"][0]["names"] == ["flowers"]
    shown = noria("data", "show", "flowers").stdout
    assert "1 run has read it" in shown and "flowers/1" in shown

    lines = [json.loads(line) for line in noria("predictions", "export", url).stdout.splitlines()]
    assert [(line["id"], line["version"], line["inputs"]) for line in lines] == [
        (i, version, {"inputs": [[1.0, 2.0]]}) for i in ids
    ]
    rows = noria("predictions", "export", url, "--format", "csv").stdout.splitlines()
    assert len(rows) == 4 and rows[0].startswith("time,id,version")
    assert noria("predictions", "tail", "-n", "2", url).stdout.count(f"version {version}") == 2


def test_what_is_not_there_is_one_sentence(own_server: Running, noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "unread").write_text("1")
    for words, says in (
        (("lineage", "nothing"), "There is no data set, code, job, run, model, version or endpoint 'nothing'"),
        (("lineage", "nobody/3"), "not found"),
        (("lineage", "run:nothing"), "There is no run 'nothing'"),
        (("lineage", str(tmp_path / "unread")), "No run has read the data at"),
        (("data", "show", "nothing"), "There is no data 'nothing'"),
        (("predictions", "tail", "nothing"), "There is no endpoint 'nothing'"),
    ):
        done = noria(*words, check=False)
        assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
    for trace in (lineage.Trace("x", "job"), lineage.Trace("\ud800".encode("utf-8", "replace").decode())):
        with pytest.raises((NotFound, Invalid)):
            own_server.client.call(lineage.TRACE, trace)


@pytest.mark.parametrize(
    "query", ["", "?id=", "?id=x&kind=cat", "?id=x&depth=-1", "?id=x&max_nodes=0", "?id=x&max_nodes=99999", "?id=x&direction=in"]
)
def test_bad_questions_are_refused(server: Running, query: str) -> None:
    request = urllib.request.Request(
        f"{server.url}/api/2.0/noria/lineage{query}", headers={"Authorization": f"Bearer {server.token}"}
    )
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=10)
    answer: Any = json.loads(raised.value.read())
    assert raised.value.code in (400, 404) and answer["message"]
