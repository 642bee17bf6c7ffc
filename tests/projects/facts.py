"""What the runs of an experiment are compared by, as JSON: a program, since a cluster's server is reached from its machines alone."""

import json
import sys

from mlflow.tracking import MlflowClient

TAGS = ("mlflow.project.entryPoint", "mlflow.source.type", "mlflow.source.git.commit", "mlflow.source.git.repoURL", "note")
client = MlflowClient()


def files(run_id: str, path: str = "") -> list[str]:
    found = []
    for each in client.list_artifacts(run_id, path):
        found += files(run_id, each.path) if each.is_dir else [each.path]
    return found


def facts(run: object) -> dict[str, object]:
    info, data = run.info, run.data  # type: ignore[attr-defined]
    keys = sorted(key for key in data.metrics if not key.startswith("system/"))
    history = {key: [(point.step, point.value) for point in client.get_metric_history(info.run_id, key)] for key in keys}
    return {"status": info.status, "params": data.params, "metrics": history, "artifacts": sorted(files(info.run_id)),
            "tags": {key: data.tags.get(key) for key in TAGS}}  # fmt: skip


experiment = client.get_experiment_by_name(sys.argv[1])
found = [facts(run) for run in client.search_runs([experiment.experiment_id])]
print(json.dumps(sorted(found, key=lambda each: each["tags"]["mlflow.project.entryPoint"])))  # type: ignore[index]
