"""What people write with mlflow, run with a server and without one: MLFLOW_TRACKING_URI decides. argv: experiment, registered model."""

import json
import math
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LinearRegression

experiment, registered = sys.argv[1:]
mlflow.set_experiment(experiment)
mlflow.set_experiment_tag("team", "vision")
client = MlflowClient()
with mlflow.start_run(run_name="first", tags={"kind": "test"}, description="about it") as run:
    mlflow.log_param("lr", 0.1)
    mlflow.log_params({"depth": 3, "name": "größe"})
    for step in range(20):
        mlflow.log_metric("loss", 1 / (step + 1), step=step, timestamp=1_700_000_000_123 + step)
    mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "accuracy": 0.9}, step=-4)
    mlflow.log_metric("later", 1.5, step=3, synchronous=False).wait()
    mlflow.set_tags({"note": "ok", "gone": "x"})
    mlflow.delete_tag("gone")
    points = [Metric("batch", value, 1_700_000_000_999 + value, value) for value in range(1200)]
    client.log_batch(run.info.run_id, points, [Param("p", "1")], [RunTag("t", "2")])
    mlflow.log_text("hello", "texts/hello.txt")
    mlflow.log_dict({"a": 1}, "config.json")
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    mlflow.log_figure(figure, "curve.png", save_kwargs={"metadata": {"Software": None}})
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "black.png")
    mlflow.log_table({"a": [1, 2]}, "table.json")
    mlflow.log_table({"a": [3]}, "table.json")
    data = mlflow.data.from_pandas(pd.DataFrame({"x": [1, 2]}), name="d", source="https://example.org/d.csv")
    mlflow.log_input(data, context="training", tags={"q": "w"})
    with mlflow.start_run(nested=True, run_name="child"):
        mlflow.log_metric("c", 1, timestamp=5)
    with mlflow.start_run(nested=True, run_name="bad"):
        mlflow.end_run("KILLED")
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    info = mlflow.sklearn.log_model(model, name="line", registered_model_name=registered, params={"own": "yes"})
    mlflow.log_metric("of_model", 2.0, model_id=info.model_id, timestamp=7)
    client.set_registered_model_alias(registered, "champion", info.registered_model_version)
    assert abs(mlflow.pyfunc.load_model(info.model_uri).predict([[3.0]])[0] - 3) < 1e-6
deleted = client.create_run(client.get_experiment_by_name(experiment).experiment_id, start_time=11, run_name="deleted")
client.set_terminated(deleted.info.run_id, "FAILED", end_time=12)
client.delete_run(deleted.info.run_id)

got = client.get_run(run.info.run_id)
assert got.info.status == "FINISHED" and got.data.params["lr"] == "0.1" and got.data.metrics["loss"] == 1 / 20
assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == list(range(20))
assert mlflow.artifacts.load_text(f"{got.info.artifact_uri}/texts/hello.txt") == "hello"
assert {"texts", "config.json", "table.json"} <= {each.path for each in client.list_artifacts(run.info.run_id)}
assert [each.path for each in client.list_artifacts(run.info.run_id, "texts")] == ["texts/hello.txt"]
client.set_tag(run.info.run_id, "after", "its end")
client.update_run(run.info.run_id, name="renamed")
found = mlflow.search_runs(experiment_names=[experiment], filter_string="metrics.loss < 0.5 and params.depth = '3'")
assert list(found.run_id) == [run.info.run_id]
for call, code in (
    (lambda: client.get_run("nope"), "RESOURCE_DOES_NOT_EXIST"),
    (lambda: client.log_param(run.info.run_id, "lr", 0.2), "INVALID_PARAMETER_VALUE"),
    (lambda: client.log_metric(run.info.run_id, "../up", 1), "INVALID_PARAMETER_VALUE"),
    (lambda: client.create_experiment(experiment), "RESOURCE_ALREADY_EXISTS"),
):
    try:
        call()
    except MlflowException as error:
        assert error.error_code == code, error
    else:
        raise AssertionError(code)
print(json.dumps({"run_id": run.info.run_id, "model_id": info.model_id}))
