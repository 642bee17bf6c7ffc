"""Serving: one loop for single and batched requests, and the whole way over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from noria.errors import Invalid  # noqa: E402
from noria.models import Signature, TensorSpec  # noqa: E402
from noria.models.columns import Table  # noqa: E402
from noria.models.enforce import enforce  # noqa: E402
from noria.serve.batcher import Batcher  # noqa: E402
from noria.serve.protocols import Asked, mlflow  # noqa: E402
from noria.wire import serving  # noqa: E402
from tests.conftest import Running  # noqa: E402


def ask(predict: Callable[[Any], Any], requests: list[Any], most: int = 64) -> list[Any]:
    """The answers to requests that all arrive while the model is busy with the first."""

    async def run() -> list[Any]:
        batcher = Batcher(predict, most)
        task = asyncio.create_task(batcher.run())
        answers = await asyncio.gather(*(batcher.predict(rows) for rows in requests), return_exceptions=True)
        task.cancel()
        return answers

    return asyncio.run(run())


def test_those_who_wait_share_the_next_call_and_get_their_own_rows() -> None:
    sizes: list[int] = []

    def double(batch: Any) -> Any:
        sizes.append(len(batch))
        time.sleep(0.02)
        return batch * 2

    requests = [np.full((1 + index % 3, 2), float(index)) for index in range(20)]
    answers = ask(double, requests, most=16)
    for rows, answer in zip(requests, answers, strict=True):
        assert np.array_equal(answer, rows * 2)
    assert max(sizes) <= 16 and len(sizes) < len(requests) and sum(sizes) == sum(map(len, requests))


def test_one_bad_request_does_not_fail_its_neighbours() -> None:
    def picky(batch: Any) -> Any:
        if (batch < 0).any():
            raise ValueError("negative")
        return batch

    answers = ask(picky, [np.array([[1.0]]), np.array([[-1.0]]), np.array([[2.0]])])
    assert answers[0] == [[1.0]] and isinstance(answers[1], ValueError) and answers[2] == [[2.0]]


def test_requests_of_other_shapes_are_not_mixed() -> None:
    answers = ask(lambda batch: batch.sum(axis=1), [np.ones((1, 2)), np.ones((1, 3)), np.ones((2, 3))])
    assert [answer.tolist() for answer in answers] == [[2.0], [3.0], [3.0, 3.0]]


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b'{"inputs": [[1, 2]]}', [[1, 2]]),
        (b'{"instances": [[1, 2]]}', [[1, 2]]),
        (b'{"inputs": {"x": [[1, 2]]}}', {"x": [[1, 2]]}),
        (b'{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}', Table(("a", "b"), [[1, 2]])),
        (b'{"dataframe_split": {"data": [[1, 2]]}}', Table(None, [[1, 2]])),
        (b'{"dataframe_records": [{"a": 1, "b": 2}]}', Table(("a", "b"), [[1, 2]])),
        (b'{"dataframe_records": [{"a": 1}, {"b": 2}]}', Table(("a", "b"), [[1, None], [None, 2]])),
    ],
)
def test_what_mlflow_clients_send(body: bytes, rows: Any) -> None:
    assert mlflow.decode(body, "application/json") == Asked(rows)
    table = isinstance(rows, Table)
    array = enforce(rows, Signature((TensorSpec("int64", (-1, 2)),))) if not table or None not in rows.rows[0] else None
    assert array is None or array.tolist() == [[1, 2]]


def test_parameters_come_beside_the_data() -> None:
    asked = mlflow.decode(b'{"inputs": [1], "params": {"k": 2}}', "application/json")
    assert (asked.data, asked.params) == ([1], {"k": 2})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b"1,2", "text/csv"),
        (b'{"inputs": [1], "instances": [1]}', "application/json"),
    ],
)
def test_what_cannot_be_read(body: bytes, kind: str) -> None:
    with pytest.raises(Invalid, match="Send JSON such as"):
        mlflow.decode(body, kind)


@pytest.mark.slow
def test_a_saved_model_answers_over_http(own_server: Running, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from noria import models
    from noria.train import architectures

    model = architectures.build("mlp", inputs=4, width=3, num_classes=2).eval()
    models.save(model, tmp_path / "model", input_example=np.zeros((1, 4), dtype="float32"))
    argv = [sys.executable, "-m", "noria.cli.main", "serve", str(tmp_path / "model")]
    endpoint = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert endpoint.stdout is not None
    try:
        url = endpoint.stdout.readline().strip()
        (served,) = own_server.client.call(serving.LIST, serving.List()).endpoints
        assert (served.url, served.state) == (url, "RUNNING")
        batch = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
        assert np.allclose(
            post(url, own_server.token, {"inputs": batch.tolist()})["predictions"], model(torch.tensor(batch)).detach(), atol=1e-6
        )
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            assert answer.status == 200
        for token, body, status, says in (
            ("wrong", {"inputs": [[1, 2, 3, 4]]}, 401, "`noria env`"),
            (own_server.token, {"inputs": [[1, 2]]}, 400, "this model takes [-1, 4]"),
            (own_server.token, {"inputs": 5}, 400, "this model takes [-1, 4]"),
            (own_server.token, {"inputs": []}, 400, "this model takes [-1, 4]"),
            (own_server.token, {"nothing": 1}, 400, "The body has no 'inputs'"),
            (own_server.token, {"inputs": [["a", "b", "c", "d"]]}, 400, "not an array of numbers"),
        ):
            with pytest.raises(urllib.error.HTTPError) as raised:
                post(url, token, body)
            assert raised.value.code == status and says in json.loads(raised.value.read())["message"]
        threads = [threading.Thread(target=post, args=(url, own_server.token, {"inputs": [[1, 2, 3, 4]]})) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    finally:
        endpoint.send_signal(signal.SIGTERM)
        assert endpoint.wait(20) in (0, -signal.SIGTERM)
        endpoint.stdout.close()
    (served,) = own_server.client.call(serving.LIST, serving.List()).endpoints
    assert served.state == "STOPPED"


def post(url: str, token: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/invocations", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())
