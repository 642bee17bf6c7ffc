"""An mlflow script that knows nothing of Noria, run by the tests with MLFLOW_TRACKING_URI alone."""

import json
import math
import tempfile
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

experiment = mlflow.create_experiment("from-mlflow", tags={"team": "vision"})
mlflow.set_experiment("from-mlflow")
with mlflow.start_run(run_name="first", tags={"kind": "test"}) as started:
    mlflow.log_param("lr", 0.1)
    mlflow.log_params({"depth": 3, "name": "größe"})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"nan": math.nan, "accuracy": 0.9}, step=4)
    mlflow.set_tag("note", "ok")
    mlflow.log_text("hello", "texts/hello.txt")
    mlflow.log_dict({"a": 1}, "config.json")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MLmodel").write_text("flavors: {}\n")
        mlflow.log_artifacts(folder, "model")
run_id = started.info.run_id
with mlflow.start_run(run_name="second"):
    mlflow.log_metric("loss", 0.9)

client = MlflowClient()
run = client.get_run(run_id)
assert run.info.status == "FINISHED" and run.data.params == {"lr": "0.1", "depth": "3", "name": "größe"}
assert run.data.metrics["loss"] == 0.2 and math.isnan(run.data.metrics["nan"]) and run.data.tags["note"] == "ok"
assert [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")] == [(s, 1 / (s + 1)) for s in range(5)]
assert sorted(file.path for file in client.list_artifacts(run_id)) == ["config.json", "model", "texts"]
assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/texts/hello.txt") == "hello"

table = mlflow.search_runs(experiment_names=["from-mlflow"], filter_string="metrics.loss < 0.5 and params.depth = '3'")
assert list(table.run_id) == [run_id] and table["metrics.accuracy"][0] == 0.9
best = client.search_runs([experiment], order_by=["metrics.loss ASC"], max_results=1)
assert best[0].info.run_id == run_id and best.token

version = mlflow.register_model(f"runs:/{run_id}/model", "digits-by-mlflow")
version = client.transition_model_version_stage("digits-by-mlflow", version.version, "Production", archive_existing_versions=True)
assert version.current_stage == "Production"
client.set_registered_model_alias("digits-by-mlflow", "champion", version.version)
assert client.get_model_version_by_alias("digits-by-mlflow", "champion").run_id == run_id
assert client.get_latest_versions("digits-by-mlflow", ["Production"])[0].version == version.version
downloaded = Path(mlflow.artifacts.download_artifacts("models:/digits-by-mlflow/Production"))
assert (downloaded / "MLmodel").read_text() == "flavors: {}\n"

for call, code in (
    (lambda: client.get_run("nope"), "RESOURCE_DOES_NOT_EXIST"),
    (lambda: client.log_param(run_id, "lr", 0.2), "INVALID_PARAMETER_VALUE"),
    (lambda: client.create_experiment("from-mlflow"), "RESOURCE_ALREADY_EXISTS"),
    (lambda: client.search_runs([experiment], "loss <"), "INVALID_PARAMETER_VALUE"),
):
    try:
        call()
    except MlflowException as error:
        assert error.error_code == code, error
    else:
        raise AssertionError(code)
print(json.dumps({"run_id": run_id}))
