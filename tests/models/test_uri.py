"""Models by name, from a real server; asked from Python, on the command line and over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pandas")
pytest.importorskip("skops")

import pandas as pd
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression

import noria
from noria import models
from noria.cli.predict import predict
from noria.errors import Invalid, NotFound
from noria.wire import registry
from tests.conftest import Running

FRAME = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})
LINE = LinearRegression().fit(FRAME, [1.0, 2.0, 4.0])


@pytest.fixture
def registered(own_server: Running, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model `line` with one version, in Production and with the alias `best`; the id of its run."""
    with noria.start_run() as run:
        noria.log_model(LINE, input_example=FRAME)
    made = noria.register_model(f"runs:/{run.run_id}/model", "line")
    call = own_server.client.call
    call(registry.TRANSITION, registry.Transition("line", made.version, "Production"))
    call(registry.SET_ALIAS, registry.SetAlias("line", "best", made.version))
    return run.run_id


def test_one_function_loads_whatever_names_a_model(registered: str, own_server: Running, tmp_path: Path) -> None:
    models.save(LINE, tmp_path / "m", input_example=FRAME)
    for uri in (
        "models:/line/1",
        "models:/line@best",
        "models:/line/Production",
        "models:/line/latest",
        f"runs:/{registered}/model",
        tmp_path / "m",
    ):
        np.testing.assert_allclose(models.load(uri).predict(FRAME), LINE.predict(FRAME))
    for uri, kind in (("models:/line/7", NotFound), ("models:/line/Staging", NotFound), ("models:/none/1", NotFound), ("models:/line", Invalid),
                      (f"runs:/{registered}/other", NotFound), (tmp_path, NotFound)):  # fmt: skip
        with pytest.raises(kind) as raised:
            models.load(uri)
        assert "\n" not in raised.value.message
    version = own_server.client.call(registry.GET_VERSION, registry.VersionKey("line", "1")).model_version
    known = {tag.key: tag.value for tag in version.tags}["noria.digest"]
    assert known == models.digest(models.load("models:/line/1").folder)


def test_a_registered_version_is_held_to_its_digest(registered: str) -> None:
    folder = models.load("models:/line/1").folder
    (folder / "noria.digests.json").unlink()
    (folder / "requirements.txt").write_text("evil")
    models.load(folder)
    with pytest.raises(Invalid, match="models:/line/1 is not the one that is known"):
        models.load("models:/line/1")


@pytest.mark.slow
def test_a_version_is_shown_and_asked_on_the_command_line(
    registered: str, tmp_path: Path, noria: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shown = json.loads(noria("models", "show", "line", "1", "--json").stdout)
    assert (shown["stage"], shown["flavors"], shown["inputs"]) == ("Production", ["sklearn"], ["a: double", "b: double"])
    assert shown["size"] > 1000 and shown["run"] == registered and shown["listed"] and len(shown["digest"]) == 64
    assert "a: double, b: double" in noria("models", "show", "line", "@best").stdout
    FRAME.to_csv(tmp_path / "x.csv", index=False)
    FRAME.to_parquet(tmp_path / "x.parquet")
    np.save(tmp_path / "x.npy", FRAME.to_numpy())
    (tmp_path / "x.json").write_text(FRAME.to_json(orient="records"))
    known = LINE.predict(FRAME)
    done = noria("models", "predict", "models:/line/Production", "--input", str(tmp_path / "x.csv"))
    np.testing.assert_allclose(json.loads(done.stdout)["predictions"], known)
    folder = str(models.load("models:/line/1").folder)
    for kind in ("csv", "parquet", "npy", "json"):
        to = tmp_path / f"y.{kind}"
        ran = CliRunner().invoke(predict, [folder, "--input", str(tmp_path / f"x.{kind}"), "--output", str(to), "--json"])
        np.testing.assert_allclose(json.loads(ran.stdout)["predictions"], known)
        assert to.stat().st_size > 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), known)
    for text, says in (("a\n1\n", "lacks the column b"), ("a,b\nx,1\n", "this model takes double"), ("", "cannot be read")):
        (tmp_path / "bad.csv").write_text(text)
        ran = CliRunner().invoke(predict, [folder, "--input", str(tmp_path / "bad.csv")])
        assert isinstance(ran.exception, Invalid) and says in str(ran.exception), ran.output
    done = noria("models", "predict", folder, "--input", str(Path(__file__)), check=False)
    assert done.returncode == 1 and "no kind of file that is known" in done.stderr


@contextmanager
def served(*options: str) -> Iterator[str]:
    argv = [sys.executable, "-m", "noria.cli.main", "serve", *options]
    endpoint = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert endpoint.stdout is not None
    try:
        yield endpoint.stdout.readline().strip()
    finally:
        endpoint.send_signal(signal.SIGTERM)
        endpoint.wait(20)
        endpoint.stdout.close()


def ask(url: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["message"]


@pytest.mark.slow
def test_a_table_is_served_by_mlflows_protocol(registered: str) -> None:
    with served("models:/line/Production", "--no-auth") as url:
        known = LINE.predict(FRAME)
        split = {"columns": ["b", "more", "a"], "data": [[b, "x", a] for a, b in FRAME.to_numpy().tolist()]}
        for body in ({"dataframe_split": split}, {"dataframe_records": FRAME.to_dict(orient="records")}, {"inputs": FRAME.to_dict(orient="list")},
                     {"instances": FRAME.to_dict(orient="records")}, {"inputs": FRAME.to_numpy().tolist()}):  # fmt: skip
            status, answer = ask(url, body)
            assert status == 200, answer
            np.testing.assert_allclose(answer, known)
        for body, says in (({"dataframe_records": [{"a": 1.0}]}, "lacks the column b"),
                           ({"dataframe_split": {"columns": ["a", "b"], "data": [["x", 1]]}}, "column a is of"),
                           ({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}, "another number of values"),
                           ({"dataframe_records": [{"a": 1, "b": 1}], "params": {"k": 1}}, "no parameter k"),
                           ({"dataframe_records": []}, "lacks the column")):  # fmt: skip
            status, answer = ask(url, body)
            assert status == 400 and says in answer, answer


def double(batch: Any, params: Any = None) -> Any:
    return batch * params["by"]


double.__module__ = "__main__"  # So that it is pickled whole.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The model is kept as a pickle")
def test_a_pickle_is_served_only_if_it_is_trusted(
    own_server: Running, tmp_path: Path, noria: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    models.save(double, tmp_path / "m", input_example=np.ones((2, 3)), params={"by": 2.0})
    refused = noria("serve", str(tmp_path / "m"), check=False)
    assert refused.returncode == 1 and "--allow-pickle" in refused.stderr and "Traceback" not in refused.stderr
    with served(str(tmp_path / "m"), "--no-auth", "--allow-pickle") as url:
        assert ask(url, {"inputs": [[1, 2, 3]]}) == (200, [[2, 4, 6]])
        assert ask(url, {"inputs": [[1, 2, 3]], "params": {"by": 3.0}}) == (200, [[3, 6, 9]])
        assert ask(url, {"inputs": [[1, 2]]})[0] == 400
