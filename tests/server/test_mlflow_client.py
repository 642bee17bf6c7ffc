"""The unmodified mlflow client against a real server, over loopback HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria.process import whoami
from noria.types import ENDED, JobSpec
from noria.wire import experiments, jobs, runs
from tests.conftest import Running, require, until

SCRIPT = Path(__file__).parent.parent / "mlflow_script.py"


@pytest.mark.mlflow
def test_an_unmodified_mlflow_script(server: Running, tmp_path: Path) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    env = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())  # Nothing went to a folder of mlflow's own.
    run = server.client.call(runs.GET, runs.Get(json.loads(done.stdout.splitlines()[-1])["run_id"])).run
    assert run.info.run_name == "first" and {metric.key for metric in run.data.metrics} == {"loss", "nan", "accuracy"}


@pytest.mark.mlflow
def test_a_generated_name_begins_as_mlflows_do(server: Running) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    from mlflow.utils.name_utils import _GENERATOR_PREDICATES

    for _ in range(20):
        name = server.client.call(runs.CREATE, runs.Create()).run.info.run_name
        assert name.split("-")[0] in _GENERATOR_PREDICATES, name


@pytest.mark.mlflow
def test_an_mlflow_script_in_a_job_logs_to_the_jobs_run_even_if_it_sets_its_experiment(
    own_server: Running, tmp_path: Path
) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    script = tmp_path / "train.py"
    script.write_text(
        "import mlflow\nmlflow.set_experiment('chosen')\nwith mlflow.start_run(run_name='renamed'): mlflow.log_metric('x', 1.5, step=3)\n"
        "with mlflow.start_run(): mlflow.log_metric('y', 2)\n"
    )
    spec = JobSpec([sys.executable, str(script)], cwd=str(tmp_path), env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore"})
    job = own_server.client.call(jobs.SUBMIT, jobs.Submit(spec, whoami())).job
    until(lambda: own_server.client.call(jobs.GET, jobs.Key(job.id)).job.state in ENDED, 60)
    run = own_server.client.call(runs.GET, runs.Get(job.run_id)).run
    assert (run.info.status, run.info.run_name, [metric.key for metric in run.data.metrics]) == ("FINISHED", "renamed", ["x"])
    chosen = own_server.client.call(experiments.GET_BY_NAME, experiments.GetByName("chosen")).experiment
    assert run.info.experiment_id == chosen.experiment_id
    assert len(own_server.client.call(runs.SEARCH, runs.Search([chosen.experiment_id])).runs) == 2


OUTSIDE = """
import mlflow, time
@mlflow.trace
def traced(x): return x
mlflow.autolog()
with mlflow.start_run() as run:
    start = time.monotonic()
    traced(1)
    mlflow.log_metric("x", 1.0)
mlflow.flush_trace_async_logging()
print(time.monotonic() - start)
"""


@pytest.mark.mlflow
def test_what_noria_does_not_keep_costs_a_script_one_warning_and_no_time(server: Running, tmp_path: Path) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    env = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", OUTSIDE], env=env, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if " WARNING " in line]
    assert len(warned) <= 1 and float(done.stdout.splitlines()[-1]) < 10, done.stderr


@pytest.mark.mlflow
def test_logged_models_through_mlflows_own_store(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    from mlflow.entities import Metric
    from mlflow.entities.logged_model_parameter import LoggedModelParameter
    from mlflow.entities.logged_model_tag import LoggedModelTag
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    store = RestStore(lambda: MlflowHostCreds(server.url, token=server.token))
    experiment = store.create_experiment(f"models-{time.time_ns()}")
    run = store.create_run(experiment, "u", 0, [], None).info.run_id
    made = {}
    for name, accuracy in (("first", {"d1": 0.9, "d2": 0.8}), ("second", {"d1": 0.8, "d2": 0.9}), ("third", {})):
        time.sleep(0.002)
        params, tags = [LoggedModelParameter("name", name)], [LoggedModelTag("a b", name)]
        model = made[name] = store.create_logged_model(experiment, name, run, tags, params, "kind")
        points = [Metric("acc", v, 1, 0, model.model_id, d, f"{d}-digest", run) for d, v in accuracy.items()]
        store.log_batch(run, points, [], [])

    def names(**asked: Any) -> list[str]:
        return [each.name for each in store.search_logged_models(experiment_ids=[experiment], **asked)]

    assert names() == ["third", "second", "first"]
    for text, found in (
        ("name = 'first'", ["first"]), ("attributes.name LIKE 'f%'", ["first"]), ("name NOT IN ('first', 'x')", ["third", "second"]),
        ("metrics.acc > 0.85", ["second", "first"]), ("metrics.acc < 0.5", []), ("params.name = 'second'", ["second"]),
        ("tags.`a b` = 'third' AND model_type = 'kind'", ["third"]), ("creation_timestamp = 0", []), (f"source_run_id != '{run}'", []),
    ):  # fmt: skip
        assert names(filter_string=text) == found, text
    d1, d2 = ({"dataset_name": name, "dataset_digest": f"{name}-digest"} for name in ("d1", "d2"))
    assert names(filter_string="metrics.acc > 0.85", datasets=[d2]) == ["second"] and names(datasets=[d1]) == ["second", "first"]
    for order, found in (
        ({"field_name": "name"}, ["first", "second", "third"]),
        ({"field_name": "metrics.acc", **d1}, ["second", "first", "third"]),
        ({"field_name": "metrics.acc", "ascending": False, **d2}, ["second", "first", "third"]),
    ):
        assert names(order_by=[order]) == found, order
    page = store.search_logged_models([experiment], max_results=2)
    rest = store.search_logged_models([experiment], max_results=2, page_token=page.token)
    assert [each.name for each in [*page, *rest]] == ["third", "second", "first"] and rest.token is None
    with pytest.raises(MlflowException, match="Filter string in the page token does not match"):
        store.search_logged_models([experiment], "name = 'x'", page_token=page.token)
    for text, message in (
        ("Foo", "Invalid filter string"), ("name = 'foo' OR name = 'bar'", "Invalid filter string"), ("foo.bar = 'a'", "Invalid entity type"),
        ("name > 'foo'", "Invalid comparison operator"), ("metrics.foo LIKE 0", "Invalid comparison operator"),
    ):  # fmt: skip
        with pytest.raises(MlflowException, match=message):
            store.search_logged_models([experiment], text)
    with pytest.raises(MlflowException, match=r"Invalid model name \('my/model'\) provided"):
        store.create_logged_model(experiment, "my/model")
    with pytest.raises(MlflowException, match="No tag with key 'x'"):
        store.delete_logged_model_tag(made["first"].model_id, "x")
