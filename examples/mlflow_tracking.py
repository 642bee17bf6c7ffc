"""What the mlflow client does, against Noria: parameters, metrics, files, a model, its version in the registry and its stage."""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mlflow
import mlflow.sklearn
from mlflow.models import infer_signature
from mlflow.tracking.client import MlflowClient
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

NAME = "diabetes-line"

data = load_diabetes(as_frame=True)
x_train, x_test, y_train, y_test = train_test_split(data.data, data.target, random_state=0)

with mlflow.start_run() as run, TemporaryDirectory() as folder:
    model = LinearRegression()
    model.fit(x_train, y_train)
    mlflow.log_param("examples", len(x_train))
    mlflow.log_metric("r2", model.score(x_test, y_test))
    axes = plt.figure().add_subplot()
    axes.barh(data.feature_names, model.coef_)
    plt.savefig(Path(folder) / "feature_importance.png")
    mlflow.log_artifact(f"{folder}/feature_importance.png", "plots")
    # The tutorials' mlflow.log_model(model, "...") never was: each library has its own.
    signature = infer_signature(x_test, model.predict(x_test))
    logged = mlflow.sklearn.log_model(model, name="linear-regression", signature=signature, pip_requirements=["scikit-learn"])

version = mlflow.register_model(logged.model_uri, NAME)
client = MlflowClient()
client.transition_model_version_stage(name=NAME, version=version.version, stage="Production")
print(f"{NAME} version {version.version}, of the run {run.info.run_id}, is in Production")
