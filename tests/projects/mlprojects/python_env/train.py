"""A line through some points, whose slope is shrunk by alpha."""

import argparse
import csv

import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float)
parser.add_argument("--note", default="")
parser.add_argument("--data", default="rows.csv")
parser.add_argument("--more", default="")
asked = parser.parse_args()

with open(asked.data) as file:
    rows = [(float(x), float(y)) for x, y in csv.reader(file)]
slope = sum(x * y for x, y in rows) / (asked.alpha + sum(x * x for x, _ in rows))

with mlflow.start_run():
    mlflow.log_param("rows", len(rows))
    for step, (x, y) in enumerate(rows):
        mlflow.log_metric("residual", y - slope * x, step=step)
    mlflow.log_metric("slope", slope)
    mlflow.set_tag("note", asked.note + asked.more)
    with open("line.txt", "w") as out:
        out.write(f"y = {slope} x\n")
    mlflow.log_artifact("line.txt", "model")
print("slope", slope)
