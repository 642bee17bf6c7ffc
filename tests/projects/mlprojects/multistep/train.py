import argparse

import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--rate", type=float)
asked = parser.parse_args()
with mlflow.start_run(), open(asked.data) as file:
    mlflow.log_metric("loss", sum(float(line) for line in file) * asked.rate)
