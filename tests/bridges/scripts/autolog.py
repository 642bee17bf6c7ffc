"""mlflow.autolog with scikit-learn. argv: experiment, and a name that is not used."""

import json
import sys

import mlflow
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

mlflow.set_experiment(sys.argv[1])
mlflow.autolog()
x, y = make_classification(60, 4, random_state=1)
search = GridSearchCV(LogisticRegression(max_iter=50), {"C": [0.1, 1.0]}, cv=2)
with mlflow.start_run() as run:
    search.fit(x, y)
    search.score(x, y)
print(json.dumps({"run_id": run.info.run_id}))
