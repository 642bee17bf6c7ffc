"""An mlflow script that knows nothing of Noria; the page is to show all of what it logs."""

import json
import math

import mlflow
import numpy
import pandas
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

experiment = mlflow.set_experiment("page")
mlflow.set_experiment_tag("mlflow.note.content", "What the page **shows**.")
table = pandas.DataFrame({"x": [1, 2, 3], "label": ["a", "b", "c"]})
with mlflow.start_run(run_name="whole", description="# Heading\n\nwith *words*") as run:
    mlflow.log_input(mlflow.data.from_pandas(table, source="https://example.org/toy.csv", name="toy"), context="training")
    mlflow.log_params({"lr": 0.1, "depth": 3})
    mlflow.set_tag("team", "vision")
    for step in range(-5, 5):
        mlflow.log_metric("loss", step * step, step=step)
    for step, value in enumerate([math.nan, 2.0, math.inf, 3.0]):
        mlflow.log_metric("odd", value, step=step)
    mlflow.log_metric("system/cpu_utilization_percentage", 40.0, step=0)
    mlflow.log_text("hello\n", "texts/hello.txt")
    mlflow.log_text("", "empty.txt")
    mlflow.log_dict({"a": [1, None]}, "config.json")
    mlflow.log_table(table, "table.json")
    mlflow.log_image(numpy.zeros((8, 8, 3), dtype="uint8"), "black.png")
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    info = mlflow.sklearn.log_model(model, name="clf", registered_model_name="page-clf")
    for number in range(2):
        with mlflow.start_run(run_name=f"inner-{number}", nested=True):
            mlflow.log_metric("loss", 10.0 + number)
client = MlflowClient()
client.set_registered_model_alias("page-clf", "champion", "1")
client.update_registered_model("page-clf", "A classifier of toys.")
with mlflow.start_run(run_name="unwanted") as unwanted:
    pass
client.delete_run(unwanted.info.run_id)
print(json.dumps({"experiment": experiment.experiment_id, "run": run.info.run_id, "model": info.model_id}))
