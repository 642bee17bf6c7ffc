"""Fill a tracking store with one of everything, by mlflow's own client. argv: tracking URI, how many plain runs besides, and what names of
experiments begin with."""

import math
import sys
import tempfile
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag

uri, count, prefix = sys.argv[1], int(sys.argv[2]), "".join(sys.argv[3:])
mlflow.set_tracking_uri(uri)
client = MlflowClient()
vision = client.create_experiment(f"{prefix}vision", tags={"team": "a", "note": "größe"})
gone = client.create_experiment(f"{prefix}gone")
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "model").mkdir()
    (folder / "model" / "MLmodel").write_text("flavors: {}\n")
    (folder / "model" / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "empty.txt").write_text("")

    run = client.create_run(vision, start_time=1_700_000_000_000, tags={"mlflow.user": "ada", "kind": "best"}, run_name="first")
    run_id = run.info.run_id
    points = [Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(50)]
    points += [Metric("loss", 0.5, 1_700_000_000_000 + 1, 1), Metric("val/acc", math.nan, 5, -2), Metric("big", math.inf, 6, 0)]
    client.log_batch(run_id, points, [Param("lr", "0.1"), Param("long", "x" * 3000)], [RunTag("a/b", "c d")])
    with mlflow.start_run(run_id=run_id):
        mlflow.log_input(
            mlflow.data.from_pandas(pd.DataFrame({"x": [1, 2]}), name="d", source="https://example.org"), context="training"
        )
    client.log_artifacts(run_id, name)
    model = client.create_logged_model(vision, "net", source_run_id=run_id, tags={"t": "1"}, params={"p": "2"}, model_type="cnn")
    client.log_model_artifacts(model.model_id, str(folder / "model"))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 7)])
    client.log_metric(run_id, "of_model", 0.25, timestamp=9, step=3, model_id=model.model_id)
    client.set_terminated(run_id, "FINISHED", end_time=1_700_000_009_999)

child = client.create_run(vision, start_time=1_700_000_001_000, tags={"mlflow.parentRunId": run_id}, run_name="child")
client.log_metric(child.info.run_id, "loss", 3.5, timestamp=1, step=0)
client.set_terminated(child.info.run_id, "FAILED", end_time=1_700_000_001_500)
client.delete_run(child.info.run_id)
client.create_run(vision, start_time=1_700_000_002_000, run_name="still running")
lost = client.create_run(gone, start_time=1_700_000_003_000, run_name="in a deleted experiment")
client.set_terminated(lost.info.run_id, "KILLED", end_time=1_700_000_004_000)
client.delete_experiment(gone)

client.create_registered_model("digits", tags={"owner": "ada"}, description="about digits")
client.create_model_version(
    "digits", f"{client.get_run(run_id).info.artifact_uri}/model", run_id, tags={"v": "1"}, description="one"
)
client.create_model_version("digits", f"models:/{model.model_id}", run_id, model_id=model.model_id)
client.create_model_version("digits", f"{client.get_run(run_id).info.artifact_uri}/model", run_id)
client.delete_model_version("digits", "2")
client.transition_model_version_stage("digits", "1", "Production")
if not prefix:  # A workspace of Databricks has stages, and no aliases.
    client.set_registered_model_alias("digits", "champion", "3")

plain = client.create_experiment(f"{prefix}plain") if prefix else "0"
for number in range(count):
    one = client.create_run(plain, start_time=1_700_000_100_000 + number, run_name=f"plain-{number}")
    client.log_batch(
        one.info.run_id,
        [Metric("loss", number / (step + 1), 1_700_000_100_000 + step, step) for step in range(5)],
        [Param("n", str(number))],
        [RunTag("group", str(number % 3))],
    )
    client.set_terminated(one.info.run_id, end_time=1_700_000_200_000)
